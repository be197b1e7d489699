"""Everything that is said to the vendor and comes back: seats, reports, heartbeats, and what answers bring.

One conversation at a time; the guard's task asks for a `turn` each second, an operator's verbs wait for it. What comes back is
believed by its signature, stored, and only then acted on. Nothing here is waited for by mail.
"""

import asyncio
import random
from collections.abc import Callable, Iterable

from licensing.activation import give_back
from licensing.circumstances import fingerprint_match
from licensing.envelope import (
    Envelope,
    decode_closed,
    encode_envelope,
)
from licensing.errors import LicenseError
from licensing.fingerprint import Match
from licensing.gifts import Gifts
from licensing.heartbeats import Heartbeats
from licensing.installation import Installation
from licensing.lease import Allowance
from licensing.model.activation import Activation
from licensing.model.fields import ACTIVATION
from licensing.model.usage import Notice, UsageAck
from licensing.newer_roots import NewerRoots
from licensing.rekey import rekey
from licensing.reporter import Outcome, Reporter
from licensing.reports import Reports
from licensing.seats import ContactOptions, Seats
from licensing.selection import Installed
from licensing.wire import SentLog, Wire


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
        self.seats = Seats(
            home, options, sent=self._sent, chance=chance, told=told, adopt=self._adopt_seat
        )
        self._gifts = Gifts(home, told)
        self._newer_roots = NewerRoots(home, told)
        self._reports = Reports(
            home,
            self.seats,
            version=options.version,
            chance=chance,
            told=told,
            acked=self._after_ack,
        )
        self._heartbeats = Heartbeats(
            home,
            self.seats,
            version=options.version,
            chance=chance,
            told=told,
            acked=self._after_ack,
        )

    # -- what is served -------------------------------------------------------------------------------

    def serve(
        self, chosen: Iterable[Installed], main: Installed | None, allowance: Allowance | None
    ) -> None:
        """These licences are in force now. A licence that is new here has its activation read, one small file."""
        is_other = (
            main is None or self.main is None or main.opened.sha256 != self.main.opened.sha256
        )
        chosen = tuple(chosen)
        self.seats.serve(chosen, main, is_other=is_other)
        self._reports.serve(main, allowance, is_other=is_other)
        self._heartbeats.serve(each for each in chosen if each is not main)

    @property
    def main(self) -> Installed | None:
        """The licence that the ledger reports under."""
        return self._reports.main

    @property
    def reporter(self) -> Reporter | None:
        """Its chain of reports, once it has a seat."""
        return self._reports.reporter

    @property
    def latest_version(self) -> str:
        """Of this software, as the vendor said last."""
        return self._reports.latest_version

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
        if self.main is None or self.main.license_id not in self.activations:
            return None
        return fingerprint_match(self._home, self.activations[self.main.license_id])

    @property
    def gifts(self) -> int:
        """Licences, roots and lists of revocations that acknowledgements brought."""
        return self._gifts.taken

    @property
    def vendor_notices(self) -> tuple[Notice, ...]:
        """What the vendor wants to be known, by the last acknowledgement of each licence."""
        return (*self._reports.notices, *self._heartbeats.notices)

    @property
    def failure(self) -> str:
        """Why the last try to report, or else to get a seat, failed; "" where it did not."""
        return self._reports.failure or self.seats.failure

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
            self._heartbeats.note_peak()
            outcome = await self._reports.turn()
            await self._heartbeats.turn()
            return await self._look_for_roots(main, outcome)

    async def _look_for_roots(self, main: Installed, outcome: Outcome) -> Outcome:
        """What was not believed may be signed under a newer root: then it is asked for once more."""
        reporter = self.reporter
        in_doubt = outcome is Outcome.NOT_BELIEVED or (reporter is None and bool(self.failure))
        if not await self._newer_roots.look(self.seats.wire(main.license), in_doubt=in_doubt):
            return outcome
        self._gifts.taken += 1  # licence files are judged anew
        if not in_doubt:
            return outcome
        if reporter is None:
            self.seats.ask_at_once()
            await self.seats.ask_for_missing()
            return outcome
        return await self._reports.once(reporter, now_please=True)

    # -- verbs ----------------------------------------------------------------------------------------

    async def activate(self) -> list[Activation]:
        """Take the seats of every licence in force, now. Raises LicenseError."""
        async with self.talking:
            if not self.seats.installed:
                raise _none_in_force()
            self._home.books.wants_seat = True
            return [await self.seats.activate(each) for each in self.seats.installed]

    async def request(self) -> bytes:
        """A request for a seat, to be carried by hand. Raises LicenseError."""
        return encode_envelope(await self.seats.make_request(self._need_main()))

    async def take_activation(self, envelope: Envelope) -> Activation:
        """An answer that was carried by hand. Raises LicenseError; nothing has changed then."""
        async with self.talking:
            opened = self._home.store.trust.open(envelope, ACTIVATION)
            license_id = decode_closed(opened.payload, Activation).license_id
            for each in self.seats.installed:
                if each.license_id == license_id:
                    return await self.seats.take(each, envelope)
            raise LicenseError(
                "no_license",
                f"this activates {license_id}, which is not installed: install it first",
            )

    async def deactivate(self) -> list[str]:
        """Report for the last time and give the seats back. Raises LicenseError; what was given back stays so."""
        async with self.talking:
            await self._report_for_the_last_time()
            freed = []
            home = self._home
            for each in self.seats.installed:
                if (held := self.activations.get(each.license_id)) is None:
                    continue
                now, wall = home.clock.now(), home.times().wall
                await give_back(
                    self.seats.wire(each.license), home.key, held.activation_id, wall=wall, now=now
                )
                self.seats.forget(each)
                self._heartbeats.forget(each.license_id)
                freed.append(held.activation_id)
            self._reports.end()
            await home.save()
            return freed

    async def report_now(self) -> Outcome:
        """A report at once, and a fresh one behind a stored one. Raises LicenseError when there is nothing to report under."""
        async with self.talking:
            outcome = await self._reports.all_there_is(await self._need_reporter())
            await self._heartbeats.turn(now_please=True)
            return outcome

    async def export(self) -> bytes:
        """The report to carry by hand, as it would have been sent. Raises LicenseError."""
        async with self.talking:
            reporter = await self._need_reporter()
            if self._reports.counts and not self._need_main().license.reporting.offline_allowed:
                raise LicenseError(
                    "offline", "this licence does not allow reports by hand: it reports over HTTPS"
                )
            data = await self._reports.export(reporter)
            await asyncio.to_thread(self._sent.keep, data, self._home.clock.now())
            return data

    async def take_answers(self, data: bytes) -> Outcome:
        """What the portal gave for an exported report: an envelope, or the answers to a batch. Raises LicenseError."""
        async with self.talking:
            return await self._reports.take_answers(await self._need_reporter(), data)

    def sent(self, count: int) -> list[bytes]:
        """The last bodies that left, the newest first; blocking."""
        return self._sent.last(count)

    def wire(self) -> Wire:
        """The way to the vendor, for the test of the connection. Raises LicenseError."""
        return self.seats.wire(self._need_main().license)

    # -- what answers bring ---------------------------------------------------------------------------

    async def _adopt_seat(self, found: Activation) -> None:
        await self._reports.adopt(found)

    async def _after_ack(self, ack: UsageAck) -> None:
        """Of every licence; a finding of this machine is told to whichever reports first."""
        try:
            await asyncio.to_thread(self._gifts.take, ack)
        except (LicenseError, OSError) as error:
            self._told("ack_not_kept", str(error))
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
        self._reports.drop()

    # -- within ---------------------------------------------------------------------------------------

    async def _report_for_the_last_time(self) -> None:
        reporter = await self._reports.open()
        if reporter is None:
            return
        outcome = await self._reports.all_there_is(reporter, final=True)
        if outcome is not Outcome.ACKED and self._reports.counts:
            why = self.reporter.failure if self.reporter is not None else ""
            raise LicenseError(
                "not_reported",
                f"the last figures could not be reported ({why or outcome}); the seat is kept",
            )

    def _need_main(self) -> Installed:
        if self.main is None:
            raise _none_in_force()
        return self.main

    async def _need_reporter(self) -> Reporter:
        self._need_main()
        reporter = await self._reports.open()
        if reporter is None:
            raise LicenseError(
                "not_activated", "this server has no seat yet: `sluice license activate`"
            )
        return reporter


def _none_in_force() -> LicenseError:
    return LicenseError("no_license", "no licence is in force: `sluice license install FILE`")
