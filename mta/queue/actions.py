"""What the scheduler wants done: values that the dispatcher carries out, each answered later by a fact."""

from dataclasses import dataclass

from mta.model.envelope import QueueKey

# Key of a governor limit, and how many it allows: ("site:google|a", 20).
Demand = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One address to try: of one MX host, at one port."""

    host: str  # MX host name, as records show it
    address: str  # IPv4 or IPv6
    port: int
    preference: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """Where a domain's mail goes: its site and candidates, best first."""

    site: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Resolve:
    """Find the queue's route; answer with `Scheduler.resolved`."""

    key: QueueKey


@dataclass(frozen=True, slots=True)
class RequestLease:
    """Ask the governor for a connection; answer with `Scheduler.granted`. `request` names this request."""

    request: int
    key: QueueKey
    demand: Demand


@dataclass(frozen=True, slots=True)
class WithdrawRequest:
    """The queue no longer wants what it asked for."""

    request: int


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """Connect for this queue under this lease; answer with `opened` or `closed`.

    `unproven`: others wait and nothing has answered here lately, so the connect time-out is the short one.
    """

    connection: int
    key: QueueKey
    lease: int
    route: Route
    connect_timeout: float


@dataclass(frozen=True, slots=True)
class Deliver:
    """This idle connection may take work: it asks `Scheduler.next_batch`."""

    connection: int


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Say QUIT once the running transaction is over; answer with `closed`."""

    connection: int
    reason: str


@dataclass(frozen=True, slots=True)
class AskTokens:
    """Ask the governor for `count` attempts of this rate key; answer with `Scheduler.tokens`."""

    rate_key: str
    count: int


@dataclass(frozen=True, slots=True)
class Refill:
    """Read up to `limit` due entries of this queue from the spools; answer with `Scheduler.refilled`."""

    key: QueueKey
    limit: int


@dataclass(frozen=True, slots=True)
class FindDue:
    """Read up to `limit` queues that are due on disk; answer with `Scheduler.found`."""

    limit: int


@dataclass(frozen=True, slots=True)
class Postpone:
    """Write the queue's durable row: it rests until `next_at`; `reply` is what the operator is told."""

    state: "QueueState"


@dataclass(frozen=True, slots=True)
class Evict:
    """The queue left memory; `due` is when it must be looked at again (None: nothing is left in it)."""

    key: QueueKey
    due: float | None


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Call `next_actions` again at this time at the latest."""

    at: float


Action = (
    Resolve
    | RequestLease
    | WithdrawRequest
    | OpenConnection
    | Deliver
    | CloseConnection
    | AskTokens
    | Refill
    | FindDue
    | Postpone
    | Evict
    | WakeAt
)


@dataclass(frozen=True, slots=True)
class QueueState:
    """The durable row of a queue: what survives a restart.

    `mode`: "normal", "backoff" or "suspend"; `paused`: the operator's stop; `attempts`: failures of the queue in a
    row; `reason`: the last of them, as the operator reads it.
    """

    key: QueueKey
    next_at: float = 0.0
    attempts: int = 0
    mode: str = "normal"
    reason: str = ""
    paused: bool = False
