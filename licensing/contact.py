"""Everything that is said to the vendor and comes back: seats, reports, heartbeats, and what answers bring.

One conversation at a time; the guard's task asks for a `turn` each second, an operator's verbs wait for it. What comes back is
believed by its signature, stored, and only then acted on. Nothing here is waited for by mail.
"""

import asyncio
import random
from collections.abc import Callable, Iterable

from licensing.activation import give_back
from licensing.books import AckedFigures
from licensing.circumstances import circumstances, fingerprint_match
from licensing.envelope import (
    Envelope,
    decode_closed,
    decode_envelope,
    encode_envelope,
)
from licensing.errors import LicenseError
from licensing.fingerprint import Match
from licensing.gifts import Gifts
from licensing.heartbeats import Heartbeats
from licensing.installation import LEDGER_CHAIN, LEDGER_MISSING, Installation, write_anchor
from licensing.lease import Allowance
from licensing.model.activation import Activation
from licensing.model.bodies import BatchAnswers
from licensing.model.fields import ACTIVATION
from licensing.model.license import License
from licensing.model.usage import Notice, UsageAck, UsageReport
from licensing.newer_roots import NewerRoots
from licensing.rekey import rekey
from licensing.reporter import Circumstances, Outcome, Reporter, carry_over
from licensing.seats import ContactOptions, Seats
from licensing.selection import Installed
from licensing.wire import SentLog, Wire

# After these there is something to say at once: a new epoch has no lease until its first report.
GOES_ON = frozenset({Outcome.NEW_EPOCH, Outcome.BEHIND, Outcome.UNKNOWN})
MOST_AT_ONCE = 4
HEALED = (LEDGER_MISSING, LEDGER_CHAIN, "rewind")


class Contact:
    """The conversation. `main` is the licence that the ledger reports under; the others (server licences) send heartbeats."""

    def __init__(
        self,
        home: Installation,
        options: ContactOptions,
        *,
        chance: random.Random,
        told: Callable[[str, str], None],
    ) -> None:
        self._home, self._options = home, options
        self._chance, self._told = chance, told
        self.talking = asyncio.Lock()
        self._sent = SentLog(home.state_dir / "sent")
        self._allowance: Allowance | None = None
        self.main: Installed | None = None
        self.reporter: Reporter | None = None
        self.seats = Seats(
            home, options, sent=self._sent, chance=chance, told=told, adopt=self._adopt
        )
        self._gifts = Gifts(home, told)
        self._newer_roots = NewerRoots(home, told)
        self._heartbeats = Heartbeats(
            home,
            self.seats,
            version=options.version,
            chance=chance,
            told=told,
            acked=self._after_heartbeat,
        )
        self.latest_version = ""
        self._notices: tuple[Notice, ...] = ()
        self._failure = ""

    # -- what is served -------------------------------------------------------------------------------

    def serve(
        self, chosen: Iterable[Installed], main: Installed | None, allowance: Allowance | None
    ) -> None:
        """These licences are in force now. A licence that is new here has its activation read, one small file."""
        is_other = (
            main is None or self.main is None or main.opened.sha256 != self.main.opened.sha256
        )
        self.main, self._allowance = main, allowance
        chosen = tuple(chosen)
        self.seats.serve(chosen, main, is_other=is_other)
        self._heartbeats.serve(each for each in chosen if each is not main)
        if is_other:
            self.reporter = None

    @property
    def activations(self) -> dict[str, Activation]:
        """By licence."""
        return self.seats.activations

    @property
    def refusals(self) -> dict[str, str]:
        """Why the vendor gave no seat, by licence."""
        return self.seats.refusals

    def fingerprint_match(self) -> Match | None:
        """How much of the machine is as it was at activation; None before."""
        if self.main is None or _id(self.main) not in self.activations:
            return None
        return fingerprint_match(self._home, self.activations[_id(self.main)])

    @property
    def gifts(self) -> int:
        """Licences, roots and lists of revocations that acknowledgements brought."""
        return self._gifts.taken

    @property
    def vendor_notices(self) -> tuple[Notice, ...]:
        """What the vendor wants to be known, by the last acknowledgement of each licence."""
        return (*self._notices, *self._heartbeats.notices)

    @property
    def failure(self) -> str:
        """Why the last try to report, or else to get a seat, failed; "" where it did not."""
        return self._failure or self.seats.failure

    @property
    def may_talk(self) -> bool:
        """Whether the network may be used: a Volume licence reports (C12), others as configured."""
        return self.main is not None and (
            self._options.reporting or self.main.license.reporting.required
        )

    async def turn(self) -> Outcome:
        """Whatever is due now: a seat, a report, or nothing. Raises nothing that a network or a server can cause."""
        async with self.talking:
            main = self.main
            if main is None or not self.may_talk or not self.seats.endpoints(main.license):
                return Outcome.NOTHING_DUE
            await self.seats.ask_for_missing()
            await self._open_reporter()
            self._heartbeats.note_peak()
            outcome = Outcome.NOTHING_DUE
            for _ in range(MOST_AT_ONCE):
                if self.reporter is None:
                    break
                outcome = await self._report(self.reporter)
                if outcome not in GOES_ON:
                    break
                await self._open_reporter()
            await self._heartbeats.turn()
            return await self._look_for_roots(main, outcome)

    async def _look_for_roots(self, main: Installed, outcome: Outcome) -> Outcome:
        """What was not believed may be signed under a newer root: then it is asked for once more."""
        in_doubt = outcome is Outcome.NOT_BELIEVED or (self.reporter is None and bool(self.failure))
        if not await self._newer_roots.look(self.seats.wire(main.license), in_doubt=in_doubt):
            return outcome
        self._gifts.taken += 1  # licence files are judged anew
        if not in_doubt:
            return outcome
        if self.reporter is None:
            self.seats.ask_at_once()
            await self.seats.ask_for_missing()
            return outcome
        return await self._report(self.reporter, now_please=True)

    # -- verbs ----------------------------------------------------------------------------------------

    async def activate(self) -> list[Activation]:
        """Take the seats of every licence in force, now. Raises LicenseError."""
        async with self.talking:
            if not self.seats.installed:
                raise LicenseError(
                    "no_license", "no licence is in force: `sluice license install FILE`"
                )
            self._home.books.wants_seat = True
            return [await self.seats.activate(each) for each in self.seats.installed]

    async def request(self) -> bytes:
        """A request for a seat, to be carried by hand. Raises LicenseError."""
        if self.main is None:
            raise LicenseError(
                "no_license", "no licence is in force: `sluice license install FILE`"
            )
        envelope = await self.seats.make_request(self.main)
        return encode_envelope(envelope)

    async def take_activation(self, envelope: Envelope) -> Activation:
        """An answer that was carried by hand. Raises LicenseError; nothing has changed then."""
        async with self.talking:
            opened = self._home.store.trust.open(envelope, ACTIVATION)
            license_id = decode_closed(opened.payload, Activation).license_id
            for each in self.seats.installed:
                if _id(each) == license_id:
                    return await self.seats.take(each, envelope)
            raise LicenseError(
                "no_license",
                f"this activates {license_id}, which is not installed: install it first",
            )

    async def deactivate(self) -> list[str]:
        """Report for the last time and give the seats back. Raises LicenseError; what was given back stays so."""
        async with self.talking:
            await self._open_reporter()
            if self.reporter is not None:
                outcome = await self._report_twice(self.reporter, final=True)
                if outcome is not Outcome.ACKED and self._allowance is not None:
                    raise LicenseError(
                        "not_reported",
                        f"the last figures could not be reported ({self.reporter.failure or outcome}); the seat is kept",
                    )
            freed = []
            home = self._home
            for each in self.seats.installed:
                if (held := self.activations.get(_id(each))) is None:
                    continue
                now, wall = home.clock.now(), home.times().wall
                await give_back(
                    self.seats.wire(each.license), home.key, held.activation_id, wall=wall, now=now
                )
                self.seats.forget(each)
                self._heartbeats.forget(_id(each))
                freed.append(held.activation_id)
            self._end_chain()
            await home.save()
            return freed

    def _end_chain(self) -> None:
        """What was acknowledged stays with the seat that is gone; its leases are the vendor's again."""
        books = self._home.books
        carry_over(books, books.epoch, "")
        books.wants_seat, books.activation_id = False, ""
        books.leases, books.pool, books.activation_until = [], None, 0.0
        self.reporter = None
        if self._allowance is not None:
            self._allowance.advance(self._home.clock.now())

    async def report_now(self) -> Outcome:
        """A report at once, and a fresh one behind a stored one. Raises LicenseError when there is nothing to report under."""
        async with self.talking:
            outcome = await self._report_twice(await self._need_reporter())
            await self._heartbeats.turn(now_please=True)
            return outcome

    async def export(self) -> bytes:
        """The report to carry by hand, as it would have been sent. Raises LicenseError."""
        async with self.talking:
            reporter = await self._need_reporter()
            if self._allowance is not None and not self._license().reporting.offline_allowed:
                raise LicenseError(
                    "offline", "this licence does not allow reports by hand: it reports over HTTPS"
                )
            data = await reporter.export(self._here())
            await asyncio.to_thread(self._sent.keep, data, self._home.clock.now())
            return data

    async def take_answers(self, data: bytes) -> Outcome:
        """What the portal gave for an exported report: an envelope, or the answers to a batch. Raises LicenseError."""
        async with self.talking:
            reporter = await self._need_reporter()
            outcome = Outcome.NOTHING_DUE
            for envelope in _answers(data):
                outcome = await reporter.take_answer(envelope, self._here())
                if outcome is Outcome.ACKED:
                    await self._after_ack(reporter)
            return outcome

    def sent(self, count: int) -> list[bytes]:
        """The last bodies that left, the newest first; blocking."""
        return self._sent.last(count)

    def wire(self) -> Wire:
        """The way to the vendor, for the test of the connection. Raises LicenseError."""
        return self.seats.wire(self._license())

    # -- reports --------------------------------------------------------------------------------------

    async def _adopt(self, found: Activation) -> None:
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

    async def _open_reporter(self) -> None:
        main, home = self.main, self._home
        if self.reporter is not None or main is None or _id(main) not in self.activations:
            return
        reporter = Reporter(
            home.books,
            home.ledger,
            home.thread,
            wire=self.seats.wire(main.license),
            key=home.key,
            opener=lambda: home.store.trust,
            allowance=self._allowance,
            signed_time=home.signed_time,
            chance=self._chance,
            told=self._told,
        )
        await reporter.load()
        self.reporter = reporter

    async def _report_twice(self, reporter: Reporter, *, final: bool = False) -> Outcome:
        """Until what the vendor knows is all there is; a refusal or a silence ends it."""
        for _ in range(MOST_AT_ONCE):
            was_stored = reporter.is_under_way
            outcome = await self._report(reporter, now_please=True, final=final)
            # Nothing new is not sent: near the vendor's limit it would be refused, and so would each next try.
            is_stored_one = outcome is Outcome.ACKED and was_stored and self._has_news(final)
            if self.reporter is not reporter or not (is_stored_one or outcome in GOES_ON):
                break
        return outcome

    def _has_news(self, final: bool) -> bool:
        """Whether the vendor has not acknowledged all that was counted, or not yet that it is the last."""
        books, reporter = self._home.books, self.reporter
        was_last = reporter is not None and reporter.acked is not None and reporter.acked[1].final
        is_known = (books.epoch, books.cum) == (books.acked.epoch, books.acked.cum)
        return not is_known or (final and not was_last)

    async def _report(
        self, reporter: Reporter, *, now_please: bool = False, final: bool = False
    ) -> Outcome:
        before = reporter.failure
        outcome = await reporter.turn(self._here(final=final), now_please=now_please)
        self._failure = reporter.failure
        if reporter.failure and not before:
            self._told("report_failed", reporter.failure)
        if outcome is Outcome.ACKED:
            await self._after_ack(reporter)
        elif outcome is Outcome.UNKNOWN and self.main is not None:
            await self.seats.ask_anew(self.main)
        return outcome

    def _here(self, *, final: bool = False) -> Circumstances:
        found = self._license()
        held = self.activations[found.license_id]
        return circumstances(self._home, found, held, version=self._options.version, final=final)

    async def _after_ack(self, reporter: Reporter) -> None:
        """What an acknowledgement brings beside its figures. A part that is not believed or not stored leaves the rest."""
        if reporter.acked is None:
            return
        ack, report = reporter.acked
        home = self._home
        self._heal(report)
        self._heed(ack)
        self.seats.are_known()
        self.latest_version = ack.latest_version
        try:
            data = await home.thread.run(home.ledger.last_ack)
            if data is not None:
                await asyncio.to_thread(write_anchor, home.state_dir, home.books, data)
            await asyncio.to_thread(self._gifts.take, ack)
        except (LicenseError, OSError) as error:
            self._told("ack_not_kept", str(error))
        self._notices = ack.notices
        await self._heed_rekey(ack)

    async def _after_heartbeat(self, ack: UsageAck) -> None:
        """The same of a licence beside the main one: findings of this machine are told to the main one's, too."""
        try:
            await asyncio.to_thread(self._gifts.take, ack)
        except (LicenseError, OSError) as error:
            self._told("ack_not_kept", str(error))
        await self._heed_rekey(ack)

    async def _heed_rekey(self, ack: UsageAck) -> None:
        if any(each.id.startswith("rekey:") for each in ack.notices):
            await self._become_another()

    async def _become_another(self) -> None:
        """Of two machines with this identity, the vendor has chosen this one to begin anew (A2)."""
        before = self._home.key.id
        try:
            name = await rekey(self._home)
        except (LicenseError, OSError) as error:
            self._told("rekey_refused", str(error))
            return
        self._told("rekeyed", f"this copy of node {before} is node {name} from now on")
        self.seats.forget_all()
        self._heartbeats.forget_all()
        self.reporter = None

    def _heal(self, report: UsageReport) -> None:
        """What the vendor was told of, and counted on, is settled."""
        for code in HEALED:
            if code in report.flags:
                self._home.books.findings.pop(code, None)

    def _heed(self, ack: UsageAck) -> None:
        """A server licence of which two copies report is borne for the days of cure (A2); a Volume copy only counts on."""
        findings = self._home.books.findings
        if self._allowance is None and any(each.id.startswith("clone:") for each in ack.notices):
            findings.setdefault("clone", self._home.clock.now())
        else:
            findings.pop("clone", None)

    # -- within ---------------------------------------------------------------------------------------

    def _license(self) -> License:
        if self.main is None:
            raise LicenseError(
                "no_license", "no licence is in force: `sluice license install FILE`"
            )
        return self.main.license

    async def _need_reporter(self) -> Reporter:
        self._license()
        await self._open_reporter()
        if self.reporter is None:
            raise LicenseError(
                "not_activated", "this server has no seat yet: `sluice license activate`"
            )
        return self.reporter


def _id(each: Installed) -> str:
    return each.license.license_id


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
