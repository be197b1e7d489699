"""Who may connect: an address that floods us is turned away before TLS, which costs more than all the rest.

Whoever is refused again and again (too often, unknown signatures, nonsense) finds the door shut for half a minute, and who
connects too often is not let in: the connection is closed before its first byte is read. Honest nodes that share such an
address wait as long, and report the same figures then. An IPv6 host has a whole /64: that counts as one address.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache

from aiohttp import web

from licensing.server.rates import Rate, RateTable

CONNECTS = Rate(
    50, 1_000
)  # of one address: a thousand nodes behind a NAT come at once after an outage
REFUSALS = Rate(2, 100)
SHUT_S = 30.0
MAX_SHUT = 100_000
MAX_HANDSHAKES = 256  # at once; a handshake is a millisecond of the loop
HANDSHAKE_S = 10.0
ACCEPT_AGAIN_S = 0.1  # after an error, as of too many descriptors


@lru_cache(maxsize=65_536)
def source_of(address: str) -> str:
    """What counts as one address."""
    if ":" not in address or address.startswith("::ffff:"):
        return address
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    return address


class Doors:
    """Rates of connects and refusals by address; `now` gives seconds. Bounded: with too many addresses the oldest is let in."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._connects = RateTable(CONNECTS)
        self._refusals = RateTable(REFUSALS)
        self._shut_until: dict[str, float] = {}
        self.turned_away = 0

    def may_enter(self, source: str) -> bool:
        """Whether a connection of this address is taken."""
        now = self._now()
        if self.is_shut(source) or self._connects.take(source, now):
            self.turned_away += 1
            return False
        return True

    def is_shut(self, source: str) -> bool:
        """Whether it floods us."""
        until = self._shut_until.get(source)
        if until is None:
            return False
        if until > self._now():
            return True
        del self._shut_until[source]
        return False

    def refused(self, source: str) -> bool:
        """A request of this address came to nothing. Whether it finds the door shut now."""
        now = self._now()
        if self._refusals.take(source, now):
            while len(self._shut_until) >= MAX_SHUT:
                del self._shut_until[next(iter(self._shut_until))]
            self._shut_until[source] = now + SHUT_S
        return self.is_shut(source)


class Entrance:
    """Accepts connections and hands those that may enter to the server; `run` until cancelled."""

    def __init__(
        self, listening: socket.socket, server: web.Server, tls: ssl.SSLContext | None, doors: Doors
    ) -> None:
        self._listening, self._server, self._tls = listening, server, tls
        self._doors = doors
        self._handshakes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Accept."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, address = await loop.sock_accept(self._listening)
                except OSError:
                    await asyncio.sleep(ACCEPT_AGAIN_S)
                    continue
                is_full = len(self._handshakes) >= MAX_HANDSHAKES
                if is_full or not self._doors.may_enter(source_of(address[0])):
                    connection.close()
                    continue
                task = loop.create_task(self._let_in(connection))
                self._handshakes.add(task)
                task.add_done_callback(self._handshakes.discard)
        finally:
            for task in self._handshakes:
                task.cancel()

    async def _let_in(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_S if self._tls is not None else None,
            )
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError: a client that speaks no TLS
            connection.close()
