"""Between rows and values: many-row inserts in few statements, and results of many rows in one.

Whoever steps through SQLite gives up the interpreter's lock at every statement and every row, and waits for it again: beside a
busy loop a 64-message commit took 1,031 ms row by row and 39 ms in many-row statements. So a batch is bound as one flat list,
sets of numbers go in as one JSON text, and results come out as one: `json_group_array`, which returns doubles exactly.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from mta.model.envelope import Content, Entry, Message, Priority, QueueKey, SpillFile
from mta.queue.actions import QueueState

# apsw caches no statement of more than 16,384 characters; the rest of the text takes less than 400.
_MAX_TEXT = 15_900

MESSAGE_COLUMNS = (
    "number, received_at, sender, size, vmta, job, envid, ret, content, source_kind, source_ip,"
    " source_name, user, licence_held_s, body_file, prefix, body"
)
RECIPIENT_COLUMNS = (
    "queue, job, id, message, size, address, due, notify, orcpt, release_at, priority"
)

# What a reader needs of a recipient and its message, in the order `entry_of` takes them.
_RECIPIENT = (
    "r.id, r.address, r.notify, r.orcpt, r.due, r.attempts, r.first_attempt, r.crashes,"
    " r.may_repeat, r.release_at, r.priority"
)
_RECIPIENT_WIDTH = 11
HEAD_COLUMNS = (
    "m.number, m.sender, m.size, m.received_at, m.vmta, m.job, m.envid, m.ret, m.content,"
    " m.source_kind, m.source_ip, m.source_name, m.user, m.licence_held_s"
)
_HEAD_WIDTH = 14
ENTRY_COLUMNS = f"{_RECIPIENT}, {HEAD_COLUMNS}"
ENTRY_WIDTH = _RECIPIENT_WIDTH + _HEAD_WIDTH

_PRIORITIES = tuple(Priority)  # by its number: a look-up in the enum is Python code

# Rows of `meta` whose names begin so say which exported messages were imported. They are many, and never read whole.
IMPORTED = "imported."
STATE_COLUMNS = "q.domain, q.vmta, q.next_at, q.attempts, q.mode, q.reason, q.paused"

Row = list[Any]

_encode = msgspec.json.Encoder().encode
decode_rows = msgspec.json.Decoder(list[Row]).decode


def fetch(
    source: apsw.Connection | apsw.Cursor, text: str, bindings: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    """All rows of a statement of few rows, stepped to its end (a pragma half-read blocks the next statement)."""
    return source.execute(text, bindings).fetchall()


class RowInsert:
    """Inserts any number of rows of one table in one statement, or a few for very many.

    There is a text for each power of two, and the last rows of one stay empty: beside a busy loop that is 12,000 msg/s, and
    9,000 with a statement for each power of two in the number of rows. The first column is never NULL.
    """

    def __init__(self, table: str, columns: str, *, verb: str = "INSERT") -> None:
        self._width = width = columns.count(",") + 1
        row = "(" + ",".join("?" * width) + ")"
        most = 1 << ((_MAX_TEXT // (len(row) + 1)).bit_length() - 1)
        self._most = most
        self._texts = {
            size: f"{verb} INTO {table} ({columns}) SELECT * FROM (VALUES {','.join([row] * size)})"
            " WHERE column1 IS NOT NULL"
            for size in (1 << power for power in range(most.bit_length()))
        }

    def run(self, cursor: apsw.Cursor, flat: list[Any]) -> None:
        """Insert the rows whose values stand in `flat` one after the other; `flat` is padded."""
        width, whole = self._width, self._most * self._width
        at, end = 0, len(flat)
        while end - at >= whole:
            cursor.execute(self._texts[self._most], flat[at : at + whole])
            at += whole
        left = (end - at) // width
        if left:
            size = 1 << (left - 1).bit_length()
            flat += [None] * ((size - left) * width)
            cursor.execute(self._texts[size], flat[at:] if at else flat)


class RowQuery:
    """A SELECT whose rows are fetched as one value. No blobs; no commas inside a column but between two."""

    def __init__(self, columns: str, source: str) -> None:
        split = [column.strip() for column in columns.split(",")]
        names = ",".join(f"c{n}" for n in range(len(split)))
        aliased = ", ".join(f"{column} AS c{n}" for n, column in enumerate(split))
        self._text = (
            f"SELECT json_group_array(json_array({names})) FROM (SELECT {aliased} {source})"
        )

    def run(self, cursor: apsw.Cursor, bindings: Sequence[Any] = ()) -> list[Row]:
        """The rows. Raises apsw.Error, and ValueError on text that is none."""
        return decode_rows(fetch(cursor, self._text, bindings)[0][0])


def as_json(values: Iterable[Any]) -> str:
    """A list as JSON text, for `json_each(?)`. Raises UnicodeEncodeError on text that is none."""
    return _encode(list(values)).decode()


def clean_text(text: str) -> str:
    """The text without what UTF-8 cannot hold (a remote reply may bring anything)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def message_row(
    message: Message, body_file: str, prefix: bytes, body: bytes | SpillFile
) -> tuple[Any, ...]:
    """The message's row, of `MESSAGE_COLUMNS`."""
    return (
        message.number,
        message.received_at,
        message.sender,
        message.size,
        message.vmta,
        message.job,
        message.envid,
        message.ret,
        int(message.content),
        message.source_kind,
        message.source_ip,
        message.source_name,
        message.user,
        message.licence_held_s,
        body_file,
        prefix,
        None if body_file else body,
    )


def state_of(row: Row) -> QueueState:
    """The queue's state from a row of `STATE_COLUMNS`."""
    domain, vmta, next_at, attempts, mode, reason, paused = row
    return QueueState(QueueKey(domain, vmta), next_at, attempts, mode, reason, bool(paused))


class EntryReader:
    """Makes entries of rows of `ENTRY_COLUMNS`; entries of one message share its Message.

    `cut`: number and due time up to which an entry may have been in flight when the power went.
    """

    def __init__(self, spool: int, cut: tuple[int, float]) -> None:
        self._spool = spool
        self._cut_number, self._cut_due = cut
        self._messages: dict[int, Message] = {}

    def entry(self, row: Row, key: QueueKey) -> Entry:
        """The entry of a row. Its message must be there (`row[_RECIPIENT_WIDTH]` not None)."""
        number, address, notify, orcpt, due, attempts, first_attempt, crashes, may_repeat = row[:9]
        message = self._messages.get(row[_RECIPIENT_WIDTH])
        if message is None:
            message = self.message(row[_RECIPIENT_WIDTH:ENTRY_WIDTH])
            message.release_at, message.priority = row[9], _PRIORITIES[row[10]]
        return Entry(
            message,
            key,
            address,
            number=number,
            notify=notify,
            orcpt=orcpt,
            due=due,
            attempts=attempts,
            first_attempt=first_attempt,
            crashes=crashes,
            may_repeat=bool(may_repeat) or (number <= self._cut_number and due <= self._cut_due),
        )

    @staticmethod
    def has_message(row: Row) -> bool:
        """Whether the row's message exists."""
        return row[_RECIPIENT_WIDTH] is not None

    def message(self, head: Row) -> Message:
        """The message of a row of `HEAD_COLUMNS`."""
        number, sender, size, received_at, vmta, job, envid, ret, content, *source = head
        message = Message(
            self._spool,
            number,
            sender,
            size,
            received_at,
            vmta,
            job,
            envid,
            ret,
            Content(content),
            *source,
        )
        self._messages[number] = message
        return message
