"""Timers in a heap. An alarm that no longer holds is found stale when its time comes, or swept out once half of them are.

(Left there until their time, the alarms of queues that had left memory kept them in it: 3 kB a queue, for a retry of an hour.)
"""

from heapq import heapify, heappop, heappush

from mta.queue.queue import Connection, Queue

Owner = Queue | Connection
MIN_STALE = 64  # fewer are not worth a sweep


class Alarms:
    """At most one live alarm a queue or connection, so the heap stays in proportion to them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Owner]] = []
        self._count = 0  # breaks ties: owners have no order
        self._stale = 0  # at most so many no longer hold

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: float, owner: Owner) -> None:
        """Give `owner` back at this time."""
        self._count += 1
        heappush(self._heap, (at, self._count, owner))

    def note_stale(self) -> None:
        """An alarm no longer holds: its queue left memory or has an earlier one, its connection is gone."""
        self._stale += 1
        if self._stale > max(MIN_STALE, len(self._heap) // 2):
            self._heap = [each for each in self._heap if _holds(each[0], each[2])]
            heapify(self._heap)
            self._stale = 0

    def pop(self, now: float) -> tuple[float, Owner] | None:
        """An alarm whose time has come, with that time; None: no more."""
        if self._heap and self._heap[0][0] <= now:
            at, _, owner = heappop(self._heap)
            return at, owner
        return None

    def next_at(self) -> float | None:
        """The earliest alarm, stale or not."""
        return self._heap[0][0] if self._heap else None


def _holds(at: float, owner: Owner) -> bool:
    return owner.is_timed if isinstance(owner, Connection) else owner.alarm == at
