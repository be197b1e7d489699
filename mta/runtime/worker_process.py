"""A worker in a process of its own: built when the supervisor says with what, served over its link and its door, ended with them.

Over the link come the governor's answers, the operator's questions and orders; through the door come clients that the supervisor
accepted, and the follower's connection. When the link ends the supervisor is gone, and so is this process: nobody would count its
connections any more.

Exit codes: 0 stopped as told, 75 the spool failed (a new process reads the disk anew).
"""

import asyncio
import faulthandler
import pickle
import signal
import socket
import sys
from collections import deque
from typing import Any

import structlog
import uvloop

from mta.config.load import Settings
from mta.follow.feed import EventFeed
from mta.io.clock import Clock
from mta.io.door import Door
from mta.io.link import Link
from mta.model.errors import ConfigError, SpoolError
from mta.runtime.calls import Answerer
from mta.runtime.emails import FarEmails
from mta.runtime.front import WorkerFront
from mta.runtime.license import Entitlement
from mta.runtime.messages import (
    Beat,
    Call,
    Entitled,
    GivenEmails,
    Granted,
    GrantedTokens,
    QuotaAnswer,
    Start,
    Started,
    Told,
    Wanted,
    of_supervisor,
)
from mta.runtime.process import (
    EVENTS,
    EXIT_OK,
    EXIT_TEMPFAIL,
    SWITCH_INTERVAL_S,
    log_as_told,
    tune_collector,
)
from mta.runtime.remote_governor import RemoteGovernor
from mta.runtime.watch import SpoolPulse, Watch
from mta.runtime.worker import Worker

logger = structlog.get_logger()

BEAT_S = 1.0
START_TIMEOUT_S = 30.0
MAX_EARLY = 100
BROKEN_STOP_S = 1.0  # nothing that is still said can be kept


def live(link: socket.socket, door: socket.socket, number: int) -> int:
    """A worker's whole life; its exit code. Called right after the fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's, meant for the supervisor
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    faulthandler.enable()  # the supervisor ends a worker that hangs with SIGABRT: its stacks are in the log then
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return uvloop.run(WorkerProcess(number).serve(link, door))


class WorkerProcess:
    """One worker and what connects it to its supervisor. Its async methods without underscore are what that may call."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._ending: asyncio.Future[int]
        self._started: asyncio.Future[Start]
        self._worker: Worker
        self._pulse: SpoolPulse
        self._adopted = 0  # connections that came through the door, ever
        self._entitlement: Entitlement | None = None  # told later than by `Start`
        self._is_built = False
        # Asked while it was still starting; of very many the last, for who asked the first waits no longer.
        self._early: deque[Call] = deque(maxlen=MAX_EARLY)
        self._is_stopped = False

    async def serve(self, link_sock: socket.socket, door_sock: socket.socket) -> int:
        """Until the supervisor says stop or is gone."""
        loop = asyncio.get_running_loop()
        self._ending, self._started = loop.create_future(), loop.create_future()
        self._link = Link(of_supervisor, self._take, self._lost)
        self._governor = RemoteGovernor(self._link)
        self._emails = FarEmails(self._link)
        await self._link.open(link_sock)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                start = await self._started
            self._build(start)
        except (SpoolError, OSError, ConfigError) as error:  # TimeoutError is an OSError
            logger.error("the worker cannot start", worker=self.number, reason=str(error))
            return EXIT_TEMPFAIL
        self._answerer = Answerer(self, WorkerFront(self._worker))
        while self._early:
            self._answerer.take(self._early.popleft(), self._link)
        self._feed = EventFeed(self._worker.spools)
        self._door = Door(door_sock, self._came)
        watch = Watch(loop, self._worker.scheduler, self._worker.settings.server.watchdog_timeout)
        watch.start()
        self._worker.start()
        loop.add_signal_handler(signal.SIGTERM, lambda: self._end(EXIT_OK))
        beats = loop.create_task(self._beat())
        tune_collector()
        spools = tuple((number, spool.uuid) for number, spool in self._worker.spools.items())
        last = {each.uuid: each.start.last_event for each in self._worker.spools.values()}
        self._link.send(Started(spools, last))
        code = await self._until_the_end()
        beats.cancel()
        watch.stop()
        return code

    def _build(self, start: Start) -> None:
        settings: Settings = pickle.loads(start.settings)
        log_as_told(settings)
        structlog.contextvars.bind_contextvars(worker=self.number)
        self._worker = Worker(
            settings,
            number=self.number,
            governor=self._governor,
            clock=Clock(start.clock_offset),
            adopted=[number for number in start.spools if number != self.number],
            owns_core=start.owns_core,
            entitlement=self._entitlement or start.entitlement,
            emails=self._emails,
        )
        self._pulse = SpoolPulse(list(self._worker.spools.values()), self._worker.clock)
        self._is_built = True

    async def _until_the_end(self) -> int:
        worker = self._worker
        ends: list[asyncio.Future[Any]] = [self._ending, worker.broken]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if worker.broken.done():
            # After a failed fsync nothing in the page cache can be trusted: only a new process reads the disk.
            error = worker.broken.result()
            logger.critical("the spool failed; the worker starts again", error=str(error))
            await worker.stop(BROKEN_STOP_S)
            return EXIT_TEMPFAIL
        await self.stop(worker.settings.server.shutdown_timeout)
        self._feed.close()
        await worker.close_spools()
        self._link.close()
        return self._ending.result()

    # -- what the supervisor may call -------------------------------------------------------------

    async def prepare(self, settings: bytes) -> None:
        """The first half of a reload: build everything, change nothing. Raises ConfigError."""
        self._worker.prepare(pickle.loads(settings))

    async def commit(self) -> None:
        """The second half: from now on it holds."""
        before = self._worker.settings.logging
        self._worker.commit()
        if self._worker.settings.logging != before:
            log_as_told(self._worker.settings)

    async def drain(self, within_s: float) -> bool:
        """Take no more; deliver what is due. True once nothing is."""
        await self._worker.drain(within_s, lambda: not self._is_stopped)
        return True

    async def stop(self, within_s: float) -> bool:
        """End all sessions; the spools stay open, for the follower reads what is left."""
        if not self._is_stopped:
            self._is_stopped = True
            self._door.close()
            await self._worker.stop(within_s)
        return True

    async def end(self) -> None:
        """Close the spools and go; the supervisor has what it wanted."""
        self._end(EXIT_OK)

    # -- the link ---------------------------------------------------------------------------------

    def _take(self, message: Any) -> None:
        match message:
            case Granted():
                self._governor.granted(message)
            case GrantedTokens():
                self._governor.granted_tokens(message)
            case QuotaAnswer():
                self._governor.answered_quota(message)
            case Wanted():
                self._governor.wanted(message)
            case Told():
                self._governor.told(message)
            case GivenEmails():
                self._emails.given(message)
            case Entitled():
                self._entitle(message.entitlement)
            case Call() if not self._is_built:
                self._early.append(message)
            case Call():
                self._answerer.take(message, self._link)
            case Start() if not self._started.done():
                self._started.set_result(message)

    def _entitle(self, entitlement: Entitlement) -> None:
        self._entitlement = entitlement
        if self._is_built:
            self._worker.entitle(entitlement)

    def _lost(self) -> None:
        """The supervisor is gone. What is in flight may end; nothing new begins without a governor."""
        if not self._started.done():
            self._started.set_exception(OSError("the supervisor is gone"))
        self._end(EXIT_OK)

    def _end(self, code: int) -> None:
        if not self._ending.done():
            self._ending.set_result(code)

    def _came(self, note: bytes, sock: socket.socket) -> None:
        if note == EVENTS:
            self._feed.attach(sock)
        else:
            self._adopted += 1
            self._worker.adopt(sock, int(note))

    async def _beat(self) -> None:
        worker = self._worker
        while True:
            self._pulse.feel()
            clients = len(worker.smtp.connections)
            self._link.send(Beat(self._pulse.age_s(), clients, self._adopted))
            await asyncio.sleep(BEAT_S)
