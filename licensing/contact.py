"""Everything that is said to the vendor and comes back: seats, reports, renewals, revocations, newer roots.

One conversation at a time; the guard's task asks for a `turn` each second, an operator's verbs wait for it. What comes back is
believed by its signature, stored, and only then acted on. Nothing here is waited for by mail.
"""

import asyncio
import hashlib
import hmac
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from licensing import activation as seats
from licensing.books import AckedFigures
from licensing.envelope import (
    Envelope,
    decode_closed,
    decode_envelope,
    encode_envelope,
    format_armour,
)
from licensing.errors import LicenseError
from licensing.files import make_private_folder, read_private, write_atomically
from licensing.fingerprint import Match, match
from licensing.installation import LEDGER_CHAIN, LEDGER_MISSING, Installation, write_anchor
from licensing.lease import Allowance
from licensing.model import (
    ACTIVATION,
    Activation,
    BatchAnswers,
    License,
    Notice,
    UsageAck,
    UsageReport,
)
from licensing.reporter import Circumstances, Outcome, Reporter, carry_over
from licensing.selection import Installed
from licensing.wire import SentLog, Unreachable, Wire, backoff

REFUSED_AGAIN_S = 3_600.0  # a seat that was refused is asked for again each hour
RENEW_BEFORE_S = 7 * 86_400.0  # an activation without a heartbeat is renewed in its last week
MAX_REQUESTS = 8
# After these there is something to say at once: a new epoch has no lease until its first report.
GOES_ON = frozenset({Outcome.NEW_EPOCH, Outcome.BEHIND, Outcome.UNKNOWN})
MOST_AT_ONCE = 4
MAX_ACTIVATION_BYTES = 256 * 1024
HEALED = (LEDGER_MISSING, LEDGER_CHAIN, "rewind")


@dataclass(frozen=True, slots=True)
class ContactOptions:
    """How the vendor is reached. `endpoint` in the place of the licence's own is for tests."""

    reporting: bool = True
    endpoint: str | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    node_label: str = ""
    version: str = "0"


class Contact:
    """The conversation. `main` is the licence that is reported under; the others only have seats."""

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
        self._installed: tuple[Installed, ...] = ()
        self._allowance: Allowance | None = None
        self._ask_at = 0.0
        self._asked = 0  # failures in a row to get a seat
        self.main: Installed | None = None
        self.reporter: Reporter | None = None
        self.activations: dict[str, Activation] = {}
        self.refusals: dict[str, str] = {}
        self.gifts = 0  # licences, roots and lists of revocations that acknowledgements brought
        self.latest_version = ""
        self.vendor_notices: tuple[Notice, ...] = ()
        self.failure = ""

    # -- what is served -------------------------------------------------------------------------------

    def serve(
        self, chosen: Iterable[Installed], main: Installed | None, allowance: Allowance | None
    ) -> None:
        """These licences are in force now. Reads their activations; blocking, a few small files."""
        self._installed = tuple(chosen)
        is_other = (
            main is None or self.main is None or main.opened.sha256 != self.main.opened.sha256
        )
        self.main, self._allowance = main, allowance
        for each in self._installed:
            self._recall(each)
        if is_other:
            self._ask_at = 0.0
            self.reporter = None

    def fingerprint_match(self) -> Match | None:
        """How much of the machine is as it was at activation; None before."""
        if self.main is None or _id(self.main) not in self.activations:
            return None
        present = self._home.machine.fingerprint(_id(self.main))
        return match(self.activations[_id(self.main)].fp, present)

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
            if main is None or not self.may_talk or not self._endpoints(main.license):
                return Outcome.NOTHING_DUE
            await self._ask_for_seats()
            await self._open_reporter()
            outcome = Outcome.NOTHING_DUE
            for _ in range(MOST_AT_ONCE):
                if self.reporter is None:
                    break
                outcome = await self._report(self.reporter)
                if outcome not in GOES_ON:
                    break
                await self._open_reporter()
            return outcome

    # -- verbs ----------------------------------------------------------------------------------------

    async def activate(self) -> list[Activation]:
        """Take the seats of every licence in force, now. Raises LicenseError."""
        async with self.talking:
            if not self._installed:
                raise LicenseError(
                    "no_license", "no licence is in force: `sluice license install FILE`"
                )
            self._home.books.wants_seat = True
            return [await self._activate(each) for each in self._installed]

    async def request(self) -> bytes:
        """A request for a seat, to be carried by hand. Raises LicenseError."""
        if self.main is None:
            raise LicenseError(
                "no_license", "no licence is in force: `sluice license install FILE`"
            )
        envelope = await self._make_request(self.main)
        return encode_envelope(envelope)

    async def take_activation(self, envelope: Envelope) -> Activation:
        """An answer that was carried by hand. Raises LicenseError; nothing has changed then."""
        async with self.talking:
            opened = self._home.store.trust.open(envelope, ACTIVATION)
            license_id = decode_closed(opened.payload, Activation).license_id
            for each in self._installed:
                if _id(each) == license_id:
                    return await self._take_activation(each, envelope)
            raise LicenseError(
                "no_license",
                f"this activates {license_id}, which is not installed: install it first",
            )

    async def deactivate(self) -> list[str]:
        """Report for the last time and give the seats back. Raises LicenseError; what was given back stays so."""
        async with self.talking:
            await self._open_reporter()
            if self.reporter is not None:
                outcome = await self._report_twice(self.reporter)
                if outcome is not Outcome.ACKED and self._allowance is not None:
                    raise LicenseError(
                        "not_reported",
                        f"the last figures could not be reported ({self.reporter.failure or outcome}); the seat is kept",
                    )
            freed = []
            home = self._home
            for each in self._installed:
                if (held := self.activations.get(_id(each))) is None:
                    continue
                now, wall = home.clock.now(), home.times().wall
                await seats.give_back(
                    self._wire(each.license), home.key, held.activation_id, wall=wall, now=now
                )
                self._forget(each)
                freed.append(held.activation_id)
            home.books.wants_seat, home.books.activation_id = False, ""
            await home.save()
            self.reporter = None
            return freed

    async def report_now(self) -> Outcome:
        """A report at once, and a fresh one behind a stored one. Raises LicenseError when there is nothing to report under."""
        async with self.talking:
            return await self._report_twice(await self._need_reporter())

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
        return self._wire(self._license())

    # -- seats ----------------------------------------------------------------------------------------

    async def _ask_for_seats(self) -> None:
        now = self._home.clock.now()
        if now < self._ask_at or not self._home.books.wants_seat:
            return
        for each in self._installed:
            if self._needs_seat(each, now):
                try:
                    await self._activate(each)
                except LicenseError as error:
                    self._asked += 1
                    self._ask_at = now + self._pause_after(error)
                    self.failure = str(error)
                    return
        self._asked = 0

    def _pause_after(self, error: LicenseError) -> float:
        pause = backoff(self._asked, self._chance)
        if isinstance(error, seats.ActivationRefused):
            return max(pause if error.is_busy else REFUSED_AGAIN_S, error.retry_after or 0.0)
        return pause if isinstance(error, Unreachable) else REFUSED_AGAIN_S

    def _needs_seat(self, each: Installed, now: float) -> bool:
        held = self.activations.get(_id(each))
        if held is None:
            return True
        until = float(held.valid_until)
        if each is self.main:
            until = max(until, self._home.books.activation_until)
        ends = each.license.terminate_at.timestamp()
        return until < ends and until - now < RENEW_BEFORE_S

    async def _activate(self, each: Installed) -> Activation:
        request = await self._make_request(each)
        try:
            answer = await seats.ask_online(
                self._wire(each.license), request, self._home.clock.now()
            )
        except seats.ActivationRefused as error:
            if not error.is_busy:
                if self.refusals.get(_id(each)) != str(error):
                    self._told("activation_refused", str(error))
                self.refusals[_id(each)] = str(error)
            raise
        return await self._take_activation(each, answer)

    async def _make_request(self, each: Installed) -> Envelope:
        home = self._home
        request = seats.build_request(
            each.license,
            each.opened.sha256,
            home.key,
            fingerprint=home.machine.fingerprint(_id(each)),
            server_class=home.machine.machine_class,
            label=self._options.node_label,
            version=self._options.version,
            wall=home.times().wall,
        )
        waiting = [*home.books.requests, request.payload_sha256()]
        home.books.requests = waiting[-MAX_REQUESTS:]
        await home.save()
        return request

    async def _take_activation(self, each: Installed, envelope: Envelope) -> Activation:
        home, books = self._home, self._home.books
        found = seats.read_activation(
            envelope, home.store.trust, each.license, home.key.id, books.requests
        )
        path = self._activation_path(each)
        make_private_folder(path.parent)
        await asyncio.to_thread(write_atomically, path, encode_envelope(envelope))
        home.clock.signed(float(found.server_time))
        books.requests.remove(found.in_reply_to)
        self.activations[_id(each)] = found
        self.refusals.pop(_id(each), None)
        self.failure = ""
        if each is self.main:
            await self._adopt(found)
        await home.save()
        return found

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

    def _recall(self, each: Installed) -> None:
        if _id(each) in self.activations:
            return
        try:
            data = read_private(self._activation_path(each), MAX_ACTIVATION_BYTES)
            self.activations[_id(each)] = seats.read_activation(
                decode_envelope(data, max_bytes=MAX_ACTIVATION_BYTES),
                self._home.store.trust,
                each.license,
                self._home.key.id,
                None,
            )
        except FileNotFoundError:
            return
        except (LicenseError, OSError) as error:
            self._told("activation_unreadable", f"{self._activation_path(each)}: {error}")

    def _forget(self, each: Installed) -> None:
        self.activations.pop(_id(each), None)
        self._activation_path(each).unlink(missing_ok=True)

    def _activation_path(self, each: Installed) -> Path:
        return self._home.state_dir / "activations" / f"{_id(each)}.json"

    # -- reports --------------------------------------------------------------------------------------

    async def _open_reporter(self) -> None:
        main, home = self.main, self._home
        if self.reporter is not None or main is None or _id(main) not in self.activations:
            return
        reporter = Reporter(
            home.books,
            home.ledger,
            home.thread,
            wire=self._wire(main.license),
            key=home.key,
            opener=lambda: home.store.trust,
            allowance=self._allowance,
            signed_time=self._signed_time,
            chance=self._chance,
            told=self._told,
        )
        await reporter.load()
        self.reporter = reporter

    async def _report_twice(self, reporter: Reporter) -> Outcome:
        """Until what goes out is fresh; a refusal or a silence ends it."""
        for _ in range(MOST_AT_ONCE):
            was_stored = reporter.is_under_way
            outcome = await self._report(reporter, now_please=True)
            is_stored_one = outcome is Outcome.ACKED and was_stored
            if self.reporter is not reporter or not (is_stored_one or outcome in GOES_ON):
                break
        return outcome

    async def _report(self, reporter: Reporter, *, now_please: bool = False) -> Outcome:
        before = reporter.failure
        outcome = await reporter.turn(self._here(), now_please=now_please)
        self.failure = reporter.failure
        if reporter.failure and not before:
            self._told("report_failed", reporter.failure)
        if outcome is Outcome.ACKED:
            await self._after_ack(reporter)
        elif outcome is Outcome.UNKNOWN:
            await self._ask_anew()
        return outcome

    async def _ask_anew(self) -> None:
        """The vendor does not know our activation: ask for one. The one we have holds until it is refused."""
        now = self._home.clock.now()
        if self.main is None or now < self._ask_at:
            return
        self._asked += 1
        self._ask_at = now + backoff(self._asked, self._chance)
        try:
            await self._activate(self.main)
        except LicenseError as error:
            self.failure = str(error)

    def _here(self) -> Circumstances:
        home, found = self._home, self._license()
        held = self.activations[found.license_id]
        boot = home.read_clocks().boot_id
        key = f"sluice-boot-v1|{found.license_id}".encode()
        return Circumstances(
            license=found,
            seats=held.seats,
            fp_match=str(self.fingerprint_match() or Match(0, 0)),
            boot=hmac.new(boot.encode(), key, hashlib.sha256).hexdigest()[:32],
            times=home.times(),
            flags=tuple(sorted(home.books.findings)),
            version=self._options.version,
        )

    def _signed_time(self, server_time: float) -> float:
        self._home.clock.signed(float(server_time))
        return self._home.clock.now()

    async def _after_ack(self, reporter: Reporter) -> None:
        """What an acknowledgement brings beside its figures. A part that is not believed or not stored leaves the rest."""
        if reporter.acked is None:
            return
        ack, report = reporter.acked
        home = self._home
        self._heal(report)
        self._asked = 0
        self.latest_version = ack.latest_version
        try:
            data = await home.thread.run(home.ledger.last_ack)
            if data is not None:
                await asyncio.to_thread(write_anchor, home.state_dir, home.books, data)
            await asyncio.to_thread(self._take_gifts, ack)
        except (LicenseError, OSError) as error:
            self._told("ack_not_kept", str(error))
        self.vendor_notices = ack.notices

    def _heal(self, report: UsageReport) -> None:
        """What the vendor was told of, and counted on, is settled."""
        for code in HEALED:
            if code in report.flags:
                self._home.books.findings.pop(code, None)

    def _take_gifts(self, ack: UsageAck) -> None:
        store, now = self._home.store, self._home.clock.now()
        self.gifts += store.adopt_roots(ack.roots)
        if ack.revocations is not None:
            self.gifts += store.keep_revocations(ack.revocations)
        if ack.license is not None:
            self.gifts += 1
            installed = store.install(format_armour(ack.license).encode(), now)
            self._told("renewed", f"the vendor sent {installed.path.name}")

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

    def _endpoints(self, found: License) -> tuple[str, ...]:
        if self._options.endpoint is not None:
            return (self._options.endpoint,)
        return found.reporting.endpoints

    def _wire(self, found: License) -> Wire:
        return Wire(
            self._endpoints(found),
            self._sent,
            proxy=self._options.proxy,
            ca_file=self._options.ca_file,
        )


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
