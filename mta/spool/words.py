"""The nouns of the spool's contract: what goes in and comes out of it, and nothing of how it is kept.

Nothing here is SQLite's own: a shared database can stand behind the same words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mta.model.envelope import Entry, Message, QueueKey
from mta.model.errors import SpoolError
from mta.model.event import Event
from mta.model.told import Told


class SpoolFull(SpoolError):
    """No room on the disk for this message now; what is queued goes on."""

    is_full = True


class SpoolLocked(SpoolError):
    """Another process owns this spool."""

    def __init__(self, path: str, pid: int) -> None:
        owner = f"process {pid}" if pid else "another process"
        super().__init__(f"the spool {path} is in use by {owner}; stop that one first")
        self.pid = pid


@dataclass(slots=True)
class Settlement:
    """What becomes of an entry after an attempt: gone (`due` is None), due again, or held.

    `reply` is what the operator is shown as the last answer.
    """

    entry: Entry
    due: float | None
    event: Event | None = None
    hold: str = ""  # a reason: the entry is held, not due
    reply: str = ""
    keep_reply: bool = False  # only the time changes
    owes_notice: bool = (
        False  # the sender is to be told: kept, with the message, until a notice does
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """How far the look for delayed mail has come.

    `later`: entries it passed because they wait for a time their sender set, as first and last number of those to be looked at
    in one and the same span of time.
    """

    entry: int = 0
    later: Mapping[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries an operator means: those that match everything given.

    `sender` and `recipient` may hold `*`; a `sender` of "" is the null sender. `spool` is how the UUID of the one spool meant
    begins: a message's number means something only there. `site` is nothing a spool knows: who knows the routes names the
    `domains` instead.
    """

    domain: str = ""
    domains: tuple[str, ...] | None = None
    site: str = ""
    vmta: str = ""
    job: str | None = None
    sender: str | None = None
    recipient: str = ""
    message: int = 0
    spool: str = ""
    entry: int = 0
    older_than_s: float = 0.0
    younger_than_s: float = 0.0
    larger_than: int = 0  # bytes
    smaller_than: int = 0  # bytes; 0: any
    held: bool | None = None
    is_due: bool | None = None  # its own time has come, or not yet; what is held is neither
    hold_reason: str = ""  # how the reason of a held entry begins


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry as an operator sees it."""

    entry: Entry
    held: bool
    hold_reason: str
    reply: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What the spool holds. `size_bytes` is the database's used part, without the body files."""

    messages: int
    recipients: int  # of which:
    due: int
    deferred: int
    held: int
    queues: int
    size_bytes: int
    events: int
    event_bytes: int


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One queue as an operator sees it in the table of queues."""

    key: QueueKey
    recipients: int
    held: int
    size_bytes: int  # a message counts once for each of its recipients
    oldest_at: float  # when its oldest message was received
    due: float | None  # its earliest entry's
    next_at: float
    attempts: int
    mode: str
    reason: str
    paused: bool


@dataclass(frozen=True, slots=True)
class Holds:
    """What is held as a whole; single entries and paused queues aside."""

    everything: str | None  # the reason
    jobs: dict[str, str]  # name → reason
    licence_since: float | None


@dataclass(frozen=True, slots=True)
class OwedNotice:
    """What a notice to a message's sender is made of: its recipients, and the message as far as it may be returned."""

    message: Message
    told: tuple[Told, ...]
    over: tuple[int, ...]  # entries whose delay is over: nobody need be told of it any more
    content: bytes  # prefix and body, from the beginning
    is_whole: bool  # `content` is all of it


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Room on the spool's file system; free pages of the database count as free."""

    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int  # 0: the file system does not count them

    def is_under(self, share_or_bytes: float) -> bool:
        """Whether less is left than a share (a float below 1) or a number of bytes (an int)."""
        if isinstance(share_or_bytes, int):
            return self.free_bytes < share_or_bytes
        return self.free_bytes < self.total_bytes * share_or_bytes or (
            self.free_inodes < self.total_inodes * share_or_bytes
        )


@dataclass(slots=True)
class Start:
    """What was found when the spool was opened."""

    created: bool = False
    clean: bool = True
    power_cut: bool = False  # the machine stopped too, or nothing is known of what was in flight
    repeated: int = 0  # entries that were in flight
    poison: list[int] = field(default_factory=list)  # entries now held
    removed_bodies: int = 0  # body files no message names
    last_event: int = 0  # the last that is in the table, or was before it was pruned
