"""Accounting as the supervisor sees it, near and far.

`LocalRecords` are followers in threads of this process: over the worker's spools where one process is the whole server, over
`RemoteSource`s in the follower process. `RemoteRecords` ask the follower process. Whoever follows holds a lock beside the saved
places: a follower process that outlived its supervisor for a moment must not write the files a new one writes.
"""

import asyncio
from asyncio import wrap_future
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import apsw
import msgspec
import structlog

from mta.config.load import Settings
from mta.follow.accounting import AccountingSink
from mta.follow.cursors import FILE_NAME, CursorFile
from mta.follow.follower import (
    STOP_TIMEOUT_S,
    EventSource,
    Follower,
    Followers,
    FollowerStatus,
    Pruning,
)
from mta.follow.inbox import Numbered
from mta.follow.keeping import Keeping
from mta.follow.refused import Question, read_refused
from mta.follow.statistics import FILE_NAME as STATISTICS_FILE
from mta.follow.statistics import NAME as STATISTICS
from mta.follow.statistics import SAVE_EVERY_S, StatisticsFile, StatisticsSink
from mta.follow.volume import NAME as VOLUME
from mta.follow.volume import VolumeCursors, VolumeSink
from mta.io.clock import Clock
from mta.model.errors import SpoolError
from mta.runtime.calls import Asker, CallFailed
from mta.runtime.counting import Counting, LoopMeter
from mta.spool.database import Lock

logger = structlog.get_logger()

LOCK_NAME = "followers.lock"
START_TIMEOUT_S = 60.0
STATUS_TIMEOUT_S = 2.0
ROTATE_TIMEOUT_S = 20.0
LOOK_TIMEOUT_S = 20.0
# An event has 300 to 400 bytes: statistics that are so far behind are no reason to take no mail.
LAG_EVENT_BYTES = 600
NEWEST = "newest"  # who has done all that is committed, where no records are kept
# Longer than the followers' own limit: they say what they could not do.
FINISH_TIMEOUT_S = STOP_TIMEOUT_S + 5.0


class Records(Protocol):
    """All accounting sets of the server."""

    async def start(self) -> None:
        """Follow. Raises SpoolError or OSError if that is not possible."""

    async def status(self) -> list[dict[str, Any]]:
        """Each set as the operator sees it (`FollowerStatus`). Never raises."""

    async def rotate(self) -> dict[str, str]:
        """Begin new files; set → the finished file. Raises SpoolError or OSError."""

    async def refused(self, question: Question) -> dict[str, Any]:
        """What the statistics say of refusals. Raises SpoolError."""

    async def stop(self) -> bool:
        """Take all that is committed, save, end; False: it was not all. Spools must answer meanwhile. Never raises."""


class LocalRecords:
    """`Records` in threads of this process. Sources are subscribed to, and so used, on the loop."""

    def __init__(
        self,
        settings: Settings,
        sources: Iterable[EventSource],
        clock: Clock,
        counting: Counting | None = None,
    ) -> None:
        """`counting`: who counts deliveries for the licence; None in lab mode, where nobody does."""
        self._settings = settings
        self._counting = counting
        self._sources = list(sources)
        self._clock = clock
        self._lock: Lock | None = None
        self._cursors: CursorFile | None = None
        self._followers = Followers({}, ())
        self._keeping = Keeping(settings.accounting, clock)

    async def start(self) -> None:
        """See `Records`; SpoolLocked if another process follows still."""
        await asyncio.to_thread(self._open)
        assert self._cursors is not None
        names = [f"accounting.{rules.name}" for rules in self._settings.accounting]
        names += [VOLUME] * (self._counting is not None) or [NEWEST] * (not names)
        limit = self._settings.server.max_event_bytes
        pruning = Pruning([*names, STATISTICS], STATISTICS, limit // LAG_EVENT_BYTES)
        followers = {
            rules.name: Follower(
                f"accounting.{rules.name}",
                AccountingSink(rules),
                self._sources,
                self._cursors,
                self._clock,
                pruning,
            )
            for rules in self._settings.accounting
        }
        if self._counting is not None:
            followers[VOLUME] = await self._volume_follower(self._counting, pruning)
        if not followers:
            follow_nothing(self._sources, pruning)
        followers[STATISTICS] = self._statistics_follower(pruning)
        self._followers = Followers(followers, self._sources, limit)
        self._followers.start()
        self._keeping.start()

    async def _volume_follower(self, counting: Counting, pruning: Pruning) -> Follower:
        sink = VolumeSink()
        meter = LoopMeter(counting, asyncio.get_running_loop())
        cursors = VolumeCursors(sink, meter, await meter.known())
        return Follower(VOLUME, sink, self._sources, cursors, self._clock, pruning)

    def _statistics_follower(self, pruning: Pruning) -> Follower:
        file = StatisticsFile(self._statistics_path)
        return Follower(
            STATISTICS,
            StatisticsSink(file),
            self._sources,
            file,
            self._clock,
            pruning,
            save_every_s=SAVE_EVERY_S,
        )

    @property
    def _statistics_path(self) -> Path:
        return Path(self._settings.server.spool_dir) / STATISTICS_FILE

    @property
    def is_behind(self) -> bool:
        """Whether more is unread than `max_event_bytes`: no mail is taken then."""
        return self._followers.is_behind

    async def status(self) -> list[dict[str, Any]]:
        """See `Records`."""
        return [msgspec.to_builtins(each) for each in self._followers.status()]

    async def rotate(self) -> dict[str, str]:
        """See `Records`."""
        futures = {
            rules.name: self._followers.rotate(rules.name)[rules.name]
            for rules in self._settings.accounting
        }
        return {name: await wrap_future(future) for name, future in futures.items()}

    async def refused(self, question: Question) -> dict[str, Any]:
        """See `Records`."""
        wall = self._clock.wall()
        return await asyncio.to_thread(read_refused, self._statistics_path, question, wall)

    async def stop(self) -> bool:
        """See `Records`."""
        await asyncio.to_thread(self._keeping.stop)
        if not await asyncio.to_thread(self._followers.stop):
            # Its thread may be writing still: what it holds goes with the process.
            logger.error("accounting did not end in time; it goes on at its saved place")
            return False
        if self._cursors is not None:
            self._cursors.close()
        if self._lock is not None:
            self._lock.release()
        self._cursors = self._lock = None
        return True

    def _open(self) -> None:
        path = Path(self._settings.server.spool_dir)
        lock = Lock(path / LOCK_NAME)
        try:
            self._cursors = CursorFile(path / FILE_NAME)
        except (apsw.Error, ValueError) as error:
            lock.release()
            raise SpoolError(f"the followers' places cannot be opened: {error}") from error
        self._lock = lock


def follow_nothing(sources: Sequence[EventSource], pruning: Pruning) -> None:
    """No records are kept: nothing but the statistics holds events back, and they not for ever."""

    def done(source: EventSource, batch: Sequence[Numbered]) -> None:
        if batch:
            pruning.saved(source, NEWEST, batch[-1][0])

    for source in sources:
        pruning.saved(source, NEWEST, 0)
        source.subscribe(partial(done, source))


class RemoteRecords:
    """`Records` in the follower process, which the supervisor starts and, if it dies, starts again."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def start(self) -> None:
        """Wait until the process follows. Raises SpoolError."""
        await self._ask("following", START_TIMEOUT_S)

    async def status(self) -> list[dict[str, Any]]:
        """See `Records`; a process that does not answer shows as trouble."""
        try:
            found: list[dict[str, Any]] = await self._ask("status", STATUS_TIMEOUT_S)
        except SpoolError as error:
            silent = FollowerStatus("accounting", {}, 0, False, str(error), 0.0, "")
            return [msgspec.to_builtins(silent)]
        return found

    async def rotate(self) -> dict[str, str]:
        """See `Records`."""
        finished: dict[str, str] = await self._ask("rotate", ROTATE_TIMEOUT_S)
        return finished

    async def refused(self, question: Question) -> dict[str, Any]:
        """See `Records`."""
        asked = msgspec.to_builtins(question)
        found: dict[str, Any] = await self._ask("refused", LOOK_TIMEOUT_S, question=asked)
        return found

    async def stop(self) -> bool:
        """See `Records`; the process ends afterwards, by itself."""
        try:
            ended: bool = await self._ask("finish", FINISH_TIMEOUT_S)
        except SpoolError as error:
            logger.error("accounting was not finished", reason=str(error))
            return False
        return ended

    async def _ask(self, method: str, timeout_s: float, **arguments: Any) -> Any:
        try:
            return await self._asker.ask(method, timeout_s, **arguments)
        except TimeoutError:
            raise SpoolError("the follower process does not answer") from None
        except (ConnectionError, CallFailed) as error:
            raise SpoolError(f"the follower process: {error}") from error
