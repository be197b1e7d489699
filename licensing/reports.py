"""The reports under the licence that the ledger counts for: opened with its seat, and what their answers mean for the books.

Those of further licences are heartbeats. The chain of reports itself, byte for byte, is the reporter's.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from licensing.books import AckedFigures
from licensing.circumstances import circumstances
from licensing.envelope import Envelope, decode_closed, decode_envelope
from licensing.errors import LicenseError
from licensing.installation import LEDGER_CHAIN, LEDGER_MISSING, Installation, write_anchor
from licensing.lease import Allowance
from licensing.model.activation import Activation
from licensing.model.bodies import BatchAnswers
from licensing.model.usage import Notice, UsageAck, UsageReport
from licensing.reporter import Circumstances, Outcome, Reporter, carry_over, open_reporter
from licensing.seats import Seats
from licensing.selection import Installed

# After these there is something to say at once: a new epoch has no lease until its first report.
GOES_ON = frozenset({Outcome.NEW_EPOCH, Outcome.BEHIND, Outcome.UNKNOWN})
MOST_AT_ONCE = 4
HEALED = (LEDGER_MISSING, LEDGER_CHAIN, "rewind")


class Reports:
    """One reporter at most, under `main` and its seat. `acked` is told of every acknowledgement."""

    def __init__(
        self,
        home: Installation,
        seats: Seats,
        *,
        version: str,
        chance: random.Random,
        told: Callable[[str, str], None],
        acked: Callable[[UsageAck], Awaitable[None]],
    ) -> None:
        self._home, self._seats, self._version = home, seats, version
        self._chance, self._told, self._acked = chance, told, acked
        self._allowance: Allowance | None = None
        self.main: Installed | None = None
        self.reporter: Reporter | None = None
        self.failure = ""  # why the last report failed, "" it did not
        self.latest_version = ""
        self.notices: tuple[Notice, ...] = ()

    def serve(self, main: Installed | None, allowance: Allowance | None, *, is_other: bool) -> None:
        """Report under this licence. `is_other`: another file than before; its reporter is made anew."""
        self.main, self._allowance = main, allowance
        if is_other:
            self.reporter = None

    @property
    def counts(self) -> bool:
        """Whether Emails are reported (a Volume licence), or only that this node runs."""
        return self._allowance is not None

    # -- the chain ------------------------------------------------------------------------------------

    async def adopt(self, found: Activation) -> None:
        """Report under this activation from now on; one that is held already goes on where it is."""
        home, books = self._home, self._home.books
        books.activation_until = float(found.valid_until)
        books.contact_at = home.clock.now()
        if books.activation_id == found.activation_id:
            return
        if books.activation_id:
            carry_over(books, found.epoch, found.token)
        else:
            # What was sent before (the start block) is part of the first report.
            books.epoch, books.seq, books.token = found.epoch, 0, found.token
            books.acked = AckedFigures(epoch=found.epoch)
        books.activation_id, books.role = found.activation_id, found.role
        books.leases, books.next_report_at = [], home.clock.now()
        await home.thread.run(home.ledger.open_epoch, books.copy(), "activation", home.times())
        self.reporter = None

    def end(self) -> None:
        """What was acknowledged stays with the seat that is gone; its leases are the vendor's again."""
        books = self._home.books
        carry_over(books, books.epoch, "")
        books.wants_seat, books.activation_id = False, ""
        books.leases, books.pool, books.activation_until = [], None, 0.0
        self.reporter = None
        if self._allowance is not None:
            self._allowance.advance(self._home.clock.now())

    def drop(self) -> None:
        """The reporter is of a seat that is gone: the next one is made anew."""
        self.reporter = None

    async def open(self) -> Reporter | None:
        """The reporter, made if there is none yet; None without a seat. Raises LedgerError."""
        main, home = self.main, self._home
        if (
            self.reporter is None
            and main is not None
            and main.license_id in self._seats.activations
        ):
            self.reporter = await open_reporter(
                home,
                home.books,
                home.ledger,
                wire=self._seats.wire(main.license),
                allowance=self._allowance,
                chance=self._chance,
                told=self._told,
            )
        return self.reporter

    # -- out ------------------------------------------------------------------------------------------

    async def turn(self) -> Outcome:
        """Send what is due, and what follows from the answers. Nothing that a network or a server can cause is raised."""
        outcome = Outcome.NOTHING_DUE
        reporter = await self.open()
        for _ in range(MOST_AT_ONCE):
            if reporter is None:
                break
            outcome = await self.once(reporter)
            if outcome not in GOES_ON:
                break
            reporter = await self.open()
        return outcome

    async def once(
        self, reporter: Reporter, *, now_please: bool = False, final: bool = False
    ) -> Outcome:
        """One report, if one is due or asked for."""
        before = reporter.failure
        outcome = await reporter.turn(self._here(final=final), now_please=now_please)
        self.failure = reporter.failure
        if reporter.failure and not before:
            self._told("report_failed", reporter.failure)
        if outcome is Outcome.ACKED:
            await self._after_ack(reporter)
        elif outcome is Outcome.UNKNOWN and self.main is not None:
            await self._seats.ask_anew(self.main)
        return outcome

    async def all_there_is(self, reporter: Reporter, *, final: bool = False) -> Outcome:
        """Report until the vendor knows all of it; a refusal or a silence ends it."""
        for _ in range(MOST_AT_ONCE):
            was_stored = reporter.is_under_way
            outcome = await self.once(reporter, now_please=True, final=final)
            # Nothing new is not sent: near the vendor's limit it would be refused, and so would each next try.
            is_stored_one = outcome is Outcome.ACKED and was_stored and self._has_news(final)
            if self.reporter is not reporter or not (is_stored_one or outcome in GOES_ON):
                break
        return outcome

    async def export(self, reporter: Reporter) -> bytes:
        """The report to carry by hand, as it would have been sent. Raises LedgerError."""
        return await reporter.export(self._here())

    async def take_answers(self, reporter: Reporter, data: bytes) -> Outcome:
        """What the portal gave for an exported report: an envelope, or the answers to a batch. Raises LicenseError."""
        outcome = Outcome.NOTHING_DUE
        for envelope in _answers(data):
            outcome = await reporter.take_answer(envelope, self._here())
            if outcome is Outcome.ACKED:
                await self._after_ack(reporter)
        return outcome

    def _has_news(self, final: bool) -> bool:
        """Whether the vendor has not acknowledged all that was counted, or not yet that it is the last."""
        books, reporter = self._home.books, self.reporter
        was_last = reporter is not None and reporter.acked is not None and reporter.acked[1].final
        is_known = (books.epoch, books.cum) == (books.acked.epoch, books.acked.cum)
        return not is_known or (final and not was_last)

    def _here(self, *, final: bool = False) -> Circumstances:
        assert self.main is not None
        held = self._seats.activations[self.main.license_id]
        return circumstances(
            self._home, self.main.license, held, version=self._version, final=final
        )

    # -- in -------------------------------------------------------------------------------------------

    async def _after_ack(self, reporter: Reporter) -> None:
        """What an acknowledgement brings beside its figures. A part that is not believed or not stored leaves the rest."""
        if reporter.acked is None:
            return
        ack, report = reporter.acked
        home = self._home
        self._heal(report)
        self._heed(ack)
        self._seats.are_known()
        self.latest_version, self.notices = ack.latest_version, ack.notices
        try:
            data = await home.thread.run(home.ledger.last_ack)
            if data is not None:
                await asyncio.to_thread(write_anchor, home.state_dir, home.books, data)
        except (LicenseError, OSError) as error:
            self._told("ack_not_kept", str(error))
        await self._acked(ack)

    def _heal(self, report: UsageReport) -> None:
        """What the vendor was told of, and counted on, is settled."""
        for code in HEALED:
            if code in report.flags:
                self._home.books.findings.pop(code, None)

    def _heed(self, ack: UsageAck) -> None:
        """A server licence of which two copies report is borne for the days of cure (A2); a Volume copy only counts on."""
        findings = self._home.books.findings
        if not self.counts and any(each.id.startswith("clone:") for each in ack.notices):
            findings.setdefault("clone", self._home.clock.now())
        else:
            findings.pop("clone", None)


def _answers(data: bytes) -> list[Envelope]:
    """Of one file: an acknowledgement, or a batch's answers. Raises LicenseError."""
    try:
        return [decode_envelope(data)]
    except LicenseError:
        answers = decode_closed(data, BatchAnswers).answers
    refused = [each.refusal for each in answers if each.envelope is None and each.refusal]
    found = [each.envelope for each in answers if each.envelope is not None]
    if not found and refused:
        raise LicenseError(refused[0].error, f"the vendor refused it: {refused[0].text}")
    return found
