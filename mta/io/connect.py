"""Outgoing TCP connections: bound to a source address, with a deadline.

IP_BIND_ADDRESS_NO_PORT leaves the choice of the port to connect(): 33,000 connects from one address took 62 s without and
1.6 s with it, because a bind() that must pick a port for every destination at once searches a crowded table.

The socket is connected here and not by the loop's `sock_connect`: uvloop's looks the address up in a thread first, though it is
one already. That cost a thread's turn and some 200,000 instructions a connection (callgrind: 1.55 M -> 1.34 M on the loop).
"""

import asyncio
import errno
import os
import socket
from ipaddress import ip_address
from typing import TypeVar

IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python 3.11's socket module does not name it

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)


class Patience:
    """How long a host may take to answer a connect; it may become less meanwhile."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: asyncio.Timeout | None = None

    def shorten(self, seconds: float) -> None:
        """From now on it is so much at most, for the connect under way and for those that follow."""
        self.seconds = min(self.seconds, seconds)
        running = self._running
        if running is None or running.expired():
            return
        at, until = asyncio.get_running_loop().time() + seconds, running.when()
        if until is None or at < until:
            running.reschedule(at)

    async def connect(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """Raises OSError, TimeoutError among them."""
        error = sock.connect_ex(address)
        if error == errno.EINPROGRESS:
            try:
                async with asyncio.timeout(self.seconds) as self._running:
                    await _writable(sock)
            finally:
                self._running = None
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))


async def _writable(sock: socket.socket) -> None:
    """Wait until a connect has come to its end, good or bad."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_writer(sock.fileno(), _end, ended)
    try:
        await ended
    finally:
        loop.remove_writer(sock.fileno())


def _end(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def open_connection(
    protocol: _Protocol, address: str, port: int, *, source: str | None, patience: Patience
) -> _Protocol:
    """Connect `protocol` to `address`:`port` from `source` (None: the kernel chooses).

    Raises OSError (TimeoutError among them) when nobody answers in time.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # Commands are small and each is waited for: Nagle's algorithm would hold them back.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source is not None:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        await patience.connect(sock, (address, port))
        await loop.create_connection(lambda: protocol, sock=sock)
    except BaseException:  # raised again: the descriptor is closed first
        sock.close()
        raise
    return protocol
