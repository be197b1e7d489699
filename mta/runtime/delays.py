"""The look for mail that waits for long, so that its senders are told: once, over any restart.

From where the last look came to, to what has not waited long enough: each entry is looked at once, when its time has come,
however long the backlog is. Mail that waits for a time its sender set counts from then: it is remembered as numbers from … to,
and looked at again after that. What is owed and how far the look came are written together. What an operator holds is not told
of: it waits for him.
"""

import asyncio
import re
from collections.abc import Callable

import structlog

from mta.io.clock import Clock
from mta.model.envelope import Entry
from mta.model.event import local_attempt
from mta.model.told import Action, Told
from mta.model.units import format_duration
from mta.policy.book import Book
from mta.policy.notices import NoticeBook, wants_delay
from mta.spool.store import Spool
from mta.spool.words import Seen

logger = structlog.get_logger()

CHUNK = 1000
LOOK_S = 60.0  # or as often as a delay comes about, where that is sooner
SPOOL_TIMEOUT_S = 60.0
# Times of delivery are taken together so: what is remembered of them is bounded by the listeners' `max_hold`.
SPAN_S = 600.0

_STATUS = re.compile(r"\b4\.\d{1,3}\.\d{1,3}\b", re.ASCII)


class DelaySweep:
    """One spool's."""

    def __init__(
        self,
        spool: Spool,
        *,
        clock: Clock,
        book: Callable[[], Book],
        notice_book: Callable[[], NoticeBook],
        site_of: Callable[[str], str],
        on_owed: Callable[[], None],
    ) -> None:
        """`on_owed`: something is owed now."""
        self._spool = spool
        self._clock = clock
        self._book = book
        self._notice_book = notice_book
        self._site_of = site_of
        self._on_owed = on_owed
        self._look_at = 0.0

    async def look(self) -> int:
        """Look, if it is time; how many recipients their senders are to be told of."""
        rules, now = self._notice_book(), self._clock.now()
        if now < self._look_at or rules.is_never:
            return 0
        self._look_at = now + min(LOOK_S, rules.delay_told_after_s)
        owed = 0
        try:
            while (found := await self._look_at_chunk(rules, now)) is not None:
                owed += found
        except TimeoutError:  # what was found is written when there is room again
            logger.warning("what is owed to senders of delayed mail cannot be written now")
        return owed

    async def _look_at_chunk(self, rules: NoticeBook, now: float) -> int | None:
        """The next entries; None: there are none whose time has come."""
        seen = self._spool.seen
        passed, waiting = await self._next_oldest(seen, rules.delay_told_after_s, now)
        if passed == seen:
            passed, waiting = await self._next_released(seen, rules.delay_told_after_s, now)
        if passed == seen:
            return None
        delays = await self._delays(self._wanted(waiting, rules), rules.delay_told_after_s, now)
        async with asyncio.timeout(SPOOL_TIMEOUT_S):
            await asyncio.wrap_future(self._spool.owe_delays(delays, passed, now))
        if delays:
            self._on_owed()
        return len(delays)

    async def _next_oldest(self, seen: Seen, after: float, now: float) -> tuple[Seen, list[Entry]]:
        """Entries that have waited for long since they came, and what is seen with them."""
        last, later = seen.entry, dict(seen.later)
        waiting = []
        for entry in await asyncio.wrap_future(self._spool.oldest(CHUNK, seen.entry)):
            message = entry.message
            if self._waited(entry, message.received_at, now) < after:
                break
            last = entry.number
            if message.release_at <= message.received_at:
                waiting.append(entry)
            else:
                span = _span(message.release_at)
                first, _ = later.get(span, (last, last))
                later[span] = first, last
        return Seen(last, later), waiting

    async def _next_released(
        self, seen: Seen, after: float, now: float
    ) -> tuple[Seen, list[Entry]]:
        """Entries that have waited for long since the time their sender set, and what is seen with them."""
        # All holds of the licence count here, as if it had been there: late, perhaps, but never early.
        ripe = now - after - self._spool.licence_held_s(now)
        span = min(seen.later, default=None)
        if span is None or (span + 1) * SPAN_S > ripe:
            return seen, []
        first, last = seen.later[span]
        found = await asyncio.wrap_future(self._spool.oldest(CHUNK, first - 1))
        waiting = [
            entry
            for entry in found
            if entry.number <= last
            and entry.message.release_at > entry.message.received_at
            and _span(entry.message.release_at) == span
        ]
        later = {other: numbers for other, numbers in seen.later.items() if other != span}
        if len(found) == CHUNK and found[-1].number < last:
            later[span] = found[-1].number + 1, last
        return Seen(seen.entry, later), waiting

    def _wanted(self, entries: list[Entry], rules: NoticeBook) -> list[Entry]:
        """Those whose senders are to be told."""
        return [
            entry
            for entry in entries
            if wants_delay(entry, is_told_unasked=rules.is_delay_told_unasked)
            and not rules.rule(
                entry.message.sender, entry.message.user, entry.message.source_ip
            ).is_never
        ]

    async def _delays(self, entries: list[Entry], after: float, now: float) -> list[Told]:
        if not entries:
            return []
        numbers = [entry.number for entry in entries]
        reasons = await asyncio.wrap_future(self._spool.call(lambda read: read.reasons(numbers)))
        book = self._book()
        return [
            self._delay(entry, reasons[entry.number], after, now, book)
            for entry in entries
            if entry.number in reasons  # the others are gone by now
        ]

    def _delay(self, entry: Entry, reason: str, after: float, now: float, book: Book) -> Told:
        text = f"not delivered for {format_duration(after)}"
        if reason:
            text += f"; last: {reason}"
        status = _STATUS.search(reason)
        attempt = local_attempt(entry, "t", now, enhanced=status[0] if status else "", text=text)
        policy = book.policy(entry.key, self._site_of(entry.key.domain))
        message = entry.message
        since = max(message.received_at, message.release_at)
        left = policy.expire_after - self._waited(entry, since, now)
        return Told(Action.DELAYED, attempt, now + max(0.0, left))

    def _waited(self, entry: Entry, since: float, now: float) -> float:
        """How long it has waited for others than the licence."""
        held_s = self._spool.licence_held_s(now) - entry.message.licence_held_s
        return now - since - held_s


def _span(at: float) -> int:
    return int(at // SPAN_S)
