"""One transaction: everything a batch of operations changes, in as few statements as there are kinds of change.

Called in the spool's thread by `commit`. What it keeps in memory changes only once the commit succeeded.
"""

from itertools import chain
from typing import Any

import apsw

from mta.model.event import Event
from mta.spool.ops import (
    Accept,
    Answers,
    Evict,
    Fold,
    HoldEntries,
    HoldJob,
    LookAgain,
    Owe,
    Postpone,
    Prune,
    PutMeta,
    Reroute,
    Settle,
    Wake,
    WakeParked,
    Write,
)
from mta.spool.queues import QueueRows
from mta.spool.rows import IMPORTED, MESSAGE_COLUMNS, RECIPIENT_COLUMNS, RowInsert, as_json, fetch

PRUNE_CHUNK = 1000  # 51,200 deletes in one transaction blocked 2.1 s
_CACHED_JOBS = 10_000

_DELETE_RECIPIENTS = "DELETE FROM recipient WHERE id IN (SELECT value FROM json_each(?))"
_WITHOUT_RECIPIENTS = """
WHERE number IN (SELECT value FROM json_each(?))
AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.message = number)
"""
# The sender is still to hear of a failure, and to get the message back.
_AND_NOT_OWED = "AND NOT EXISTS (SELECT 1 FROM notice n WHERE n.message = number AND n.digest = '')"
_DELETE_NOTICES_OF = (
    "DELETE FROM notice WHERE digest = '' AND message IN (SELECT value FROM json_each(?))"
)
_DELETE_NOTICES = "DELETE FROM notice WHERE entry IN (SELECT value FROM json_each(?))"
# Only of entries that still wait; what is owed of one already is not lost for a delay.
_OWE_DELAYS = """
INSERT OR IGNORE INTO notice (entry, message, at, data)
SELECT o.value->>0, o.value->>1, o.value->>2, unhex(o.value->>3) FROM json_each(?) o
WHERE EXISTS (SELECT 1 FROM recipient r WHERE r.id = o.value->>0)
"""
_FOLD = """
UPDATE notice SET digest = ?1 WHERE entry IN (
    SELECT value FROM json_each(?2)
    LIMIT max(0, ?3 - (SELECT count(*) FROM notice WHERE digest = ?1 AND digest <> '')))
"""
_NOT_FOLDED = "DELETE FROM notice WHERE digest = '' AND entry IN (SELECT value FROM json_each(?))"
# An operator's hold that came during the attempt stays.
_UPDATE_RECIPIENTS = """
UPDATE recipient SET
    due = u.v->>1, attempts = u.v->>2, first_attempt = u.v->>3, may_repeat = u.v->>4,
    hold_reason = CASE WHEN held = 1 THEN hold_reason ELSE u.v->>6 END,
    held = max(held, u.v->>5), reply = coalesce(u.v->>7, reply), crashes = 0
FROM (SELECT value AS v FROM json_each(?)) u WHERE recipient.id = u.v->>0
"""
_HOLD = """
UPDATE recipient SET held = 1, hold_reason = ?2
WHERE held = 0 AND id IN (SELECT value FROM json_each(?1))
"""
_RELEASE = """
UPDATE recipient SET held = 0, hold_reason = '', crashes = 0, due = min(due, ?2)
WHERE held = 1 AND id IN (SELECT value FROM json_each(?1))
"""
_SOURCES = """
SELECT DISTINCT queue FROM recipient WHERE id IN (SELECT value->>0 FROM json_each(?))
"""
_REROUTE = """
UPDATE recipient SET queue = m.v->>1 FROM (SELECT value AS v FROM json_each(?)) m
WHERE recipient.id = m.v->>0
"""
_PUT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_PUT_ORIGINS = """
INSERT OR REPLACE INTO meta SELECT value->>0, CAST(value->>1 AS BLOB) FROM json_each(?)
"""
_DELETE_META = "DELETE FROM meta WHERE name = ?"
_JOBS = "SELECT name, id FROM job WHERE name IN (SELECT value FROM json_each(?))"
_HOLD_JOB = """
INSERT INTO job (name, held, hold_reason) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET held = excluded.held, hold_reason = excluded.hold_reason
"""


class Batch:
    """Operations of one transaction, by kind, each kind in the order it came."""

    __slots__ = (
        "accepts",
        "answers",
        "evicts",
        "folds",
        "holds",
        "jobs",
        "looks",
        "metas",
        "owes",
        "postpones",
        "prunes",
        "reroutes",
        "settles",
        "unparks",
        "wakes",
    )

    def __init__(self, operations: list[Write]) -> None:
        self.accepts: list[Accept] = []
        self.answers: list[Answers] = []
        self.settles: list[Settle] = []
        self.owes: list[Owe] = []
        self.folds: list[Fold] = []
        self.postpones: list[Postpone] = []
        self.evicts: list[Evict] = []
        self.metas: list[PutMeta] = []
        self.jobs: list[HoldJob] = []
        self.holds: list[HoldEntries] = []
        self.wakes: list[Wake] = []
        self.looks: list[LookAgain] = []
        self.reroutes: list[Reroute] = []
        self.unparks: list[WakeParked] = []
        self.prunes: list[Prune] = []
        add = {
            Accept: self.accepts.append,
            Answers: self.answers.append,
            Settle: self.settles.append,
            Owe: self.owes.append,
            Fold: self.folds.append,
            Postpone: self.postpones.append,
            Evict: self.evicts.append,
            PutMeta: self.metas.append,
            HoldJob: self.jobs.append,
            HoldEntries: self.holds.append,
            Wake: self.wakes.append,
            LookAgain: self.looks.append,
            Reroute: self.reroutes.append,
            WakeParked: self.unparks.append,
            Prune: self.prunes.append,
        }
        for operation in operations:
            add[type(operation)](operation)  # type: ignore[operator]
        self.answers += [op.answers for op in self.accepts if op.answers is not None]


class Written:
    """What a commit brought: its events, as they are and as written, with the id of the first; body files no longer needed."""

    __slots__ = ("body_files", "datas", "events", "first_event")

    def __init__(
        self, first_event: int, events: list[Event], datas: list[bytes], body_files: list[str]
    ) -> None:
        self.first_event = first_event
        self.events = events
        self.datas = datas
        self.body_files = body_files


class Writer:
    """Writes batches; the only code that changes the database once the spool is open."""

    def __init__(self, connection: apsw.Connection, *, skip_events: int = 0) -> None:
        """`skip_events`: so many numbers are passed over, for a log that was torn may have had them."""
        self._connection = connection
        self._cursor = cursor = connection.cursor()
        self.queues = QueueRows(cursor)
        self._messages = RowInsert("message", MESSAGE_COLUMNS)
        self._recipients = RowInsert("recipient", RECIPIENT_COLUMNS)
        self._events = RowInsert("event", "id, data")
        self._notices = RowInsert(
            "notice",
            "entry, message, at, data",
            verb="INSERT OR REPLACE",  # what became of it in the end stands above its delay
        )
        # Looked at before a message goes; where none was ever owed, that costs nothing.
        self.owes_notices = bool(fetch(cursor, "SELECT EXISTS (SELECT 1 FROM notice)")[0][0])
        self._jobs: dict[str, int] = {}
        self._next_event = highest_id(connection, "event") + 1 + skip_events
        first, size = fetch(
            cursor,
            "SELECT coalesce(min(id), ?), coalesce(sum(length(data)), 0) FROM event",
            (self._next_event,),
        )[0]
        self._first_event: int = first
        self._prune_to = 0
        self.event_bytes: int = size
        self._body_files: int = fetch(cursor, "SELECT count(*) FROM message WHERE body_file <> ''")[
            0
        ][0]

    @property
    def last_event(self) -> int:
        return self._next_event - 1

    @property
    def has_more(self) -> bool:
        """Whether chunked work is left for batches to come."""
        return self._prune_to >= self._first_event or self.queues.parked

    def write(self, batch: Batch, now: float) -> Written:
        """Write and commit. Raises what SQLite raises; then `undo`."""
        self._cursor.execute("BEGIN IMMEDIATE")
        if batch.accepts:
            self._accept(batch.accepts)
        body_files = self._settle(batch.settles) if batch.settles else []
        if batch.owes:
            self._owe(batch.owes)
        if batch.answers:
            body_files += self._answer(batch.answers)
        if batch.folds:
            body_files += self._fold(batch.folds)
        if batch.jobs:
            self._hold_jobs(batch.jobs)
        if batch.holds:
            self._hold_entries(batch.holds)
        if batch.reroutes:
            self._reroute(batch.reroutes)
        for wake in batch.wakes:
            self.queues.due_again(wake.numbers, wake.now)
        if batch.postpones:
            self.queues.postpone(batch.postpones)
        if batch.evicts:
            self.queues.evict(batch.evicts, now)
        for (
            unpark
        ) in batch.unparks:  # behind the evictions: one of them may have parked its queue just now
            unpark.is_more = self.queues.wake_parked(unpark.vmtas, unpark.now)
        for meta in batch.metas:
            self._put_meta(meta)
        for look in batch.looks:
            self.queues.look_again(look.now, look.until)
        if self.queues.parked:
            self.queues.unpark(now)
        events, datas = _events_of(batch)
        self._add_events(datas)
        prune_to = max([op.up_to for op in batch.prunes], default=self._prune_to)
        pruned, pruned_bytes = self._prune(max(prune_to, self._prune_to), len(datas))
        self._cursor.execute("COMMIT")
        self._prune_to = max(prune_to, self._prune_to)
        self._first_event = pruned
        written = Written(self._next_event, events, datas, body_files)
        self._next_event += len(datas)
        self.event_bytes += sum(map(len, datas)) - pruned_bytes
        self._body_files += sum(1 for op in batch.accepts if op.body_file) - len(body_files)
        return written

    def undo(self) -> None:
        """Back to what stood before the batch; nothing remembered of it counts."""
        if self._connection.in_transaction:
            self._cursor.execute("ROLLBACK")
        self.queues.forget()
        # It may have been in that batch that the last queue was found again: look once more.
        self.queues.parked = True
        self._jobs.clear()

    def _accept(self, operations: list[Accept]) -> None:
        refs = self.queues.refs({key for op in operations for key in op.keys})
        jobs = self._job_ids({op.job for op in operations})
        messages: list[Any] = []
        recipients: list[Any] = []
        for op in operations:
            messages += op.message
            job = jobs[op.job]
            for key, row in zip(op.keys, op.rows, strict=True):
                ref = refs[key]
                ref.last_entry = row[0]
                recipients += (ref.id, job, *row)
        self._messages.run(self._cursor, messages)
        self._recipients.run(self._cursor, recipients)
        origins = [(IMPORTED + op.origin, op.message[0]) for op in operations if op.origin]
        if origins:
            self._cursor.execute(_PUT_ORIGINS, (as_json(origins),))

    def _settle(self, operations: list[Settle]) -> list[str]:
        """Delete and update recipients; the body files of the messages deleted with them."""
        body_files: list[str] = []
        updates = {row[0]: row for op in operations for row in op.updates}
        if updates:
            self._cursor.execute(_UPDATE_RECIPIENTS, (as_json(updates.values()),))
        gone = list(chain.from_iterable(op.gone for op in operations))
        if gone:
            self._cursor.execute(_DELETE_RECIPIENTS, (as_json(gone),))
            owed = list(chain.from_iterable(chain.from_iterable(op.owed for op in operations)))
            if owed:
                self.owes_notices = True
                self._notices.run(self._cursor, owed)
            body_files = self._delete_messages(
                set(chain.from_iterable(op.messages for op in operations))
            )
        return body_files

    def _delete_messages(self, numbers: set[int]) -> list[str]:
        """Delete those that nothing needs any more; their body files."""
        messages = as_json(numbers)
        done_with = _WITHOUT_RECIPIENTS + (_AND_NOT_OWED if self.owes_notices else "")
        body_files: list[str] = []
        if self._body_files:
            select = f"SELECT body_file FROM message {done_with} AND body_file <> ''"
            body_files = [row[0] for row in fetch(self._cursor, select, (messages,))]
        self._cursor.execute(f"DELETE FROM message {done_with}", (messages,))
        return body_files

    def _owe(self, operations: list[Owe]) -> None:
        self.owes_notices = True
        for op in operations:
            self._cursor.execute(_OWE_DELAYS, (as_json(op.rows),))
            self._cursor.execute(_PUT_META, op.meta)

    def _fold(self, operations: list[Fold]) -> list[str]:
        """What is owed goes into digests, and the messages that were kept for it go."""
        for op in operations:
            entries = as_json(op.entries)
            self._cursor.execute(_FOLD, (op.address, entries, op.limit))
            self._cursor.execute(_NOT_FOLDED, (entries,))
            op.dropped = self._connection.changes()
        return self._delete_messages({op.message for op in operations})

    def _answer(self, operations: list[Answers]) -> list[str]:
        """Notices that are owed no longer go, and the messages that were kept for them."""
        entries = list(chain.from_iterable(op.entries or () for op in operations))
        self._cursor.execute(_DELETE_NOTICES, (as_json(entries),))
        whole = [op.message for op in operations if op.entries is None]
        if whole:
            self._cursor.execute(_DELETE_NOTICES_OF, (as_json(whole),))
        return self._delete_messages({op.message for op in operations})

    def _hold_jobs(self, operations: list[HoldJob]) -> None:
        for op in operations:
            held = op.reason is not None
            self._cursor.execute(_HOLD_JOB, (op.job, int(held), op.reason or ""))
            if not held:
                self.queues.parked = True

    def _hold_entries(self, operations: list[HoldEntries]) -> None:
        for op in operations:
            numbers = as_json(op.numbers)
            if op.reason is not None:
                self._cursor.execute(_HOLD, (numbers, op.reason))
            else:
                self._cursor.execute(_RELEASE, (numbers, op.now))
                self.queues.due_again(op.numbers, op.now)

    def _reroute(self, operations: list[Reroute]) -> None:
        refs = self.queues.refs({key for op in operations for _, key in op.moves})
        moves = as_json([(number, refs[key].id) for op in operations for number, key in op.moves])
        sources = [row[0] for row in fetch(self._cursor, _SOURCES, (moves,))]
        self._cursor.execute(_REROUTE, (moves,))
        self.queues.left(sources, operations[-1].now)

    def _put_meta(self, op: PutMeta) -> None:
        if op.value is None:
            self._cursor.execute(_DELETE_META, (op.name,))
        else:
            self._cursor.execute(_PUT_META, (op.name, op.value))

    def _add_events(self, datas: list[bytes]) -> None:
        # Numbered here and not on the loop: ids must rise in the order of commits, or a reader's cursor would pass over one.
        ids = range(self._next_event, self._next_event + len(datas))
        self._events.run(self._cursor, list(chain.from_iterable(zip(ids, datas, strict=True))))

    def _prune(self, up_to: int, added: int) -> tuple[int, int]:
        """Delete a chunk of events that all have read; what is now the first, and the bytes that went."""
        up_to = min(up_to, self._next_event - 1)
        if up_to < self._first_event:
            return self._first_event, 0
        # A chunk, and twice what came: pruning catches up whatever the rate.
        up_to = min(up_to, self._first_event + PRUNE_CHUNK + 2 * added - 1)
        size = fetch(
            self._cursor, "SELECT coalesce(sum(length(data)), 0) FROM event WHERE id <= ?", (up_to,)
        )[0][0]
        self._cursor.execute("DELETE FROM event WHERE id <= ?", (up_to,))
        # Not just up_to + 1: a crash leaves a gap of numbers, and no chunks of nothing are to be deleted.
        end = self._next_event + added
        left = fetch(self._cursor, "SELECT coalesce(min(id), ?) FROM event", (end,))
        return left[0][0], size

    def _job_ids(self, names: set[str]) -> dict[str, int]:
        ids = {"": 0}
        missing = []
        for name in names:
            known = self._jobs.get(name)
            if known is not None:
                ids[name] = known
            elif name:
                missing.append(name)
        if missing:
            ids.update(self._load_jobs(missing))
        return ids

    def _load_jobs(self, names: list[str]) -> dict[str, int]:
        text = as_json(names)
        self._cursor.execute(
            "INSERT OR IGNORE INTO job (name) SELECT value FROM json_each(?)", (text,)
        )
        if len(self._jobs) + len(names) > _CACHED_JOBS:
            self._jobs.clear()
        found: dict[str, int] = dict(fetch(self._cursor, _JOBS, (text,)))
        self._jobs.update(found)
        return found


def highest_id(connection: apsw.Connection, table: str) -> int:
    """The highest id the table ever had."""
    found = fetch(connection, "SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
    return int(found[0][0]) if found else 0


def _events_of(batch: Batch) -> tuple[list[Event], list[bytes]]:
    events: list[Event] = []
    datas: list[bytes] = []
    for accept in batch.accepts:
        if accept.event is not None:
            events.append(accept.event)
            datas.append(accept.data)
    for settle in batch.settles:
        events += settle.events
        datas += settle.datas
    for postpone in batch.postpones:
        if postpone.event is not None:
            events.append(postpone.event)
            datas.append(postpone.data)
    return events, datas
