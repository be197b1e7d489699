"""The crew: a process for each worker and one for the followers; started, watched, started again, asked, stopped.

Every spool in the directory has exactly one worker: its own, or, when there are fewer workers than before, one that adopted it.
A worker that dies gives its leases back when its descriptors are certainly closed; its clients' connections are gone with it, its
mail is in its spool, and a new process takes its place: at once, then after longer and longer pauses if it keeps dying.
"""

import asyncio
import pickle
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from mta.config.load import Settings
from mta.io.clock import Clock
from mta.model.errors import SpoolError
from mta.runtime.calls import Answerer, CallFailed
from mta.runtime.child import Child
from mta.runtime.desk import Desk
from mta.runtime.governor import Governor
from mta.runtime.license import Entitlement
from mta.runtime.license_office import LicenseOffice
from mta.runtime.messages import (
    AskEmails,
    Call,
    Entitled,
    GivenEmails,
    ReturnEmails,
    Start,
    Told,
)
from mta.runtime.nursery import Nursery
from mta.runtime.process import EVENTS, cores
from mta.runtime.remote_front import RemoteFront

logger = structlog.get_logger()

LOOK_S = 1.0
RESTART_FIRST_S = 0.1
RESTART_CAP_S = 10.0
WELL_S = 60.0  # one that lived so long begins anew with its pauses
RELOAD_TIMEOUT_S = 10.0
STOP_GRACE_S = 5.0  # beyond what a process was given for its stop


class Crew:
    """All processes of a server but the supervisor."""

    def __init__(
        self,
        settings: Settings,
        *,
        count: int,
        nursery: Nursery,
        governor: Governor,
        clock: Clock,
        office: LicenseOffice,
    ) -> None:
        self._settings = settings
        self._office = office
        self._counting = Answerer(office.counting)
        self._nursery = nursery
        self._governor = governor
        self._clock = clock
        self._follower = Child("follower", 0, nursery=nursery, clock=clock)
        self._workers = [Child("worker", n, nursery=nursery, clock=clock) for n in range(count)]
        self._spools = share_spools(settings.server.spool_dir, count)
        self._desks: dict[int, Desk] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self.fronts = [RemoteFront(each) for each in self._workers]
        self.on_room: Callable[[], None] = lambda: None  # a worker can take clients (again)
        nursery.on_lost = self._nursery_lost
        self.broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        governor.on_wanted(self._wanted)
        office.on_change = self._entitle

    async def start(self) -> None:
        """Start every process. Raises SpoolError or OSError; what was started is the caller's to `stop`."""
        await asyncio.gather(*(self._bear_worker(each) for each in self._workers))
        await self._bear_follower()
        create = asyncio.get_running_loop().create_task
        self._tasks = [create(self._keep(each, self._bear_worker)) for each in self._workers]
        self._tasks.append(create(self._keep(self._follower, self._bear_follower)))
        self._tasks.append(create(self._watch()))

    def adopt(self, sock: socket.socket, listener: int) -> bool:
        """Pass an accepted connection to the worker with the fewest; False: none can take one now."""
        note = b"%d" % listener
        for worker in sorted(self._workers, key=lambda each: each.load):
            if worker.is_serving and worker.pass_on(note, sock):
                sock.close()
                return True
        return False

    @property
    def records(self) -> Child:
        """The follower process."""
        return self._follower

    def spools(self) -> list[str]:
        """The UUIDs of all spools."""
        return [uuid for worker in self._workers for _, uuid in worker.spools]

    def processes(self) -> dict[str, int]:
        """The pid of each process that runs, by its name."""
        pids = {"nursery": self._nursery.pid}
        for child in (*self._workers, self._follower):
            if child.is_running:
                pids[f"{child.kind} {child.number}"] = child.pid
        return pids

    # -- life -------------------------------------------------------------------------------------

    async def _bear_worker(self, child: Child, _: Child | None = None) -> None:
        desk = Desk(self._governor, child, child.number)
        self._desks[child.number] = desk
        takes = desk.takes

        def take(message: Any) -> None:
            match message:
                case Told():
                    self._tell_others(child, message)
                case AskEmails() | ReturnEmails():
                    self._emails(child, message)
                case _:
                    takes[type(message)](message)

        try:
            start = self._start_of(self._spools[child.number])
            await child.bear(start, take, lambda: self._connect_events(child))
        except BaseException:  # raised again: a desk is closed with its worker
            desk.close()
            if self._office.till is not None:
                self._office.till.died(child.number)
            raise
        if self._office.till is not None:
            self._office.till.serves(child.number, child.last_events)
        if self._office.entitlement is not start.entitlement:
            child.send(Entitled(self._office.entitlement))  # it changed while the worker began
        self.on_room()

    async def _bear_follower(self, child: Child | None = None) -> None:
        spools = sorted(number for numbers in self._spools for number in numbers)

        def once_born() -> None:
            for worker in self._workers:
                self._connect_events(worker)

        def take(message: Any) -> None:
            if isinstance(message, Call):
                self._counting.take(message, self._follower)

        await self._follower.bear(self._start_of(spools), take, once_born)

    def _start_of(self, spools: Sequence[int]) -> Start:
        owns_core = len(self._workers) >= cores()
        settings = pickle.dumps(self._settings)
        entitlement = self._office.entitlement
        is_counted = self._office.counting is not None
        return Start(
            settings, tuple(spools), self._clock.offset, owns_core, entitlement, is_counted
        )

    def _connect_events(self, worker: Child) -> None:
        """A new connection between this worker and the follower, if both are there."""
        if not (worker.is_running and self._follower.is_running):
            return
        near, far = socket.socketpair()
        with near, far:
            worker.pass_on(EVENTS, near)
            self._follower.pass_on(EVENTS, far)

    async def _keep(self, child: Child, bear: Callable[[Child], Any]) -> None:
        """Start the process again whenever it dies."""
        delay_s, is_born = RESTART_FIRST_S, True
        while True:
            began = self._clock.now()
            if is_born:
                status = await child.died()
                if child is not self._follower:
                    self._desks[child.number].close()
                    if self._office.till is not None:
                        self._office.till.died(child.number)
                if self._is_stopping:
                    return
                if self._clock.now() - began > WELL_S:
                    delay_s = RESTART_FIRST_S
                logger.error("a process ended", kind=child.kind, number=child.number, status=status)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RESTART_CAP_S)
            try:
                await bear(child)
            except (OSError, SpoolError) as error:
                is_born = False
                logger.error("a process cannot be started again", kind=child.kind, why=str(error))
            else:
                is_born = True
                logger.info("a process was started again", kind=child.kind, number=child.number)

    async def _watch(self) -> None:
        """End a process whose loop or spool has not been heard of for too long; it is started again."""
        while True:
            await asyncio.sleep(LOOK_S)
            longest_s = self._settings.server.watchdog_timeout
            for child in (*self._workers, self._follower):
                if child.is_running and child.silent_s > longest_s:
                    await child.kill(f"nothing was heard of it for {child.silent_s:.0f} s")

    def _nursery_lost(self) -> None:
        if not self._is_stopping and not self.broken.done():
            self.broken.set_result(OSError("the process that starts the others is gone"))

    # -- what concerns all ------------------------------------------------------------------------

    def _wanted(self, key: str, waiting: int, yielding: int) -> None:
        for desk in self._desks.values():
            desk.wanted(key, waiting, yielding)

    def _entitle(self, entitlement: Entitlement) -> None:
        for worker in self._workers:
            worker.send(Entitled(entitlement))

    def _emails(self, worker: Child, message: AskEmails | ReturnEmails) -> None:
        till = self._office.till
        if isinstance(message, ReturnEmails):
            if till is not None:
                till.give_back(worker.number, message.count)
        else:
            count = 0 if till is None else till.take(worker.number, message.count)
            worker.send(GivenEmails(message.number, count))

    def _tell_others(self, teller: Child, message: Told) -> None:
        for worker in self._workers:
            if worker is not teller:
                worker.send(message)

    async def reload(self, settings: Settings) -> None:
        """Everywhere or nowhere: all workers prepare, then all change. Raises what the first of them says against it.

        One that dies or hangs between the two starts again with the new configuration.
        """
        data = pickle.dumps(settings)
        await asyncio.gather(
            *(
                each.asker.ask("prepare", RELOAD_TIMEOUT_S, settings=data)
                for each in self._workers
                if each.is_serving
            )
        )
        self._settings = settings
        for worker in self._workers:
            if worker.is_serving:
                await self._commit(worker)

    async def _commit(self, worker: Child) -> None:
        try:
            await worker.asker.ask("commit", RELOAD_TIMEOUT_S)
        except (OSError, CallFailed) as error:
            await worker.kill(f"it did not take the new configuration: {error}")

    async def drain(self, within_s: float) -> None:
        """Every worker takes no more and delivers what is due; returns when all have, or after so long."""
        await self._ask_all("drain", within_s, within_s=within_s)

    async def stop(self, within_s: float) -> None:
        """End all sessions; spools stay open for the follower."""
        self._is_stopping = True
        await self._ask_all("stop", within_s, within_s=within_s)

    async def end(self) -> None:
        """Everybody goes home; who does not is ended."""
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        children = [each for each in (*self._workers, self._follower) if each.is_running]
        await asyncio.gather(*(self._end_one(each) for each in children))
        for desk in self._desks.values():
            desk.close()

    async def _end_one(self, child: Child) -> None:
        with suppress(OSError, CallFailed):  # it may be on its way out already
            await child.asker.ask("end", STOP_GRACE_S)
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await child.died()
        except TimeoutError:
            await child.kill("it did not end in time")

    async def _ask_all(self, method: str, timeout_s: float, **arguments: Any) -> None:
        asked = [
            each.asker.ask(method, timeout_s + STOP_GRACE_S, **arguments)
            for each in self._workers
            if each.is_serving
        ]
        for result in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(result, BaseException):
                logger.error("a worker did not do as told", what=method, why=repr(result))


def share_spools(spool_dir: str, count: int) -> list[list[int]]:
    """Which worker has which spools: its own, and of those beyond the number of workers every n-th."""
    spools = [[number] for number in range(count)]
    for path in sorted(Path(spool_dir).glob("[0-9]*.sqlite")):
        if path.stem.isdigit() and int(path.stem) >= count:
            spools[int(path.stem) % count].append(int(path.stem))
    return spools
