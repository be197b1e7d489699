"""What the loop hands to the spool's thread: operations to write, and reads. Values without behaviour.

They are made on the loop with all that can be prepared there, so that the thread has little to do a row.
"""

from collections.abc import Callable
from typing import Any

from mta.model.envelope import QueueKey
from mta.model.errors import SpoolError
from mta.model.event import Event
from mta.queue.actions import QueueState


class Accept:
    """A message and its recipients."""

    __slots__ = (
        "answers",
        "body_file",
        "data",
        "done",
        "event",
        "job",
        "keys",
        "message",
        "origin",
        "rows",
        "size",
    )

    def __init__(
        self,
        message: tuple[Any, ...],
        keys: list[QueueKey],
        rows: list[tuple[Any, ...]],
        job: str,
        size: int,
        body_file: str,
        event: Event | None,
        data: bytes,
        done: Callable[[SpoolError | None], None],
        origin: str = "",
        answers: "Answers | None" = None,
    ) -> None:
        self.message = message
        self.keys = keys  # one a recipient
        self.rows = rows  # RECIPIENT_COLUMNS without queue and job
        self.job = job
        self.size = size  # bytes the batch grows by
        self.body_file = body_file
        self.event = event
        self.data = data
        self.done = done
        self.origin = origin  # the id it had in the spool it was exported from
        self.answers = answers  # it is a notice: these are no longer owed


class Answers:
    """Notices no longer owed: the entries (None: all of the message), and the message, which goes if nothing needs it."""

    __slots__ = ("entries", "message")

    def __init__(self, message: int, entries: list[int] | None) -> None:
        self.message = message
        self.entries = entries


class Owe:
    """Delays that senders are to be told of, of entries that still wait; and how far these were looked for."""

    __slots__ = ("done", "meta", "rows")

    def __init__(
        self,
        rows: list[tuple[int, int, float, str]],
        meta: tuple[str, bytes],
        done: Callable[[], None],
    ) -> None:
        self.rows = rows  # entry, message, when, what is told in hexadecimal
        self.meta = meta
        self.done = done


class Fold:
    """What is owed of these entries of a message is told in a digest, and the message goes if nothing else needs it."""

    __slots__ = ("address", "done", "dropped", "entries", "limit", "message")

    def __init__(
        self,
        message: int,
        entries: list[int],
        address: str,
        limit: int,
        done: Callable[[int], None],
    ) -> None:
        self.message = message
        self.entries = entries
        self.address = address
        self.limit = limit  # no digest holds more
        self.done = done  # with the number of entries beyond it, which nobody is told of
        self.dropped = 0


class Settle:
    """Outcomes: recipients gone, and recipients that wait or are held."""

    __slots__ = ("datas", "done", "events", "gone", "messages", "owed", "updates")

    def __init__(
        self,
        gone: list[int],
        messages: list[int],
        updates: list[tuple[Any, ...]],
        events: list[Event],
        datas: list[bytes],
        done: Callable[[], None] | None,
        owed: list[tuple[Any, ...]],
    ) -> None:
        self.gone = gone
        self.messages = messages  # of those gone: deleted when none of their recipients is left
        self.updates = updates  # number, due, attempts, first attempt, may repeat, held, why, reply
        self.events = events
        self.datas = datas
        self.done = done
        self.owed = owed  # notices: entry, message, when, the event's bytes


class Postpone:
    """A queue's durable row."""

    __slots__ = ("data", "event", "now", "state")

    def __init__(self, state: QueueState, event: Event | None, data: bytes, now: float) -> None:
        self.state = state
        self.event = event
        self.data = data
        self.now = now


class Evict:
    """A queue left memory."""

    __slots__ = ("due", "key", "seen_entry")

    def __init__(self, key: QueueKey, due: float | None, seen_entry: int) -> None:
        self.key = key
        self.due = due
        self.seen_entry = seen_entry  # entries beyond it are not known to the scheduler yet


class PutMeta:
    """A small value of its own; None removes it."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: bytes | None) -> None:
        self.name = name
        self.value = value


class HoldJob:
    """A job is held, or (reason None) released."""

    __slots__ = ("job", "now", "reason")

    def __init__(self, job: str, reason: str | None, now: float) -> None:
        self.job = job
        self.reason = reason
        self.now = now


class HoldEntries:
    """Entries are held, or (reason None) released."""

    __slots__ = ("done", "now", "numbers", "reason")

    def __init__(
        self,
        numbers: list[int],
        reason: str | None,
        now: float,
        done: Callable[[], None] | None,
    ) -> None:
        self.numbers = numbers
        self.reason = reason
        self.now = now
        self.done = done


class Wake:
    """The queues of these entries must be looked at now."""

    __slots__ = ("now", "numbers")

    def __init__(self, numbers: list[int], now: float) -> None:
        self.numbers = numbers
        self.now = now


class LookAgain:
    """Queues that would be looked at until then must be looked at now."""

    __slots__ = ("now", "until")

    def __init__(self, now: float, until: float) -> None:
        self.now = now
        self.until = until


class Reroute:
    """Entries go to other queues."""

    __slots__ = ("done", "moves", "now")

    def __init__(
        self, moves: list[tuple[int, QueueKey]], now: float, done: Callable[[], None]
    ) -> None:
        self.moves = moves  # number, its queue from now on
        self.now = now
        self.done = done


class WakeParked:
    """Queues that were evicted for good are due now: those of these virtual MTAs, or (None) all."""

    __slots__ = ("done", "is_more", "now", "vmtas")

    def __init__(
        self, vmtas: list[str] | None, now: float, done: Callable[["WakeParked"], None]
    ) -> None:
        self.vmtas = vmtas
        self.now = now
        self.done = done
        self.is_more = False  # a chunk was woken; there are more


class Prune:
    """Events up to this id have been read by everyone who must."""

    __slots__ = ("up_to",)

    def __init__(self, up_to: int) -> None:
        self.up_to = up_to


class Read:
    """A question for the thread, answered on the loop after everything written before it is on disk."""

    __slots__ = ("answer", "ask", "fail")

    def __init__(
        self,
        ask: Callable[[Any], Any],
        answer: Callable[[Any], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.ask = ask
        self.answer = answer
        self.fail = fail


class EarlyRead(Read):
    """A question that need not see what was written just before it: answered as soon as the thread is free, ahead of the batch.

    Bodies never change and are asked for long after they were written; a connection waits for them.
    """

    __slots__ = ()


class Close:
    """The last operation."""

    __slots__ = ()


Write = (
    Accept
    | Answers
    | Owe
    | Fold
    | Settle
    | Postpone
    | Evict
    | PutMeta
    | HoldJob
    | HoldEntries
    | Wake
    | LookAgain
    | Reroute
    | WakeParked
    | Prune
)
Operation = Write | Read | Close
