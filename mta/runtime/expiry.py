"""The sweep that finds what has expired, wherever it waits: deferred, in a paused queue, behind a dead host.

From the oldest entry on, no further than the youngest that could have expired; a chunk at a time, so that nothing else waits for
it. What an attempt finds expired never comes here; what is in flight is left to its attempt. Time under a licence hold does not
count (`Book.expire_after` is compared with the age less that time), and the clock is the worker's, which never jumps. What an
operator paused expires on time; what waits for a virtual MTA that lost its address, or is gone from the configuration, does not.
"""

import asyncio
from collections.abc import Callable

from mta.egress.session import Facts
from mta.egress.settle import Settler
from mta.io.clock import Clock
from mta.model.envelope import Entry
from mta.model.outcome import Failed
from mta.model.reply import a_reply
from mta.model.units import format_duration
from mta.policy.book import Book
from mta.policy.retry import is_expired
from mta.queue.answers import VMTA_PAUSED
from mta.queue.scheduler import Scheduler
from mta.spool.store import Spool

CHUNK = 1000


class ExpirySweep:
    """One spool's sweep."""

    def __init__(
        self,
        spool: Spool,
        *,
        scheduler: Scheduler,
        settler: Settler,
        clock: Clock,
        book: Callable[[], Book],
    ) -> None:
        self._spool = spool
        self._scheduler = scheduler
        self._settler = settler
        self._clock = clock
        self._book = book

    async def run(self) -> int:
        """Sweep once; how many entries expired."""
        expired = after = 0
        while True:
            entries = await asyncio.wrap_future(self._spool.oldest(CHUNK, after))
            if not entries:
                return expired
            now, book = self._clock.now(), self._book()
            old = [each for each in entries if self._is_expired(each, book, now)]
            expired += await self._expire(old) if old else 0
            last = entries[-1]
            # What follows came later. A release time may make one look younger than those behind it: it does not count here.
            if self._age(last, now, last.message.received_at) < book.shortest_expiry:
                return expired
            after = entries[-1].number
            while self._settler.is_full:
                await asyncio.sleep(0.01)

    async def _expire(self, entries: list[Entry]) -> int:
        free = self._claim(entries)
        numbers = [entry.number for entry in free]
        # Asked after the claim: what is gone by now was on its way when it was found, and has its record.
        reasons = await asyncio.wrap_future(self._spool.call(lambda read: read.reasons(numbers)))
        free = self._claim([entry for entry in free if entry.number in reasons])
        book = self._book()
        for entry in free:
            site = self._scheduler.site(entry.key)
            text = (
                f"not delivered within {format_duration(book.policy(entry.key, site).expire_after)}"
            )
            stop = self._scheduler.stop_of(entry.key.vmta)
            reason = reasons[entry.number] or (stop.what if stop is not None else "")
            if reason:
                text += f"; last: {reason}"
            outcome = Failed(a_reply(451, "4.4.7", text), local=True)
            self._settler.settle(entry, outcome, Facts(site=site))
        return len(free)

    def _claim(self, entries: list[Entry]) -> list[Entry]:
        """Those that are not in flight; the scheduler lets go of them."""
        free = [entry for entry in entries if not self._spool.is_marked(entry)]
        self._scheduler.forget(free)
        return free

    def _is_expired(self, entry: Entry, book: Book, now: float) -> bool:
        stop = self._scheduler.stop_of(entry.key.vmta)
        if stop is not None and stop.what != VMTA_PAUSED:
            return False  # a fault of ours: it waits for us, and does not bounce for that
        policy = book.policy(entry.key, self._scheduler.site(entry.key))
        message = entry.message
        since = max(message.received_at, message.release_at)
        return is_expired(self._age(entry, now, since), policy.expire_after)

    def _age(self, entry: Entry, now: float, since: float) -> float:
        held_s = self._spool.licence_held_s(now) - entry.message.licence_held_s
        return now - since - held_s
