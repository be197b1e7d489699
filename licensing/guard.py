"""The one object of licensing that the daemon holds: what is allowed now, Emails to take, counts to keep, verbs for the operator.

`entitlement` is computed beforehand and only read. `take` and `refund` move integers. All else happens once a second, in tasks
of its own: nothing of licensing is ever waited for by mail, and nothing that breaks in it stops mail (A37): the last entitlement
stays and an event says so. Counts are all it is told (C18).
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from licensing.answers import describe_sent, describe_status, describe_usage
from licensing.books import Books, day_of
from licensing.clock import CLOCK_STEP, Reading
from licensing.clock import read_machine as read_clocks_of_machine
from licensing.contact import Contact, ContactOptions
from licensing.decider import INTERNAL_ERROR, Decider
from licensing.entitlement import UNLICENSED, Entitlement
from licensing.envelope import decode_envelope, parse_armour
from licensing.errors import LicenseError
from licensing.facts import ALTERED, Facts
from licensing.fingerprint import Machine
from licensing.gather import gather
from licensing.installation import Installation, load_trust, open_installation
from licensing.lease import Allowance, DailyAllowance
from licensing.ledger import LedgerError, LedgerThread
from licensing.meter import FLUSH_EVERY_S, Counted, Delivered, Meter
from licensing.model import ACTIVATION
from licensing.notices import Channel, Log, Mail, Notices, Webhook, of_the_vendor
from licensing.selection import Installed, Selection
from licensing.trust import Trust

__all__ = ["Delivered", "Guard", "GuardOptions"]

TICK_S = 1.0
READ_EVERY_S = 60.0  # licence files are looked at again
SAVE_EVERY_S = 60.0  # the clock's state, where nothing else is written
RECORD_EVERY_S = 3_600.0  # of licences that do not report counts
UNWRITABLE_S = 900.0  # A40: so long counters may live in memory alone
CATCH_UP_S, QUIET_S, CATCH_UP_MOST_S = 10.0, 2.0, 60.0
MAX_TOLD = 1_000  # events that wait to be written

SendMail = Callable[[Sequence[str], str, str], Awaitable[None]]

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What the configuration says of licensing. `root_file` opens Development licences only; `endpoint` is for tests."""

    license_dir: Path
    state_dir: Path
    reporting: bool = True
    endpoint: str | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    node_label: str = ""
    notify_email: tuple[str, ...] = ()
    notify_url: str = ""
    root_file: Path | None = None
    version: str = "0"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a test puts in the place of the machine."""

    read_clocks: Callable[[], Reading] = field(default_factory=read_clocks_of_machine)
    elapsed: Callable[[], float] = time.monotonic
    chance: random.Random = field(default_factory=random.Random)
    trust: Trust | None = None  # in the place of the root built in
    machine: Machine | None = None
    flush_every: float = FLUSH_EVERY_S
    send_mail: SendMail | None = None  # (recipients, subject, text): through the daemon itself


class Guard:
    """`await start()`, read `entitlement`, `await stop()`. All on one loop."""

    def __init__(self, options: GuardOptions, surroundings: Surroundings | None = None) -> None:
        self._options = options
        self._around = surroundings or Surroundings()
        self._home: Installation | None = None
        self._contact: Contact | None = None
        self._meter: Meter | None = None
        self._decider: Decider | None = None
        self._notices: Notices | None = None
        self._told_codes: set[str] = set()  # told, and not yet noted in the ledger
        self._selection = Selection()
        self._allowance: Allowance | DailyAllowance | None = None
        self._subscribers: list[Callable[[Entitlement], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._events: deque[tuple[float, str, str]] = deque(maxlen=MAX_TOLD)
        self._wake = asyncio.Event()
        self._read_at = self._saved_at = self._recorded_at = 0.0
        self._recorded_cum = -1
        self._catch_up_until = self._catch_up_last = 0.0
        self._in_use = 0
        self.entitlement: Entitlement = UNLICENSED

    # -- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything and decide. Raises AlreadyRunning (A32), LicenseError, OSError; the network is not waited for."""
        await self.open()
        self._tasks = [
            asyncio.create_task(self._forever(self.tick, "tick")),
            asyncio.create_task(self._forever(self.talk, "talk")),
        ]

    async def open(self) -> None:
        """As `start`, without the tasks: a test turns `tick` and `talk` itself."""
        options = self._options
        thread = LedgerThread()
        try:
            trust = self._around.trust
            if trust is None:
                trust = await asyncio.to_thread(load_trust, options.root_file)
            self._home = home = await thread.run(
                open_installation,
                options.license_dir,
                options.state_dir,
                trust=trust,
                read_clocks=self._around.read_clocks,
                told=self._tell,
                machine=self._around.machine,
                thread=thread,
            )
        except BaseException:  # whatever it was, the thread ends with it
            thread.close()
            raise
        self._meter = Meter(
            home.books,
            self._store,
            now=home.clock.now,
            counted=self._counted,
            gap=self._gap,
            flush_every=self._around.flush_every,
        )
        self._contact = Contact(
            home,
            ContactOptions(
                reporting=options.reporting,
                endpoint=options.endpoint,
                proxy=options.proxy,
                ca_file=options.ca_file,
                node_label=options.node_label,
                version=options.version,
            ),
            chance=self._around.chance,
            told=self._tell,
        )
        self._decider = Decider(
            self._facts, home.clock.now, elapsed=self._around.elapsed, told=self._tell
        )
        now = home.clock.now()
        if not home.books.is_clean:
            # What the last run delivered and did not count stands in the journals: it is used already.
            self._catch_up_until, self._catch_up_last = now + CATCH_UP_S, now + CATCH_UP_MOST_S
        home.books.is_clean = False
        home.books.findings = {code: since or now for code, since in home.books.findings.items()}
        await home.save()
        self._notices = Notices(
            self._channels(),
            sent=await thread.run(home.ledger.sent_notices),
            keep=self._told_codes.update,
            node_label=options.node_label,
        )
        await self._notices.start()
        await self.tick()

    async def stop(self) -> None:
        """Write what is counted, orderly; the tasks end. Nothing is sent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        home = self._home
        if home is None or self._meter is None:
            return
        if self._notices is not None:
            await self._notices.stop()
        await self._meter.close()
        await self._keep(home.clock.state.shown)
        home.books.is_clean = True
        try:
            await home.save()
        except LicenseError as error:
            logger.warning("the licence's counts could not be written", reason=str(error))
        self._home = None
        await asyncio.to_thread(home.close)

    def subscribe(self, told: Callable[[Entitlement], None]) -> Callable[[], None]:
        """`told` is called on the loop with every new entitlement; call what is returned to hear no more."""
        self._subscribers.append(told)
        return lambda: self._subscribers.remove(told)

    # -- Emails ---------------------------------------------------------------------------------------

    def take(self, n: int) -> int:
        """Emails that may be sent now, 0 to n; where nothing is metered, n."""
        allowance = self._allowance
        return n if allowance is None else allowance.take(n)

    def refund(self, n: int) -> None:
        """So many of those taken were not sent."""
        if self._allowance is not None:
            self._allowance.refund(n)

    async def cursors(self) -> dict[str, int]:
        """The last event counted of each spool, all of it on disk. Raises LedgerError: ask again."""
        meter = self._need_meter()
        await meter.flush()
        return dict(self._need_home().books.cursors)

    async def delivered(self, counts: Iterable[Counted]) -> None:
        """Count these; on disk when it returns. Raises LedgerError: go on from `cursors` then."""
        await self._need_meter().delivered(counts)

    def connections(self, in_use: int, peak: int) -> None:
        """How many outbound connections there are, and the most there were since the last time."""
        self._in_use = in_use
        if self._home is not None:
            self._home.books.conn_peak = max(self._home.books.conn_peak, peak, in_use)

    def spools(self, present: Iterable[str]) -> None:
        """These spools exist. One that was counted from and is gone is a finding, told once."""
        books = self._need_home().books
        for spool in set(books.cursors) - set(present):
            del books.cursors[spool]
            self._find(
                "spool_gone",
                f"the spool {spool} is gone; what it held and was not counted is not known",
            )

    # -- turns ----------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Once a second: time, leases, files, findings, the decision."""
        home = self._need_home()
        now = home.clock.now()
        home.books.clock = home.clock.state
        if now >= self._read_at:
            await self.read_licenses()
        self._advance(now)
        self._look_at_disk(now)
        self._look_at_machine(now)
        self.decide()
        if self._notices is not None:
            self._notices.tell(self.entitlement.remarks, now)
        await self._keep(now)

    async def talk(self) -> None:
        """Whatever is due to be said to the vendor; may take as long as the network does."""
        contact = self._need_contact()
        before = contact.gifts, dict(contact.activations)
        await contact.turn()
        if before != (contact.gifts, contact.activations):
            self._read_at = 0.0
        now = self._need_home().clock.now()
        if contact.vendor_notices and self._notices is not None:
            self._notices.tell(of_the_vendor(contact.vendor_notices), now)
        self._advance(now)
        self.decide()

    async def read_licenses(self) -> None:
        """Look at the licence files again, and serve those in force."""
        home, contact = self._need_home(), self._need_contact()
        now = home.clock.now()
        selection = await asyncio.to_thread(home.store.read, now)
        self._read_at = now + READ_EVERY_S
        self._selection = selection
        for each in selection.chosen:
            home.clock.at_least(each.license.issued_at.timestamp())
        main = _main(selection)
        await self._reckon_allowance(main)
        volume = self._allowance if isinstance(self._allowance, Allowance) else None
        await asyncio.to_thread(contact.serve, selection.chosen, main, volume)

    def decide(self) -> Entitlement:
        """Judge anew and tell those who listen, if anything is different."""
        assert self._decider is not None
        decided = self._decider.decide()
        if decided != self.entitlement:
            self.entitlement = decided
            for told in tuple(self._subscribers):
                try:
                    told(decided)
                except Exception:  # border to a listener: its fault keeps no news from others
                    logger.exception("a subscriber of the licence failed")
        return decided

    # -- verbs ----------------------------------------------------------------------------------------

    async def install(self, data: bytes, *, replace: bool = False) -> dict[str, Any]:
        """A licence file, or an activation that was carried by hand. Raises LicenseError; nothing has changed then."""
        home, contact = self._need_home(), self._need_contact()
        envelope = parse_armour(data) if data.lstrip().startswith(b"-") else decode_envelope(data)
        if envelope.payload_type == ACTIVATION:
            found = await contact.take_activation(envelope)
            answer: dict[str, Any] = {"activation_id": found.activation_id, "seats": found.seats}
        else:
            installed = await asyncio.to_thread(
                home.store.install, data, home.clock.now(), replace_others=replace
            )
            answer = {
                "license_id": _id(installed),
                "revision": installed.license.revision,
                "kind": installed.license.kind,
                "file": str(installed.path),
            }
        await self._changed()
        return answer

    async def activate(self) -> dict[str, Any]:
        """Take this server's seats now. Raises LicenseError with why not."""
        await self.read_licenses()
        found = await self._need_contact().activate()
        await self._changed()
        return {
            "activations": [
                {
                    "activation_id": each.activation_id,
                    "license_id": each.license_id,
                    "seats": each.seats,
                }
                for each in found
            ]
        }

    async def deactivate(self) -> dict[str, Any]:
        """Report for the last time and free the seats. Raises LicenseError."""
        freed = await self._need_contact().deactivate()
        await self._changed()
        return {"deactivated": freed}

    async def request(self) -> bytes:
        """A request for a seat, to be carried by hand. Raises LicenseError."""
        return await self._need_contact().request()

    async def report_now(self) -> dict[str, Any]:
        """Report at once. Raises LicenseError where nothing can be reported."""
        contact = self._need_contact()
        outcome = await contact.report_now()
        await self._changed()
        return {"outcome": outcome.value, "failure": contact.failure}

    async def report_export(self) -> bytes:
        """The report to carry by hand. Raises LicenseError."""
        return await self._need_contact().export()

    async def report_import(self, data: bytes) -> dict[str, Any]:
        """What the portal answered. Raises LicenseError; nothing has changed then."""
        outcome = await self._need_contact().take_answers(data)
        await self._changed()
        return {"outcome": outcome.value}

    async def report_show(self, count: int = 1) -> list[dict[str, Any]]:
        """The last statements that left this server, the newest first, as they left and as they read."""
        sent = await asyncio.to_thread(self._need_contact().sent, count)
        return [describe_sent(data) for data in sent]

    async def status(self) -> dict[str, Any]:
        """All that an operator may know."""
        return describe_status(
            self._need_home(),
            self._need_contact(),
            self._selection,
            self._allowance,
            self.entitlement,
            self._in_use,
        )

    async def usage(self) -> dict[str, Any]:
        """Own figures and the vendor's (C27)."""
        return describe_usage(self._need_home().books)

    async def events(self, limit: int = 100) -> list[dict[str, Any]]:
        """What happened, the latest first. Raises LedgerError."""
        home = self._need_home()
        found = await home.thread.run(home.ledger.events, limit)
        return [{"at": at, "code": code, "text": text} for at, code, text in found]

    async def test_connection(self) -> list[dict[str, Any]]:
        """Name, proxy, TLS and HTTP of the way to the vendor, step by step. Raises LicenseError where there is no way."""
        return await self._need_contact().wire().test()

    # -- within ---------------------------------------------------------------------------------------

    def _channels(self) -> list[Channel]:
        options, send = self._options, self._around.send_mail
        found: list[Channel] = [Log()]
        if options.notify_url:
            found.append(Webhook(options.notify_url, proxy=options.proxy))
        if options.notify_email and send is not None:
            found.append(Mail(send, options.notify_email))
        return found

    async def _changed(self) -> None:
        self._read_at = 0.0
        await self.tick()
        self._wake.set()

    async def _forever(self, turn: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        is_failing = False
        while True:
            try:
                await turn()
                is_failing = False
            except Exception as error:  # border of a task: the last entitlement stays (A37)
                if not is_failing:
                    logger.exception("licensing failed", turn=name)
                    self._tell(INTERNAL_ERROR, f"{name}: {type(error).__name__}: {error}")
                is_failing = True
                self.decide()  # which keeps the last decision, and calls it grace after a day
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause())
            self._wake.clear()

    def _pause(self) -> float:
        """A second, or less where the entitlement ends before."""
        until = self.entitlement.until
        if until is None or self._home is None:
            return TICK_S
        return min(TICK_S, max(0.01, until - self._home.clock.state.shown))

    async def _store(self, books: Books) -> None:
        home = self._need_home()
        books.clock = home.clock.state
        await home.thread.run(home.ledger.save, books)
        self._saved_at = home.clock.state.shown

    def _counted(self, emails: int) -> None:
        now = self._need_home().clock.now()
        if isinstance(self._allowance, Allowance):
            self._allowance.count(emails, now)
        elif self._allowance is not None:
            self._allowance.count(emails)
        if now < self._catch_up_until:
            self._catch_up_until = min(
                self._catch_up_last, max(self._catch_up_until, now + QUIET_S)
            )

    def _gap(self, spool: str, cursor: int, since: int) -> None:
        self._find(
            "journal_gap",
            f"the events {cursor + 1} to {since} of the spool {spool} were gone before they were counted",
        )

    def _find(self, code: str, text: str) -> None:
        home = self._need_home()
        if code not in home.books.findings:
            home.books.findings[code] = home.clock.now()
        self._tell(code, text)

    def _tell(self, code: str, text: str) -> None:
        """An event: into the log now, into the ledger with the next tick. Called from the thread, too, while it opens."""
        logger.warning("licence event", code=code, text=text)
        # The clock may be what is broken: the time it told last is near enough.
        at = self._home.clock.state.shown if self._home is not None else time.time()
        self._events.append((at, code, text))

    async def _reckon_allowance(self, main: Installed | None) -> None:
        home = self._need_home()
        license_id = main.license.license_id if main is not None else ""
        if main is not None and home.books.license_id not in ("", license_id):
            async with self._need_contact().talking:
                await self._begin_anew(license_id)
        if main is not None:
            home.books.license_id = license_id
        limits = main.license.limits if main is not None else None
        held = self._allowance
        if main is not None and limits is not None and limits.volume is not None:
            if isinstance(held, Allowance):
                held.limit = limits.volume
            else:
                self._allowance = Allowance(
                    home.books, limits.volume, float(main.license.grace.unreachable_s)
                )
        elif limits is not None and limits.dev is not None:
            if isinstance(held, DailyAllowance):
                held.per_day = limits.dev.emails_per_day
            else:
                self._allowance = DailyAllowance(home.books, limits.dev.emails_per_day)
        else:
            self._allowance = None

    async def _begin_anew(self, license_id: str) -> None:
        """Another licence: its figures begin at nought, the journals are read on from where they are."""
        home = self._need_home()
        old = home.books
        await home.record("license_left")
        fresh = Books(license_id=license_id, cursors=old.cursors, clock=old.clock, is_clean=False)
        for name in fresh.__struct_fields__:
            setattr(old, name, getattr(fresh, name))
        self._allowance = None
        await home.thread.run(home.ledger.open_epoch, old.copy(), "license", home.times())
        self._tell("license_changed", f"counts begin anew under {license_id}")

    def _advance(self, now: float) -> None:
        if isinstance(self._allowance, Allowance):
            self._allowance.block(now < self._catch_up_until, now)
        elif self._allowance is not None:
            self._allowance.advance(day_of(now))

    def _look_at_disk(self, now: float) -> None:
        """A40: counts that are only in memory are told of at once, and are a matter of integrity after a quarter of an hour."""
        findings, since = self._need_home().books.findings, self._need_meter().failing_since
        if since is None:
            findings.pop("ledger_waiting", None)
            findings.pop("ledger_unwritable", None)
        elif now - since > UNWRITABLE_S:
            findings.pop("ledger_waiting", None)
            findings.setdefault("ledger_unwritable", since)
        else:
            findings.setdefault("ledger_waiting", since)

    def _look_at_machine(self, now: float) -> None:
        """What is noticed counts from its first time, also over a restart: only so does what is borne come to an end."""
        home, match = self._need_home(), self._need_contact().fingerprint_match()
        noticed = {
            "fp_mismatch": match is not None and not match.holds,
            CLOCK_STEP: home.clock.is_long_behind,
            ALTERED: self._selection.is_tampered,
        }
        for code, is_so in noticed.items():
            if is_so:
                home.books.findings.setdefault(code, now)
            else:
                home.books.findings.pop(code, None)

    async def _keep(self, now: float) -> None:
        """Events, the clock and now and then a record; a disk that takes nothing is the meter's to notice."""
        home = self._need_home()
        events = list(self._events)
        try:
            if events:
                await home.thread.run(home.ledger.add_events, events)
                for _ in events:
                    self._events.popleft()
            if codes := frozenset(self._told_codes):
                await home.thread.run(home.ledger.note_sent, codes, now)
                self._told_codes -= codes
            reports = self._contact is not None and self._contact.reporter is not None
            is_moved = home.books.cum != self._recorded_cum
            if is_moved and not reports and now - self._recorded_at >= RECORD_EVERY_S:
                self._recorded_at, self._recorded_cum = now, home.books.cum
                await home.record("hour")
            elif (
                now - self._saved_at >= SAVE_EVERY_S or self._need_meter().failing_since is not None
            ):
                await self._need_meter().flush()
        except LedgerError as error:
            logger.warning("the licence's ledger takes nothing", reason=str(error))

    def _facts(self) -> Facts:
        home = self._need_home()
        allowance = self._allowance if isinstance(self._allowance, Allowance) else None
        now = home.clock.now()
        return gather(
            self._selection,
            self._need_contact(),
            home.books,
            allowance,
            now=now,
            node_label=self._options.node_label,
        )

    def _need_home(self) -> Installation:
        if self._home is None:
            raise LicenseError("not_started", "licensing is not running")
        return self._home

    def _need_contact(self) -> Contact:
        if self._contact is None:
            raise LicenseError("not_started", "licensing is not running")
        return self._contact

    def _need_meter(self) -> Meter:
        if self._meter is None:
            raise LicenseError("not_started", "licensing is not running")
        return self._meter


def _main(selection: Selection) -> Installed | None:
    """The licence that is reported under: Volume and Development stand alone; of server licences the first."""
    return min(selection.chosen, key=_id, default=None)


def _id(each: Installed) -> str:
    return each.license.license_id
