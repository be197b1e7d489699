"""A worker: SMTP in and out, its spools, its queues, its connections. Every constructor of floors 3 and 4 is called here.

It is built whole from `Settings`, started, reloaded and stopped; which process it lives in is its caller's business, and so
is the governor, which it is handed. Mail is accepted into its own spool; spools that it adopted (of a worker that is no more) it
only empties.
"""

import asyncio
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from mta.bounce.classify import Classifier
from mta.config.load import Settings
from mta.dkim.keys import KeyRing, load_key
from mta.dkim.signer import Signer
from mta.dns.resolver import Resolver
from mta.egress.dispatcher import Dispatcher
from mta.egress.letter import Letters
from mta.egress.opening import Opener
from mta.egress.route import find_route
from mta.egress.settle import Settler
from mta.ingress.collect import IntakeMemory
from mta.ingress.gate import Gate
from mta.ingress.intake import SIGN_ON_LOOP_ALONE_S, SIGN_ON_LOOP_S, Intake
from mta.ingress.listener import Listener
from mta.ingress.smtp import SmtpService
from mta.io.clock import Clock
from mta.io.deadlines import Deadlines
from mta.io.memory import give_back
from mta.io.threads import Workshop
from mta.io.tls import client_context, server_context
from mta.metrics.counts import Counts
from mta.metrics.histogram import LoopLag
from mta.metrics.timings import Timings
from mta.model.envelope import Draft, Entry, QueueKey
from mta.model.outcome import Deferred, Failed
from mta.policy.notices import NoticeBook, NoticeLimit
from mta.policy.orders import stops_of
from mta.policy.rules import ClientCertificate, DkimRules, ListenerTls
from mta.queue.actions import Route, Tell
from mta.queue.purse import LOOK_S as PURSE_LOOK_S
from mta.queue.scheduler import STOP_LOOK_S, Scheduler
from mta.queue.stalls import Stalls
from mta.runtime.delays import DelaySweep
from mta.runtime.drains import Drains
from mta.runtime.emails import EmailSource, NoEmails
from mta.runtime.enforcement import Enforcement
from mta.runtime.expiry import ExpirySweep
from mta.runtime.house import House
from mta.runtime.job_stops import JobStops
from mta.runtime.license import LAB, Entitlement, banner_of
from mta.runtime.notices import NoticeDesk
from mta.runtime.remote_governor import WorkerGovernor
from mta.runtime.sites import KnownSites
from mta.runtime.vmta_watch import VmtaWatch
from mta.spool.bodies import BodyCache
from mta.spool.store import Spool, open_spool

logger = structlog.get_logger()

SIGNING_THREADS = 2
# At most one message a client connection is being signed; this is beyond any number of those.
MAX_SIGNING = 10_000
AUTH_THREADS = 2
AUTH_QUEUE = 50
DRAIN_LOOK_S = 0.2
EXPIRY_SWEEP_S = 60.0
STALL_LOOK_S = 10.0
VMTA_LOOK_S = 1.0
NOTICE_LOOK_S = 1.0
LISTENING_S = 1.0  # how often the disk is looked at
BODY_KEPT_S = 5.0  # at full speed the cache is used up in two
MUCH_BYTES = 1_000_000  # for less it is not worth asking the C library


@dataclass(slots=True)
class Traffic:
    """What came and went in the last minutes, a slot a second, for `status`."""

    slots: list[tuple[int, int]] = field(default_factory=list)  # (messages in, delivered) totals

    def note(self, messages_in: int, delivered: int) -> None:
        """Once a second."""
        self.slots.append((messages_in, delivered))
        del self.slots[:-61]

    def last_minute(self) -> tuple[int, int]:
        """Messages in and recipients delivered over the last 60 s."""
        if len(self.slots) < 2:
            return 0, 0
        first, last = self.slots[0], self.slots[-1]
        return last[0] - first[0], last[1] - first[1]


class Worker:
    """One worker. `start`, then `stop`; `reload` swaps policy whole or raises and changes nothing."""

    def __init__(
        self,
        settings: Settings,
        *,
        number: int,
        governor: WorkerGovernor,
        clock: Clock,
        adopted: Sequence[int] = (),
        vfs: str | None = None,
        owns_core: bool = False,
        entitlement: Entitlement = LAB,
        emails: EmailSource | None = None,
    ) -> None:
        """`adopted`: the numbers of further spools to empty. `owns_core`: there are as many workers as cores, and threads for
        signatures would only take turns with the loop. Raises SpoolError if a spool cannot be opened.
        """
        self.settings = settings
        self.number = number
        self.governor = governor
        self.clock = clock
        self.counts = Counts()
        self.timings = Timings()
        self.traffic = Traffic()
        self.sites = KnownSites()
        self.started_at = clock.wall()
        self.broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._vfs = vfs
        self._owns_core = owns_core
        self._rng = random.Random()
        self._tasks: list[asyncio.Task[None]] = []
        self._prepared: tuple[Settings, KeyRing, list[Listener]] | None = None
        self._build(adopted)
        self._license(entitlement, emails or NoEmails())
        self.job_stops = JobStops(self.spools, self.scheduler, self.dispatcher)
        self.job_stops.follow(settings.orders, clock.now())
        self.drains = Drains(self.site_of)
        self._follow_drains(settings)
        self.smtp.gate.is_drained = self.drains.has_domain
        self.intake.is_drained = self.drains.has_job
        self.intake.pools = self.vmtas.use(settings)

    # -- construction ---------------------------------------------------------------------------

    def _build(self, adopted: Sequence[int]) -> None:
        settings, loop, clock = self.settings, self._loop, self.clock
        server = settings.server
        post = loop.call_soon_threadsafe
        self.deadlines = Deadlines(loop)
        self.lag = LoopLag(loop.call_later, time.monotonic)
        self.spools: Mapping[int, Spool] = self._open_spools([self.number, *adopted])
        self.spool = self.spools[self.number]
        self.bodies = BodyCache(server.body_cache)
        self.memory = IntakeMemory(server.intake_memory)
        self.signing = Workshop("sign", post, threads=SIGNING_THREADS, limit=MAX_SIGNING)
        self.logins = Workshop("auth", post, threads=AUTH_THREADS, limit=AUTH_QUEUE)
        self.house = House(
            spool=self.spool,
            min_free=server.min_free,
            memory=self.memory,
            records_behind=self._records_behind,
        )
        self._intakes = {number: self._new_intake(spool) for number, spool in self.spools.items()}
        self.intake = self._intakes[self.number]
        self._use_keys(make_keyring(settings.dkim))
        self._build_notices()
        self.smtp = SmtpService(
            intake=self.intake,
            gate=Gate(
                governor=self.governor,
                house=self.house,
                workshop=self.logins,
                clock=clock,
                call_later=loop.call_later,
            ),
            deadlines=self.deadlines,
            counts=self.counts,
            timings=self.timings,
        )
        self.listeners = make_listeners(settings)
        self._build_egress()

    def _new_intake(self, spool: Spool) -> Intake:
        """The door of a spool. Clients come to our own only; into an adopted one go the notices of its failures."""
        server = self.settings.server
        return Intake(
            spool=spool,
            bodies=self.bodies,
            memory=self.memory,
            workshop=self.signing,
            clock=self.clock,
            hostname=server.hostname,
            lab=server.lab,
            on_accepted=self.accepted,
            sign_on_loop_s=SIGN_ON_LOOP_ALONE_S if self._owns_core else SIGN_ON_LOOP_S,
        )

    def _use_keys(self, keyring: KeyRing) -> None:
        for intake in self._intakes.values():
            intake.keyring = keyring

    def _build_notices(self) -> None:
        limit = NoticeLimit()
        self.notice_book = NoticeBook(self.settings.server, self.settings.sources)
        self.notices = {
            number: NoticeDesk(
                spool,
                intake=self._intakes[number],
                limit=limit,
                clock=self.clock,
                counts=self.counts,
                rules=lambda: self.settings.server,
                book=lambda: self.notice_book,
                wordings=lambda: self.settings.wordings,
            )
            for number, spool in self.spools.items()
        }
        self.delays = [
            DelaySweep(
                spool,
                clock=self.clock,
                book=lambda: self.settings.book,
                notice_book=lambda: self.notice_book,
                site_of=self.site_of,
                on_owed=self.notices[number].note_owed,
            )
            for number, spool in self.spools.items()
        ]

    def _license(self, entitlement: Entitlement, emails: EmailSource) -> None:
        self.enforcement = Enforcement(
            house=self.house,
            scheduler=self.scheduler,
            dispatcher=self.dispatcher,
            spools=self.spools,
            emails=emails,
            clock=self.clock,
            lab=self.settings.server.lab,
        )
        self.enforcement.entitle(entitlement, self.settings.book, self.listeners)

    def entitle(self, entitlement: Entitlement) -> None:
        """The licence allows this from now on."""
        self.enforcement.entitle(entitlement, self.settings.book, self.listeners)
        self.dispatcher.kick()

    def _open_spools(self, numbers: Sequence[int]) -> dict[int, Spool]:
        """All or none of them."""
        opened: dict[int, Spool] = {}
        try:
            for number in numbers:
                opened[number] = open_spool(
                    Path(self.settings.server.spool_dir),
                    number=number,
                    clock=self.clock,
                    post=self._loop.call_soon_threadsafe,
                    on_broken=self._spool_broke,
                    on_report=lambda text: logger.error("spool", report=text),
                    vfs=self._vfs,
                )
        except BaseException:  # raised again: what was opened is closed first
            for spool in opened.values():
                self._loop.create_task(spool.close())
            raise
        return opened

    def _build_egress(self) -> None:
        settings, clock = self.settings, self.clock
        server = settings.server
        self.resolver = Resolver(
            server.dns_servers,
            clock=clock,
            timeout_s=server.dns_timeout,
            cache_entries=server.dns_cache_entries,
            on_health=self._dns_changed,
        )
        self.scheduler = Scheduler(settings.book)
        self.stalls = Stalls()
        self.settler = Settler(
            scheduler=self.scheduler,
            spools=self.spools,
            bodies=self.bodies,
            clock=clock,
            counts=self.counts,
            on_change=self._kick,
            owes_notice=lambda entry, event: self.notices[entry.message.spool].owes(entry, event),
            timings=self.timings,
            named_sites=settings.book.sites,
            classifier=Classifier(settings.refusals),
        )
        opener = Opener(
            hostname=server.hostname,
            deadlines=self.deadlines,
            context=client_context(),
            now=clock.now,
            timings=self.timings,
        )
        self.dispatcher = Dispatcher(
            scheduler=self.scheduler,
            governor=self.governor,
            spools=self.spools,
            settler=self.settler,
            opener=opener,
            find_route=self.find_route,
            bodies=self.bodies,
            book=settings.book,
            clock=clock,
            counts=self.counts,
        )
        self.vmtas = VmtaWatch(
            spool_dir=Path(server.spool_dir),
            scheduler=self.scheduler,
            spools=self.spools.values(),
            sources=opener,
            delivered=self.counts.delivered_by_vmta,
            clock=clock,
            on_change=self.dispatcher.kick,
        )
        self.letters = Letters(
            hostname=server.hostname,
            opener=opener,
            governor=self.governor,
            find_route=self.find_route,
            book=lambda: self.enforcement.book,
            clock=clock,
        )
        self.governor.on_wanted(self._wanted)
        self.governor.on_told(self._told)

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to deliver what is queued; listeners are the caller's to open."""
        self._tell_of_start()
        self.traffic.note(0, 0)
        self.lag.start()
        self.house.look_at_disk()
        self._tasks = [
            self._loop.create_task(self._every(LISTENING_S, self._each_second)),
            self._loop.create_task(self._every(VMTA_LOOK_S, self.vmtas.look)),
            self._loop.create_task(self._every(PURSE_LOOK_S, self.enforcement.look)),
            self._loop.create_task(self._every(STALL_LOOK_S, self._look_for_stalls)),
            self._loop.create_task(self._sweep()),
            self._loop.create_task(self._write_notices()),
        ]
        self.dispatcher.kick()

    def adopt(self, sock: socket.socket, listener: int) -> None:
        """Serve an accepted connection of this listener."""
        self.smtp.adopt(sock, self.listeners[listener])

    async def stop(self, within_s: float) -> None:
        """Finish running sessions both ways, at most `within_s`, and close the spools."""
        until = self._loop.time() + within_s
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(self.smtp.stop(within_s), self.dispatcher.stop(within_s))
        left = max(1.0, until - self._loop.time())
        await self.settler.drain(left)
        self.signing.close()
        self.logins.close()
        self.lag.stop()
        self.deadlines.close()

    async def close_spools(self) -> None:
        """The very last: nothing may settle any more, and the followers have read what they want."""
        for spool in self.spools.values():
            await spool.close()

    def _tell_of_start(self) -> None:
        """What was found in the spools, where it is worth knowing."""
        for number, spool in self.spools.items():
            start = spool.start
            if start.created or start.clean:
                continue
            logger.warning(
                "the spool was not closed last time",
                spool=number,
                power_cut=start.power_cut,
                in_flight=start.repeated,
                held_as_poison=start.poison,
            )

    def prepare(self, settings: Settings) -> None:
        """Build all that a new configuration needs and change nothing yet: what can fail, fails here."""
        self._prepared = settings, make_keyring(settings.dkim), make_listeners(settings)

    def commit(self) -> None:
        """Swap in what was prepared: policy book, keys, listeners' rules; connections that run keep theirs."""
        assert self._prepared is not None, "nothing was prepared"
        (settings, keyring, listeners), self._prepared = self._prepared, None
        before, self.settings = self.settings, settings
        self.notice_book = NoticeBook(settings.server, settings.sources)
        self._use_keys(keyring)
        self.house.min_free = settings.server.min_free
        self.listeners = listeners
        self.sites.clear()
        self.enforcement.greet(listeners)
        self.enforcement.use(settings.book)
        self.job_stops.follow(settings.orders, self.clock.now())
        self._follow_drains(settings)
        if stops_of(before.orders) - stops_of(settings.orders):
            self._look_again()
        self.intake.pools = self.vmtas.use(settings)
        self.settler.named_sites = settings.book.sites
        if settings.refusals != before.refusals:
            self.settler.classifier = Classifier(settings.refusals)
        self.dispatcher.kick()

    def _look_again(self) -> None:
        """Queues that an order stopped go on."""
        now = self.clock.now()
        for spool in self.spools.values():
            spool.look_again(now, STOP_LOOK_S)
        self.scheduler.look_at((), now)

    # -- what happens ---------------------------------------------------------------------------

    def site_of(self, domain: str) -> str:
        """The domain's site as far as it is known."""
        return self.sites.site_of(domain) or self.settings.book.site_for(domain, ())

    async def find_route(self, key: QueueKey) -> Route | Deferred | Failed:
        """The queue's route by DNS or by its policy's hosts."""
        book, server = self.settings.book, self.settings.server
        found = await find_route(
            key,
            # Its MX is not known yet; a site that lists the domain says already where its mail goes.
            book.policy(key, book.site_for(key.domain, ())),
            book.vmta(key.vmta),
            self.resolver,
            book,
            rng=self._rng,
            lab=server.lab,
            own_addresses=() if server.lab else self._own_addresses(),
            own_names=(server.hostname.lower(),),
        )
        if isinstance(found, Route):
            self.sites.note(key.domain, found.site)
        return found

    def _own_addresses(self) -> tuple[str, ...]:
        """The addresses that are ours: mail for a host that has one of them would come back to us."""
        return tuple(
            address
            for rules in self.settings.vmtas.values()
            for address in (*rules.source_v4, *rules.source_v6)
        )

    def _follow_drains(self, settings: Settings) -> None:
        """What the operator drains from now on."""
        self.drains.follow(settings.orders)
        self.intake.drained_queues = self.drains.queues

    def accepted(self, draft: Draft) -> None:
        """The message is on disk: its entries may go."""
        self.counts.recipients_in += len(draft.entries)
        self.counts.bytes_in += draft.message.size
        entries = self.enforcement.may_try(self.job_stops.may_try(draft))
        self.scheduler.add(entries, self.clock.now())
        self.dispatcher.kick()

    def _kick(self) -> None:
        self.dispatcher.room()
        self.dispatcher.kick()

    def _wanted(self, key: str, waiting: int, yielding: int) -> None:
        self.scheduler.wanted(key, self.clock.now(), waiting, yielding)
        self.dispatcher.kick()

    def _told(self, tale: Tell) -> None:
        self.scheduler.heard(tale)
        self.dispatcher.kick()

    def _dns_changed(self, down: bool) -> None:
        self.scheduler.dns_is_down = down
        if down:
            logger.warning("no DNS server answers; mail to domains not known by now waits")
        else:
            logger.info("a DNS server answers again")

    def _spool_broke(self, error: BaseException) -> None:
        if not self.broken.done():
            self.broken.set_result(error)

    def _records_behind(self) -> bool:
        """More events than allowed are not in the records yet: no mail is taken until they are."""
        most = self.settings.server.max_event_bytes
        return any(spool.pending_event_bytes > most for spool in self.spools.values())

    def _each_second(self) -> None:
        self.house.look_at_disk()
        if self.bodies.forget_before(self.clock.now() - BODY_KEPT_S) > MUCH_BYTES:
            self._loop.run_in_executor(None, give_back)
        self.traffic.note(self.counts.messages_in, self.counts.delivered)

    def _look_for_stalls(self) -> None:
        """A queue that stands still without a reason is a fault of ours: said loudly, for nobody else would notice."""
        for key, waits in self.stalls.look(self.scheduler, self.clock.now()):
            self.counts.stalls += 1
            says = "; ".join(f"{wait.what} ({wait.detail})" for wait in waits)
            logger.error("a queue has due work and makes no attempt", queue=str(key), says=says)

    def claim(self, entries: list[Entry]) -> list[Entry]:
        """The scheduler lets go of these, which are about to be deleted or held; all but those in flight."""
        self.scheduler.forget(entries)
        return entries

    async def drain(self, within_s: float, is_wanted: Callable[[], bool]) -> None:
        """Deliver what is due, at most so long and while it is wanted; nothing new is taken meanwhile."""
        self.smtp.take_no_more()
        until = self._loop.time() + within_s
        while self._loop.time() < until and is_wanted() and not self.enforcement.hold:
            # What is in flight is due until its outcome is on disk; idle connections are not waited for.
            asked = [asyncio.wrap_future(spool.counts()) for spool in self.spools.values()]
            if not any(counts.due for counts in await asyncio.gather(*asked)):
                return
            await asyncio.sleep(DRAIN_LOOK_S)

    async def _sweep(self) -> None:
        """Look for what has expired, every `EXPIRY_SWEEP_S` or, where mail expires sooner, as often as it does."""
        sweeps = [
            ExpirySweep(
                spool,
                scheduler=self.scheduler,
                settler=self.settler,
                clock=self.clock,
                book=lambda: self.settings.book,
            )
            for spool in self.spools.values()
        ]
        last = self.clock.now()
        while True:
            # A second at a time: a reload may have made the interval shorter.
            await asyncio.sleep(1.0)
            if self.clock.now() - last < min(EXPIRY_SWEEP_S, self.settings.book.shortest_expiry):
                continue
            last = self.clock.now()
            try:
                for sweep in sweeps:
                    await sweep.run()
            except Exception:  # a task border: what fails once may work the next time
                self.counts.bugs += 1
                logger.exception("a fault of ours in the sweep for expired mail")

    async def _write_notices(self) -> None:
        """Tell senders of failures, once these have been gathered for `notice_delay`, and of delays."""
        while True:
            await asyncio.sleep(NOTICE_LOOK_S)
            try:
                for sweep in self.delays:
                    await sweep.look()
                for desk in self.notices.values():
                    await desk.look()
            except Exception:  # a task border: what fails once may work the next time
                self.counts.bugs += 1
                logger.exception("a fault of ours in writing notices")

    async def _every(self, interval_s: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                work()
            except Exception:  # a task border: what fails once may work the next time
                self.counts.bugs += 1
                logger.exception("a fault of ours in the worker's upkeep")


def make_keyring(rules: Sequence[DkimRules]) -> KeyRing:
    """The signers of a configuration that has been checked."""
    return KeyRing(
        (
            each.domain,
            Signer(
                each.domain.removeprefix("*."),
                each.selector,
                load_key(each.pem),
                canon=(each.header_canon, each.body_canon),
                identity=each.identity or None,
                expire_s=each.expire_s,
            ),
        )
        for each in rules
    )


def make_listeners(settings: Settings) -> list[Listener]:
    """The listeners of a configuration that has been checked."""
    server = settings.server
    notice_book = NoticeBook(server, settings.sources)
    return [
        Listener(
            rules,
            hostname=server.hostname,
            banner=banner_of(LAB, lab=server.lab),
            context=(
                server_context(
                    rules.tls_cert,
                    rules.tls_key,
                    client_ca=rules.tls_client_ca,
                    client_required=rules.tls_client is ClientCertificate.REQUIRED,
                )
                if rules.tls is not ListenerTls.NONE
                else None
            ),
            vmtas=frozenset((*settings.vmtas, *settings.pools)),
            selection=settings.selection,
            dsn=notice_book.offers_dsn,
        )
        for rules in settings.listeners
    ]
