"""The door to names: MX, addresses and TXT, each asked once however many wait, and kept for its time to live.

Bounded everywhere: the cache by entries, the questions on the wire, those that wait, the tries and the time of each.
Temporary failures are remembered for seconds only. RFC 1034, RFC 1035, RFC 2308, RFC 5321 §5.1.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

from mta.dns.answers import (
    MAX_NEGATIVE_TTL,
    AddressAnswer,
    Addresses,
    Answer,
    MxAnswer,
    NoAddress,
    NoSuchDomain,
    Temporary,
    TextAnswer,
    is_askable,
    read_message,
)
from mta.dns.cache import TtlCache
from mta.dns.exchange import (
    Exchange,
    Pace,
    Result,
    Server,
    Truncated,
    ask_over_tcp,
    encode_question,
    parse_server,
)
from mta.dns.health import Health
from mta.dns.wire import AAAA, MX, NS, TXT, A

CACHE_ENTRIES = 20_000
MAX_ON_THE_WIRE = 500  # each holds a descriptor a server
MAX_WAITING = 5_000  # flights in all; one is a task of about 3 kB
MAX_CHAIN = 8  # questions for one CNAME chain; recursive servers follow it themselves
TEMPORARY_TTL_S = 5.0  # RFC 2308 §7 allows 300; mail should flow soon after the fault is gone
SERVERS_DOWN = Temporary("no DNS server answers", servers_down=True)
CLOSED = Temporary("the resolver is closed")
CLOSE_S = 0.5
TOO_MANY = Temporary("too many DNS questions at once")

Key = tuple[str, int]


class Now(Protocol):
    """The part of `io.clock.Clock` that is needed here."""

    def now(self) -> float: ...


def read_system_servers(path: Path = Path("/etc/resolv.conf")) -> tuple[str, ...]:
    """The `nameserver` lines of resolv.conf; 127.0.0.1 when there are none, as resolv.conf(5) says."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    found = tuple(w[1] for w in words if len(w) > 1 and w[0] == "nameserver" and "%" not in w[1])
    return found or ("127.0.0.1",)


class Resolver:
    """Answers about names; never raises for what the network does.

    `servers`: "ip" or "ip:port", tried in order; none: those of resolv.conf. `timeout_s`: all one question may take.
    `on_health(down)` is called when the last server falls silent and when the first is back. Raises ValueError on a
    server that is no address.
    """

    def __init__(
        self,
        servers: Sequence[str],
        timeout_s: float,
        clock: Now,
        *,
        cache_entries: int = CACHE_ENTRIES,
        on_health: Callable[[bool], None] | None = None,
    ) -> None:
        self._servers = [parse_server(text) for text in servers or read_system_servers()]
        self._timeout_s = timeout_s
        self._clock = clock
        self._cache: TtlCache[Key, Answer] = TtlCache(cache_entries)
        self._flights: dict[Key, asyncio.Task[Answer]] = {}
        self._on_the_wire: set[Exchange] = set()
        self._slots = asyncio.Semaphore(MAX_ON_THE_WIRE)
        self._pace = Pace()
        self._on_health = on_health
        self._health = Health(self._probe, self._health_changed)
        self._closed = False
        self.questions = 0  # exchanges begun, for the metrics

    @property
    def down(self) -> bool:
        """No server answers anything at present."""
        return self._health.down

    @property
    def cached(self) -> int:
        """Entries in the cache."""
        return len(self._cache)

    async def mx(self, domain: str) -> MxAnswer:
        """The MX records of `domain` (an A-label, any case). Cached: 0.5 µs."""
        answer = self._cache.get((domain, MX), self._clock.now())
        if answer is None:
            answer = await self._lookup(domain, MX)
        return cast(MxAnswer, answer)

    async def addresses(self, host: str, *, v4: bool = True, v6: bool = True) -> AddressAnswer:
        """The addresses of `host`; both families are asked for at once.

        One family's temporary failure does not hide what the other found.
        """
        flights = [self._begin(host, kind) for kind, on in ((A, v4), (AAAA, v6)) if on]
        answers = [await _landed(flight) for flight in flights]
        found = [answer for answer in answers if isinstance(answer, Addresses)]
        if found:
            return Addresses(
                tuple(address for answer in found for address in answer.v4),
                tuple(address for answer in found for address in answer.v6),
            )
        for kind in (Temporary, NoSuchDomain):
            for answer in answers:
                if isinstance(answer, kind):
                    return answer
        return NoAddress()

    async def txt(self, name: str) -> TextAnswer:
        """The TXT records of `name`, each with its strings joined."""
        return cast(TextAnswer, await self._lookup(name, TXT))

    def forget(self) -> None:
        """Empty the cache."""
        self._cache.forget()

    async def close(self) -> None:
        """Give up every question; those who wait hear a temporary failure."""
        self._closed = True
        await self._health.close()
        for exchange in tuple(self._on_the_wire):
            exchange.finish(CLOSED)
        flights = tuple(self._flights.values())
        if flights:
            # They end in this turn or the next; only one that talks TCP may need to be cancelled.
            _, talking = await asyncio.wait(flights, timeout=CLOSE_S)
            for flight in talking:
                flight.cancel()
            await asyncio.gather(*talking, return_exceptions=True)

    async def _lookup(self, name: str, rdtype: int) -> Answer:
        return await _landed(self._begin(name, rdtype))

    def _begin(self, name: str, rdtype: int) -> Answer | asyncio.Task[Answer]:
        """The answer where it is known; else the flight that brings it, shared by all who ask meanwhile."""
        name = name.lower().removesuffix(".")
        key = (name, rdtype)
        cached = self._cache.get(key, self._clock.now())
        if cached is not None:
            return cached
        flight = self._flights.get(key)
        if flight is not None:
            return flight
        if not is_askable(name):
            return NoSuchDomain()  # no such name can be in the DNS (RFC 1035 §2.3.4)
        if self._closed or self._health.down:
            return CLOSED if self._closed else SERVERS_DOWN
        if len(self._flights) >= MAX_WAITING:
            return TOO_MANY
        flight = self._flights[key] = asyncio.create_task(self._fly(key))
        return flight

    async def _fly(self, key: Key) -> Answer:
        try:
            async with self._slots:
                answer, ttl_s = await self._follow(*key)
            if ttl_s > 0:
                self._cache.put(key, answer, self._clock.now() + ttl_s)
            return answer
        finally:
            del self._flights[key]

    async def _follow(self, name: str, rdtype: int) -> tuple[Answer, float]:
        """The answer to one question and how long to keep it, along a CNAME chain if need be."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        chain_ttl_s = float("inf")
        for _ in range(MAX_CHAIN):
            result = await self._ask(name, rdtype, deadline)
            if isinstance(result, Temporary):
                return result, 0.0 if result.servers_down else TEMPORARY_TTL_S
            assert not isinstance(result, Truncated)
            reading = read_message(result, rdtype)
            if isinstance(reading.answer, Temporary) and not reading.next_name:
                return reading.answer, TEMPORARY_TTL_S
            chain_ttl_s = min(chain_ttl_s, reading.ttl_s)
            name = reading.next_name
            if not name:
                return reading.answer, chain_ttl_s
            if not is_askable(name):
                break
        return Temporary("a CNAME chain that does not end"), MAX_NEGATIVE_TTL

    async def _ask(self, name: str, rdtype: int, deadline: float) -> Result:
        if self._closed or self._health.down:  # it fell silent while this one waited for its slot
            return CLOSED if self._closed else SERVERS_DOWN
        loop_time = asyncio.get_running_loop().time
        question = encode_question(name, rdtype)
        result = await self._exchange(question, self._in_order(), deadline - loop_time())
        if isinstance(result, Truncated):
            result = await ask_over_tcp(result.server, question, deadline - loop_time())
        return result

    async def _exchange(
        self, question: bytes, servers: Sequence[Server], timeout_s: float
    ) -> Result:
        exchange = Exchange(
            question,
            servers,
            timeout_s,
            pace=self._pace,
            heard=self._health.heard,
            silence=self._health.silence,
        )
        self.questions += 1
        self._on_the_wire.add(exchange)
        try:
            exchange.start()
            return await exchange.answer
        finally:
            self._on_the_wire.discard(exchange)
            exchange.finish(SERVERS_DOWN)  # a cancelled flight leaves no socket behind

    def _in_order(self) -> list[Server]:
        """The servers as configured, those that were silent lately last."""
        if len(self._servers) == 1:
            return self._servers
        now = asyncio.get_running_loop().time()
        return sorted(self._servers, key=lambda server: server.shunned_until > now)

    async def _probe(self, timeout_s: float) -> None:
        await self._exchange(encode_question("", NS), self._servers, timeout_s)

    def _health_changed(self, down: bool) -> None:
        if down:
            for exchange in tuple(self._on_the_wire):
                exchange.finish(SERVERS_DOWN)
        if self._on_health is not None:
            self._on_health(down)


async def _landed(flight: Answer | asyncio.Task[Answer]) -> Answer:
    """Wait for a shared flight; who is cancelled leaves the others theirs."""
    if isinstance(flight, asyncio.Task):
        return await asyncio.shield(flight)
    return flight
