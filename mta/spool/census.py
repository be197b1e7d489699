"""What is queued, counted: in all, by queue, by domain, by job, by virtual MTA. For operators; reads indices as far as it can."""

from collections.abc import Collection
from typing import Any

import apsw
import msgspec

from mta.model.envelope import QueueKey
from mta.spool.rows import Row, as_json, decode_rows, fetch
from mta.spool.words import Counts, QueueRow
from mta.spool.writer import Writer

# What is held has an index of its own; each half reads its index alone.
_QUEUES = """
WITH {chosen} part AS (
    SELECT queue, count(*) AS n, 0 AS held, sum(size) AS bytes, min(message) AS oldest,
           min(due) AS due FROM recipient WHERE held = 0 {among} GROUP BY queue
    UNION ALL
    SELECT queue, count(*), count(*), sum(size), min(message), NULL
    FROM recipient WHERE held = 1 {among} GROUP BY queue
    UNION ALL
    SELECT id, 0, 0, 0, NULL, NULL FROM queue WHERE paused = 1 {or_chosen}
), whole AS (
    SELECT queue, sum(n) AS recipients, sum(held) AS held, sum(bytes) AS bytes,
           min(oldest) AS oldest, min(due) AS due FROM part GROUP BY queue
), top AS (
    SELECT w.* FROM whole w {named} {order} LIMIT ?
)
SELECT json_group_array(json_array(domain, vmta, recipients, held, bytes, received_at, first_due,
       next_at, attempts, mode, reason, paused)) FROM (
    SELECT q.*, t.recipients, t.held, t.bytes, t.due AS first_due,
           coalesce((SELECT received_at FROM message WHERE number = t.oldest), 0) AS received_at
    FROM top t CROSS JOIN queue q ON q.id = t.queue
)
"""
# Domains and jobs: what is queued, by another name than the queue's. The message of the smallest number is the oldest.
_GROUPS = {
    "domain": """
WITH part AS (
    SELECT queue, count(*) AS n, 0 AS held, sum(size) AS bytes, min(message) AS oldest
    FROM recipient WHERE held = 0 GROUP BY queue
    UNION ALL
    SELECT queue, count(*), count(*), sum(size), min(message)
    FROM recipient WHERE held = 1 GROUP BY queue
), whole AS (
    SELECT q.domain AS name, sum(n) AS recipients, sum(p.held) AS held, sum(bytes) AS bytes,
           min(oldest) AS oldest, count(DISTINCT q.id) AS queues
    FROM part p CROSS JOIN queue q ON q.id = p.queue GROUP BY q.domain
)
""",
    "job": """
WITH whole AS (
    SELECT j.name, count(*) AS recipients, sum(r.held) AS held, sum(r.size) AS bytes,
           min(r.message) AS oldest, count(DISTINCT r.queue) AS queues
    FROM recipient r CROSS JOIN job j ON j.id = r.job GROUP BY r.job
)
""",
}
_GROUP_ROWS = """
SELECT json_group_array(json_array(name, recipients, held, bytes, received_at, queues)) FROM (
    SELECT w.*, coalesce((SELECT received_at FROM message WHERE number = w.oldest), 0) AS received_at
    FROM whole w WHERE instr(name, ?) > 0 {order} LIMIT ?
)
"""
_GROUP_ORDERS = {
    "recipients": "ORDER BY recipients DESC, name",
    "bytes": "ORDER BY bytes DESC, name",
    "oldest": "ORDER BY oldest, name",
    "name": "ORDER BY name",
}
_CHOSEN = """
chosen AS MATERIALIZED (SELECT q.id FROM json_each(?) j CROSS JOIN queue q
    ON q.domain = j.value->>0 AND q.vmta = j.value->>1),"""
_NAMES = """
SELECT json_group_array(name) FROM (
    SELECT domain || '/' || vmta AS name FROM queue WHERE instr(domain || '/' || vmta, ?) > 0 LIMIT ?)
"""
# Counted by queue first: that reads the indices alone.
_VMTAS = """
SELECT q.vmta, sum(c.n), count(DISTINCT c.queue) FROM (
    SELECT queue, count(*) AS n FROM recipient WHERE held = 0 GROUP BY queue
    UNION ALL
    SELECT queue, count(*) FROM recipient WHERE held = 1 GROUP BY queue
) c JOIN queue q ON q.id = c.queue GROUP BY q.vmta
"""
# Only queues that are shown are looked up by name, unless names are what is asked for.
_NAMED = "JOIN queue n ON n.id = w.queue WHERE instr(n.domain || '/' || n.vmta, ?) > 0"
_ORDERS = {
    "recipients": "ORDER BY w.recipients DESC, w.queue",
    "bytes": "ORDER BY w.bytes DESC, w.queue",
    "oldest": "ORDER BY w.oldest IS NULL, w.oldest, w.queue",
    "due": "ORDER BY w.due IS NULL, w.due, w.queue",
    "domain": "ORDER BY n.domain, n.vmta",
}


def _split_row(row: list[Any]) -> tuple[list[str], list[Any]]:
    return row[:2], [*row[2:11], bool(row[11])]


class Census:
    """The counts. Every method runs in the spool's thread."""

    def __init__(self, connection: apsw.Connection, writer: Writer) -> None:
        self._cursor = connection.cursor()
        self._writer = writer

    def counts(self, now: float) -> Counts:
        """How much there is; reads indices only."""
        due, deferred = self._one(
            "SELECT count(*) FILTER (WHERE due <= ?1), count(*) FILTER (WHERE due > ?1)"
            " FROM recipient WHERE held = 0",
            (now,),
        )
        (held,) = self._one("SELECT count(*) FROM recipient WHERE held = 1")
        (messages,) = self._one("SELECT count(*) FROM (SELECT DISTINCT message FROM recipient)")
        (queues,) = self._one("SELECT count(*) FROM queue")
        (events,) = self._one("SELECT count(*) FROM event")
        (used,) = self._one(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return Counts(
            messages,
            due + deferred + held,
            due,
            deferred,
            held,
            queues,
            used,
            events,
            self._writer.event_bytes,
        )

    def count_queues(self, match: str) -> int:
        """How many queues have this in their names."""
        where = "WHERE instr(domain || '/' || vmta, ?1) > 0" if match else "WHERE ?1 = ''"
        (found,) = self._one(f"SELECT count(*) FROM queue {where}", (match,))
        return int(found)

    def queue_table(
        self, limit: int = 100, sort: str = "recipients", match: str = ""
    ) -> list[QueueRow]:
        """The first queues by recipients, bytes, oldest, due or domain; `match`: what their names must hold.

        Raises ValueError on another order.
        """
        if sort not in _ORDERS:
            raise ValueError(f"queues can be sorted by {', '.join(_ORDERS)}, not by {sort!r}")
        by_name = match or sort == "domain"
        text = _QUEUES.format(
            named=_NAMED if by_name else "",
            order=_ORDERS[sort],
            chosen="",
            among="",
            or_chosen="",
        )
        return self._queue_rows(text, (match, limit) if by_name else (limit,))

    def queues_named(self, keys: Collection[QueueKey]) -> list[QueueRow]:
        """The rows of these queues, of those that the table would show."""
        text = _QUEUES.format(
            named="",
            order="",
            chosen=_CHOSEN,
            among="AND queue IN (SELECT id FROM chosen)",
            or_chosen="AND id IN (SELECT id FROM chosen)",
        )
        return self._queue_rows(text, (as_json(keys), len(keys)))

    def queue_names(self, match: str, limit: int) -> list[str]:
        """The names of up to `limit` queues that hold `match`."""
        names: list[str] = msgspec.json.decode(fetch(self._cursor, _NAMES, (match, limit))[0][0])
        return names

    def _queue_rows(self, text: str, bindings: tuple[object, ...]) -> list[QueueRow]:
        rows = decode_rows(fetch(self._cursor, text, bindings)[0][0])
        return [QueueRow(QueueKey(*names), *counts) for names, counts in map(_split_row, rows)]

    def groups(self, kind: str, sort: str, match: str, limit: int) -> list[Row]:
        """What is queued by domain or job: name, recipients, held, bytes, when the oldest came, queues."""
        text = _GROUPS[kind] + _GROUP_ROWS.format(order=_GROUP_ORDERS[sort])
        return decode_rows(fetch(self._cursor, text, (match, limit))[0][0])

    def vmta_counts(self) -> dict[str, tuple[int, int]]:
        """Recipients and queues of each virtual MTA that has mail."""
        rows = fetch(self._cursor, _VMTAS)
        return {vmta: (recipients, queues) for vmta, recipients, queues in rows}

    def _one(self, text: str, bindings: tuple[object, ...] = ()) -> Row:
        return list(fetch(self._cursor, text, bindings)[0])
