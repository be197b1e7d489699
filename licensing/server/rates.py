"""How often anyone may ask: one number a key, in a table of bounded size. Pure, `now` is an argument.

GCRA: the number is the time at which the key has nothing owing. A burst of n fits into n intervals ahead of now.
"""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second in the long run, so many at once."""

    per_second: float
    burst: int


PER_NODE = Rate(0.1, 5)
PER_LICENSE = Rate(50, 200)  # a whole batch at once
PER_SOURCE = Rate(100, 200)
BAD_SIGNATURES = Rate(5 / 60, 5)


class RateTable:
    """One rate for many keys. The oldest key is forgotten when there are too many, which errs in its favour."""

    def __init__(self, rate: Rate, max_keys: int = 100_000) -> None:
        self._interval = 1 / rate.per_second
        self._ahead = self._interval * (rate.burst - 1)
        self._max_keys = max_keys
        self._free_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Seconds until this key may ask again, 0 for now; nothing is taken."""
        return max(0.0, self._free_at.get(key, 0.0) - self._ahead - now)

    def take(self, key: str, now: float) -> float:
        """Take one: 0, or the seconds until there is one, and nothing is taken."""
        free_at = max(now, self._free_at.get(key, 0.0))
        wait = free_at - self._ahead - now
        if wait > 1e-9:
            return wait
        self._free_at[key] = free_at + self._interval
        self._free_at.move_to_end(key)
        if len(self._free_at) > self._max_keys:
            self._free_at.popitem(last=False)
        return 0.0

    def __len__(self) -> int:
        return len(self._free_at)
