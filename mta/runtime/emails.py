"""Emails of a volume licence on their way to the workers: taken of the guard in sub-blocks, counted by who has them.

What a worker was given, less what it returned and less what its spools' events tell of, is in its hands or in flight. So
when it dies, what it had is known once its events are counted to the last one it committed; only then does the rest go back.

When the guard gives less than asked the end is near: one Email at a time then, so that no worker sits on the last of them. If the
guard fails, mail goes on: what is delivered stands in the events, and is counted from there (abuse case A37).
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from mta.io.link import Link
from mta.runtime.license import Delivered
from mta.runtime.messages import AskEmails, GivenEmails, ReturnEmails

logger = structlog.get_logger()

SCARCE_S = 5.0  # so long one at a time, then blocks are tried again


class EmailPool(Protocol):
    """The guard's side (`mta.runtime.license.Guard`)."""

    def take(self, count: int) -> int: ...

    def refund(self, count: int) -> None: ...


class Clock(Protocol):
    def now(self) -> float: ...


class EmailSource(Protocol):
    """Where a worker has its Emails from, near or far."""

    def ask(self, count: int, given: Callable[[int], None]) -> None:
        """`given` is called later, with 0 to `count`."""

    def give_back(self, count: int) -> None:
        """So many are not needed here."""


@dataclass(slots=True)
class _Orphans:
    """What a worker held when it died."""

    emails: int
    left: dict[str, int] = field(default_factory=dict)  # spool → its last event of that life
    is_known: bool = False  # `left` is: the next life has looked


class Till:
    """Every Email that a worker has stands here under its number."""

    def __init__(self, pool: EmailPool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._held: dict[int, int] = {}
        self._worker_of: dict[str, int] = {}  # spool → who drives it
        self._dead: dict[int, list[_Orphans]] = {}
        self._cursors: dict[str, int] = {}  # spool → the last event counted
        # worker → spool → deliveries counted between a death and the next life's first word
        self._early: dict[int, dict[str, tuple[int, ...]]] = {}
        self._scarce_until = 0.0
        self._is_failing = False

    def held(self, worker: int) -> int:
        """In its hands, in flight, or delivered and not counted yet."""
        return self._held.get(worker, 0)

    def take(self, worker: int, count: int) -> int:
        """As many as there are, at most `count`."""
        scarce = self._clock.now() < self._scarce_until
        wanted = 1 if scarce else count
        given = self._take(wanted)
        if given < wanted:
            self._scarce_until = self._clock.now() + SCARCE_S
            if given > 1:
                self._refund(given - 1)
                given = 1
        self._held[worker] = self._held.get(worker, 0) + given
        return given

    def give_back(self, worker: int, count: int) -> None:
        """A worker returns what it does not need."""
        count = min(count, self._held.get(worker, 0))
        self._held[worker] = self._held.get(worker, 0) - count
        self._refund(count)

    def serves(self, worker: int, last_events: Mapping[str, int]) -> None:
        """A worker begins with these spools; up to these events they tell of earlier lives."""
        self._worker_of.update(dict.fromkeys(last_events, worker))
        for orphans in self._dead.get(worker, ()):
            orphans.left = orphans.left or dict(last_events)
            orphans.is_known = True
        for spool, at in self._early.pop(worker, {}).items():
            self._use_up(worker, spool, at)
        self._bury(worker)

    def died(self, worker: int) -> None:
        """What it held waits until its events are counted to their end."""
        emails = self._held.pop(worker, 0)
        if emails:
            self._dead.setdefault(worker, []).append(_Orphans(emails))

    def counted(self, counts: Sequence[Delivered]) -> None:
        """These deliveries are in the ledger: their Emails are used up, nobody has them any more."""
        for each in counts:
            self._cursors[each.spool] = each.upto
            worker = self._worker_of.get(each.spool)
            if worker is None:
                continue
            if all(orphans.is_known for orphans in self._dead.get(worker, ())):
                self._use_up(worker, each.spool, each.at)
                self._bury(worker)
            else:  # whose they are is known when the next life says where it begins
                early = self._early.setdefault(worker, {})
                early[each.spool] = (*early.get(each.spool, ()), *each.at)

    def _use_up(self, worker: int, spool: str, at: Sequence[int]) -> None:
        """Deliveries by the events `at`, rising: the oldest life first whose events reach so far."""
        for orphans in self._dead.get(worker, ()):
            theirs = bisect_right(at, orphans.left.get(spool, 0))
            used = min(theirs, orphans.emails)
            orphans.emails -= used
            at = at[used:]
        self._held[worker] = max(0, self._held.get(worker, 0) - len(at))

    def _bury(self, worker: int) -> None:
        """Return what is left of lives whose events are counted to their end."""
        waiting = []
        for orphans in self._dead.pop(worker, ()):
            ends = orphans.left.items()
            if orphans.is_known and all(self._cursors.get(s, 0) >= end for s, end in ends):
                self._refund(orphans.emails)
            else:
                waiting.append(orphans)
        if waiting:
            self._dead[worker] = waiting

    def _take(self, count: int) -> int:
        try:
            given = self._pool.take(count)
        except Exception:  # the border to licensing: its fault stops no mail (A37)
            if not self._is_failing:
                logger.exception(
                    "licensing failed; delivery goes on, and is counted from its events"
                )
            self._is_failing = True
            return count
        self._is_failing = False
        return given

    def _refund(self, count: int) -> None:
        if not count:
            return
        try:
            self._pool.refund(count)
        except Exception:  # the border to licensing: its fault stops no mail (A37)
            logger.exception("licensing failed when Emails were returned", emails=count)


class NearEmails:
    """An `EmailSource` for the worker in the supervisor's process."""

    def __init__(self, till: Till, worker: int) -> None:
        self._till = till
        self._worker = worker

    def ask(self, count: int, given: Callable[[int], None]) -> None:
        """See `EmailSource`."""
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: given(self._till.take(self._worker, count)))

    def give_back(self, count: int) -> None:
        """See `EmailSource`."""
        self._till.give_back(self._worker, count)


class FarEmails:
    """An `EmailSource` for a worker in another process: messages over its link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._next = 1
        self._asks: dict[int, Callable[[int], None]] = {}

    def ask(self, count: int, given: Callable[[int], None]) -> None:
        """See `EmailSource`."""
        number, self._next = self._next, self._next + 1
        self._asks[number] = given
        self._link.send(AskEmails(number, count))

    def give_back(self, count: int) -> None:
        """See `EmailSource`."""
        if count:
            self._link.send(ReturnEmails(count))

    def given(self, message: GivenEmails) -> None:
        """The answer came."""
        self._asks.pop(message.ask)(message.count)


class NoEmails:
    """An `EmailSource` where nothing is metered: it has none, and nobody asks."""

    def ask(self, count: int, given: Callable[[int], None]) -> None:
        """See `EmailSource`."""
        asyncio.get_running_loop().call_soon(given, 0)

    def give_back(self, count: int) -> None:
        """See `EmailSource`."""
