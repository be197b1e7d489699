"""Durations in buckets, and how late the event loop runs.

A `Histogram` is a list of integers: an observation is a bisect and an addition (0.2 µs). Quantiles
are read from the buckets, exact to a bucket's width, which is why the loop-lag edges are close
around the 50 ms that the loop must keep. `LoopLag` measures by a timer and corrects for what it
could not see: a loop blocked for a second misses nineteen of its ticks, and a plain count would
call that one late tick in many (coordinated omission).
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Seconds. 50 ms is the bound that a loaded worker keeps at p99, 5 ms what one callback may take.
LAG_EDGES = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05,
    0.06, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
COMMIT_EDGES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

LAG_INTERVAL_S = 0.05
# A machine that slept for an hour is one observation of an hour, not seventy thousand.
MAX_MISSED_TICKS = 400


@dataclass(frozen=True, slots=True)
class Summary:
    """A histogram in three numbers, seconds; zeros where nothing was observed."""

    count: int
    p50: float
    p99: float
    max: float


class Histogram:
    """How often a duration fell between two edges. One thread observes; any may read."""

    __slots__ = ("counts", "edges", "max", "sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = tuple(edges)
        self.counts = [0] * (len(self.edges) + 1)  # the last one: above every edge
        self.sum = 0.0
        self.max = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.edges, seconds)] += 1
        self.sum += seconds
        if seconds > self.max:
            self.max = seconds

    def quantile(self, share: float) -> float:
        """The duration that `share` (0–1) of the observations do not exceed: its bucket's upper
        edge, at most the maximum."""
        counts = tuple(self.counts)
        wanted = share * sum(counts)
        seen = 0
        for edge, count in zip(self.edges, counts[:-1], strict=True):
            seen += count
            if seen >= wanted:
                return min(edge, self.max)
        return self.max

    def summary(self) -> Summary:
        """Count, median, 99th percentile and maximum since the start or the last `reset`."""
        return Summary(self.count, self.quantile(0.5), self.quantile(0.99), self.max)

    def reset(self) -> None:
        """Begin again, as a measurement does; Prometheus reads it as a restart."""
        self.counts = [0] * len(self.counts)
        self.sum = self.max = 0.0


class LoopLag:
    """How late the loop calls back, measured by a timer of its own on that loop."""

    __slots__ = ("_call_later", "_expected", "_interval_s", "_running", "_time", "histogram")

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], object],
        loop_time: Callable[[], float],
        interval_s: float = LAG_INTERVAL_S,
    ) -> None:
        self.histogram = Histogram(LAG_EDGES)
        self._call_later = call_later
        self._time = loop_time
        self._interval_s = interval_s
        self._expected = 0.0
        self._running = False

    def start(self) -> None:
        """Measure from now until `stop`."""
        if not self._running:
            self._running = True
            self._arm()

    def stop(self) -> None:
        """The timer that is out ends without effect."""
        self._running = False

    def _arm(self) -> None:
        self._expected = self._time() + self._interval_s
        self._call_later(self._interval_s, self._tick)

    def _tick(self) -> None:
        if not self._running:
            return
        late = max(0.0, self._time() - self._expected)
        self.histogram.observe(late)
        # The ticks that should have come meanwhile would have been late too, each by one interval
        # less.
        for _ in range(MAX_MISSED_TICKS):
            late -= self._interval_s
            if late <= 0:
                break
            self.histogram.observe(late)
        self._arm()
