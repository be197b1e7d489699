"""Timers in a heap. An alarm is not taken out when it no longer holds: it is found stale when its time comes."""

from heapq import heappop, heappush

from mta.queue.queue import Connection, Queue

Owner = Queue | Connection


class Alarms:
    """At most one live alarm a queue or connection, so the heap stays in proportion to them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Owner]] = []
        self._count = 0  # breaks ties: owners have no order

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: float, owner: Owner) -> None:
        """Give `owner` back at this time."""
        self._count += 1
        heappush(self._heap, (at, self._count, owner))

    def pop(self, now: float) -> tuple[float, Owner] | None:
        """An alarm whose time has come, with that time; None: no more."""
        if self._heap and self._heap[0][0] <= now:
            at, _, owner = heappop(self._heap)
            return at, owner
        return None

    def next_at(self) -> float | None:
        """The earliest alarm, stale or not."""
        return self._heap[0][0] if self._heap else None
