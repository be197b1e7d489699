"""The rows of queues: found, made, postponed, evicted. Written inside the transactions of `writer`.

A queue in a scheduler's memory needs no writing: its `due` on disk only has to be no later than the truth. What tells a loaded
queue from one on disk is a mark that moves through the index of `due`: everything up to it has been found and handed out, and
whatever is written later lies beyond it. So finding due queues is in proportion to those found, never to those in memory, and
300,000 queues cost this module nothing but a bounded cache of row ids.
"""

import math
from collections.abc import Iterable
from typing import Final

import apsw

from mta.model.envelope import QueueKey
from mta.queue.actions import NEVER, QueueState
from mta.spool.ops import Evict, Postpone
from mta.spool.rows import (
    STATE_COLUMNS,
    RowInsert,
    RowQuery,
    as_json,
    clean_text,
    fetch,
    state_of,
)

# The cache has two generations of this many queues: about 4 MB in all.
CACHED_QUEUES = 10_000

_KNOWN = RowQuery(
    "q.domain, q.vmta, q.id, q.due, q.paused",
    "FROM json_each(?) j CROSS JOIN queue q ON q.domain = j.value->>0 AND q.vmta = j.value->>1",
)
_LOOKED_AT = "UPDATE queue SET due = 0 WHERE id IN (SELECT value FROM json_each(?))"
_POSTPONE = """
INSERT INTO queue (id, domain, vmta, next_at, attempts, mode, reason, paused, due)
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
       value->>8
FROM json_each(?1) WHERE true
ON CONFLICT (domain, vmta) DO UPDATE SET
    next_at = excluded.next_at, attempts = excluded.attempts, mode = excluded.mode,
    reason = excluded.reason, paused = excluded.paused,
    -- Resumed: it must be found again, so it may not lie where everything has been found.
    due = CASE WHEN queue.paused = 1 AND excluded.paused = 0
          THEN max(coalesce(queue.due, ?2), ?2) ELSE queue.due END
"""
_LEFT = RowQuery(
    "q.id, q.next_at, q.paused,"
    # A read for each class of priority: that is the order of the index.
    " (SELECT min(due) FROM (SELECT (SELECT r.due FROM recipient r WHERE r.queue = q.id"
    "  AND r.priority = p.value AND r.held = 0"
    "  AND r.job NOT IN (SELECT id FROM job WHERE held = 1) ORDER BY r.due LIMIT 1) AS due"
    "  FROM (SELECT 0 AS value UNION ALL SELECT 1 UNION ALL SELECT 2) p)),"
    " EXISTS (SELECT 1 FROM recipient r WHERE r.queue = q.id AND r.held = 0)"
    " OR EXISTS (SELECT 1 FROM recipient r WHERE r.queue = q.id AND r.held = 1)",
    "FROM queue q WHERE q.id IN (SELECT value FROM json_each(?))",
)
_SET_DUE = """
UPDATE queue SET due = j.value->>1 FROM json_each(?) j WHERE queue.id = j.value->>0
"""
_DELETE = "DELETE FROM queue WHERE id IN (SELECT value FROM json_each(?))"
_DUE = RowQuery(
    f"{STATE_COLUMNS}, q.due, q.id",
    "FROM queue q WHERE q.paused = 0 AND (q.due, q.id) > (?, ?) AND q.due <= ?"
    " ORDER BY q.due, q.id LIMIT ?",
)
_NEXT_DUE = """
SELECT due FROM queue q WHERE q.paused = 0 AND (q.due, q.id) > (?, ?) ORDER BY q.due, q.id LIMIT 1
"""
_DUE_AGAIN = """
UPDATE queue SET due = ?2 WHERE paused = 0 AND id IN (
    SELECT DISTINCT queue FROM recipient WHERE id IN (SELECT value FROM json_each(?1)))
"""
# 1,000 at a time, like all mass changes.
_UNPARK = """
UPDATE queue SET due = ? WHERE id IN (
    SELECT id FROM queue WHERE paused = 0 AND due IS NULL LIMIT 1000)
"""
_UNPARK_CHUNK: Final = 1000
# The others come in their own time, which is soon.
_LOOK_AGAIN = """
UPDATE queue SET due = ?2 WHERE id IN (
    SELECT id FROM queue WHERE paused = 0 AND due > ?1 AND due <= ?3 LIMIT 10000)
"""
# Parked by the scheduler: nobody looks at them until their virtual MTA is in service again.
_WAKE_PARKED = f"""
UPDATE queue SET due = ?1 WHERE id IN (
    SELECT id FROM queue WHERE paused = 0 AND due >= {NEVER:.0f}
    AND (?2 IS NULL OR vmta IN (SELECT value FROM json_each(?2))) LIMIT {_UNPARK_CHUNK})
"""
_WAKE_THESE = f"""
UPDATE queue SET due = ?2 WHERE paused = 0 AND due >= {NEVER:.0f}
AND id IN (SELECT value FROM json_each(?1))
"""


class QueueRef:
    """What is known of a queue's row without reading it."""

    __slots__ = ("due", "id", "last_entry", "paused")

    def __init__(self, id_: int, due: float | None, paused: bool) -> None:
        self.id = id_
        self.due = due
        self.paused = paused
        self.last_entry = 0  # the newest entry accepted into it, as far as this cache remembers


class QueueRows:
    """The queue table, in the spool's thread."""

    def __init__(self, cursor: apsw.Cursor) -> None:
        self._cursor = cursor
        self._insert = RowInsert("queue", "id, domain, vmta, due")
        self._young: dict[QueueKey, QueueRef] = {}
        self._old: dict[QueueKey, QueueRef] = {}
        highest = fetch(cursor, "SELECT coalesce(max(id), 0) FROM queue")[0][0]
        self._next_id: int = highest + 1
        # Everything due up to here (due, id) has been found: it is in memory, or was evicted to beyond.
        self._found: tuple[float, int] = (-math.inf, 0)
        self.parked = False  # queues without a due time are to be looked at again

    def forget(self) -> None:
        """Trust nothing remembered: a transaction was undone."""
        self._young = {}
        self._old = {}

    def refs(self, keys: Iterable[QueueKey]) -> dict[QueueKey, QueueRef]:
        """The rows that mail is being accepted into, made where there are none; from now on they are in memory.

        A queue that was on disk is due at once (0): if we crash before it is evicted again, it must be looked at.
        """
        refs = {key: self._cached(key) for key in keys}
        missing = [key for key, ref in refs.items() if ref is None]
        if missing:
            refs.update(self._load(missing))
        found: dict[QueueKey, QueueRef] = {}
        new: list[QueueKey] = []
        asleep: list[QueueRef] = []
        for key, ref in refs.items():
            if ref is None:
                new.append(key)
            else:
                found[key] = ref
                if ref.due != 0 and not self._is_loaded(ref):
                    asleep.append(ref)
        if asleep:
            self._cursor.execute(_LOOKED_AT, (as_json(ref.id for ref in asleep),))
            for ref in asleep:
                ref.due = 0.0
        if new:
            self._make(new, found)
        return found

    def postpone(self, operations: list[Postpone]) -> None:
        """Write the durable rows; of several of one queue the last counts."""
        states = {op.state.key: op.state for op in operations}
        rows = []
        for key, state in states.items():
            due = None if state.paused else 0.0  # if there is no row yet: found at the next start
            rows.append(
                (
                    self._take_id(),
                    key.domain,
                    key.vmta,
                    state.next_at,
                    state.attempts,
                    state.mode,
                    clean_text(state.reason),
                    int(state.paused),
                    due,
                )
            )
            ref = self._cached(key)
            if ref is not None:
                if ref.paused and not state.paused:
                    self._drop(key)
                ref.paused = state.paused
        self._cursor.execute(_POSTPONE, (as_json(rows), self._beyond(operations[-1].now)))

    def evict(self, operations: list[Evict], now: float) -> None:
        """Write when each queue must be looked at again; remove the rows of queues with nothing left."""
        evicted = {op.key: op for op in operations}
        refs = {key: self._cached(key) for key in evicted}
        missing = [key for key, ref in refs.items() if ref is None]
        if missing:
            refs.update(self._load(missing))
        by_id = {ref.id: key for key, ref in refs.items() if ref is not None}
        changed: list[tuple[int, float | None]] = []
        empty: list[int] = []
        for row in _LEFT.run(self._cursor, (as_json(by_id),)):
            key = by_id[row[0]]
            ref = refs[key]
            assert ref is not None
            if not row[4] and not row[2] and row[1] <= now:
                empty.append(ref.id)
                self._drop(key)
                continue
            due = self._due_of(evicted[key], ref, row)
            if due != ref.due:
                ref.due = due
                changed.append((ref.id, due))
        if changed:
            self._cursor.execute(_SET_DUE, (as_json(changed),))
        if empty:
            self._cursor.execute(_DELETE, (as_json(empty),))

    def due(self, now: float, limit: int) -> tuple[list[QueueState], float | None]:
        """The next queues that are due, each found once; and the earliest due time not handed out."""
        rows = _DUE.run(self._cursor, (*self._found, now, limit))
        if rows:
            self._found = (rows[-1][-2], rows[-1][-1])
        following = fetch(self._cursor, _NEXT_DUE, self._found)
        return [state_of(row[:-2]) for row in rows], following[0][0] if following else None

    def due_again(self, numbers: list[int], now: float) -> None:
        """The queues of these entries are due now: the entries were released."""
        self._cursor.execute(_DUE_AGAIN, (as_json(numbers), self._beyond(now)))
        self.forget()

    def unpark(self, now: float) -> None:
        """Some of the queues without a due time are due now: what was held in them may have been released."""
        self._cursor.execute(_UNPARK, (self._beyond(now),))
        self.parked = self._cursor.connection.changes() == _UNPARK_CHUNK
        self.forget()

    def look_again(self, now: float, until: float) -> None:
        """What is due between now and then is due now, as far as it was not found already."""
        beyond = self._beyond(now)
        self._cursor.execute(_LOOK_AGAIN, (beyond, math.nextafter(beyond, math.inf), until))
        self.forget()

    def wake_parked(self, vmtas: list[str] | None, now: float) -> bool:
        """A chunk of the parked queues of these virtual MTAs (None: of all) is due now; whether there may be more."""
        names = None if vmtas is None else as_json(vmtas)
        self._cursor.execute(_WAKE_PARKED, (self._beyond(now), names))
        self.forget()
        return self._cursor.connection.changes() == _UNPARK_CHUNK

    def left(self, ids: Iterable[int], now: float) -> None:
        """Entries were taken out of these queues: one that is parked is looked at once more, for it may be empty."""
        self._cursor.execute(_WAKE_THESE, (as_json(ids), self._beyond(now)))
        self.forget()

    def id_of(self, key: QueueKey) -> int:
        """The queue's row id, 0 if it has no row."""
        ref = self._cached(key) or self._load([key]).get(key)
        return 0 if ref is None else ref.id

    def _due_of(self, op: Evict, ref: QueueRef, row: list[float]) -> float | None:
        _, next_at, paused, earliest, left = row
        if ref.last_entry > op.seen_entry:
            # Mail came while it was being evicted: the scheduler is about to hear of it.
            return 0.0
        if not left:
            return None if paused else self._beyond(next_at)
        if op.due is not None:
            return self._beyond(op.due)
        return None if earliest is None else self._beyond(max(earliest, next_at))

    def _beyond(self, due: float) -> float:
        """No earlier than what has been found already, or it would never be found."""
        return due if due > self._found[0] else math.nextafter(self._found[0], math.inf)

    def _is_loaded(self, ref: QueueRef) -> bool:
        return ref.due is not None and (ref.due, ref.id) <= self._found

    def _make(self, new: list[QueueKey], found: dict[QueueKey, QueueRef]) -> None:
        flat: list[object] = []
        for key in new:
            ref = QueueRef(self._take_id(), 0.0, False)
            flat += (ref.id, key.domain, key.vmta, 0.0)
            self._remember(key, ref)
            found[key] = ref
        self._insert.run(self._cursor, flat)

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _load(self, keys: list[QueueKey]) -> dict[QueueKey, QueueRef]:
        loaded = {}
        for domain, vmta, id_, due, paused in _KNOWN.run(self._cursor, (as_json(keys),)):
            key = QueueKey(domain, vmta)
            loaded[key] = ref = QueueRef(id_, due, bool(paused))
            self._remember(key, ref)
        return loaded

    def _cached(self, key: QueueKey) -> QueueRef | None:
        ref = self._young.get(key)
        if ref is None:
            ref = self._old.get(key)
            if ref is not None:
                self._remember(key, ref)
        return ref

    def _remember(self, key: QueueKey, ref: QueueRef) -> None:
        self._young[key] = ref
        if len(self._young) >= CACHED_QUEUES:
            self._old, self._young = self._young, {}

    def _drop(self, key: QueueKey) -> None:
        self._young.pop(key, None)
        self._old.pop(key, None)
