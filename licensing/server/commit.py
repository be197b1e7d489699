"""Many requests, one commit: jobs are run in batches inside one transaction, and nobody hears of one before it is on disk.

At most one batch every few milliseconds, the first of a quiet time at once. The jobs run on the loop, only the COMMIT with its
sync runs on a thread, and the connection has one user at a time. Not all of it on a thread: SQLite gives up Python's lock at
every statement, and on a busy loop each time waits up to five milliseconds to get it back.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import apsw

from licensing.server.db_sqlite import SqliteStore
from licensing.server.store import Store

WINDOW_S = 0.015  # sixty-six commits a second, while batches are not full
MAX_BATCH = 32  # jobs: the loop stands still for as long as they take
MAX_WAITING = 2_000  # more than a second's work: later ones are told to come again
COMMIT_DEADLINE_S = 30.0  # a disk that takes longer has failed

# What no job is to blame for.
OF_THE_DISK = (apsw.FullError, apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.NoMemError)

T = TypeVar("T")
_Waiting = tuple[Callable[[Store], Any], asyncio.Future[Any]]


class Busy(Exception):
    """Too many jobs wait already: ask again later. Nothing was done."""


class NotCommitted(Exception):
    """The disk did not take it: nothing of the batch happened."""


class Committer:
    """Runs jobs in order; a job's result is given out after the commit that holds it, or an exception and it never was.

    A job may be run twice, the first time undone: it does nothing but read and write the store.
    """

    def __init__(self, store: SqliteStore) -> None:
        """In the loop it will serve."""
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._last = 0.0
        self._is_closed = False
        self.commits = 0
        # Set when the disk failed: only a fresh start may trust it again.
        self.failed = asyncio.Event()

    @property
    def load(self) -> float:
        """How full the waiting line is, 0 to 1."""
        return len(self._waiting) / MAX_WAITING

    async def run(self, job: Callable[[Store], T]) -> T:
        """Do this in a transaction. Raises Busy, NotCommitted, or what the job raises; then nothing of it was done."""
        if self._is_closed or len(self._waiting) >= MAX_WAITING:
            raise Busy("the server has too much to do, or is ending")
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append((job, future))
        self._wake()
        return await future

    def _wake(self) -> None:
        if self.failed.is_set():
            self._refuse_all()
        elif self._timer is None and self._running is None and self._waiting:
            at = self._last + WINDOW_S if len(self._waiting) < MAX_BATCH else 0.0
            self._timer = self._loop.call_at(max(at, self._loop.time()), self._begin)
        elif self._timer is not None and len(self._waiting) == MAX_BATCH:
            self._timer.cancel()
            self._begin()

    def _begin(self) -> None:
        self._timer = None
        self._running = self._loop.create_task(self._turn())
        self._running.add_done_callback(self._turned)

    def _turned(self, task: asyncio.Task[None]) -> None:
        self._running = None
        self._wake()
        task.result()  # a bug of ours: let the loop's handler tell it

    async def _turn(self) -> None:
        self._last = self._loop.time()
        batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        done: list[tuple[asyncio.Future[Any], Any]] = []
        try:
            self._store.begin()
            done = self._together(batch) or self._one_by_one(batch)
            async with asyncio.timeout(COMMIT_DEADLINE_S):
                await self._loop.run_in_executor(self._thread, self._store.commit)
            self.commits += 1
        except (apsw.Error, TimeoutError) as error:
            self._undo(error)
            for _, future in batch:
                _give(future, NotCommitted(f"the database did not take it: {error}"))
            return
        for future, result in done:
            _give(future, result)

    def _together(self, batch: list[_Waiting]) -> list[tuple[asyncio.Future[Any], Any]]:
        """All of them without savepoints, which cost as much as the half of a job. Empty when one of them raised."""
        try:
            with self._store.savepoint():
                return [(future, job(self._store)) for job, future in batch]
        except OF_THE_DISK:
            raise
        except Exception:  # a border: whose bug it is shows when each is run by itself
            return []

    def _one_by_one(self, batch: list[_Waiting]) -> list[tuple[asyncio.Future[Any], Any]]:
        return [(future, self._attempt(job)) for job, future in batch]

    def _attempt(self, job: Callable[[Store], Any]) -> Any:
        try:
            with self._store.savepoint():
                return job(self._store)
        except OF_THE_DISK:
            raise
        except Exception as error:  # a border: one job's bug must not undo the others of its batch
            return _Raised(error)

    def _undo(self, why: apsw.Error | TimeoutError) -> None:
        if not isinstance(why, apsw.FullError):
            # After a sync that failed, or is still under way, nothing more may be promised.
            self._is_closed = True
            self.failed.set()
        if isinstance(why, TimeoutError):
            return
        try:
            self._store.roll_back()
        except apsw.Error:
            # The first error is the one to tell; the next BEGIN fails as well, and says so.
            return

    def _refuse_all(self) -> None:
        while self._waiting:
            _give(self._waiting.popleft()[1], NotCommitted("the database failed before"))

    async def close(self) -> None:
        """Take nothing more, finish what waits, close the file."""
        self._is_closed = True
        while self._running is not None or self._waiting:
            if self.failed.is_set():
                self._refuse_all()
            elif self._running is None:
                if self._timer is not None:
                    self._timer.cancel()
                self._begin()
            if self._running is not None:
                await asyncio.wait([self._running])
        self._thread.shutdown(wait=not self.failed.is_set())
        if not self.failed.is_set():
            self._store.close()


class _Raised:
    """What a job raised, on its way to whoever waits for it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _give(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return  # whoever asked has gone; what was written stays
    if isinstance(result, _Raised):
        future.set_exception(result.error)
    elif isinstance(result, NotCommitted):
        future.set_exception(result)
    else:
        future.set_result(result)
