"""Committed events of one spool on their way from the event loop to a follower's thread, in bounded
memory.

While the follower keeps up it gets each event from memory. When more wait than the limit, what is
here stays, what comes is not kept, and the follower reads the spool's table from its cursor. It
returns to memory only when it has read past the last event it was offered: an event committed later
is offered later, so none falls between the two; one that was read and is offered afterwards is
dropped by its id.
"""

import threading
from collections import deque
from collections.abc import Sequence

from mta.model.event import Event

Numbered = tuple[int, Event]


class Inbox:
    """What was offered and not yet taken. `offer` runs on the loop, the rest on the follower's
    thread."""

    __slots__ = ("_batches", "_limit", "_lock", "_must_read", "last_offered", "waiting")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._batches: deque[Sequence[Numbered]] = deque()
        self.last_offered = 0  # an event id
        # What was committed before we were asked to follow stands only in the table.
        self._must_read = True
        self.waiting = 0  # events in memory

    @property
    def must_read(self) -> bool:
        """Whether memory does not have what comes next: read the table."""
        return self._must_read and not self.waiting

    def offer(self, batch: Sequence[Numbered]) -> None:
        """The events of one commit, ids rising."""
        with self._lock:
            self.last_offered = batch[-1][0]
            if self._must_read:
                return
            if self.waiting + len(batch) > self._limit:
                self._must_read = True
                return
            self._batches.append(batch)
            self.waiting += len(batch)

    def take(self, cursor: int, limit: int) -> list[Numbered]:
        """Up to `limit` events after `cursor` – or one commit's, if those are more."""
        taken: list[Numbered] = []
        with self._lock:
            while self._batches and (not taken or len(taken) + len(self._batches[0]) <= limit):
                batch = self._batches.popleft()
                self.waiting -= len(batch)
                if batch[0][0] > cursor:
                    taken.extend(batch)
                else:
                    taken.extend(one for one in batch if one[0] > cursor)
        return taken

    def has_read(self, mark: int) -> None:
        """The table had nothing more, and `mark` was the last offer when that read began.

        Nothing was offered since: what is committed from here on will be. (That the read was empty is
        the sign, not that it was short: a table passes over a row that it cannot decode.)
        """
        with self._lock:
            if self.last_offered == mark:
                self._must_read = False

    def reset(self) -> None:
        """Forget what is here and read the table: the follower goes back to its saved place."""
        with self._lock:
            self._batches.clear()
            self.waiting = 0
            self._must_read = True
