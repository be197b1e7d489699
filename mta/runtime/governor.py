"""The governor: everything that is counted over all workers – connections, rates, quotas – as leases and tokens.

A plain object here; its interface is that of a service in another process or on another node: strings and numbers go in, every
answer comes later, through `post`. The rules are `mta.queue.limits` and `mta.queue.rate`; this file keeps the callbacks, the
timers and the hour and day counts (fixed windows from midnight UTC, kept over a restart with `snapshot` and `restore`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from mta.model.units import Rate
from mta.policy.rules import Demand
from mta.queue.actions import RateDemand, Tell
from mta.queue.limits import Limits
from mta.queue.rate import TokenLines, valid_for

MIN_WAIT_S = 0.001  # a timer set for "now" by rounding must not spin
MAX_QUOTAS_LOOKED_AT = 2  # old counts thrown away with each new one


class Clock(Protocol):
    """What the governor needs of `mta.io.clock.Clock`."""

    def now(self) -> float: ...


Callback = Callable[[], None]


class Governor:
    """No limit is ever exceeded, whoever asks; nobody is answered before the call that asked has returned."""

    def __init__(
        self,
        *,
        clock: Clock,
        post: Callable[[Callback], Any],
        call_at: Callable[[float, Callback], Any],
    ) -> None:
        """`post`: run this soon (`loop.call_soon`). `call_at`: run this at a time of `clock`."""
        self._clock = clock
        self._post = post
        self._call_at = call_at
        self._limits = Limits()
        self._lines = TokenLines()
        self._next_number = 1
        self._granted: dict[int, Callable[[int], None]] = {}
        self._rates: dict[int, RateDemand] = {}  # requests that also need tokens
        self._retrying: set[int] = set()  # of those, the ones with a timer
        self._asks: dict[int, tuple[Callable[[int, float], None], RateDemand]] = {}
        self._served: list[tuple[int, int]] = []
        self._answers: list[Callback] = []
        self._wanted: Callable[[str, int, int], None] | None = None
        self._is_posted = False
        self._watched = ""
        self._peak = 0
        self._wake_at = float("inf")
        self._quotas: dict[tuple[str, float], tuple[int, int]] = {}

    # Connections

    def limits(self, limits: Mapping[str, int]) -> None:
        """Swap the fixed limits; a key that is not named has the limit its requests say."""
        self._limits.set_limits(limits)
        self._answer_soon()

    def request(
        self,
        destination: str,
        demand: Demand,
        granted: Callable[[int], None],
        *,
        rates: RateDemand = (),
    ) -> int:
        """Wish for a lease of all these keys and one token of each rate; `granted(lease)` comes later, or never.

        Returns the number that `withdraw` takes. Destinations are served in turn.
        """
        number = self._number()
        self._granted[number] = granted
        if rates:
            self._rates[number] = rates
            self._limits.request(
                number, destination, demand, may_start=lambda: self._take(number, rates)
            )
        else:
            self._limits.request(number, destination, demand)
        self._answer_soon()
        return number

    def withdraw(self, request: int) -> None:
        """The request is void. If it was granted and the answer still on its way, the lease is released."""
        if self._granted.pop(request, None) is None:
            return
        rates = self._rates.pop(request, ())
        if not self._limits.withdraw(request):
            self._limits.release(request)
            self._lines.put_back(rates, 1)
        self._answer_soon()

    def connected(self, lease: int) -> None:
        """The destination answered: the lease no longer counts among the unproven."""
        self._limits.connected(lease)
        self._answer_soon()

    def release(self, lease: int, connected: bool) -> None:
        """The connection is gone, its descriptor closed."""
        self._limits.release(lease)
        self._answer_soon()

    def on_wanted(self, callback: Callable[[str, int, int], None]) -> None:
        """`callback(key, waiting, yielding)` whenever a full key stands differently: how many requests wait for it, and
        for how many of them holders should make room."""
        self._wanted = callback

    def used(self, key: str) -> int:
        """How many leases hold this key now (for `status` and tests)."""
        return self._limits.used(key)

    def watch(self, key: str) -> None:
        """Remember the most leases that held this key at once, for `take_peak`."""
        self._watched = key

    def take_peak(self) -> int:
        """The most since the last time."""
        peak, self._peak = self._peak, self._limits.used(self._watched)
        return max(peak, self._peak)

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return self._limits.waiting

    # Rates

    def tokens(self, rates: RateDemand, count: int, granted: Callable[[int, float], None]) -> int:
        """Up to `count` attempts, a token of each rate each; `granted(n, until)` comes later with 1 to `count`.

        What is not used by `until` is given back with `return_tokens`.
        """
        number = self._number()
        self._asks[number] = granted, rates
        now = self._clock.now()
        given = self._lines.ask(number, rates, count, now)
        if given:
            self._served.append((number, given))
            self._answer_soon()
        else:
            self._wake(self._lines.next_at(now))
        return number

    def withdraw_tokens(self, ask: int) -> None:
        """Nobody waits for this any more; tokens already on their way still come."""
        if self._lines.withdraw(ask):
            del self._asks[ask]

    def return_tokens(self, rates: RateDemand, count: int, until: float) -> None:
        """Tokens that were not used, and could have been until then; later they are worth nothing.

        What others took meanwhile was spaced as if these had been used. Given again, they would come on top: with 8 workers
        a host saw 7 attempts in a quarter of a second of 10/s.
        """
        if self._clock.now() <= until:
            self._lines.put_back(rates, count)
            self._serve_tokens()

    # Destinations

    def tell(self, tale: Tell) -> None:
        """How a destination stands, for all other workers; here is only the one who says it."""

    def on_told(self, callback: Callable[[Tell], None]) -> None:
        """`callback` hears what other workers found; there are none."""

    # Quotas

    def quota(
        self, key: str, limit: int, window_s: float, count: int, granted: Callable[[bool], None]
    ) -> None:
        """Count `count` more under this key in this hour or day; `granted(False)`, and nothing counted, beyond `limit`."""
        answer = self._count([(key, limit, window_s)], count)
        self._say(lambda: granted(answer))

    def quotas(self, wanted: Sequence[tuple[str, Rate]], granted: Callable[[bool], None]) -> None:
        """One more of each of these (key, so many an hour or a day): all of them or none."""
        answer = self._count([(key, rate.count, rate.per_s) for key, rate in wanted], 1)
        self._say(lambda: granted(answer))

    def snapshot(self) -> dict[str, Any]:
        """The counts of running hours and days, as JSON takes them."""
        now = self._clock.now()
        return {
            "quotas": [
                [key, window_s, window, used]
                for (key, window_s), (window, used) in self._quotas.items()
                if window == int(now // window_s)
            ]
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on counting where `snapshot` stood."""
        for key, window_s, window, used in snapshot.get("quotas", ()):
            self._quotas[key, window_s] = (window, used)

    def _count(self, wanted: Sequence[tuple[str, int, float]], count: int) -> bool:
        now = self._clock.now()
        found = []
        for key, limit, window_s in wanted:
            window = int(now // window_s)
            at, used = self._quotas.get((key, window_s), (window, 0))
            used = (used if at == window else 0) + count
            if used > limit:
                return False
            found.append(((key, window_s), (window, used)))
        for name, state in found:
            if name not in self._quotas:
                self._forget_quotas(now)
            self._quotas[name] = state
        return True

    def _forget_quotas(self, now: float) -> None:
        for name in [
            name for name, _ in zip(self._quotas, range(MAX_QUOTAS_LOOKED_AT), strict=False)
        ]:
            window, used = self._quotas.pop(name)
            if window == int(now // name[1]):
                self._quotas[name] = (window, used)  # to the end: the next look meets others

    # Answers and timers

    def _number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number

    def _take(self, number: int, rates: RateDemand) -> bool:
        """Every key of the request is free: take its tokens, or try again when they are there."""
        now = self._clock.now()
        if self._lines.may_take(rates, now):
            self._lines.take(rates, 1, now)
            return True
        if number not in self._retrying:
            self._retrying.add(number)
            at = max(self._lines.ready_at(rates, now), now + MIN_WAIT_S)
            self._call_at(at, lambda: self._retry(number))
        return False

    def _retry(self, number: int) -> None:
        self._retrying.discard(number)
        self._limits.serve(number)
        self._answer_soon()

    def _serve_tokens(self) -> None:
        self._wake_at = float("inf")
        now = self._clock.now()
        self._served += self._lines.serve(now)
        self._answer_soon()
        self._wake(self._lines.next_at(now))

    def _wake(self, at: float | None) -> None:
        if at is not None and at < self._wake_at:
            self._wake_at = max(at, self._clock.now() + MIN_WAIT_S)
            self._call_at(self._wake_at, self._serve_tokens)

    def _say(self, answer: Callback) -> None:
        self._answers.append(answer)
        self._answer_soon()

    def _answer_soon(self) -> None:
        if not self._is_posted:
            self._is_posted = True
            self._post(self._answer)

    def _answer(self) -> None:
        """Everything since the last turn in one call; what the answers cause is said in the next."""
        self._is_posted = False
        answers, self._answers = self._answers, []
        served, self._served = self._served, []
        for number in self._limits.take_granted():
            granted = self._granted.pop(number, None)
            self._rates.pop(number, None)
            if granted is not None:
                granted(number)
        if self._watched:
            self._peak = max(self._peak, self._limits.used(self._watched))
        now = self._clock.now()
        for number, given in served:
            taker, rates = self._asks.pop(number)
            taker(given, now + valid_for(rates))
        for answer in answers:
            answer()
        for key, waiting, yielding in self._limits.take_wanted():
            if self._wanted is not None:
                self._wanted(key, waiting, yielding)
