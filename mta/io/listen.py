"""Listening sockets and the acceptor: it accepts, and passes each connection on to whoever adopts it.

The supervisor opens them, or takes those that the service manager holds open for it over restarts (`mta.io.inherit`). While
nobody can adopt, it accepts no more: clients wait in the backlog for their greeting, which is better than a reset. The same while
few descriptors are left: those are kept for deliveries, files and the operator.
"""

import asyncio
import errno
import os
import resource
import socket
import sys
from collections.abc import Callable

Adopt = Callable[[socket.socket], bool]  # False: nobody can take it now

BACKLOG = 1024
ACCEPTS_A_TURN = 64  # more would keep the loop from everything else during a flood
# Out of descriptors or memory: accepting again at once would spin; the backlog holds the clients meanwhile.
REST_S = 0.2
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# Of the descriptors, so many are not for clients; of few, an eighth.
RESERVED = 256


def parse_endpoint(text: str) -> tuple[str, int]:
    """`127.0.0.1:25` or `[::1]:25` as (host, port). Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise ValueError(f"{text!r} is no address:port")
    return host.strip("[]"), int(port)


def open_listener(address: str) -> socket.socket:
    """A listening socket on `address`. Raises OSError when the address is taken or not ours."""
    host, port = parse_endpoint(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
    return sock


def first_reserved() -> int:
    """The lowest descriptor that is not for clients. The kernel gives the lowest that is free: it tells how many are taken."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft - min(RESERVED, soft // 8)


class Acceptor:
    """Accepts on one listening socket until closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, adopt: Adopt) -> None:
        self._loop = loop
        self._sock = sock
        self._adopt = adopt
        self._first_reserved = first_reserved()
        self._unplaced: socket.socket | None = None  # accepted, and nobody could take it
        self._loop.add_reader(sock.fileno(), self._accept)

    @property
    def address(self) -> tuple[str, int]:
        name = self._sock.getsockname()
        return name[0], name[1]

    def close(self) -> None:
        """Stop accepting and close our descriptor; the address is free once nobody else holds the socket.

        Never `shutdown()`: that would end the socket for the service manager too, which holds it open for our successor, and
        refuse the clients that wait in its backlog.
        """
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        if self._unplaced is not None:
            self._unplaced.close()

    def resume(self) -> None:
        """Somebody can adopt again."""
        if self._sock.fileno() < 0:
            return
        if self._unplaced is not None:
            if self._is_short() or not self._adopt(self._unplaced):
                return
            self._unplaced = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._rest()
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if connection.fileno() >= self._first_reserved or not self._adopt(connection):
                self._unplaced = connection
                self._rest()
                return

    def _is_short(self) -> bool:
        """Whether only reserved descriptors are free."""
        try:
            probe = os.dup(self._sock.fileno())
        except OSError:
            return True
        os.close(probe)
        return probe >= self._first_reserved

    def _rest(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._loop.call_later(REST_S, self._tried)

    def _tried(self) -> None:
        self.resume()
        if self._unplaced is not None:
            self._loop.call_later(REST_S, self._tried)
