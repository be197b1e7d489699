"""A bounded cache whose entries live until a given time: what DNS answers, positive and negative, are kept in.

It holds no clock: `now` and `expires` are seconds of the same clock (`io.clock.Clock.now()`). When it is full the entry
that was used longest ago goes.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """At most `capacity` values, each returned only before the time it expires."""

    __slots__ = ("_capacity", "_entries")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now: float) -> V | None:
        """The value of `key`, or None when there is none or it expired by `now`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: K, value: V, expires: float) -> None:
        """Keep `value` until `expires`, in place of what `key` had."""
        self._entries[key] = (expires, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def forget(self, key: K | None = None) -> None:
        """Drop one key, or everything."""
        if key is None:
            self._entries.clear()
        else:
            self._entries.pop(key, None)
