"""What the guard writes beside the counts: events, what was told, findings, a record now and then. Mail never waits for it.

A disk that takes nothing is a finding of its own (A40): told at once, a matter of integrity after a quarter of an hour.
"""

from collections import deque

import structlog

from licensing.clock import CLOCK_STEP
from licensing.facts import ALTERED
from licensing.fingerprint import Match
from licensing.installation import EPHEMERAL, Installation
from licensing.ledger_file import LedgerError
from licensing.meter import Meter
from licensing.selection import Selection

SAVE_EVERY_S = 60.0  # the clock's state, where nothing else is written
RECORD_EVERY_S = 3_600.0  # of licences that do not report counts
UNWRITABLE_S = 900.0  # A40: so long counters may live in memory alone
KEPT_S = 400 * 86_400.0  # C6: records stand in the ledger so long, then in the archive
ROTATE_EVERY_S = 86_400.0

Event = tuple[float, str, str]  # time, code, words

logger = structlog.get_logger()


class Upkeep:
    """Findings are set and cleared here only, but for those that the vendor's word clears. `events` wait here to be written."""

    def __init__(self, home: Installation, meter: Meter, events: deque[Event]) -> None:
        self._home = home
        self._meter = meter
        self._events = events
        self._recorded_at = self._rotate_at = 0.0
        self._recorded_cum = -1
        self.told_codes: set[str] = set()  # notices that went out, and are not noted yet
        self.saved_at = 0.0

    def find(self, code: str, now: float) -> None:
        """Something does not fit; what counts is when it was seen first."""
        self._home.books.findings.setdefault(code, now)

    def look(self, selection: Selection, match: Match | None, now: float) -> None:
        """Disk, machine, clock and files, once a second."""
        self._look_at_disk(now)
        self._look_at_machine(selection, match, now)

    def _look_at_disk(self, now: float) -> None:
        """A40: counts that are only in memory are told of at once, and are a matter of integrity after a quarter of an hour."""
        findings, since = self._home.books.findings, self._meter.failing_since
        if since is None:
            findings.pop("ledger_waiting", None)
            findings.pop("ledger_unwritable", None)
        elif now - since > UNWRITABLE_S:
            findings.pop("ledger_waiting", None)
            findings.setdefault("ledger_unwritable", since)
        else:
            findings.setdefault("ledger_waiting", since)

    def _look_at_machine(self, selection: Selection, match: Match | None, now: float) -> None:
        """What is noticed counts from its first time, also over a restart: only so does what is borne come to an end."""
        home = self._home
        noticed = {
            "fp_mismatch": match is not None and not match.holds,
            CLOCK_STEP: home.clock.is_long_behind,
            ALTERED: selection.is_tampered,
            EPHEMERAL: home.is_ephemeral,
        }
        for code, is_so in noticed.items():
            if is_so:
                home.books.findings.setdefault(code, now)
            else:
                home.books.findings.pop(code, None)

    async def keep(self, now: float, *, reports: bool) -> None:
        """Events, the clock and now and then a record; a disk that takes nothing is the meter's to notice."""
        home = self._home
        events = list(self._events)
        try:
            if events:
                await home.thread.run(home.ledger.add_events, events)
                for _ in events:
                    self._events.popleft()
            if codes := frozenset(self.told_codes):
                await home.thread.run(home.ledger.note_sent, codes, now)
                self.told_codes -= codes
            is_moved = home.books.cum != self._recorded_cum
            if is_moved and not reports and abs(now - self._recorded_at) >= RECORD_EVERY_S:
                self._recorded_at, self._recorded_cum = now, home.books.cum
                await home.record("hour")
            elif abs(now - self.saved_at) >= SAVE_EVERY_S or self._meter.failing_since is not None:
                await self._meter.flush()
            if not self._rotate_at - ROTATE_EVERY_S <= now < self._rotate_at:
                archive = home.state_dir / "archive"
                moved = await home.thread.run(home.ledger.rotate, now - KEPT_S, archive)
                moved += await home.thread.run(home.ledger.pack)
                self._rotate_at = now + (ROTATE_EVERY_S if moved == 0 else 0.0)
        except (LedgerError, OSError) as error:
            logger.warning("the licence's ledger takes nothing", reason=str(error))
