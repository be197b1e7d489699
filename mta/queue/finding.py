"""Which queues on disk to look for, and when; and whose route is looked up next. Two short lines, no scan of queues."""

from collections import deque
from collections.abc import Container

from mta.model.envelope import QueueKey
from mta.queue.actions import FindDue

FIND_LIMIT = 256  # queues of one look
FRUITLESS_S = 1.0  # a look that found nothing new is not repeated at once
FRESH_SHARE = (
    4  # one place in so many, of memory and of resolves, is kept for queues with fresh mail
)


class Finder:
    """Knows when the earliest queue outside memory is due, as a lower bound, and how much room there is for it."""

    def __init__(self, max_active: int) -> None:
        self.due: float | None = 0.0  # of the earliest queue on disk; at start: look
        self.active = 0  # queues in memory that came from the disk
        self._max_active = max_active
        self._max_found = max(1, max_active - max_active // FRESH_SHARE)
        self._is_asked = False
        self._asked = 0
        self._limit = FIND_LIMIT
        self._not_before = 0.0

    def note(self, due: float | None) -> None:
        """A queue on disk is due then."""
        if due is not None and (self.due is None or due < self.due):
            self.due = due

    def room(self, in_memory: int) -> int:
        """How many more queues from the disk memory takes."""
        return min(self._max_active - in_memory, self._max_found - self.active)

    def next_at(self, in_memory: int) -> float | None:
        """When to look again; None: when something changes."""
        if self._is_asked or self.due is None or not self._has_room(in_memory):
            return None
        return max(self.due, self._not_before)

    def ask(self, in_memory: int, held: Container[QueueKey]) -> FindDue:
        """Look now. What is noted from here on is merged into the answer."""
        self._is_asked = True
        self.due = None
        self._asked = min(self._limit, in_memory + self.room(in_memory))
        return FindDue(self._asked, held)

    def answered(self, seen: int, new: int, next_due: float | None, now: float) -> None:
        """The look brought `seen` queues, of which `new` were not in memory; the earliest not seen is due at `next_due`."""
        self._is_asked = False
        self.note(next_due)
        if new:
            self._limit = FIND_LIMIT
        else:
            self._not_before = now + FRUITLESS_S
            if seen >= self._asked:  # all of them in memory: look beyond
                self._limit = min(self._limit * 2, self._max_active + FIND_LIMIT)
                self._not_before = now
                self.note(now)

    def _has_room(self, in_memory: int) -> bool:
        # Not for one queue at a time: a look costs the same for many.
        return self.room(in_memory) >= max(1, min(FIND_LIMIT, self._max_active // 16))


class ResolveLanes:
    """At most `limit` resolves run; fresh queues and a backlog from the disk whose DNS is dead do not keep each other out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._max_of_a_kind = max(1, limit - limit // FRESH_SHARE)
        self._running: dict[QueueKey, bool] = {}
        self._count = [0, 0]  # of fresh ones, of those from the disk
        self._lines: tuple[deque[QueueKey], deque[QueueKey]] = (deque(), deque())

    def __len__(self) -> int:
        return len(self._running)

    def is_running(self, key: QueueKey) -> bool:
        return key in self._running

    def add(self, key: QueueKey, *, is_from_disk: bool) -> None:
        """This queue waits for a route."""
        self._lines[is_from_disk].append(key)

    def done(self, key: QueueKey) -> None:
        """Its resolve was answered."""
        kind = self._running.pop(key, None)
        if kind is not None:
            self._count[kind] -= 1

    def next(self) -> QueueKey | None:
        """Whose resolve starts now, fresh queues first."""
        for kind, line in enumerate(self._lines):
            while (
                line
                and len(self._running) < self._limit
                and self._count[kind] < self._max_of_a_kind
            ):
                key = line.popleft()
                if key not in self._running:
                    self._running[key] = bool(kind)
                    self._count[kind] += 1
                    return key
        return None
