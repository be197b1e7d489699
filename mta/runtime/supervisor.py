"""The server: configuration, governor, listening sockets, worker, followers, control socket, signals.

With one worker all of it lives in one process; what is asked of the worker goes through the same contracts as if it did not.
Exit codes: 0 stopped as asked, 75 the spool failed and a restart may help (EX_TEMPFAIL), 78 the configuration is wrong
(EX_CONFIG).
"""

import asyncio
import functools
import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from mta import __version__
from mta.config.load import Settings, load
from mta.control.registry import Registry
from mta.control.server import ControlServer
from mta.control.verbs import Verbs
from mta.follow.accounting import AccountingSink
from mta.follow.cursors import CursorFile
from mta.follow.follower import Follower, Followers, Pruning
from mta.io.clock import Clock
from mta.io.files import make_directory
from mta.io.listen import Acceptor, open_listener
from mta.io.log import set_up_log
from mta.io.notify import Notifier
from mta.model.errors import ConfigError, Problem, SpoolError
from mta.runtime.front import WorkerFront
from mta.runtime.governor import Governor
from mta.runtime.worker import Worker

logger = structlog.get_logger()

EXIT_OK = 0
EXIT_TEMPFAIL = 75
EXIT_CONFIG = 78

# The GIL is handed over at most this late: with the default 5 ms a commit beside a busy loop took 39 ms, with this 9 ms.
SWITCH_INTERVAL_S = 0.0005
QUOTAS = "quotas"  # the spool's meta entry in which hour and day counts are kept
QUOTA_SAVE_S = 5.0
DRAIN_TIMEOUT_S = 86_400.0
BROKEN_STOP_S = 1.0  # nothing that is still said can be kept
# What is read once, at the start. All other settings change with a reload.
FIXED = (
    "spool_dir",
    "workers",
    "control_socket",
    "lab",
    "hostname",
    "intake_memory",
    "body_cache",
    "max_event_bytes",
    "dns_servers",
    "dns_timeout",
    "dns_cache_entries",
)


def log_as_told(settings: Settings) -> None:
    """Begin to log as the configuration says: where, from which level on, in which form."""
    rules = settings.logging
    stream = open(rules.path, "a", encoding="utf-8", buffering=1) if rules.path else None  # noqa: SIM115 - kept for ever
    set_up_log("json" if rules.format == "json" else "logfmt", rules.level, stream)


def tune_collector() -> None:
    """Keep the garbage collector off the loop's back.

    What lives now lives for ever: it need not be walked. Messages and entries form no cycles, so the young generations find
    little; a walk through the oldest held the loop for 50 to 110 ms with 30,000 queues, so it happens once in a long while.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 1_000)


def run(config: Path) -> int:
    """Serve until told to stop; the exit code. The configuration's mistakes go to standard error."""
    try:
        settings = load(config)
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return EXIT_CONFIG
    log_as_told(settings)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return uvloop.run(Supervisor(config, settings).serve())


class Supervisor:
    """Everything a server is, from start to stop."""

    def __init__(self, config: Path, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.clock = Clock()
        self.stopping = asyncio.Event()
        self.drain = False
        self._exit_code = EXIT_OK
        self._notifier = Notifier()
        self._acceptors: list[Acceptor] = []
        self._sockets: list[socket.socket] = []
        self._followers: Followers | None = None
        self._worker: Worker | None = None

    async def serve(self) -> int:
        """Start everything, wait for the end, stop everything in the opposite order."""
        try:
            await self._start()
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
        self.governor = Governor(
            clock=clock,
            post=loop.call_soon,
            call_at=lambda at, work: loop.call_at(clock.to_loop_time(at), work),
        )
        self._worker = self.worker = Worker(
            settings,
            number=0,
            governor=self.governor,
            clock=clock,
            records_behind=self._records_behind,
        )
        self._sockets = [open_listener(rules.address) for rules in settings.listeners]
        self.governor.restore(msgspec.json.decode(await self.worker.meta(QUOTAS) or b"{}"))
        self._start_followers()
        await self._start_control()
        self._open_listeners()
        self.worker.start()
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
            lab=settings.server.lab,
        )

    def _make_directories(self) -> None:
        # On disk in their parents before anything in them counts as written (reliability.md D1).
        make_directory(self.settings.server.spool_dir)
        Path(self.settings.server.control_socket).parent.mkdir(parents=True, exist_ok=True)
        for rules in self.settings.accounting:
            make_directory(Path(rules.path).parent, 0o755)

    def _records_behind(self) -> bool:
        return self._followers is not None and self._followers.is_behind

    def _start_followers(self) -> None:
        server = self.settings.server
        cursors = CursorFile(Path(server.spool_dir) / "followers.sqlite")
        pruning = Pruning()
        sources = list(self.worker.spools.values())
        followers = {
            rules.name: Follower(
                f"accounting.{rules.name}",
                AccountingSink(rules),
                sources,
                cursors,
                self.clock,
                pruning,
            )
            for rules in self.settings.accounting
        }
        self._cursors = cursors
        self._followers = Followers(followers, sources, server.max_event_bytes)
        self._followers.start()

    async def _start_control(self) -> None:
        registry = Registry()
        Verbs(self, [WorkerFront(self.worker)]).register(registry)
        self._control = ControlServer(Path(self.settings.server.control_socket), registry)
        await self._control.start()

    def _open_listeners(self) -> None:
        loop = asyncio.get_running_loop()
        for number, sock in enumerate(self._sockets):
            adopt = functools.partial(self.worker.adopt, listener=number)
            self._acceptors.append(Acceptor(loop, sock, adopt))

    async def _abandon(self) -> None:
        """A start that failed half-way: give back what was taken, so that the next start finds a clean end."""
        for sock in self._sockets:
            sock.close()
        if self._followers is not None:
            await asyncio.to_thread(self._followers.stop)
        if self._worker is not None:
            await self._worker.close_spools()

    # -- run ------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until somebody stops us or the spool breaks; the watchdog and the quota counts meanwhile."""
        stopping = asyncio.ensure_future(self.stopping.wait())
        while not stopping.done() and not self.worker.broken.done():
            ends: list[asyncio.Future[Any]] = [stopping, self.worker.broken]
            await asyncio.wait(
                ends,
                timeout=QUOTA_SAVE_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._notifier.alive()
            await self._save_quotas()
        if self.worker.broken.done():
            # After a failed fsync nothing in the page cache can be trusted: only a new start reads the disk.
            error = self.worker.broken.result()
            logger.critical(
                "the spool failed; stopping to start again from the disk", error=str(error)
            )
            self._exit_code = EXIT_TEMPFAIL
        stopping.cancel()

    async def _save_quotas(self) -> None:
        if not self.worker.broken.done():
            await self.worker.put_meta(QUOTAS, msgspec.json.encode(self.governor.snapshot()))

    async def _stop(self) -> None:
        logger.info("stopping", drain=self.drain)
        within_s = self.settings.server.shutdown_timeout
        for acceptor in self._acceptors:
            acceptor.close()
        if self._exit_code == EXIT_OK and self.drain:
            await self.worker.drain(DRAIN_TIMEOUT_S, lambda: self.drain)  # a second stop ends it
        self._notifier.stopping()  # not before: a drain may take longer than a service manager waits for a stop
        await self.worker.stop(within_s if self._exit_code == EXIT_OK else BROKEN_STOP_S)
        await self._save_quotas()
        await self._control.close()
        if self._followers is not None:
            await asyncio.to_thread(self._followers.stop)
        self._cursors.close()
        await self.worker.close_spools()
        logger.info("stopped")

    # -- what operators ask (ServerFace) --------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The server as a whole."""
        server = self.settings.server
        return {
            "version": __version__,
            "hostname": server.hostname,
            "pid": os.getpid(),
            "uptime_s": round(self.clock.wall() - self.worker.started_at, 1),
            "lab": server.lab,
            "config": str(self.config),
            "listeners": [each.address for each in self.settings.listeners],
            "followers": [
                msgspec.to_builtins(each)
                for each in (self._followers.status() if self._followers else [])
            ],
        }

    async def reload(self) -> list[str]:
        """Read the configuration again. Raises ConfigError and changes nothing if it is wrong."""
        settings = await asyncio.to_thread(load, self.config)
        fixed = _fixed_changes(self.settings, settings)
        if fixed:
            raise ConfigError(fixed)
        self.worker.reload(settings)
        if settings.logging != self.settings.logging:
            log_as_told(settings)
        self.settings = settings
        logger.info("configuration reloaded")
        return [str(warning) for warning in settings.warnings]

    async def rotate(self) -> dict[str, str]:
        """Begin new accounting files; set → the finished file."""
        assert self._followers is not None
        futures = self._followers.rotate()
        return {name: await asyncio.wrap_future(future) for name, future in futures.items()}

    def shutdown(self, *, drain: bool = False) -> None:
        """Stop; with `drain`, once what is due is delivered."""
        self.drain = drain
        self.stopping.set()

    async def _reload_by_signal(self) -> None:
        try:
            await self.reload()
        except ConfigError as error:
            logger.error("the configuration was not changed; it has mistakes", mistakes=str(error))


def _fixed_changes(old: Settings, new: Settings) -> list[Problem]:
    """What a reload cannot change: it needs a restart, and saying so beats doing half of it."""
    changed = [name for name in FIXED if getattr(old.server, name) != getattr(new.server, name)]
    keys = [f"dns.{name[4:]}" if name.startswith("dns_") else f"server.{name}" for name in changed]
    if [each.address for each in old.listeners] != [each.address for each in new.listeners]:
        keys.append("listener.address")
    if old.accounting != new.accounting:
        keys.append("accounting")
    text = "takes effect only at a restart; take the change back, or restart"
    return [Problem(new.file, key, text) for key in keys]
