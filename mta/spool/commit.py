"""Group commit: one thread owns the database; whatever waits when it is free becomes one transaction and one fsync.

Nothing is acknowledged before its commit returned. All that a commit completes is told to the loop in one wake-up. What can go
wrong is told apart: no room (the batch's messages are refused, everything else is kept and tried again), an error of the disk
(nothing is acknowledged any more, the worker must stop: after a failed fsync neither cache nor file can be trusted, so nothing
is tried again – reliability.md D4), and anything else, which is the fault of one operation, found by halving the batch.
"""

import contextlib
import functools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import apsw

from mta.io.clock import Clock
from mta.io.memory import give_back
from mta.io.threads import Post
from mta.metrics.timings import Commits
from mta.model.errors import SpoolError
from mta.spool.database import PAGE_SIZE, is_full
from mta.spool.ops import (
    Accept,
    Close,
    EarlyRead,
    Evict,
    Operation,
    Postpone,
    Prune,
    PutMeta,
    Read,
    Reroute,
    Settle,
    Write,
)
from mta.spool.outbox import Outbox
from mta.spool.queries import Queries
from mta.spool.rows import fetch
from mta.spool.words import SpoolFull
from mta.spool.writer import Batch, Writer, Written

MAX_OPERATIONS = 512
MAX_BATCH_BYTES = 16_777_216
MAX_BATCH_ROWS = 4096
# While much comes in, the next batch gathers this long: fuller batches touch fewer pages a message. With 50 clients the thread
# used 117 µs of CPU a message at once and 90 µs with 2 ms (medians of 3); a lone message is not kept waiting.
LINGER_S = 0.002
BUSY_OPERATIONS = 4
# Outcomes, postponed queues and saved places gather longer, for nobody waits for them: three connections that work off a backlog
# otherwise have a commit of their own for every few messages, at some 0.2 ms of CPU each message.
PATIENCE_S = 0.02
COMPLETION_BUDGET_S = 0.004  # of the loop's time in one piece
READ_BUDGET_S = 0.02  # then what is to be written goes first
RETRY_S = 1.0  # after a full disk
IDLE_S = 2.0
# Copying the log back costs the same whenever it is done, but pages written often are copied once: 64 MB measured 10 %
# better than 16 MB, and 128 MB no better than 64.
CHECKPOINT_PAGES = 67_108_864 // PAGE_SIZE
TRUNCATE_PAGES = 268_435_456 // PAGE_SIZE
# Free pages are given back to the file system once they are many, a few at a time.
VACUUM_ABOVE_PAGES = 67_108_864 // PAGE_SIZE
VACUUM_PAGES = 256
VACUUM_PAUSE_S = 0.05

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Completions:
    """What the loop is still to be told of, oldest first: one wake-up a commit, and never long at a time.

    A commit may complete 512 messages, and each completion may go on to read a client's next message: in one piece that held
    the loop for 100 ms.
    """

    __slots__ = ("_calls", "_post")

    def __init__(self, post: Post) -> None:
        self._post = post
        self._calls: deque[Call] = deque()

    def tell(self, calls: list[Call]) -> None:
        """From the spool's thread: tell the loop of these, after what it was told before."""
        self._calls.extend(calls)
        self._post(self._run)

    def _run(self) -> None:
        """On the loop. One that fails does not keep the others from being told."""
        calls = self._calls
        until = time.monotonic() + COMPLETION_BUDGET_S
        try:
            while calls:
                function, arguments = calls.popleft()
                function(*arguments)
                if time.monotonic() > until:
                    break
        finally:
            if calls:
                self._post(self._run)


class _Load:
    """What the next transaction is to write."""

    __slots__ = ("_rows", "_size", "is_awaited", "operations")

    def __init__(self, operations: list[Write]) -> None:
        self.operations = operations
        self.is_awaited = bool(operations)  # somebody waits for this to be on disk
        self._rows = self._size = 0

    @property
    def is_full(self) -> bool:
        return (
            len(self.operations) >= MAX_OPERATIONS
            or self._rows >= MAX_BATCH_ROWS
            or self._size >= MAX_BATCH_BYTES
        )

    def add(self, operation: Write) -> None:
        self.operations.append(operation)
        if isinstance(operation, Settle):
            self._rows += len(operation.gone) + len(operation.updates)
        elif isinstance(operation, Reroute):
            self._rows += len(operation.moves)
            self.is_awaited = True
        elif isinstance(operation, Accept):
            self._rows += len(operation.rows)
            self._size += operation.size
            self.is_awaited = True
        elif not isinstance(operation, Postpone | Evict | Prune | PutMeta):
            self.is_awaited = True


class Opened:
    """What the thread works with once the database is open."""

    __slots__ = ("connection", "queries", "writer")

    def __init__(self, connection: apsw.Connection, writer: Writer, queries: Queries) -> None:
        self.connection = connection
        self.writer = writer
        self.queries = queries


class GroupCommit:
    """The spool's thread. `submit` is called on the loop; everything else happens in the thread."""

    def __init__(
        self,
        *,
        clock: Clock,
        post: Post,
        outbox: Outbox,
        on_broken: Callable[[BaseException], None],
        on_report: Callable[[str], None],
        remove_bodies: Callable[[list[str]], None],
    ) -> None:
        self._clock = clock
        self._completions = Completions(post)
        self._outbox = outbox
        self._on_broken = on_broken
        self._on_report = on_report
        self._remove_bodies = remove_bodies
        self._incoming: queue.SimpleQueue[Operation] = queue.SimpleQueue()
        self._reads: deque[Read] = deque()
        self._kept: list[Write] = []  # until there is room again
        self._aside: list[Write] = []  # changes that reads found necessary
        self._is_busy = False
        self._no_room = False
        self._wal_pages = 0
        self._closing = False
        self._tidy_in_s: float | None = IDLE_S  # None: nothing is left to tidy
        self._broken: SpoolError | None = None
        self.closed_cleanly = False
        self.free_pages = 0
        self.commits = Commits()

    def start(self, open_: Callable[[], Opened]) -> None:
        """Open the database in the thread; raises what `open_` raises."""
        started: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._live, args=(open_, started), name="spool", daemon=True
        )
        self._thread.start()
        error = started.get()
        if error is not None:
            self._thread.join()
            raise error

    @property
    def submit(self) -> Callable[[Operation], None]:
        """Hand over an operation; never blocks."""
        return self._incoming.put

    def set_aside(self, operation: Write) -> None:
        """In the thread: write this with the next batch."""
        self._aside.append(operation)

    def report(self, text: str) -> None:
        """In the thread: tell the operator."""
        self._post(self._on_report, text)

    def close(self, timeout_s: float) -> None:
        """Write what was handed over, and close. Blocks."""
        self._incoming.put(Close())
        self._thread.join(timeout_s)

    def _live(
        self, open_: Callable[[], Opened], started: "queue.SimpleQueue[BaseException | None]"
    ) -> None:
        try:
            self._opened = opened = open_()
        except BaseException as error:  # raised again by `start`, in its thread
            started.put(error)
            return
        opened.connection.set_wal_hook(self._note_wal)
        self._count_free_pages()
        started.put(None)
        while not self._closing:
            try:
                self._turn()
            except Exception as error:  # the thread's border
                # A bug of ours: what was under way may be neither written nor refused. Start again from the disk.
                self._break([], error)
        self._end()

    def _turn(self) -> None:
        operations = self._gather()
        if operations or self._opened.writer.has_more:
            self._commit(operations)
        self._answer_reads()

    # What comes in

    def _gather(self) -> list[Write]:
        """What is to be written next: at least one operation, unless there is other work or nothing to do for a while."""
        load = _Load(self._kept + self._aside)
        self._kept = []
        self._aside.clear()
        first = self._wait(bool(load.operations))
        if first is None:
            return load.operations
        self._tidy_in_s = IDLE_S
        if isinstance(first, EarlyRead):
            self._answer_early(first)
            return load.operations
        if self._is_busy:
            time.sleep(LINGER_S)
        self._take(first, load)
        until = time.monotonic() + PATIENCE_S
        while not (load.is_awaited or load.is_full or self._reads or self._closing):
            if time.monotonic() >= until:
                break
            time.sleep(LINGER_S)
            with contextlib.suppress(queue.Empty):
                self._take(self._incoming.get_nowait(), load)
        self._is_busy = len(load.operations) >= BUSY_OPERATIONS
        return load.operations

    def _take(self, coming: Operation, load: "_Load") -> None:
        """This, and what else has come, as far as it fits into one transaction."""
        take = self._incoming.get_nowait
        with contextlib.suppress(queue.Empty):
            while True:
                if isinstance(coming, EarlyRead):
                    self._answer_early(coming)
                elif isinstance(coming, Read):
                    self._reads.append(coming)
                elif isinstance(coming, Close):
                    self._closing = True
                    return
                else:
                    load.add(coming)
                    if load.is_full:
                        return
                coming = take()

    def _wait(self, has_operations: bool) -> Operation | None:
        """The first thing that comes; None when something else is to be done first."""
        has_more = self._broken is None and self._opened.writer.has_more
        with contextlib.suppress(queue.Empty):
            if self._no_room:
                return self._incoming.get(timeout=RETRY_S)
            if has_operations or has_more or self._reads:
                return self._incoming.get_nowait()
            return self._incoming.get(timeout=self._tidy_in_s)
        if not (self._no_room or has_operations or has_more or self._reads):
            self._tidy()
        return None

    # What is written

    def _commit(self, operations: list[Write]) -> None:
        if self._broken is not None:
            self._refuse(operations, self._broken)
            return
        batch = Batch(operations)
        began = time.monotonic()
        try:
            written = self._opened.writer.write(batch, self._clock.now())
        except apsw.Error as error:
            self._failed(operations, batch, error)
            return
        except Exception as error:  # the thread's border: one operation's fault
            if self._undone():
                self._isolate(operations, error)
            return
        self._no_room = False
        self.commits.seconds.observe(time.monotonic() - began)
        self.commits.operations.observe(len(operations))
        self._tell(batch, written)
        self._checkpoint()

    def _failed(self, operations: list[Write], batch: Batch, error: apsw.Error) -> None:
        full = is_full(error, self._opened.connection)
        if isinstance(error, apsw.IOError) and not full:
            self._break(operations, error)
        elif self._undone():
            if full:
                self._lack_room(operations, batch)
            else:
                self._isolate(operations, error)

    def _undone(self) -> bool:
        try:
            self._opened.writer.undo()
        except apsw.Error as error:
            self._break([], error)
            return False
        return True

    def _lack_room(self, operations: list[Write], batch: Batch) -> None:
        """No room: this batch's messages are refused, the rest is kept and tried again; it is bounded by who sends it."""
        no_room = SpoolFull("no room on the disk of the spool")
        self._refuse(batch.accepts, no_room)
        self._remove_bodies([op.body_file for op in batch.accepts if op.body_file])
        kept: list[Write] = [op for op in operations if not isinstance(op, Accept)]
        first_time, self._no_room = not self._no_room, True
        if kept and (first_time or batch.accepts):
            # What the log already has of the disk can be used again once it has been copied back.
            with contextlib.suppress(apsw.FullError):
                self._checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
            if batch.accepts:
                self._commit(kept)
                return
        self._kept += kept

    def _isolate(self, operations: list[Write], error: Exception) -> None:
        """Some operation cannot be written, whatever it is: find it by halving, so that the others are."""
        if len(operations) > 1:
            middle = len(operations) // 2
            self._commit(operations[:middle])
            self._commit(operations[middle:])
            return
        for operation in operations:
            if isinstance(operation, Accept):
                refusal = SpoolError(f"the message could not be stored: {error!r}")
                self._refuse([operation], refusal)
            self.report(f"{type(operation).__name__} could not be written: {error!r}")

    def _break(self, operations: list[Write], error: Exception) -> None:
        broken = SpoolError(f"the disk of the spool failed: {error}")
        broken.__cause__ = error
        self._broken = broken
        self._kept = []
        # In one turn of the loop: who hears a refusal can already see that the spool is broken.
        self._post_all([(self._on_broken, (broken,)), *_refusals(operations, broken)])

    def _refuse(self, operations: Iterable[Write], error: SpoolError) -> None:
        self._post_all(_refusals(operations, error))

    def _tell(self, batch: Batch, written: Written) -> None:
        accepted = (None,)
        calls: list[Call] = [(op.done, accepted) for op in batch.accepts]
        calls += [(op.done, ()) for op in batch.settles if op.done is not None]
        calls += [(op.done, ()) for op in batch.holds if op.done is not None]
        calls += [(op.done, ()) for op in batch.reroutes]
        calls += [(op.done, ()) for op in batch.owes]
        calls += [(op.done, (op.dropped,)) for op in batch.folds]
        calls += [(op.done, (op,)) for op in batch.unparks]
        if written.events:
            told = (written.first_event, written.events, written.datas)
            calls.append((self._outbox.committed, told))
        self._outbox.pending_bytes = self._opened.writer.event_bytes
        self._post_all(calls)
        if written.body_files:
            self._remove_bodies(written.body_files)

    # What is asked

    def _answer_reads(self) -> None:
        if not self._reads:
            return
        calls: list[Call] = []
        until = time.monotonic() + READ_BUDGET_S
        while self._reads:
            calls.append(self._answer(self._reads.popleft()))
            if time.monotonic() > until:
                break
        self._post_all(calls)

    def _answer_early(self, read: EarlyRead) -> None:
        # Not behind the hundreds of answers to clients that may wait for the loop.
        function, arguments = self._answer(read)
        self._post(functools.partial(function, *arguments))

    def _answer(self, read: Read) -> Call:
        if self._broken is not None:
            return read.fail, (self._broken,)
        try:
            return read.answer, (read.ask(self._opened.queries),)
        except Exception as error:  # the thread's border: the asker is told
            return read.fail, (error,)

    # The log and the file

    def _note_wal(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self, mode: int | None = None) -> None:
        if mode is None:
            if self._wal_pages < CHECKPOINT_PAGES:
                return
            mode = (
                apsw.SQLITE_CHECKPOINT_TRUNCATE
                if self._wal_pages >= TRUNCATE_PAGES
                else apsw.SQLITE_CHECKPOINT_PASSIVE
            )
        try:
            self._opened.connection.wal_checkpoint(mode=mode)
            self._wal_pages = 0
        except apsw.Error as error:
            if isinstance(error, apsw.IOError) and not is_full(error, self._opened.connection):
                self._break([], error)
            return
        self._count_free_pages()

    def _count_free_pages(self) -> None:
        with contextlib.suppress(
            apsw.Error
        ):  # only a figure: what is wrong shows at the next write
            rows = fetch(self._opened.connection, "PRAGMA freelist_count")
            self.free_pages = rows[0][0]

    def _tidy(self) -> None:
        """Nothing to do for a while: copy the log back, and give free pages back to the file system."""
        self._tidy_in_s = None
        if self._broken is not None:
            return
        if self._wal_pages:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
        self._count_free_pages()
        if self.free_pages > VACUUM_ABOVE_PAGES and self._broken is None:
            self._vacuum()
        if self._tidy_in_s is None:
            self._shrink()

    def _shrink(self) -> None:
        """Nothing is left to do: the pages that SQLite keeps are given back, 16 MB that the system's own cache has, too."""
        with contextlib.suppress(apsw.Error):  # what is wrong shows at the next read or write
            fetch(self._opened.connection, "PRAGMA shrink_memory")
        give_back()

    def _vacuum(self) -> None:
        try:
            fetch(self._opened.connection, f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
            self._tidy_in_s = VACUUM_PAUSE_S
        except apsw.Error as error:
            if isinstance(error, apsw.IOError) and not is_full(error, self._opened.connection):
                self._break([], error)

    # The end

    def _end(self) -> None:
        connection = self._opened.connection
        operations, self._kept = self._kept + self._aside, []
        if operations and self._broken is None:
            self._commit(operations)
        while self._reads:
            self._answer_reads()
        try:
            if self._broken is None and not self._kept:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self.closed_cleanly = True
        except apsw.Error as error:
            self.report(f"the spool was not closed in order: {error}")
        try:
            connection.close()
        except apsw.Error as error:
            self.report(f"the spool was not closed: {error}")

    def _post(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._post_all([(function, arguments)])

    def _post_all(self, calls: list[Call]) -> None:
        if not calls:
            return
        # The loop is closed: nobody is left to be told.
        with contextlib.suppress(RuntimeError):
            self._completions.tell(calls)


def _refusals(operations: Iterable[Write], error: SpoolError) -> list[Call]:
    return [(op.done, (error,)) for op in operations if isinstance(op, Accept)]
