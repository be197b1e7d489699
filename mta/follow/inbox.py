"""Committed events of one spool on their way from the event loop to a follower's thread, in bounded
memory.

While the follower keeps up it gets each event from memory. When more wait than the limit, what is
here stays, and the follower reads what comes next from the spool's table. What is offered meanwhile
is kept apart, the newest without a hole: once the table has been read up to there, memory serves
again. (To wait until a read found nothing took a lull: with commits every 5 ms and a disk that
syncs in 10 ms the follower read the table for ever.) One that was read and is offered afterwards is
dropped by its id.

An empty batch says that some may be missing, for whoever offers lost them: all is forgotten and the
table is read.
"""

import threading
from collections import deque
from collections.abc import Sequence

from mta.model.event import Event

Numbered = tuple[int, Event]


class Inbox:
    """What was offered and not yet taken. `offer` runs on the loop, the rest on the follower's
    thread."""

    __slots__ = (
        "_batches",
        "_later",
        "_later_count",
        "_limit",
        "_lock",
        "_must_read",
        "_resets",
        "last_offered",
        "waiting",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._batches: deque[Sequence[Numbered]] = deque()
        self._later: deque[Sequence[Numbered]] = deque()  # offered while the table is read
        self._later_count = 0
        self._resets = 0
        self.last_offered = 0  # an event id; below 0 after a reset, and never twice the same
        # What was committed before we were asked to follow stands only in the table.
        self._must_read = True
        self.waiting = 0  # events in memory that can be taken

    @property
    def must_read(self) -> bool:
        """Whether memory does not have what comes next: read the table."""
        return self._must_read and not self.waiting

    def offer(self, batch: Sequence[Numbered]) -> None:
        """The events of one commit, ids rising; an empty batch is a `reset`."""
        with self._lock:
            if not batch:
                self._forget()
                return
            self.last_offered = batch[-1][0]
            if self._must_read or self.waiting + len(batch) > self._limit:
                self._must_read = True
                self._keep(batch)
            else:
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

    def has_read(self, mark: int, reached: int, *, found: bool) -> None:
        """The table was read up to event `reached`; `mark` was the last offer when that read began.

        Memory serves again if what it kept begins where the table was left; or if nothing was found
        and nothing was offered or reset since: what is committed from here on will be offered.
        (That the read was empty is the sign, not that it was short: a table passes over a row that
        it cannot decode.)
        """
        with self._lock:
            joins = bool(self._later) and self._later[0][0][0] <= reached + 1
            if joins or (not found and self.last_offered == mark):
                self._batches, self._later = self._later, deque()
                self.waiting, self._later_count = self._later_count, 0
                self._must_read = False

    def reset(self) -> None:
        """Forget what is here and read the table: the follower goes back to its saved place."""
        with self._lock:
            self._forget()

    def _keep(self, batch: Sequence[Numbered]) -> None:
        if self.waiting + self._later_count + len(batch) > self._limit:
            self._later.clear()
            self._later_count = 0
        self._later.append(batch)
        self._later_count += len(batch)

    def _forget(self) -> None:
        self._batches.clear()
        self._later.clear()
        self.waiting = self._later_count = 0
        self._must_read = True
        # A read that is under way must not end what begins here, whatever it was marked with.
        self._resets += 1
        self.last_offered = -self._resets
