import asyncio
import socket

import pytest

from mta.io.connect import Patience, open_connection


@pytest.fixture
def full_door() -> "socket.socket":
    """A listener whose queue is full: the kernel leaves further SYNs without an answer."""
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    door.listen(0)
    return door


async def test_patience_can_be_shortened_while_a_host_keeps_silent(
    full_door: socket.socket,
) -> None:
    host, port = full_door.getsockname()
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex((host, port))
    await asyncio.sleep(0.05)
    loop = asyncio.get_running_loop()
    patience = Patience(60.0)
    began = loop.time()
    loop.call_later(0.1, patience.shorten, 0.2)
    with pytest.raises(TimeoutError):
        await open_connection(asyncio.Protocol(), host, port, source=None, patience=patience)
    assert 0.25 <= loop.time() - began < 30.0
    assert patience.seconds == 0.2, "the next host of the route has no more"
    patience.shorten(5.0)
    assert patience.seconds == 0.2
    for sock in (*fillers, full_door):
        sock.close()


class Kept(asyncio.Protocol):
    """Keeps its transport, to close it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


async def test_a_host_that_answers_is_not_troubled_by_an_end_of_patience() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        patience = Patience(5.0)
        protocol = Kept()
        host, port = door.getsockname()
        await open_connection(protocol, host, port, source=None, patience=patience)
        patience.shorten(0.0)
        await asyncio.sleep(0.05)
        assert not protocol.transport.is_closing()
        protocol.transport.close()
        await asyncio.sleep(0)
