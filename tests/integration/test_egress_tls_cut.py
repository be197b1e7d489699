"""Hosts that cut the connection where the handshake should begin: each attempt ends, whatever comes first.

The transport belongs to the TLS layer then, and one that was lost before that layer began told nobody: a fifth of such attempts
kept their lease for ever. It takes many to see one, so they are made in one process.
"""

import asyncio
import random
import socket
import ssl
import struct
from collections import Counter

import pytest
import uvloop

from mta.egress.opening import Opener, Unreachable
from mta.io.connect import Patience
from mta.io.deadlines import Deadlines
from mta.policy.rules import QueuePolicy, Tls, VmtaRules
from mta.queue.actions import Candidate, Route

ATTEMPTS = 300
AT_ONCE = 30


async def attempts_at_a_host_that_cuts(by_reset: bool) -> Counter[str]:
    """How so many attempts ended; "never" for those that did not."""
    chance = random.Random(by_reset)

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readline()
        writer.write(b"250-host.example\r\n250 STARTTLS\r\n")
        await reader.readline()
        if by_reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.write(b"220 go\r\n")
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * 0.004)  # before, amid and behind our hello
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    address, port = server.sockets[0].getsockname()
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    opener = Opener(
        hostname="me.example",
        deadlines=deadlines,
        context=ssl.create_default_context(),
        now=loop.time,
    )
    route = Route("host.example", (Candidate("host.example", address, port),))
    policy = QueuePolicy(tls=Tls.REQUIRE, timeouts={"starttls": 3.0})
    ends: Counter[str] = Counter()
    turns = asyncio.Semaphore(AT_ONCE)

    async def attempt(number: int) -> None:
        async with turns:
            try:
                async with asyncio.timeout(5.0):
                    result = await opener.open(
                        number, route, policy, VmtaRules("default"), Patience(5.0)
                    )
            except TimeoutError:
                ends["never"] += 1
            else:
                assert isinstance(result, Unreachable)
                ends[result.outcome.reply.enhanced] += 1

    await asyncio.gather(*map(attempt, range(ATTEMPTS)))
    deadlines.close()
    server.close()
    await server.wait_closed()
    return ends


@pytest.mark.parametrize("by_reset", [False, True])
def test_an_attempt_that_is_cut_at_the_handshake_always_ends(by_reset: bool) -> None:
    ends = uvloop.run(attempts_at_a_host_that_cuts(by_reset))
    assert ends == {"4.7.5": ATTEMPTS}
