"""The supervisor: configuration, governor, listening sockets, control socket, signals; and the crew that does the work.

With one worker all of it lives in one process (`Solo`); with more, each worker and the followers have processes of their own
(`Crew`), forked from a nursery that is opened before there is a loop. Here nothing depends on which.

Exit codes: 0 stopped as asked, 3 another process uses this server's licences (its PID is in the log), 75 the spool failed and a
restart may help (EX_TEMPFAIL), 78 the configuration is wrong (EX_CONFIG).
"""

import asyncio
import functools
import os
import signal
import socket
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog
import uvloop

from mta import __version__
from mta.config.load import Settings, load
from mta.control.archive_verbs import ArchiveVerbs
from mta.control.license_verbs import LicenseVerbs
from mta.control.message_verbs import MessageVerbs
from mta.control.order_verbs import OrderVerbs
from mta.control.registry import Registry
from mta.control.server import ControlServer
from mta.control.trace_verb import TraceVerb
from mta.control.verbs import Verbs, WorkerFace
from mta.control.vmta_verbs import VmtaVerbs
from mta.follow.refused import Question
from mta.io.clock import Clock
from mta.io.files import make_directory
from mta.io.http import HttpServer
from mta.io.inherit import inherited_listeners, listening_sockets
from mta.io.listen import Acceptor
from mta.io.notify import Notifier
from mta.model.errors import ConfigError, SpoolError
from mta.runtime import follower_process, worker_process
from mta.runtime.crew import Crew
from mta.runtime.governor import Governor
from mta.runtime.in_force import InForce
from mta.runtime.license import (
    AlreadyRunning,
    OpenGuard,
    check_reporting,
    open_guard,
)
from mta.runtime.license_office import LicenseOffice
from mta.runtime.metrics_page import MetricsPage
from mta.runtime.nursery import Nursery, open_nursery
from mta.runtime.process import (
    EXIT_CONFIG,
    EXIT_OK,
    EXIT_RUNNING,
    EXIT_TEMPFAIL,
    SWITCH_INTERVAL_S,
    cores,
    log_as_told,
    raise_descriptor_limit,
    tune_collector,
)
from mta.runtime.quotas import QuotaFile
from mta.runtime.records import LocalRecords, Records, RemoteRecords
from mta.runtime.solo import Solo
from mta.spool.database import Lock
from mta.spool.words import SpoolLocked

logger = structlog.get_logger()

QUOTA_SAVE_S = 5.0
DRAIN_TIMEOUT_S = 86_400.0
BROKEN_STOP_S = 1.0  # nothing that is still said can be kept
ORPHANS_S = 60.0  # workers of a supervisor that was killed end their sessions before they go
ORPHANS_LOOK_S = 0.2


def run(config: Path, open_guard: OpenGuard = open_guard) -> int:
    """Serve until told to stop; the exit code. The configuration's mistakes go to standard error."""
    try:
        settings = load(config)
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return EXIT_CONFIG
    log_as_told(settings)
    try:
        passed = inherited_listeners(file=settings.file)
    except ConfigError as error:
        logger.error("cannot start", reason=str(error))
        return EXIT_CONFIG
    raise_descriptor_limit()
    count = settings.server.workers or cores()
    nursery = None
    if count > 1:  # before there is a loop or a thread
        lives = {"worker": worker_process.live, "follower": follower_process.live}
        nursery = open_nursery(lives, not_theirs=passed)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return uvloop.run(Supervisor(config, settings, count, nursery, passed, open_guard).serve())


class CrewFace(Protocol):
    """Who does the work, near or far."""

    broken: "asyncio.Future[BaseException]"

    @property
    def fronts(self) -> Sequence[WorkerFace]: ...

    async def start(self) -> None: ...

    def adopt(self, sock: socket.socket, listener: int) -> bool: ...

    def processes(self) -> dict[str, int]: ...

    def spools(self) -> list[str]: ...

    async def reload(self, settings: Settings) -> None: ...

    async def drain(self, within_s: float) -> None: ...

    async def stop(self, within_s: float) -> None: ...

    async def end(self) -> None: ...


class Supervisor:
    """Everything a server is, from start to stop."""

    def __init__(
        self,
        config: Path,
        settings: Settings,
        count: int = 1,
        nursery: Nursery | None = None,
        passed: Sequence[socket.socket] = (),
        open_guard: OpenGuard = open_guard,
    ) -> None:
        """`count` workers; with more than one they are born in `nursery`. `passed`: listening sockets of the service manager."""
        self.config = config
        self.clock = Clock()
        self.started_at = self.clock.wall()
        self.stopping = asyncio.Event()
        self.drain = False
        self._count = count
        self._nursery = nursery
        self._passed = passed
        self._open_guard = open_guard
        self._office: LicenseOffice | None = None
        self._drain_over = asyncio.Event()
        self._exit_code = EXIT_OK
        self._in_force = InForce(
            config,
            settings,
            self.clock,
            kinds=self._kinds,
            reload_workers=self._reload_workers,
        )
        self._notifier = Notifier()
        self._acceptors: list[Acceptor] = []
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._lock: Lock | None = None
        self._crew: CrewFace | None = None
        self._records: Records | None = None
        self._metrics: HttpServer | None = None

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._in_force.settings

    async def serve(self) -> int:
        """Start everything, wait for the end, stop everything in the opposite order."""
        if self._nursery is not None:
            self._nursery.attach()
        try:
            await self._start()
        except AlreadyRunning as error:
            logger.error("cannot start", reason=str(error), pid=error.pid)
            await self._abandon()
            return EXIT_RUNNING
        except (SpoolError, OSError, ConfigError) as error:
            logger.error("cannot start", reason=str(error))
            await self._abandon()
            return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_TEMPFAIL
        await self._wait()
        await self._stop()
        return self._exit_code

    # -- start ----------------------------------------------------------------------------------

    async def _start(self) -> None:
        settings, clock = self.settings, self.clock
        loop = asyncio.get_running_loop()
        self._make_directories()
        self._lock = Lock(Path(settings.server.spool_dir) / "server.lock")
        await wait_for_orphans(Path(settings.server.spool_dir))
        self.governor = Governor(
            clock=clock,
            post=loop.call_soon,
            call_at=lambda at, work: loop.call_at(clock.to_loop_time(at), work),
        )
        self._quotas = QuotaFile(Path(settings.server.spool_dir))
        self.governor.restore(self._quotas.read())
        addresses = [rules.address for rules in settings.listeners]
        self._sockets = listening_sockets(addresses, self._passed, file=settings.file)
        self._in_force.begin()
        await self._start_licence()
        await self._start_crew()
        self._tasks = [loop.create_task(self._in_force.watch())]
        self.office.spools(self.crew.spools())
        await self._start_control()
        await self._start_metrics()
        self._open_listeners()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.shutdown)
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(self._reload_by_signal()))
        tune_collector()
        self._notifier.ready()
        logger.info(
            "started",
            version=__version__,
            hostname=settings.server.hostname,
            listeners=[each.address for each in settings.listeners],
            workers=self._count,
            lab=settings.server.lab,
        )

    def _make_directories(self) -> None:
        # On disk in their parents before anything in them counts as written (reliability.md D1).
        make_directory(self.settings.server.spool_dir)
        Path(self.settings.server.control_socket).parent.mkdir(parents=True, exist_ok=True)
        for rules in self.settings.accounting:
            make_directory(Path(rules.path).parent, 0o755)

    async def _start_licence(self) -> None:
        settings = self.settings
        guard = None if settings.server.lab else self._open_guard(settings, self._send_notice)
        self._office = LicenseOffice(guard, self.governor, self.clock)
        await self._office.start()
        check_reporting(settings, await self._office.kinds())

    async def _send_notice(self, recipients: Sequence[str], subject: str, text: str) -> None:
        """A mail about the licence, by the first worker that sends it. Raises OSError with the last reason."""
        for recipient in recipients:
            why = "no worker runs"
            for worker in self.crew.fronts:
                try:
                    why = await worker.send_letter(recipient, subject, text)
                except OSError as error:  # this one does not run now
                    why = str(error)
                if not why:
                    break
            if why:
                raise OSError(why)

    @property
    def office(self) -> LicenseOffice:
        """What the licence allows; there from the start on."""
        assert self._office is not None
        return self._office

    async def _kinds(self) -> Collection[str]:
        return await self.office.kinds()

    async def _reload_workers(self, settings: Settings) -> None:
        await self.crew.reload(settings)

    async def _start_crew(self) -> None:
        settings, governor, clock = self.settings, self.governor, self.clock
        if self._nursery is None:
            self._crew = solo = Solo(settings, governor=governor, clock=clock, office=self.office)
            spools = list(solo.worker.spools.values())
            self._records = LocalRecords(settings, spools, clock, self.office.counting)
            await self._records.start()
            await solo.start()
            return
        crew = Crew(
            settings,
            count=self._count,
            nursery=self._nursery,
            governor=governor,
            clock=clock,
            office=self.office,
        )
        crew.on_room = self._room
        self._crew = crew
        self._records = RemoteRecords(crew.records.asker)
        await crew.start()

    @property
    def crew(self) -> CrewFace:
        """Who does the work; there from the start on."""
        assert self._crew is not None
        return self._crew

    async def _start_control(self) -> None:
        registry = Registry()
        Verbs(self, self._in_force, self.crew.fronts).register(registry)
        VmtaVerbs(self._in_force, self.crew.fronts).register(registry)
        MessageVerbs(self.crew.fronts).register(registry)
        OrderVerbs(self._in_force, self.crew.fronts, now=self.clock.now).register(registry)
        TraceVerb(self.crew.fronts).register(registry)
        ArchiveVerbs(self.crew.fronts).register(registry)
        LicenseVerbs(self.office).register(registry)
        self._control = ControlServer(Path(self.settings.server.control_socket), registry)
        await self._control.start()

    async def _start_metrics(self) -> None:
        if self.settings.metrics.address:
            page = MetricsPage(self, self.crew.fronts)
            self._metrics = await page.open(self.settings.metrics.address)

    def _open_listeners(self) -> None:
        loop = asyncio.get_running_loop()
        for number, sock in enumerate(self._sockets):
            adopt = functools.partial(self.crew.adopt, listener=number)
            self._acceptors.append(Acceptor(loop, sock, adopt))

    def _room(self) -> None:
        """A worker takes clients again: those that wait at the door come in."""
        for acceptor in self._acceptors:
            acceptor.resume()

    async def _abandon(self) -> None:
        """A start that failed half-way: give back what was taken, so that the next start finds a clean end."""
        for sock in self._sockets:
            sock.close()
        if self._records is not None:
            await self._records.stop()
        if self._crew is not None:
            await self._crew.end()
        if self._office is not None:
            await self._office.stop()
        self._let_go()

    # -- run ------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until somebody stops us or the spool breaks; the watchdog and the quota counts meanwhile."""
        stopping = asyncio.ensure_future(self.stopping.wait())
        broken = self.crew.broken
        while not stopping.done() and not broken.done():
            ends: list[asyncio.Future[Any]] = [stopping, broken]
            await asyncio.wait(ends, timeout=QUOTA_SAVE_S, return_when=asyncio.FIRST_COMPLETED)
            self._notifier.alive()
            await self._quotas.save(self.governor.snapshot())
        if broken.done():
            # After a failed fsync nothing in the page cache can be trusted: only a new start reads the disk.
            error = broken.result()
            what = "spool" if self._nursery is None else "nursery"
            text = f"the {what} failed; stopping to start again from the disk"
            logger.critical(text, error=str(error))
            self._exit_code = EXIT_TEMPFAIL
        stopping.cancel()

    async def _stop(self) -> None:
        logger.info("stopping", drain=self.drain)
        for task in self._tasks:
            task.cancel()
        within_s = self.settings.server.shutdown_timeout
        for acceptor in self._acceptors:
            acceptor.close()
        if self._exit_code == EXIT_OK and self.drain:
            await self._drain()
        self._notifier.stopping()  # not before: a drain may take longer than a service manager waits for a stop
        await self.crew.stop(within_s if self._exit_code == EXIT_OK else BROKEN_STOP_S)
        await self._quotas.save(self.governor.snapshot())
        await self._control.close()
        if self._metrics is not None:
            await self._metrics.close()
        if self._records is not None:
            await self._records.stop()
        await self.crew.end()
        await self.office.stop()
        self._let_go()
        logger.info("stopped")

    async def _drain(self) -> None:
        """Until nothing is due; a second stop ends it."""
        draining = asyncio.ensure_future(self.crew.drain(DRAIN_TIMEOUT_S))
        over = asyncio.ensure_future(self._drain_over.wait())
        await asyncio.wait([draining, over], return_when=asyncio.FIRST_COMPLETED)
        for each in (draining, over):
            each.cancel()
        await asyncio.gather(draining, over, return_exceptions=True)

    def _let_go(self) -> None:
        if self._nursery is not None:
            self._nursery.close()
        if self._lock is not None:
            self._lock.release()

    # -- what operators ask (ServerFace) --------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """The server as a whole."""
        assert self._records is not None
        server = self.settings.server
        return {
            "version": __version__,
            "hostname": server.hostname,
            "pid": os.getpid(),
            "processes": self.crew.processes(),
            "uptime_s": round(self.clock.wall() - self.started_at, 1),
            "lab": server.lab,
            "config": str(self.config),
            "listeners": [each.address for each in self.settings.listeners],
            "followers": await self._records.status(),
            "license": await self.office.status(),
        }

    async def rotate(self) -> dict[str, str]:
        """Begin new accounting files; set → the finished file."""
        assert self._records is not None
        return await self._records.rotate()

    async def refused(self, question: Question) -> dict[str, Any]:
        """What the statistics say of refusals. Raises SpoolError."""
        assert self._records is not None
        return await self._records.refused(question)

    def shutdown(self, *, drain: bool = False) -> None:
        """Stop; with `drain`, once what is due is delivered."""
        if self.stopping.is_set():
            self._drain_over.set()
        self.drain = drain
        self.stopping.set()

    async def _reload_by_signal(self) -> None:
        try:
            await self._in_force.reload()
        except ConfigError as error:
            logger.error("the configuration was not changed; it has mistakes", mistakes=str(error))


async def wait_for_orphans(directory: Path) -> None:
    """Nothing is granted while a worker of a killed supervisor still has connections: it holds its spool's lock till it ends.

    Raises SpoolLocked with its PID when it does not end.
    """
    until = asyncio.get_running_loop().time() + ORPHANS_S
    for path in directory.glob("[0-9]*.lock"):  # noqa: ASYNC240 - at the start, before anything is served
        while True:
            try:
                Lock(path).release()
                break
            except SpoolLocked:
                if asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(ORPHANS_LOOK_S)
