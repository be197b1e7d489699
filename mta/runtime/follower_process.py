"""The follower process: reads every worker's events and keeps the accounting of the whole server.

It is told by its link what to follow (`Start`), gets a socket to each worker through its door (note `b"events"`), and answers
the supervisor's calls. It holds nothing that cannot be read again: killed at any moment, the next one goes on from the saved
places. Its end: asked to `finish`, SIGTERM, a lost link (the supervisor is gone), or a spool that must be followed from now on.
"""

import asyncio
import faulthandler
import pickle
import signal
import socket
from typing import Any

import structlog
import uvloop

from mta.config.load import Settings
from mta.follow.refused import Question
from mta.follow.remote import RemoteSources
from mta.io.clock import Clock
from mta.io.door import Door
from mta.io.link import Link
from mta.model.errors import SpoolError
from mta.runtime.calls import Answerer, Asker
from mta.runtime.counting import FarCounting
from mta.runtime.messages import Answer, Beat, Call, Fault, Start, Started, of_supervisor
from mta.runtime.process import EVENTS, EXIT_OK, EXIT_TEMPFAIL, log_as_told, tune_collector
from mta.runtime.records import LocalRecords
from mta.spool.words import SpoolLocked

logger = structlog.get_logger()

BEAT_S = 1.0
START_S = 30.0  # for the first message
# For workers to open their spools. One that is not there then (its disk broke) must not hold up the others' accounting.
NAMED_S = 30.0
LOCK_S = 30.0  # for an older process to end
LOCK_LOOK_S = 0.1
FAREWELL_S = 1.0  # for the last words to leave


def live(link: socket.socket, door: socket.socket, number: int) -> int:
    """The follower's whole life; its exit code. Called right after the fork."""
    faulthandler.enable()  # the supervisor ends a process that hangs with SIGABRT: its stacks are in the log then
    return uvloop.run(serve(link, door))


async def serve(link: socket.socket, door: socket.socket) -> int:
    """Follow until the end; the exit code."""
    return await FollowerProcess(link, door).serve()


class FollowerProcess:
    """The process, from start to end."""

    def __init__(self, link: socket.socket, door: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._link_sock, self._door_sock = link, door
        self._link = Link(of_supervisor, self._received, self._lost)
        self._answerer = Answerer(_Answers(self))
        self._asker = Asker()
        self._asker.link = self._link
        self._start_message: asyncio.Future[Start] = self._loop.create_future()
        self._ending = asyncio.Event()
        self._gone = asyncio.Event()
        self._sources: RemoteSources | None = None
        self._records: LocalRecords | None = None
        self._stopping: asyncio.Task[bool] | None = None
        self._exit_code = EXIT_OK
        self.following = asyncio.Event()

    async def serve(self) -> int:
        """See the function of this name."""
        for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all of us
            self._loop.add_signal_handler(number, lambda: None)
        self._loop.add_signal_handler(signal.SIGTERM, self.end)
        await self._link.open(self._link_sock)
        self._beat()
        starting = self._loop.create_task(self._start())
        ending = self._loop.create_task(self._ending.wait())
        await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and (error := starting.exception()) is not None:
            logger.error("accounting cannot be kept", reason=str(error), exc_info=error)
            self.end(EXIT_TEMPFAIL)
        await ending
        starting.cancel()
        await self.finish()
        await self._hang_up()
        return self._exit_code

    def end(self, code: int = EXIT_OK) -> None:
        """Take what is committed, save, and leave."""
        self._exit_code = self._exit_code or code
        self._ending.set()

    @property
    def records(self) -> LocalRecords:
        """What is followed. Raises SpoolError as long as that has not begun."""
        if self._records is None or not self.following.is_set():
            raise SpoolError("accounting has not started yet")
        return self._records

    async def finish(self) -> bool:
        """End the followers, whoever asks first; whether they took all that is committed."""
        if self._stopping is None:
            if self._records is None:
                return True
            self._stopping = self._loop.create_task(self._records.stop())
        return await asyncio.shield(self._stopping)

    # -- start ----------------------------------------------------------------------------------

    async def _start(self) -> None:
        async with asyncio.timeout(START_S):
            start = await self._start_message
        settings: Settings = pickle.loads(start.settings)
        log_as_told(settings)
        self._sources = sources = RemoteSources(start.spools)
        self._door = Door(self._door_sock, self._took)
        if not await sources.all_named(NAMED_S):
            logger.error("accounting starts without some spools", spools=sources.unnamed)
        sources.on_new_spool = self._meet_new_spool
        counting = FarCounting(self._asker) if start.is_counted else None
        records = LocalRecords(settings, sources.named, Clock(start.clock_offset), counting)
        await self._open_alone(records)
        self._records = records
        self.following.set()
        tune_collector()
        self._link.send(Started(tuple((each.number, each.uuid) for each in sources.named)))
        logger.info("accounting started", spools=[each.number for each in sources.named])

    async def _open_alone(self, records: LocalRecords) -> None:
        """An older process may be about to end, without its supervisor; it holds the lock until then."""
        until = self._loop.time() + LOCK_S
        while True:
            try:
                return await records.start()
            except SpoolLocked:
                if self._loop.time() > until:
                    raise
            await asyncio.sleep(LOCK_LOOK_S)

    def _took(self, note: bytes, sock: socket.socket) -> None:
        if note == EVENTS and self._sources is not None:
            self._sources.attach(sock)
        else:
            logger.error("a socket that nobody wants", note=note.decode("ascii", "replace"))
            sock.close()

    def _meet_new_spool(self, number: int) -> None:
        """Whoever follows was built without it: the next process is built with it."""
        logger.warning("accounting begins again, to follow another spool", spool=number)
        self.end(EXIT_TEMPFAIL)

    # -- the supervisor -------------------------------------------------------------------------

    def _received(self, message: Any) -> None:
        match message:
            case Call():
                self._answerer.take(message, self._link)
            case Answer() | Fault():
                self._asker.answered(message)
            case Start() if not self._start_message.done():
                self._start_message.set_result(message)
            case _:
                logger.error("a message that is not for a follower", kind=type(message).__name__)

    def _beat(self) -> None:
        if not self._link.is_lost:
            self._link.send(Beat(0.0, 0, 0))
            self._loop.call_later(BEAT_S, self._beat)

    def _lost(self) -> None:
        self._asker.lost(self._link)
        self._gone.set()
        self.end()

    async def _hang_up(self) -> None:
        if self._sources is not None:
            self._door.close()
            self._sources.close()
        self._link.close()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._gone.wait()
        except TimeoutError:
            logger.warning("the supervisor does not read")


class _Answers:
    """What the supervisor may ask (`RemoteRecords`)."""

    def __init__(self, process: FollowerProcess) -> None:
        self._process = process

    async def following(self) -> bool:
        """Answered once everything is followed."""
        return await self._process.following.wait()

    async def status(self) -> list[dict[str, Any]]:
        """Each accounting set."""
        return await self._process.records.status()

    async def rotate(self) -> dict[str, str]:
        """Begin new files; set → the finished one."""
        return await self._process.records.rotate()

    async def refused(self, question: Question) -> dict[str, Any]:
        """What the statistics say of refusals."""
        return await self._process.records.refused(question)

    async def finish(self) -> bool:
        """Take all that is committed, and end."""
        has_ended = await self._process.finish()
        self._process.end()
        return has_ended

    async def end(self) -> None:
        """Go. It may have been told to finish before, and be on its way out."""
        self._process.end()
