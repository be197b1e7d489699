"""Counts Emails: folds what the followers of the delivery journals saw into the books, and has it written.

One Email is one recipient that a remote host accepted, one `d` event (C11). The journal is the truth and its cursor is kept with
the count: told twice, an event counts once, and after a crash the follower begins again at the cursor. Integers only: what the
mail was is never known here (C18).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from licensing.books import Books
from licensing.calendar import day_of
from licensing.errors import LicenseError

FLUSH_AT = 10_000  # Emails that wait for a commit are never more
REMEMBERED_DAYS = (
    62  # older ones stand in the ledger's records; a report names those not acknowledged yet
)


class Counted(Protocol):
    """So many Emails stand in the journal of `spool` (its UUID) after the event `since` up to the event `upto`."""

    @property
    def spool(self) -> str: ...
    @property
    def since(self) -> int: ...
    @property
    def upto(self) -> int: ...
    @property
    def emails(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """A `Counted` as a value; `since` and `upto` are event ids, 0 is before the first."""

    spool: str
    since: int
    upto: int
    emails: int


class Meter:
    """What was folded is in memory at once, and on disk when `flush` returns. No event counts twice."""

    def __init__(
        self,
        books: Books,
        store: Callable[[Books], Awaitable[None]],
        *,
        now: Callable[[], float],
        counted: Callable[[int], None] = lambda emails: None,
        gap: Callable[[str, int, int], None] = lambda spool, cursor, since: None,
        flush_every: float,
    ) -> None:
        """`store` writes a copy of the books or raises; `counted` hears of Emails that are new, before they are written;

        `gap(spool, cursor, since)` of events that nobody counted: they were gone before the follower came. `flush_every`: seconds
        a lone call waits for others at most.
        """
        self._books = books
        self._store = store
        self._now = now
        self._counted = counted
        self._gap = gap
        self._flush_every = flush_every
        self._waiting = 0  # Emails folded and not on disk
        self._hurry = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self.failing_since: float | None = (
            None  # trusted time of the first write that failed, None: all is on disk
        )

    def fold(self, counts: Iterable[Counted]) -> int:
        """Count what is new of these; how many Emails that was. Raises LicenseError for a range that was counted in part."""
        return sum(self._fold(one) for one in counts)

    async def delivered(self, counts: Iterable[Counted]) -> None:
        """Count these; durable when it returns. Raises LedgerError: counted in memory; tell the same again, it counts once."""
        self.fold(counts)
        await self.flush()

    async def flush(self) -> None:
        """What was folded before the call is on disk when it returns. Raises LedgerError."""
        # A running commit may have copied the books before our change: only the next one covers it.
        if self._next is None:
            self._next = asyncio.create_task(self._commit(self._running))
            self._next.add_done_callback(_look_at)
        await asyncio.shield(self._next)

    async def close(self) -> None:
        """Wait for what is being written; a failure of that was told to those who wait for it."""
        for task in (self._running, self._next):
            if task is not None:
                self._hurry.set()
                await asyncio.wait([task])

    def _fold(self, one: Counted) -> int:
        cursor = self._books.cursors.get(one.spool)
        if cursor is not None and one.upto <= cursor:
            return 0
        if cursor is not None:
            if one.since < cursor:
                raise LicenseError(
                    "overlap",
                    f"events {one.since} to {one.upto} of spool {one.spool}: those up to {cursor} are counted already;"
                    " read on from there",
                )
            if one.since > cursor:
                self._gap(one.spool, cursor, one.since)
        self._books.cursors[one.spool] = one.upto
        if one.emails:
            self._count(one.emails)
        return one.emails

    def _count(self, emails: int) -> None:
        books, day = self._books, day_of(self._now())
        books.cum += emails
        books.days[day] = books.days.get(day, 0) + emails
        while len(books.days) > REMEMBERED_DAYS:
            del books.days[min(books.days)]
        self._waiting += emails
        if self._waiting >= FLUSH_AT:
            self._hurry.set()
        self._counted(emails)

    async def _commit(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
            if self._flush_every > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._flush_every):
                        await self._hurry.wait()
        self._running, self._next = self._next, None
        self._hurry.clear()
        written, self._waiting = self._waiting, 0
        try:
            await self._store(self._books.copy())
        except LicenseError:
            self._waiting += written
            if self.failing_since is None:
                self.failing_since = self._now()
            raise
        self.failing_since = None


def _look_at(task: asyncio.Task[None]) -> None:
    # Those who wait are told by their own shield; when nobody does, asyncio must not complain.
    if not task.cancelled():
        task.exception()
