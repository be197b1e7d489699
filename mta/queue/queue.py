"""One (domain, virtual MTA) in memory, its connections, and what it knows of its entries on disk. State, hardly a rule.

Where an entry is: `ready` (waiting here), `flying` (in a transaction, or given up), settling (neither, but in `known` until its
settle is on disk), or on disk only. `disk` says what is there beyond `known`: MAYBE (never looked), MORE (due entries), KNOWN
(nothing due before `next_due`). So an entry on disk is always found by its queue, or, once the queue has left memory, by the
`due` of its row.
"""

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from mta.model.envelope import Entry, Priority, QueueKey
from mta.model.outcome import Failed
from mta.model.units import Rate
from mta.policy.rules import Demand, Place, QueuePolicy, VmtaRules
from mta.queue.actions import QueueState, Route
from mta.queue.priority import MAX_JUMPS
from mta.queue.window import Destination

if TYPE_CHECKING:
    from mta.queue.leases import Cell, Turn

NO_LIMIT = 1 << 60


class PolicySource(Protocol):
    """What the scheduler asks of `mta.policy.book.Book`."""

    def policy(self, key: QueueKey, site: str) -> QueuePolicy: ...

    def vmta(self, name: str) -> VmtaRules | None: ...

    def vmta_place(self, name: str) -> Place: ...

    def site_for(self, domain: str, mx_hosts: Sequence[str]) -> str: ...

    def demand(self, key: QueueKey, site: str, unproven: bool) -> Demand: ...

    def rate_keys(self, key: QueueKey, site: str) -> tuple[tuple[str, Rate, Place], ...]: ...

    def connection_rate_keys(
        self, key: QueueKey, site: str
    ) -> tuple[tuple[str, Rate, Place], ...]: ...

    def limit_places(self, key: QueueKey, site: str) -> dict[str, Place]: ...


class Disk(Enum):
    """What is on disk of a queue beyond what is in memory."""

    MAYBE = "maybe"
    MORE = "more"
    KNOWN = "known"


class Connection:
    """One lease's life: opening, open, closing."""

    __slots__ = (
        "cells",
        "destination",
        "failed",
        "idle_since",
        "is_closing",
        "is_idle",
        "is_open",
        "is_timed",
        "is_working",
        "lost_dot",
        "number",
        "opened_at",
        "queue",
        "served",
    )

    def __init__(
        self, number: int, queue: "Queue", cells: "list[Cell]", destination: Destination
    ) -> None:
        self.number = number
        self.queue = queue
        self.cells = cells
        self.destination = destination
        self.served = 0  # transactions
        self.is_open = False
        self.is_idle = False
        self.is_closing = False
        self.is_timed = False  # an alarm looks at its idleness
        self.is_working = False  # open, and nothing was held against it
        self.failed = False  # the queue was refused over it, and rests
        self.lost_dot = False  # it was lost before the reply to the final dot
        self.opened_at = 0.0
        self.idle_since = 0.0


class Queue:
    """No entry is in it twice; `known` holds at most a window of them."""

    __slots__ = (
        "alarm",
        "ask",
        "attempt_rates",
        "begun",
        "connect_rates",
        "connections",
        "destination",
        "disk",
        "enough",
        "flying",
        "generation",
        "groups",
        "idle",
        "is_dirty",
        "is_expiring",
        "is_forced",
        "is_from_disk",
        "is_recalling",
        "is_refilling",
        "is_resolving",
        "jumps",
        "key",
        "known",
        "left_behind",
        "max_messages",
        "max_recipients",
        "next_due",
        "not_before",
        "parked",
        "policy",
        "ready",
        "requests",
        "route",
        "route_at",
        "settled_meanwhile",
        "site",
        "state",
        "suspect",
        "token_block",
        "tokens",
        "tokens_until",
        "turn",
        "verdict",
        "verdict_until",
    )

    def __init__(self, key: QueueKey, state: QueueState, policy: QueuePolicy) -> None:
        self.key = key
        self.state = state
        self.policy = policy
        self.max_messages = policy.max_messages_per_connection
        self.max_recipients = policy.max_recipients_per_message
        self.generation = 0  # of the book the policy is from
        # Entries.
        self.ready: deque[Entry] = deque()
        self.groups = 0  # runs of one message in `ready`: about the number of transactions
        self.jumps = MAX_JUMPS  # so many entries of high priority may pass the others now
        self.begun = 0  # batches, ever: one that stands still shows by it
        self.known: set[int] = set()
        self.flying: dict[Entry, Connection | None] = {}  # None: given up without an attempt
        # The disk.
        self.disk = Disk.MAYBE
        self.next_due: float | None = None
        self.left_behind = False  # something stayed on disk since the running Refill was asked
        self.settled_meanwhile: set[int] = set()  # since then too: the answer may still show them
        # Where to.
        self.route: Route | None = None
        self.route_at = 0.0
        self.site = ""
        self.destination: Destination | None = None
        self.verdict: Failed | None = None  # the domain takes no mail
        self.verdict_until = 0.0
        # Connections.
        self.connections: dict[int, Connection] = {}
        self.idle: list[Connection] = []  # the last to become idle works first; the others grow old
        self.requests: set[int] = set()
        self.parked: object = None  # the line where it waits to ask for a lease
        self.turn: Turn | None = None  # it is its turn to ask
        self.enough = 0  # up to so many groups, the connections there are will do
        # Rates.
        self.attempt_rates: tuple[tuple[str, Rate], ...] = ()
        self.connect_rates: tuple[tuple[str, Rate], ...] = ()
        self.token_block = 1  # how many are asked for at once
        self.tokens = 0
        self.tokens_until = 0.0
        self.ask = 0  # the number of the running AskTokens
        self.not_before = 0.0  # its own slow rate allows nothing earlier
        # Housekeeping.
        self.suspect = 0  # the message under which it was refused twice running
        self.alarm = float("inf")
        self.is_dirty = False
        self.is_recalling = False
        self.is_refilling = False
        self.is_resolving = False
        self.is_expiring = False
        self.is_from_disk = False
        self.is_forced = (
            False  # the operator asked for a try: what is held against the site is void
        )

    def push(self, entry: Entry) -> None:
        """Append to `ready`; the caller has put it into `known`."""
        ready = self.ready
        if not ready or ready[-1].message is not entry.message:
            self.groups += 1
        ready.append(entry)

    def push_front(self, entry: Entry) -> None:
        """Back to where it was taken from."""
        ready = self.ready
        if not ready or ready[0].message is not entry.message:
            self.groups += 1
        ready.appendleft(entry)

    def push_ahead(self, entry: Entry) -> None:
        """Behind what is of high priority in `ready`, ahead of everything else."""
        ready = self.ready
        at = 0
        for other in ready:
            if other.message.priority is not Priority.HIGH:
                break
            at += 1
        if not at or ready[at - 1].message is not entry.message:
            self.groups += 1
        ready.insert(at, entry)

    def count_groups(self) -> None:
        """After entries were taken out of the middle of `ready`."""
        last = None
        groups = 0
        for entry in self.ready:
            if entry.message is not last:
                groups, last = groups + 1, entry.message
        self.groups = groups

    def leave_on_disk(self) -> None:
        """Forget what is ready: the disk has it. The rest of the queue goes on."""
        if self.ready:
            self.known.difference_update(map(entry_id, self.ready))
            self.ready.clear()
            self.groups = 0
            self.note_left_behind()

    def note_left_behind(self) -> None:
        """An entry that is due stayed on disk, beyond the window or because the queue rests."""
        self.disk = Disk.MORE
        self.left_behind = True

    def note_due(self, due: float) -> None:
        """An entry on disk becomes due then."""
        if self.next_due is None or due < self.next_due:
            self.next_due = due


def entry_id(entry: Entry) -> int:
    """A number of its own for every entry of a worker: a worker drives fewer than 256 spools."""
    return entry.number << 8 | entry.message.spool
