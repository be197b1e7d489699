"""The one door to a worker's durable state. Called on the loop; everything is answered later, on the loop.

What is acknowledged is on disk: `done` runs after the commit. Ids are given out here, before anything is written, so that rows
are ready when they reach the spool's thread. Reads see everything written before them. Nothing in this contract is SQLite's own.
"""

import asyncio
import contextlib
import dataclasses
import os
import struct
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from mta.io.clock import Clock
from mta.io.files import make_directory
from mta.io.threads import Post
from mta.metrics.timings import Commits
from mta.model.envelope import Draft, Entry, Message, QueueKey, SpillFile
from mta.model.errors import SpoolError
from mta.model.event import Attempt, Event, QueueDeferred, encode_event
from mta.model.told import Told, encode_told
from mta.queue.actions import QueueState
from mta.spool.bodies import Body
from mta.spool.changes import Change, Claim, WriteChunk, Written, removed_by_administrator
from mta.spool.commit import GroupCommit, Opened
from mta.spool.database import PAGE_SIZE, Lock, open_database
from mta.spool.inflight import read_boot_id
from mta.spool.opening import MAX_CRASHES, SKIP_AFTER_CRASH, look_back
from mta.spool.ops import (
    Accept,
    Answers,
    EarlyRead,
    Evict,
    Fold,
    HoldEntries,
    HoldJob,
    LookAgain,
    Owe,
    Postpone,
    Prune,
    PutMeta,
    Read,
    Reroute,
    Settle,
    Wake,
    WakeParked,
)
from mta.spool.outbox import Committed, Encoded, Outbox
from mta.spool.queries import Queries
from mta.spool.rows import clean_text, fetch, message_row
from mta.spool.spill import Bodies, Spill
from mta.spool.words import (
    Counts,
    Filter,
    FreeSpace,
    Holds,
    Listed,
    OwedNotice,
    QueueRow,
    Seen,
    Settlement,
    SpoolFull,
    SpoolLocked,
)
from mta.spool.writer import Writer

__all__ = ["Settlement", "Spool", "SpoolFull", "SpoolLocked", "open_spool"]

T = TypeVar("T")

UNREADABLE_S = 60.0  # then what could not be read is looked at again
_ROW_BYTES = 1000  # what a message costs a batch beside its body
_SEEN = "seen_delays"
_LICENCE = struct.Struct("<dd")  # seconds held in all; held since, 0 if it is not


class Spool:
    """One spool, open. Made by `open_spool`."""

    def __init__(
        self,
        path: Path,
        *,
        number: int,
        clock: Clock,
        post: Post,
        on_broken: Callable[[BaseException], None],
        on_report: Callable[[str], None],
        vfs: str | None,
        boot: bytes,
        max_crashes: int,
    ) -> None:
        self.path = path
        self.number = number
        self.clock = clock
        self._on_report = on_report
        self._boot = boot
        self._max_crashes = max_crashes
        self._bodies = Bodies(path / f"{number}.bodies", post)
        self._outbox = Outbox()
        self._commit = GroupCommit(
            clock=clock,
            post=post,
            outbox=self._outbox,
            on_broken=on_broken,
            on_report=on_report,
            remove_bodies=self._bodies.remove,
        )
        self._seen_entry = 0  # the newest entry whose accept has been answered
        try:
            self._lock = Lock(path / f"{number}.lock")
        except FileNotFoundError:
            raise SpoolError(f"there is no directory {path}") from None
        try:
            self._commit.start(lambda: self._open(vfs))
        except BaseException:  # raised again: what was opened is closed first
            self._bodies.close()
            self._lock.release()
            raise
        self._submit = self._commit.submit
        found = self._found
        self.start = found.start
        self._meta = found.meta
        self._inflight = found.inflight
        self._last_message = found.last_message
        self._last_entry = found.last_entry
        self.uuid: str = found.meta["uuid"].hex()
        self._licence_held_s: float
        self._licence_since: float  # 0: not held
        self._licence_held_s, self._licence_since = _LICENCE.unpack(
            found.meta.get("licence", bytes(_LICENCE.size))
        )

    @property
    def commits(self) -> Commits:
        """How long its commits take, and how much shares one."""
        return self._commit.commits

    # Mail comes in

    def next_message_number(self) -> int:
        """A number for a message about to come; never given again."""
        self._last_message += 1
        return self._last_message

    def accept(self, draft: Draft, done: Callable[[SpoolError | None], None]) -> None:
        """Store a message; `done` gets None once it is on disk, or why it is not (`is_full`: 452, else 451).

        Entries get their numbers now. `draft.event` is written in the same transaction.
        """
        message = draft.message
        if not message.number:
            message.number = self.next_message_number()
        message.licence_held_s = self.licence_held_s()
        body = draft.body
        body_file = self._bodies.name(body) if isinstance(body, SpillFile) else ""
        number, size, entry_number = message.number, message.size, self._last_entry
        release_at, priority = message.release_at, int(message.priority)
        keys: list[QueueKey] = []
        rows: list[tuple[Any, ...]] = []
        for entry in draft.entries:
            entry_number += 1
            entry.number = entry_number
            keys.append(entry.key)
            rows.append(
                (
                    entry_number,
                    number,
                    size,
                    entry.address,
                    entry.due,
                    entry.notify,
                    entry.orcpt,
                    release_at,
                    priority,
                )
            )
        self._last_entry = entry_number
        event: Event | None = draft.event  # type: ignore[assignment]  # the model cannot name it
        data = b"" if event is None else encode_event(event)

        def committed(error: SpoolError | None) -> None:
            self._seen_entry = max(self._seen_entry, entry_number)
            done(error)

        row = message_row(message, body_file, draft.prefix, body)
        length = _ROW_BYTES + (0 if body_file else size)
        answers = None if draft.answers is None else Answers(*draft.answers)
        self._submit(
            Accept(
                row,
                keys,
                rows,
                message.job,
                length,
                body_file,
                event,
                data,
                committed,
                draft.origin,
                answers,
            )
        )

    def new_spill(self) -> Spill:
        """A file for a body too large for memory."""
        return self._bodies.new_spill()

    # Mail goes out

    def settle(self, batch: list[Settlement], done: Callable[[], None] | None = None) -> None:
        """Write what became of entries; `done` once it is on disk. With no room it is tried until there is."""
        gone: list[int] = []
        messages: list[int] = []
        updates: list[tuple[Any, ...]] = []
        events: list[Event] = []
        datas: list[bytes] = []
        owed: list[tuple[Any, ...]] = []
        for settlement in batch:
            entry, event = settlement.entry, settlement.event
            if event is not None:
                events.append(event)
                datas.append(encode_event(event))
                if settlement.owes_notice:
                    owed.append((entry.number, entry.message.number, event.at, datas[-1]))
                if event.__class__ is Attempt and event.may_repeat:
                    entry.may_repeat = True
            if settlement.due is None and not settlement.hold:
                gone.append(entry.number)
                messages.append(entry.message.number)
            else:
                updates.append(_update(settlement))
        self._submit(Settle(gone, messages, updates, events, datas, done, owed))

    def owed_notices(self, before: float, limit: int) -> "Future[tuple[list[int], float | None]]":
        """Messages of which something has been owed to their senders since `before`; when the earliest later one was."""
        return self.call(lambda queries: queries.owed_notices(before, limit))

    def owed_notice(self, message: int, limit: int, content: int) -> "Future[OwedNotice | None]":
        """What a notice of this message is made of: up to `limit` recipients and `content` bytes of it."""
        return self.call(lambda queries: queries.owed_notice(message, limit, content))

    def waive_notice(self, message: int) -> None:
        """Nobody will be told of what is owed of this message so far: it need not be kept for that."""
        self._submit(Answers(message, None))

    def forget_owed(self, message: int, entries: Sequence[int]) -> None:
        """Nobody need be told of these entries of the message."""
        self._submit(Answers(message, list(entries)))

    def fold_notice(
        self, message: int, entries: Sequence[int], address: str, limit: int
    ) -> "Future[int]":
        """What is owed of these entries is told in the digest for `address`, which holds `limit` at most.

        How many are beyond it: nobody will be told of those. The message is no longer kept for them.
        """
        folded: Future[int] = Future()
        self._submit(Fold(message, list(entries), address, limit, folded.set_result))
        return folded

    def digests(self, after: str, limit: int) -> "Future[list[str]]":
        """Addresses for which a digest is gathered, in their order, behind this one."""
        return self.call(lambda queries: queries.digests(after, limit))

    def digest(
        self, address: str, limit: int
    ) -> "Future[tuple[tuple[Told, ...], tuple[int, ...]]]":
        """Up to `limit` recipients of the digest for this address, and the entries of those that need not be told."""
        return self.call(lambda queries: queries.digest(address, limit))

    @property
    def seen(self) -> Seen:
        """How far the look for delays has come, over restarts."""
        kept = self._meta.get(_SEEN)
        return msgspec.json.decode(kept, type=Seen) if kept else Seen()

    def owe_delays(self, delays: Sequence[Told], seen: Seen, now: float) -> "Future[None]":
        """Their senders are to be told of these, and what was `seen` is not looked at again: both or neither."""
        written: Future[None] = Future()
        self._meta[_SEEN] = value = msgspec.json.encode(seen)
        rows = [
            (each.attempt.entry, each.attempt.message, now, encode_told(each).hex())
            for each in delays
        ]
        self._submit(Owe(rows, (_SEEN, value), lambda: written.set_result(None)))
        return written

    def mark(self, entry: Entry) -> None:
        """The entry is being delivered: after a crash it may have been."""
        self._inflight.mark(entry.number)

    def unmark(self, entry: Entry) -> None:
        """What became of it is on disk, or it was not tried."""
        self._inflight.unmark(entry.number)

    def is_marked(self, entry: Entry) -> bool:
        """Whether the entry is being delivered."""
        return entry.number in self._inflight

    def bodies(
        self, messages: Sequence[Message], done: Callable[[list[Body | SpoolError]], None]
    ) -> None:
        """Read prefix and body of each of these; `done` gets, in their order, both or the error."""

        def failed(error: BaseException) -> None:
            done([SpoolError(str(error))] * len(messages))

        self._submit(EarlyRead(lambda queries: queries.bodies(messages), done, failed))

    # Queues

    def due(
        self,
        key: QueueKey,
        now: float,
        limit: int,
        done: Callable[[list[Entry], float | None], None],
        *,
        exclude: Collection[int] = (),
    ) -> None:
        """Up to `limit` entries due at `now`, by (due, number), and the earliest due time after `now`.

        Entries numbered in `exclude` (in the caller's memory) are passed over; so is all that is held.
        """

        self._look_for_due(lambda queries: queries.due(key, now, limit, exclude), now, done)

    def due_queues(
        self, now: float, limit: int, done: Callable[[list[QueueState], float | None], None]
    ) -> None:
        """The next queues that must be looked at, and the earliest time for one not returned.

        Each is returned once, and is the caller's until it calls `evict`. One that mail was accepted into meanwhile may
        be returned although the caller has it.
        """

        self._look_for_due(lambda queries: queries.due_queues(now, limit), now, done)

    def postpone(self, state: QueueState, event: QueueDeferred | None = None) -> None:
        """Write a queue's durable row; its entries stay as they are."""
        data = b"" if event is None else encode_event(event)
        self._submit(Postpone(state, event, data, self.clock.now()))

    def evict(self, key: QueueKey, due: float | None) -> None:
        """The queue left memory: look at it again at `due`. None: nothing in it can become due; if it is empty, its row goes."""
        self._submit(Evict(key, due, self._seen_entry))

    def look_again(self, now: float, within_s: float) -> None:
        """What rests no longer than so on disk is looked at now; the caller then asks for due queues."""
        self._submit(LookAgain(now, now + within_s))

    # Holds

    @property
    def holds_all(self) -> bool:
        """Whether nothing is delivered now, for the operator's or the licence's sake."""
        return self._licence_since > 0 or "hold_everything" in self._meta

    def holds(self) -> "Future[Holds]":
        """What is held as a whole."""
        reason = self._meta.get("hold_everything")
        since = self._licence_since or None

        def ask(queries: Queries) -> Holds:
            everything = None if reason is None else reason.decode()
            return Holds(everything, queries.held_jobs(), since)

        return self.call(ask)

    def hold_everything(self, reason: str) -> None:
        """The operator stops all delivery from this spool."""
        self.meta_put("hold_everything", clean_text(reason).encode())

    def release_everything(self) -> None:
        """The end of `hold_everything`; the caller looks for due queues."""
        self.meta_put("hold_everything", None)

    def hold_job(self, job: str, reason: str) -> None:
        """Entries of this job are no longer due, whichever queue they wait in; those in memory are the caller's to forget."""
        self._submit(HoldJob(job, clean_text(reason), self.clock.now()))

    def release_job(self, job: str) -> None:
        """The end of `hold_job`: queues that had nothing else become due."""
        self._submit(HoldJob(job, None, self.clock.now()))

    def hold_all(self, now: float) -> None:
        """The licence's hold: nothing is delivered and nothing ages from `now` on."""
        if not self._licence_since:
            self._put_licence(self._licence_held_s, now)

    def release_all(self, now: float) -> None:
        """The end of the licence's hold."""
        if self._licence_since:
            self._put_licence(self.licence_held_s(now), 0.0)

    def licence_held_s(self, now: float | None = None) -> float:
        """For how long the licence has held this spool in all. Age for expiry = now - received - (this - the message's)."""
        if not self._licence_since:
            return self._licence_held_s
        if now is None:
            now = self.clock.now()
        return self._licence_held_s + max(0.0, now - self._licence_since)

    # For the operator

    def content(self, message: int, offset: int, length: int) -> "Future[bytes | None]":
        """So many bytes of a message as it would go out; None: it is not here any more."""
        return self.call(lambda queries: queries.content(message, offset, length))

    def imported(self, origins: Collection[str]) -> "Future[set[str]]":
        """Which of these exported messages were imported here before, or are still queued here."""
        return self.call(lambda queries: queries.imported(origins))

    def call(self, ask: Callable[[Queries], T]) -> "Future[T]":
        """Ask the spool's thread anything; the future's callbacks run on the loop. Any thread may call."""
        future: Future[T] = Future()

        def answer(result: T) -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(result)

        def fail(error: BaseException) -> None:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

        self.read(ask, answer, fail)
        return future

    def read(
        self,
        ask: Callable[[Queries], T],
        answer: Callable[[T], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """Ask the spool's thread; one of the two is called on the loop."""
        self._submit(Read(ask, answer, fail))

    def counts(self) -> "Future[Counts]":
        """How much the spool holds."""
        now = self.clock.now()
        return self.call(lambda queries: queries.counts(now))

    def queue_table(
        self, limit: int = 100, sort: str = "recipients", match: str = ""
    ) -> "Future[tuple[int, list[QueueRow]]]":
        """How many queues have `match` in their names, and the first `limit` by recipients, bytes, oldest, due or domain."""

        def ask(queries: Queries) -> tuple[int, list[QueueRow]]:
            return queries.count_queues(match), queries.queue_table(limit, sort, match)

        return self.call(ask)

    def queue_state(self, key: QueueKey) -> "Future[QueueState | None]":
        """A queue's durable row."""
        return self.call(lambda queries: queries.queue_state(key))

    def list_messages(self, wanted: Filter, limit: int = 100) -> "Future[list[Listed]]":
        """Up to `limit` entries that match, from the oldest."""
        now = self.clock.now()
        return self.call(lambda queries: queries.list_messages(wanted, limit, now))

    def oldest(self, limit: int, after: int = 0) -> "Future[list[Entry]]":
        """Entries from the oldest on, beyond entry number `after`: who knows the policies decides which expired."""
        return self.call(lambda queries: queries.oldest(limit, after))

    def hold(self, wanted: Filter, reason: str, claim: Claim | None = None) -> "Future[int]":
        """Hold what matches and is not held; the future says how many. `claim` as in `delete`.

        What is in flight is held too: it stays so unless this attempt ends it.
        """
        text = clean_text(reason)
        return self._change(
            dataclasses.replace(wanted, held=False),
            lambda entries, done: self._hold_entries(entries, text, done),
            claim=claim,
            takes_marked=True,
        )

    def release(self, wanted: Filter, written: Written | None = None) -> "Future[int]":
        """Release held entries that match; their queues are due at once. `written` is told them, once on disk."""
        return self._change(
            dataclasses.replace(wanted, held=True),
            lambda entries, done: self._hold_entries(entries, None, done),
            written=written,
            takes_marked=True,
        )

    def delete(self, wanted: Filter, claim: Claim | None = None) -> "Future[int]":
        """Delete what matches, with an event each; the future says how many. What is in flight stays.

        `claim` is given each chunk on the loop and returns the entries that nobody delivers: the scheduler has let go of them.
        """

        def write(entries: list[Entry], done: Callable[[], None]) -> None:
            now = self.clock.now()
            self.settle([removed_by_administrator(entry, now) for entry in entries], done)

        return self._change(wanted, write, claim=claim)

    def reroute(
        self,
        wanted: Filter,
        target: Callable[[Entry], QueueKey],
        claim: Claim,
        moved: Callable[[set[QueueKey]], None],
    ) -> "Future[int]":
        """Put what matches into other queues, as `target` says of each; the future says how many. What is in flight stays.

        `claim` as in `delete`: it also leaves out what is to stay where it is. `moved` is told after each chunk's commit which
        queues got entries.
        """

        def write(entries: list[Entry], done: Callable[[], None]) -> None:
            moves = [(entry.number, target(entry)) for entry in entries]

            def committed() -> None:
                moved({key for _, key in moves})
                done()

            self._submit(Reroute(moves, self.clock.now(), committed))

        return self._change(wanted, write, claim=claim)

    def wake_parked(self, vmtas: Collection[str] | None, done: Callable[[], None]) -> None:
        """Queues evicted with NEVER are due now: those of these virtual MTAs, or (None) all. `done` after every chunk."""

        def woken(op: WakeParked) -> None:
            if op.is_more:
                self._submit(WakeParked(op.vmtas, self.clock.now(), woken))
            done()

        names = None if vmtas is None else list(vmtas)
        self._submit(WakeParked(names, self.clock.now(), woken))

    def make_due(self, wanted: Filter, now: float, written: Written | None = None) -> "Future[int]":
        """Let deferred entries that match be due now; the future says how many were looked at. `written` as in `release`."""

        def write(entries: list[Entry], done: Callable[[], None]) -> None:
            later = [entry for entry in entries if entry.due > now]
            # Before the settlements' answer, for that begins the next chunk.
            self._submit(Wake([entry.number for entry in later], now))
            self.settle([Settlement(entry, now, keep_reply=True) for entry in later], done)

        return self._change(wanted, write, written=written)

    def meta(self, name: str) -> bytes | None:
        """A small value kept with `meta_put`."""
        return self._meta.get(f"value.{name}")

    def put_meta(self, name: str, value: bytes | None) -> None:
        """Keep a small value over restarts; None forgets it."""
        self.meta_put(f"value.{name}", value)

    # Events

    @property
    def last_event(self) -> int:
        """The newest event subscribers have been told of."""
        return self._outbox.last_event

    @property
    def pending_event_bytes(self) -> int:
        """Bytes of events not pruned yet."""
        return self._outbox.pending_bytes

    def subscribe(self, callback: Callable[[Committed], None]) -> Callable[[], None]:
        """Give each commit's events, numbered, to `callback`; what came before `last_event` is read with `events`."""
        return self._outbox.subscribe(callback)

    def subscribe_encoded(self, callback: Encoded) -> Callable[[], None]:
        """The same as bytes (`decode_event`), with the number of the first: for another process."""
        return self._outbox.subscribe_encoded(callback)

    def event_rows(self, cursor: int, limit: int) -> "Future[list[tuple[int, bytes]]]":
        """Up to `limit` rows of the table after the cursor, not decoded. Any thread may call."""
        return self.call(lambda queries: queries.event_rows(cursor, limit))

    def events(self, cursor: int, limit: int) -> "Future[Committed]":
        """Up to `limit` events after the cursor, from the table. Any thread may call."""
        return self.call(lambda queries: queries.events(cursor, limit))

    def prune(self, up_to: int) -> None:
        """Everybody has read the events up to this id. Any thread may call."""
        self._submit(Prune(up_to))

    # The file

    def free_space(self) -> FreeSpace:
        """Room on the file system, and free pages inside the database."""
        status = os.statvfs(self.path)
        return FreeSpace(
            status.f_bavail * status.f_frsize + self._commit.free_pages * PAGE_SIZE,
            status.f_blocks * status.f_frsize,
            status.f_favail,
            status.f_files,
        )

    async def close(self) -> None:
        """Write what was handed over, and close; the loop goes on meanwhile, for it is told of the last commits."""
        await asyncio.to_thread(self.close_blocking)

    def close_blocking(self, timeout_s: float = 60.0) -> None:
        """`close` where there is no loop to keep alive."""
        self._commit.close(timeout_s)
        self._bodies.close()
        self._inflight.close(clean=self._commit.closed_cleanly)
        self._lock.release()

    # Within

    def meta_put(self, name: str, value: bytes | None) -> None:
        """Keep a value under its full name."""
        if value is None:
            self._meta.pop(name, None)
        else:
            self._meta[name] = value
        self._submit(PutMeta(name, value))

    def _put_licence(self, held_s: float, since: float) -> None:
        self._licence_held_s, self._licence_since = held_s, since
        self.meta_put("licence", _LICENCE.pack(held_s, since))

    def _hold_entries(
        self, entries: list[Entry], reason: str | None, done: Callable[[], None]
    ) -> None:
        numbers = [entry.number for entry in entries]
        self._submit(HoldEntries(numbers, reason, self.clock.now(), done))

    def _change(
        self,
        wanted: Filter,
        write: WriteChunk,
        *,
        claim: Claim | None = None,
        written: Written | None = None,
        takes_marked: bool = False,
    ) -> "Future[int]":
        change = Change(
            self, wanted, write, claim=claim, written=written, takes_marked=takes_marked
        )
        change.start()
        return change.future

    def _look_for_due(
        self,
        ask: Callable[[Queries], tuple[list[T], float | None]],
        now: float,
        done: Callable[[list[T], float | None], None],
    ) -> None:
        """Ask what is due: nothing while all is held; if it cannot be read, nothing for a while, and the operator is told."""

        def answer(found: tuple[list[T], float | None]) -> None:
            done(*found)

        def fail(error: BaseException) -> None:
            self._on_report(f"the spool cannot be read: {error}")
            done([], now + UNREADABLE_S)

        def nothing(_: Queries) -> tuple[list[T], float | None]:
            return [], None

        self.read(nothing if self.holds_all else ask, answer, fail)

    def _open(self, vfs: str | None) -> Opened:
        """In the thread: the database, and what the last owner left."""
        number = self.number
        connection, created = open_database(self.path / f"{number}.sqlite", vfs)
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            self._found = found = look_back(
                connection,
                self.path / f"{number}.inflight",
                created=created,
                boot=self._boot,
                now=self.clock.now(),
                max_crashes=self._max_crashes,
            )
            skip = 0 if found.start.clean else SKIP_AFTER_CRASH
            writer = Writer(connection, skip_events=skip)
            found.start.last_event = writer.last_event - skip
            queries = Queries(
                connection,
                writer,
                number=number,
                uuid=found.meta["uuid"].hex(),
                cut=found.cut,
                body_path=lambda name: str(self._bodies.path(name)),
                put_aside=self._put_aside,
                report=self._commit.report,
            )
            names = fetch(connection, "SELECT body_file FROM message WHERE body_file <> ''")
            found.start.removed_bodies = self._bodies.remove_leftovers({row[0] for row in names})
            self._outbox.last_event = writer.last_event
            self._outbox.pending_bytes = writer.event_bytes
            undo.pop_all()
        return Opened(connection, writer, queries)

    def _put_aside(self, numbers: list[int], reason: str) -> None:
        """In the thread: entries that cannot be read wait for an operator."""
        self._commit.set_aside(HoldEntries(numbers, reason, self.clock.now(), None))


def open_spool(
    path: Path,
    *,
    number: int = 0,
    clock: Clock,
    post: Post,
    on_broken: Callable[[BaseException], None],
    on_report: Callable[[str], None] = lambda _text: None,
    vfs: str | None = None,
    boot: bytes | None = None,
    max_crashes: int = MAX_CRASHES,
) -> Spool:
    """Open spool `number` of the directory `path`, made if need be. Blocks; afterwards nothing does.

    `post` runs a function on the loop (`loop.call_soon_threadsafe`). `on_broken` is called once if the disk fails: nothing is
    acknowledged from then on, and the worker must stop. `on_report` gets a sentence for the operator when something cannot be
    read or written. `vfs` and `boot` are for tests. Raises SpoolLocked if another process owns it, else SpoolError.
    """
    try:
        make_directory(path)
        return Spool(
            path,
            number=number,
            clock=clock,
            post=post,
            on_broken=on_broken,
            on_report=on_report,
            vfs=vfs,
            boot=read_boot_id() if boot is None else boot,
            max_crashes=max_crashes,
        )
    except (OSError, apsw.Error) as error:
        raise SpoolError(f"the spool {path} cannot be opened: {error}") from error


def _update(settlement: Settlement) -> tuple[Any, ...]:
    entry = settlement.entry
    due = entry.due if settlement.due is None else settlement.due
    held = 1 if settlement.hold else 0
    return (
        entry.number,
        due,
        entry.attempts,
        entry.first_attempt,
        int(entry.may_repeat),
        held,
        clean_text(settlement.hold),
        None if settlement.keep_reply else clean_text(settlement.reply or _reply(settlement.event)),
    )


def _reply(event: Event | None) -> str:
    if not isinstance(event, Attempt):
        return ""
    return " ".join(part for part in (str(event.code), event.enhanced, event.text) if part)
