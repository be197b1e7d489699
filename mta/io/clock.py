"""The only reader of the clock.

`now()` is the time every decision uses: the wall clock at start plus what the monotonic clock has counted since, so that a
jump of the wall clock expires nothing and reorders nothing while we run. `wall()` is what the world sees: Date fields, records.
"""

import time


class Clock:
    """Seconds since the epoch that never jump."""

    def __init__(self, offset: float | None = None) -> None:
        """`offset`: that of another process's clock, so that both mean the same by a time."""
        self.offset = time.time() - time.monotonic() if offset is None else offset

    def now(self) -> float:
        """Seconds since the epoch as counted since start; never goes back."""
        return self.offset + time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch as the machine believes them now."""
        return time.time()

    def to_loop_time(self, at: float) -> float:
        """The event loop's time (`loop.time()`, monotonic) for a `now()` time."""
        return at - self.offset
