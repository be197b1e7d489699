"""The one object of licensing that the daemon holds: what is allowed now, Emails to take, counts to keep, verbs for the operator.

`entitlement` is computed beforehand and only read. `take` and `refund` move integers. All else happens once a second, in tasks
of its own: nothing of licensing is ever waited for by mail, and nothing that breaks in it stops mail (A37): the last entitlement
stays and an event says so. Counts are all it is told (C18).
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import structlog

from licensing.answers import describe_status
from licensing.books import Books
from licensing.contact import Contact
from licensing.decider import INTERNAL_ERROR, Decider
from licensing.entitlement import UNLICENSED, Entitlement
from licensing.errors import LicenseError
from licensing.facts import Facts
from licensing.gather import gather
from licensing.installation import Installation, load_trust, open_installation
from licensing.ledger import LedgerThread
from licensing.meter import Counted, Delivered, Meter
from licensing.notices import Channel, Log, Mail, Notices, Webhook, of_the_vendor
from licensing.options import GuardOptions, Surroundings
from licensing.purse import Purse
from licensing.seats import ContactOptions
from licensing.selection import Installed, Selection
from licensing.upkeep import Event, Upkeep
from licensing.verbs import Verbs

__all__ = ["Delivered", "Guard", "GuardOptions", "Surroundings"]

TICK_S = 1.0
READ_EVERY_S = 60.0  # licence files are looked at again
MAX_TOLD = 1_000  # events that wait to be written

logger = structlog.get_logger()

Part = TypeVar("Part")


class Guard(Verbs):
    """`await start()`, read `entitlement`, `await stop()`. All on one loop."""

    def __init__(self, options: GuardOptions, surroundings: Surroundings | None = None) -> None:
        self._options = options
        self._around = surroundings or Surroundings()
        self._home: Installation | None = None
        self._contact: Contact | None = None
        self._meter: Meter | None = None
        self._decider: Decider | None = None
        self._notices: Notices | None = None
        self._selection = Selection()
        self._purse: Purse | None = None
        self._upkeep: Upkeep | None = None
        self._subscribers: list[Callable[[Entitlement], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._events: deque[Event] = deque(maxlen=MAX_TOLD)
        self._wake = asyncio.Event()
        self._ticking = asyncio.Lock()  # an operator's verb ends with a tick, too
        self._read_at = 0.0
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
                persists=self._around.persists,
                allow_ephemeral=options.allow_ephemeral,
            )
        except BaseException:  # whatever it was, the thread ends with it
            thread.close()
            raise
        now = home.clock.now()
        self._purse = Purse(home, now)
        self._meter = Meter(
            home.books,
            self._store,
            now=home.clock.now,
            counted=self._purse.counted,
            gap=self._gap,
            flush_every=self._around.flush_every,
        )
        self._upkeep = Upkeep(home, self._meter, self._events)
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
        home.books.is_clean = False
        home.books.findings = {code: since or now for code, since in home.books.findings.items()}
        await home.save()
        if self._around.tells:
            self._notices = Notices(
                self._channels(),
                sent=await thread.run(home.ledger.sent_notices),
                keep=self._upkeep.told_codes.update,
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
        await _running(self._upkeep).keep(home.clock.state.shown, reports=True)
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
        return n if self._purse is None else self._purse.take(n)

    def refund(self, n: int) -> None:
        """So many of those taken were not sent."""
        if self._purse is not None:
            self._purse.refund(n)

    async def cursors(self) -> dict[str, int]:
        """The last event counted of each spool, all of it on disk. Raises LedgerError: ask again."""
        meter = _running(self._meter)
        await meter.flush()
        return dict(self.home().books.cursors)

    async def delivered(self, counts: Iterable[Counted]) -> None:
        """Count these; on disk when it returns. Raises LedgerError: go on from `cursors` then."""
        await _running(self._meter).delivered(counts)

    def connections(self, in_use: int, peak: int) -> None:
        """How many outbound connections there are, and the most there were since the last time."""
        self._in_use = in_use
        if self._home is not None:
            self._home.books.conn_peak = max(self._home.books.conn_peak, peak, in_use)

    def spools(self, present: Iterable[str]) -> None:
        """These spools exist. One that was counted from and is gone is a finding, told once."""
        books = self.home().books
        for spool in set(books.cursors) - set(present):
            del books.cursors[spool]
            self._find(
                "spool_gone",
                f"the spool {spool} is gone; what it held and was not counted is not known",
            )

    # -- turns ----------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Once a second: time, leases, files, findings, the decision."""
        async with self._ticking:
            await self._tick()

    async def _tick(self) -> None:
        home = self.home()
        now = home.clock.now()
        home.books.clock = home.clock.state
        # Or the trusted time was set back since.
        if not self._read_at - READ_EVERY_S <= now < self._read_at:
            await self.read_licenses()
        _running(self._purse).advance(now)
        upkeep = _running(self._upkeep)
        upkeep.look(self._selection, self.contact().fingerprint_match(), now)
        self.decide()
        if self._notices is not None:
            self._notices.tell(self.entitlement.remarks, now)
        await upkeep.keep(now, reports=self.contact().reporter is not None)

    async def talk(self) -> None:
        """Whatever is due to be said to the vendor; may take as long as the network does."""
        contact = self.contact()
        before = contact.gifts, dict(contact.activations)
        await contact.turn()
        if before != (contact.gifts, contact.activations):
            self._read_at = 0.0
        now = self.home().clock.now()
        if contact.vendor_notices and self._notices is not None:
            self._notices.tell(of_the_vendor(contact.vendor_notices), now)
        _running(self._purse).advance(now)
        self.decide()

    async def read_licenses(self) -> None:
        """Look at the licence files again, and serve those in force."""
        home, contact = self.home(), self.contact()
        now = home.clock.now()
        selection = await asyncio.to_thread(home.store.read, now)
        self._read_at = now + READ_EVERY_S
        self._selection = selection
        for each in selection.chosen:
            home.clock.at_least(each.license.issued_at.timestamp())
        main = _main(selection, home.books.license_id)
        if main is not None:
            await self._report_under(main)
        purse = _running(self._purse)
        purse.serve(main.license if main is not None else None)
        contact.serve(selection.chosen, main, purse.volume)

    def decide(self) -> Entitlement:
        """Judge anew and tell those who listen, if anything is different."""
        assert self._decider is not None
        decided = self._decider.decide()
        if decided != self.entitlement:
            if decided.state is not self.entitlement.state and self._home is not None:
                # For an audit; those who listen log it.
                text = f"{self.entitlement.state} → {decided.state}: {decided.reason}"
                self._events.append((self._home.clock.state.shown, "license_state", text))
            self.entitlement = decided
            for told in tuple(self._subscribers):
                try:
                    told(decided)
                except Exception:  # border to a listener: its fault keeps no news from others
                    logger.exception("a subscriber of the licence failed")
        return decided

    async def status(self) -> dict[str, Any]:
        """All that an operator may know."""
        return describe_status(
            self.home(),
            self.contact(),
            self._selection,
            _running(self._purse).volume,
            self.entitlement,
            self._in_use,
        )

    # -- within ---------------------------------------------------------------------------------------

    def _channels(self) -> list[Channel]:
        options, send = self._options, self._around.send_mail
        found: list[Channel] = [Log()]
        if options.notify_url:
            found.append(Webhook(options.notify_url, proxy=options.proxy))
        if send is not None:
            # A channel for each: who had it is not sent it again because another did not.
            found.extend(Mail(send, (each,)) for each in options.notify_email)
        return found

    async def changed(self) -> None:
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
                # Not wait_for: on Python 3.11 it swallows a cancellation that comes with the event, and `stop` waited for ever.
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            self._wake.clear()

    def _pause(self) -> float:
        """A second, or less where the entitlement ends before."""
        until = self.entitlement.until
        if until is None or self._home is None:
            return TICK_S
        return min(TICK_S, max(0.01, until - self._home.clock.state.shown))

    async def _store(self, books: Books) -> None:
        home = self.home()
        books.clock = home.clock.state
        await home.thread.run(home.ledger.save, books)
        _running(self._upkeep).saved_at = home.clock.state.shown

    async def _report_under(self, main: Installed) -> None:
        books, license_id = self.home().books, main.license_id
        if books.license_id not in ("", license_id):
            async with self.contact().talking:
                await _running(self._purse).begin_anew(license_id)
            self._tell("license_changed", f"counts begin anew under {license_id}")
        books.license_id = license_id

    def _gap(self, spool: str, cursor: int, since: int) -> None:
        self._find(
            "journal_gap",
            f"the events {cursor + 1} to {since} of the spool {spool} were gone before they were counted",
        )

    def _find(self, code: str, text: str) -> None:
        _running(self._upkeep).find(code, self.home().clock.now())
        self._tell(code, text)

    def _tell(self, code: str, text: str) -> None:
        """An event: into the log now, into the ledger with the next tick. Called from the thread, too, while it opens."""
        logger.warning("licence event", code=code, text=text)
        # The clock may be what is broken: the time it told last is near enough.
        at = self._home.clock.state.shown if self._home is not None else time.time()
        self._events.append((at, code, text))

    def _facts(self) -> Facts:
        home = self.home()
        allowance = _running(self._purse).volume
        now = home.clock.now()
        return gather(
            self._selection,
            self.contact(),
            home.books,
            allowance,
            now=now,
            node_label=self._options.node_label,
        )

    def home(self) -> Installation:
        return _running(self._home)

    def contact(self) -> Contact:
        return _running(self._contact)


def _running(part: Part | None) -> Part:
    if part is None:
        raise LicenseError("not_started", "licensing is not running")
    return part


def _main(selection: Selection, before: str) -> Installed | None:
    """The licence the ledger reports under: Volume and Development stand alone; of servers the one it was, or the first."""
    return min(
        selection.chosen,
        key=lambda each: (each.license_id != before, each.license_id),
        default=None,
    )
