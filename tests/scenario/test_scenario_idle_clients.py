"""Thousands of clients are connected and say nothing, or a byte now and then.

They cost little memory each, a good client is served at once beside them, the operator is answered, and who drips is sent away
when the time for a command is over. Each client comes from an address of its own in 127/8. The server starts with the 1,024
descriptors that a shell gives it, and takes what it may have.
"""

import asyncio
import resource
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bench.processes import parse_pss
from tests.support.daemon import Daemon, free_port, running
from tests.support.host import Host
from tests.support.wire import Wire

BYTES_EACH = 50_000
AT_ONCE_S = 1.0
LOOKS = 5  # the median of these is judged: one may fall into somebody else's second
SPARE = 500  # descriptors beside the clients'
CUT_LATE_S = 10.0
DRIP_S = 0.5  # between the bytes of a client that drips

LISTENERS = """
[[listener]]
address = "127.0.0.1:{hasty}"
relay_from = ["127.0.0.0/8"]
max_connections = 20000
command_timeout = "{timeout_s}s"
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """So many are idle, so many drip; how long those may take for a command."""

    idle: int
    drip: int
    command_timeout_s: int


SCENES = [
    pytest.param(Scene(2_000, 200, 3), id="2,000"),
    pytest.param(Scene(10_000, 9_900, 30), id="10,000", marks=pytest.mark.soak),
]


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """This process may have so many. Skips the test where the system allows fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this system allows {hard} descriptors, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def crowd(count: int, port: int, part: int, stack: ExitStack) -> list[socket.socket]:
    """So many greeted clients, each from 127.`part`.x.y."""
    clients = []
    for number in range(count):
        source = f"127.{part}.{number // 250}.{number % 250 + 1}"
        client = socket.create_connection(("127.0.0.1", port), 20, (source, 0))
        stack.callback(client.close)
        clients.append(client)
    for client in clients:
        assert client.recv(200).startswith(b"220 ")
    return clients


def memory_of(server: Daemon) -> int:
    """Its memory in bytes, all its processes, shared pages divided."""
    root = psutil.Process(server.pid)
    pids = [root.pid, *(child.pid for child in root.children(recursive=True))]
    return sum(parse_pss(Path(f"/proc/{pid}/smaps_rollup").read_bytes()) for pid in pids)


def typical_s(work: Callable[[], object]) -> float:
    """How long it takes, in the middle of some tries."""

    def once() -> float:
        began = time.monotonic()
        work()
        return time.monotonic() - began

    return statistics.median(once() for _ in range(LOOKS))


def hand_in(port: int) -> None:
    """A good client: connect, one message, its 250."""
    with Wire(port) as wire:
        wire.greet()
        assert wire.deliver(b"Subject: x\r\n\r\nbody\r\n").startswith("250 2.6.0")


async def drip(clients: list[socket.socket], until: float) -> int:
    """Each sends a byte now and then, until it is cut off or time is over; how many were."""

    async def one(client: socket.socket) -> bool:
        loop = asyncio.get_running_loop()
        client.setblocking(False)
        with suppress(OSError):
            while time.monotonic() < until:
                await loop.sock_sendall(client, b"N")
                await asyncio.sleep(DRIP_S)
            return False
        return True

    return sum(await asyncio.gather(*map(one, clients)))


@pytest.mark.timeout(600)
@pytest.mark.serial
@pytest.mark.parametrize("scene", SCENES)
def test_beside_thousands_of_idle_and_dripping_clients_a_good_one_is_served_at_once(
    tmp_path: Path, scene: Scene
) -> None:
    hasty = free_port()
    most = max(scene.idle, scene.drip) + SPARE
    command = ["prlimit", f"--nofile=1024:{most}", sys.executable, "-m", "mta"]
    with (
        descriptors(most),
        Host() as host,
        running(
            tmp_path,
            default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
            listener="max_connections = 20000",
            more=LISTENERS.format(hasty=hasty, timeout_s=scene.command_timeout_s),
            command=command,
        ) as server,
    ):
        hand_in(server.port)
        before = memory_of(server)
        with ExitStack() as stack:
            crowd(scene.idle, server.port, 1, stack)
            each = (memory_of(server) - before) / scene.idle
            served = typical_s(lambda: hand_in(server.port))
            answered = typical_s(lambda: server.ask("status"))
        print(
            f"{scene.idle} idle: {each:.0f} bytes each, a good client {served:.3f} s, the operator {answered:.3f} s"
        )
        assert each <= BYTES_EACH
        assert served < AT_ONCE_S
        assert answered < AT_ONCE_S
        with ExitStack() as stack:
            clients = crowd(scene.drip, hasty, 2, stack)
            began = time.monotonic()
            until = began + scene.command_timeout_s + CUT_LATE_S
            with ThreadPoolExecutor(1) as thread:
                cut = thread.submit(asyncio.run, drip(clients, until))
                served = typical_s(lambda: hand_in(server.port))
                assert cut.result() == scene.drip, "not all who drip were cut off"
        took = time.monotonic() - began
        print(f"{scene.drip} drip: a good client {served:.3f} s, all cut after {took:.1f} s")
        assert served < AT_ONCE_S
        host.wait_for(messages=1 + 2 * LOOKS)


def test_clients_cannot_take_the_descriptors_that_deliveries_and_the_operator_need(
    tmp_path: Path,
) -> None:
    allowed, clients = 256, 400
    with (
        Host() as host,
        running(
            tmp_path,
            default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
            command=["prlimit", f"--nofile={allowed}:{allowed}", sys.executable, "-m", "mta"],
        ) as server,
        ExitStack() as stack,
    ):
        first = stack.enter_context(Wire(server.port))
        first.greet()
        waiting = []
        for number in range(clients):  # more than it can take: the others wait in the backlog
            source = (f"127.3.{number // 250}.{number % 250 + 1}", 0)
            client = socket.create_connection(("127.0.0.1", server.port), 20, source)
            stack.callback(client.close)
            waiting.append(client)
        waiting[100].recv(200)
        assert server.ask("status")["totals"]["bugs"] == 0
        assert first.deliver(b"Subject: x\r\n\r\nbody\r\n").startswith("250 2.6.0")
        host.wait_for(messages=1)
        for client in waiting[:-1]:
            client.close()
        waiting[-1].settimeout(20)
        assert waiting[-1].recv(200).startswith(b"220 "), "who waits is served once there is room"
