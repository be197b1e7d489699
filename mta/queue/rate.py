"""Token buckets: how many attempts may start, kept as one number, the time at which the bucket is full again.

The law: in any window of T seconds at most rate·T + max(1, rate·0.1 s) tokens are taken, from the first token on: a new bucket
holds no more than the same small burst. (A bucket of a second's worth, the usual kind, lets twice the rate through in its first
second, which is what a provider's limit notices.)

`TokenLines` serves those who wait for tokens of several buckets at once: all or none, first come first served at each bucket.
Pure: `now` is an argument. Generic cell rate algorithm, ITU-T I.371.
"""

from collections import deque
from dataclasses import dataclass, field

from mta.model.units import Rate
from mta.queue.actions import RateDemand

BURST_S = 0.1  # the law's
# The governor's own buckets keep half of it free, for a token may be used up to `valid_for` after it was given.
SHARED_BURST_S = 0.05
SLACK = 1e-6  # tokens: what float arithmetic may be wrong by
MAX_VALID_S = 5.0


class Bucket:
    """Never lets more through in any window than its law says."""

    __slots__ = ("_base", "_burst", "_burst_s", "_full_at", "_interval", "_rate")

    def __init__(self, rate: Rate, now: float, *, burst_s: float = BURST_S) -> None:
        # Times are kept since `base`: a float of today's epoch resolves only 0.24 µs, which adds up.
        self._base = now
        self._full_at = 0.0
        self._burst_s = burst_s
        self._set(rate)

    def _set(self, rate: Rate) -> None:
        self._rate = rate
        self._interval = rate.per_s / rate.count
        self._burst = max(1.0, rate.per_second * self._burst_s)

    @property
    def rate(self) -> Rate:
        return self._rate

    def available(self, now: float) -> int:
        """Whole tokens that may be taken now."""
        missing = max(0.0, self._full_at - (now - self._base)) / self._interval
        return max(0, int(self._burst - missing + SLACK))

    def take(self, count: int, now: float) -> None:
        """Take `count` tokens; the caller has looked that they are there."""
        self._full_at = max(self._full_at, now - self._base) + count * self._interval

    def put_back(self, count: int) -> None:
        """`count` tokens were not used."""
        self._full_at -= count * self._interval

    def ready_at(self, now: float, count: int = 1) -> float:
        """When `count` tokens are there (a number beyond the burst counts as the burst)."""
        wanted = min(float(count), self._burst)
        at = self._base + self._full_at - (self._burst - wanted) * self._interval
        return max(now, at)

    def is_full(self, now: float) -> bool:
        """Nothing is missing: forgetting the bucket changes nothing."""
        return self._full_at <= now - self._base

    def change(self, rate: Rate, now: float) -> None:
        """Another rate from now on; what is missing stays missing, in tokens, so that a reload grants no burst."""
        missing = max(0.0, self._full_at - (now - self._base)) / self._interval
        self._set(rate)
        self._full_at = now - self._base + missing * self._interval


def valid_for(rates: RateDemand) -> float:
    """Seconds in which a token must be used: a twentieth of a second, for slow rates a tenth of their interval.

    Used late, a token adds at most rate · lateness to the law: nothing for rates from 20/s, a quarter of a token below.
    """
    interval = max((rate.per_s / rate.count for _, rate in rates), default=0.0)
    return min(max(SHARED_BURST_S, interval * 0.1), MAX_VALID_S)


@dataclass(slots=True)
class _Ask:
    number: int
    rates: RateDemand
    count: int


@dataclass(slots=True)
class _Line:
    """A bucket and those who wait for it, oldest first."""

    bucket: Bucket
    asks: deque[_Ask] = field(default_factory=deque)


class TokenLines:
    """Buckets by key, and the asks that wait at one of theirs; keys with a full bucket are forgotten."""

    def __init__(self, *, burst_s: float = SHARED_BURST_S) -> None:
        self._burst_s = burst_s
        self._lines: dict[str, _Line] = {}
        self._waiting: dict[int, _Line] = {}
        self._busy: dict[str, None] = {}  # keys where somebody waits

    def __len__(self) -> int:
        return len(self._lines)

    def may_take(self, rates: RateDemand, now: float) -> bool:
        """A token of each is there and nobody waits for it before us."""
        return all(self._open(key, rate, now) >= 1 for key, rate in rates)

    def take(self, rates: RateDemand, count: int, now: float) -> None:
        """Take `count` of each; the caller has looked."""
        for key, rate in rates:
            self._line(key, rate, now).bucket.take(count, now)

    def put_back(self, rates: RateDemand, count: int) -> None:
        """Tokens that were not used; a key forgotten meanwhile was full anyway."""
        for key, _ in rates:
            line = self._lines.get(key)
            if line is not None:
                line.bucket.put_back(count)

    def ready_at(self, rates: RateDemand, now: float) -> float:
        """When a token of each is there, if nobody else takes it."""
        return max(
            (self._line(key, rate, now).bucket.ready_at(now) for key, rate in rates), default=now
        )

    def ask(self, number: int, rates: RateDemand, count: int, now: float) -> int:
        """Tokens given at once: 1 to `count`, or 0: the ask waits and `serve` answers it."""
        given = min(count, *(self._open(key, rate, now) for key, rate in rates)) if rates else count
        if given > 0:
            self.take(rates, given, now)
            return given
        self._wait(_Ask(number, rates, max(1, count)), now)
        return 0

    def withdraw(self, number: int) -> bool:
        """Nobody waits under this number any more; False if nobody did."""
        line = self._waiting.pop(number, None)
        if line is None:
            return False
        line.asks = deque(ask for ask in line.asks if ask.number != number)
        return True

    def serve(self, now: float) -> list[tuple[int, int]]:
        """(ask, tokens) of those whose turn came."""
        served: list[tuple[int, int]] = []
        for key in list(self._busy):
            line = self._lines[key]
            while line.asks and line.bucket.available(now) > 0:
                ask = line.asks.popleft()
                counts = [self._line(k, r, now).bucket.available(now) for k, r in ask.rates]
                if min(counts) > 0:
                    given = min(ask.count, *counts)
                    self.take(ask.rates, given, now)
                    del self._waiting[ask.number]
                    served.append((ask.number, given))
                else:
                    self._wait(ask, now)
            if not line.asks:
                self._busy.pop(key, None)
        return served

    def next_at(self, now: float) -> float | None:
        """When `serve` can next do something."""
        return min((self._lines[key].bucket.ready_at(now) for key in self._busy), default=None)

    def _wait(self, ask: _Ask, now: float) -> None:
        """Stand in line where it takes longest; the other buckets are not touched, so nothing is held meanwhile."""
        lines = [(key, self._line(key, rate, now)) for key, rate in ask.rates]
        key, line = max(
            lines,
            # An empty bucket first: rounding can make its time equal to now.
            key=lambda pair: (pair[1].bucket.available(now) == 0, pair[1].bucket.ready_at(now)),
        )
        line.asks.append(ask)
        self._waiting[ask.number] = line
        self._busy[key] = None

    def _open(self, key: str, rate: Rate, now: float) -> int:
        line = self._line(key, rate, now)
        return 0 if line.asks else line.bucket.available(now)

    def _line(self, key: str, rate: Rate, now: float) -> _Line:
        line = self._lines.get(key)
        if line is None:
            self._forget(now)
            line = self._lines[key] = _Line(Bucket(rate, now, burst_s=self._burst_s))
        elif line.bucket.rate != rate:
            line.bucket.change(rate, now)
        return line

    def _forget(self, now: float) -> None:
        """Look at the two oldest keys at each new one: the full go, so the number stays in proportion to what is used."""
        for key in [key for key, _ in zip(self._lines, range(2), strict=False)]:
            line = self._lines.pop(key)
            if line.asks or not line.bucket.is_full(now):
                self._lines[key] = line
