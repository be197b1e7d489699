"""Reads, in the spool's thread: what is due, bodies, events, and what an operator asks.

A row that cannot be read never stops the others: it is held as unreadable and reported (reliability.md D6).
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final

import apsw
import msgspec

from mta.model.envelope import (
    Entry,
    Message,
    Priority,
    QueueKey,
    SpillFile,
    format_message_id,
    parse_message_id,
)
from mta.model.errors import SpoolError
from mta.model.event import Event, decode_event
from mta.model.told import Action, Told, decode_told
from mta.queue.actions import QueueState
from mta.queue.priority import merge_classes
from mta.spool.bodies import Body
from mta.spool.rows import (
    ENTRY_COLUMNS,
    ENTRY_WIDTH,
    HEAD_COLUMNS,
    IMPORTED,
    EntryReader,
    Row,
    RowQuery,
    as_json,
    decode_rows,
    fetch,
)
from mta.spool.words import Counts, Filter, Listed, OwedNotice, QueueRow
from mta.spool.writer import Writer

# Rows looked through in one go; a search over a million recipients is made of many.
WINDOW: Final = 20_000

_NOT_HELD = "r.held = 0 AND r.job NOT IN (SELECT id FROM job WHERE held = 1)"
# LEFT JOIN: a recipient whose message is gone must not wait for ever unseen.
_DUE_FROM = f"""
FROM recipient r LEFT JOIN message m ON m.number = r.message
WHERE r.queue = ?1 AND r.priority = ?5 AND {_NOT_HELD} AND r.due <= ?2
AND r.id NOT IN (SELECT value FROM json_each(?4)) ORDER BY r.due, r.id LIMIT ?3
"""
_DUE = RowQuery(ENTRY_COLUMNS, _DUE_FROM)
_DUE_IDS = RowQuery(
    "r.id",
    f"""FROM recipient r WHERE r.queue = ?1 AND r.priority = ?5 AND {_NOT_HELD} AND r.due <= ?2
AND r.id NOT IN (SELECT value FROM json_each(?4)) ORDER BY r.due, r.id LIMIT ?3""",
)
_OTHER_CLASSES = """
SELECT EXISTS (SELECT 1 FROM recipient WHERE queue = ?1 AND priority = 1 AND held = 0),
       EXISTS (SELECT 1 FROM recipient WHERE queue = ?1 AND priority = 2 AND held = 0)
"""
_ONE = RowQuery(
    ENTRY_COLUMNS,
    "FROM recipient r LEFT JOIN message m ON m.number = r.message WHERE r.id = ?",
)
_NEXT_DUE = f"""
SELECT min(due) FROM (SELECT (
    SELECT r.due FROM recipient r WHERE r.queue = ?1 AND r.priority = p.value AND {_NOT_HELD}
    AND r.due > ?2 ORDER BY r.due LIMIT 1) AS due FROM json_each('[0,1,2]') p)
"""
_OLDEST = RowQuery(
    f"{ENTRY_COLUMNS}, q.domain, q.vmta",
    "FROM recipient r JOIN message m ON m.number = r.message JOIN queue q ON q.id = r.queue"
    " WHERE r.id > ? AND r.held = 0 ORDER BY r.id LIMIT ?",
)
_REASONS = RowQuery(
    "r.id, CASE WHEN q.reason <> '' THEN q.reason ELSE r.reply END",
    "FROM recipient r JOIN queue q ON q.id = r.queue"
    " WHERE r.id IN (SELECT value FROM json_each(?))",
)
_OWED = "SELECT data FROM notice WHERE message = ? AND digest = '' ORDER BY entry LIMIT ?"
_DIGESTS = (
    "SELECT digest FROM notice WHERE digest <> '' AND digest > ? GROUP BY digest ORDER BY digest"
    " LIMIT ?"
)
_DIGEST = "SELECT data FROM notice WHERE digest = ? AND digest <> '' ORDER BY entry LIMIT ?"
_WAITING = "SELECT id FROM recipient WHERE id IN (SELECT value FROM json_each(?))"
_MESSAGE = RowQuery(HEAD_COLUMNS, "FROM message m WHERE m.number = ?")
_BODY = "SELECT prefix, body, body_file, size FROM message WHERE number = ?"
_IMPORTED = "SELECT name FROM meta WHERE name IN (SELECT value FROM json_each(?))"
_QUEUED = "SELECT number FROM message WHERE number IN (SELECT value FROM json_each(?))"
_EVENTS = RowQuery("id, hex(data)", "FROM event WHERE id > ? ORDER BY id LIMIT ?")
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


class Queries:
    """All the spool's reads. Every method runs in the spool's thread."""

    def __init__(
        self,
        connection: apsw.Connection,
        writer: Writer,
        *,
        number: int,
        uuid: str,
        cut: tuple[int, float],
        body_path: Callable[[str], str],
        put_aside: Callable[[list[int], str], None],
        report: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._writer = writer
        self._number = number
        self._uuid = uuid
        self._cut = cut
        self._body_path = body_path
        self._put_aside = put_aside
        self._report = report

    # For the scheduler

    def due(
        self, key: QueueKey, now: float, limit: int, exclude: Collection[int]
    ) -> tuple[list[Entry], float | None]:
        """Entries of the queue due at `now`, by (due, number), and the earliest due time after `now`."""
        queue = self._writer.queues.id_of(key)
        if queue == 0:
            return [], None
        without = as_json(exclude)
        rows = self._due_of_class((queue, now, limit, without, int(Priority.NORMAL)))
        if any(self._one(_OTHER_CLASSES, (queue,))):
            high = self._due_of_class((queue, now, limit, without, int(Priority.HIGH)))
            low = self._due_of_class((queue, now, limit, without, int(Priority.LOW)))
            rows = merge_classes(rows, high, low, limit)
        reader = EntryReader(self._number, self._cut)
        whole = [row for row in rows if reader.has_message(row)]
        if len(whole) < len(rows):
            lost = [row[0] for row in rows if not reader.has_message(row)]
            self._lost(lost, "its message is missing")
        following = fetch(self._cursor, _NEXT_DUE, (queue, now))
        return [reader.entry(row, key) for row in whole], following[0][0] if following else None

    def _due_of_class(self, bindings: tuple[object, ...]) -> list[Row]:
        try:
            return _DUE.run(self._cursor, bindings)
        except (apsw.CorruptError, apsw.IOError, ValueError):
            return list(self._readable(_DUE_IDS.run(self._cursor, bindings)))

    def due_queues(self, now: float, limit: int) -> tuple[list[QueueState], float | None]:
        """The next queues that are due, and the earliest due time not handed out."""
        return self._writer.queues.due(now, limit)

    def bodies(self, messages: Iterable[Message]) -> list[Body | SpoolError]:
        """Prefix and body of each, or why it cannot be read."""
        found: list[Body | SpoolError] = []
        for message in messages:
            try:
                found.append(self.body(message))
            except SpoolError as error:
                found.append(error)
        return found

    def body(self, message: Message) -> Body:
        """Prefix and body. Raises SpoolError if they cannot be read."""
        try:
            found = fetch(self._cursor, _BODY, (message.number,))
        except apsw.Error as error:
            raise SpoolError(f"message {self._id(message)} cannot be read: {error}") from error
        if not found:
            raise SpoolError(f"message {self._id(message)} is not in the spool")
        prefix, body, body_file, size = found[0]
        if body_file:
            return prefix, SpillFile(self._body_path(body_file), size - len(prefix))
        return prefix, body

    def content(self, message: int, offset: int, length: int) -> bytes | None:
        """So many bytes of a message as it would go out, or None if it has gone. Raises SpoolError if it cannot be read."""
        found = fetch(self._cursor, _BODY, (message,))
        if not found:
            return None
        prefix, body, body_file, _ = found[0]
        part: bytes = prefix[offset : offset + length]
        wanted = length - len(part)
        beyond = max(0, offset - len(prefix))
        if not body_file:
            return part + bytes(body[beyond : beyond + wanted])
        try:
            with open(self._body_path(body_file), "rb") as file:
                file.seek(beyond)
                return part + file.read(wanted)
        except OSError as error:
            raise SpoolError(f"the body of message {message} cannot be read: {error}") from error

    def imported(self, origins: Collection[str]) -> set[str]:
        """Which of these message ids were imported before, or are ours and still queued."""
        names = [IMPORTED + origin for origin in origins]
        rows = fetch(self._cursor, _IMPORTED, (as_json(names),))
        ours = {}
        for origin in origins:
            spool, number = parse_message_id(origin)
            if self._uuid.startswith(spool):
                ours[number] = origin
        here = fetch(self._cursor, _QUEUED, (as_json(ours),))
        return {row[0].removeprefix(IMPORTED) for row in rows} | {ours[row[0]] for row in here}

    # For notices

    def owed_notices(self, before: float, limit: int) -> tuple[list[int], float | None]:
        """Messages of which something has been owed to their senders since `before`; when the next one was."""
        rows = fetch(
            self._cursor,
            "SELECT DISTINCT message FROM (SELECT message FROM notice WHERE at <= ? AND digest = ''"
            " ORDER BY at LIMIT ?)",
            (before, limit),
        )
        (following,) = self._one(
            "SELECT min(at) FROM notice WHERE at > ? AND digest = ''", (before,)
        )
        return [row[0] for row in rows], following

    def owed_notice(self, number: int, limit: int, content: int) -> OwedNotice | None:
        """Up to `limit` recipients of the message, and up to `content` bytes of it; None: nothing is owed (any more)."""
        rows = fetch(self._cursor, _OWED, (number, limit))
        head = _MESSAGE.run(self._cursor, (number,))
        if not rows or not head:
            return None
        told, over = self._still_true([decode_told(data) for (data,) in rows])
        message = EntryReader(self._number, self._cut).message(head[0])
        prefix, body = self.body(message)
        if isinstance(body, SpillFile):
            body = _beginning(body, content)
        whole = prefix + body
        is_whole = len(whole) == message.size <= content
        return OwedNotice(message, told, over, whole[:content], is_whole)

    def _still_true(self, told: list[Told]) -> tuple[tuple[Told, ...], tuple[int, ...]]:
        """Those to be told, and the entries of delays that are over: they were taken meanwhile, or are gone."""
        delayed = [each.attempt.entry for each in told if each.action is Action.DELAYED]
        if not delayed:
            return tuple(told), ()
        waiting = {row[0] for row in fetch(self._cursor, _WAITING, (as_json(delayed),))}
        over = tuple(number for number in delayed if number not in waiting)
        return tuple(each for each in told if each.attempt.entry not in over), over

    def digests(self, after: str, limit: int) -> list[str]:
        """Addresses for which a digest is gathered, in their order, behind this one."""
        return [row[0] for row in fetch(self._cursor, _DIGESTS, (after, limit))]

    def digest(self, address: str, limit: int) -> tuple[tuple[Told, ...], tuple[int, ...]]:
        """Up to `limit` recipients of the digest for this address, and the entries of those that need not be told."""
        rows = fetch(self._cursor, _DIGEST, (address, limit))
        return self._still_true([decode_told(data) for (data,) in rows])

    # For the sweep

    def oldest(self, limit: int, after: int) -> list[Entry]:
        """Entries that are not held by an operator, from the oldest, beyond entry number `after`."""
        return list(self._entries(_OLDEST.run(self._cursor, (after, limit))))

    def reasons(self, numbers: list[int]) -> dict[int, str]:
        """Why each of these entries waits: its queue's last failure, else its own last reply. Those that are gone are missing."""
        return {row[0]: row[1] for row in _REASONS.run(self._cursor, (as_json(numbers),))}

    # For followers

    def events(self, cursor: int, limit: int) -> list[tuple[int, Event]]:
        """Events after the cursor, in order. What cannot be decoded is reported and passed over."""
        events = []
        for number, data in self.event_rows(cursor, limit):
            try:
                events.append((number, decode_event(data)))
            except msgspec.DecodeError as error:
                self._report(f"event {number} cannot be read: {error}")
        return events

    def event_rows(self, cursor: int, limit: int) -> list[tuple[int, bytes]]:
        """The same rows as they are, for another process to decode."""
        rows = _EVENTS.run(self._cursor, (cursor, limit))
        return [(number, bytes.fromhex(text)) for number, text in rows]

    # For the operator

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

    def paused_queues(self) -> list[QueueKey]:
        """The queues an operator stopped."""
        rows = fetch(self._cursor, "SELECT domain, vmta FROM queue WHERE paused = 1")
        return [QueueKey(*row) for row in rows]

    def held_jobs(self) -> dict[str, str]:
        """The jobs on hold, with the reasons."""
        return dict(fetch(self._cursor, "SELECT name, hold_reason FROM job WHERE held = 1"))

    def queue_state(self, key: QueueKey) -> QueueState | None:
        """The queue's durable row, if it has one."""
        found = fetch(
            self._cursor,
            "SELECT next_at, attempts, mode, reason, paused FROM queue WHERE domain = ? AND vmta = ?",
            key,
        )
        if not found:
            return None
        next_at, attempts, mode, reason, paused = found[0]
        return QueueState(key, next_at, attempts, mode, reason, bool(paused))

    def list_messages(self, wanted: Filter, limit: int, now: float) -> list[Listed]:
        """Up to `limit` entries that match, from the oldest."""
        listed: list[Listed] = []
        after: int | None = 0
        while after is not None and len(listed) < limit:
            found, after = self.search(wanted, limit - len(listed), after, now)
            listed += found
        return listed

    def search(
        self, wanted: Filter, limit: int, after: int, now: float
    ) -> tuple[list[Listed], int | None]:
        """Matching entries in the next window of numbers beyond `after`; where to go on, None at the end."""
        if not self._uuid.startswith(wanted.spool):
            return [], None  # another spool is meant
        (first,) = self._one("SELECT min(id) FROM recipient WHERE id > ?", (after,))
        if first is None:
            return [], None
        last = first + WINDOW - 1
        conditions, bindings = _conditions(wanted, now)
        source = (
            "FROM recipient r JOIN message m ON m.number = r.message JOIN queue q ON q.id = r.queue"
            f" WHERE r.id BETWEEN ? AND ?{conditions} ORDER BY r.id LIMIT ?"
        )
        if wanted.message:
            last = 1 << 62  # the message's own index makes it one short read
        query = RowQuery(
            f"{ENTRY_COLUMNS}, q.domain, q.vmta, r.held, r.hold_reason, r.reply", source
        )
        rows = query.run(self._cursor, (first, last, *bindings, limit))
        found = [
            Listed(entry, bool(row[-3]), row[-2], row[-1])
            for row, entry in zip(rows, self._entries(rows), strict=True)
        ]
        return found, (rows[-1][0] if len(rows) == limit else last)

    def _entries(self, rows: list[Row]) -> Iterator[Entry]:
        """Entries of rows that name their queue after `ENTRY_COLUMNS`."""
        reader = EntryReader(self._number, self._cut)
        keys: dict[tuple[str, str], QueueKey] = {}
        for row in rows:
            name = (row[ENTRY_WIDTH], row[ENTRY_WIDTH + 1])
            key = keys.get(name)
            if key is None:
                key = keys[name] = QueueKey(*name)
            yield reader.entry(row, key)

    def _readable(self, numbers: list[Row]) -> Iterator[Row]:
        """The rows of these entries that can be read; the others are put aside."""
        for (number,) in numbers:
            try:
                yield from _ONE.run(self._cursor, (number,))
            except (apsw.CorruptError, apsw.IOError, ValueError) as error:
                self._lost([number], str(error))

    def _lost(self, numbers: list[int], why: str) -> None:
        self._put_aside(numbers, f"unreadable: {why}")
        shown = ", ".join(map(str, numbers[:10])) + (" …" if len(numbers) > 10 else "")
        self._report(f"recipients {shown} cannot be read and are held: {why}")

    def _id(self, message: Message) -> str:
        return format_message_id(self._uuid, message.number)

    def _one(self, text: str, bindings: tuple[object, ...] = ()) -> Row:
        return list(fetch(self._cursor, text, bindings)[0])


def _conditions(wanted: Filter, now: float) -> tuple[str, list[object]]:
    """The WHERE terms of a filter and their values."""
    terms: list[str] = []
    values: list[object] = []
    exact = {
        "q.domain": wanted.domain or None,
        "q.vmta": wanted.vmta or None,
        "m.job": wanted.job,
        "m.number": wanted.message or None,
        "r.message": wanted.message or None,
        "r.id": wanted.entry or None,
        "r.held": None if wanted.held is None else int(wanted.held),
    }
    for column, value in exact.items():
        if value is not None:
            terms.append(f"{column} = ?")
            values.append(value)
    for column, pattern in (("m.sender", wanted.sender), ("r.address", wanted.recipient or None)):
        if pattern is not None:
            # GLOB knows more than `*`; the rest stands for itself.
            terms.append(f"{column} GLOB ?" if "*" in pattern else f"{column} = ?")
            values.append(
                pattern.replace("[", "[[]").replace("?", "[?]") if "*" in pattern else pattern
            )
    if wanted.hold_reason:
        terms.append("substr(r.hold_reason, 1, ?) = ?")
        values += (len(wanted.hold_reason), wanted.hold_reason)
    if wanted.domains is not None:
        terms.append("q.domain IN (SELECT value FROM json_each(?))")
        values.append(as_json(wanted.domains))
    if wanted.is_due is not None:
        terms.append("r.held = 0 AND r.due <= ?" if wanted.is_due else "r.held = 0 AND r.due > ?")
        values.append(now)
    bounds = (
        ("m.received_at <= ?", now - wanted.older_than_s, wanted.older_than_s),
        ("m.received_at > ?", now - wanted.younger_than_s, wanted.younger_than_s),
        ("m.size > ?", wanted.larger_than, wanted.larger_than),
        ("m.size < ?", wanted.smaller_than, wanted.smaller_than),
    )
    for term, bound, is_given in bounds:
        if is_given:
            terms.append(term)
            values.append(bound)
    return "".join(f" AND {term}" for term in terms), values


def _beginning(body: SpillFile, size: int) -> bytes:
    """Its first bytes; of a file that cannot be read, none: its sender is told all the same."""
    try:
        with open(body.path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""
