"""What the scheduler wants done: values that the dispatcher carries out, each answered later by a fact.

Every action says which fact answers it. An action that is never answered stops its queue, so the dispatcher answers even a
read that failed (with what it has: an empty list, a plain `QueueState(key)`).
"""

from collections.abc import Container
from dataclasses import dataclass

from mta.model.envelope import Entry, QueueKey
from mta.model.outcome import Deferred, Failed
from mta.model.units import Rate
from mta.policy.rules import Demand

# What an attempt takes a token of: (governor key, rate).
RateDemand = tuple[tuple[str, Rate], ...]

# The `due` of a queue that only the operator wakes.
NEVER = 1e12


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
    """Ask the governor for a connection; answer with `Scheduler.granted`. `request` names this request.

    `demand`: the keys of the lease, all or none; `rates`: one token of each goes with the grant (`connection_rate`).
    """

    request: int
    key: QueueKey
    demand: Demand
    rates: RateDemand = ()


@dataclass(frozen=True, slots=True)
class WithdrawRequest:
    """The queue no longer wants what it asked for. Not answered."""

    request: int


@dataclass(frozen=True, slots=True)
class ReleaseLease:
    """A lease came that nobody needs any more: give it back (`Governor.release(lease, False)`). Not answered."""

    lease: int


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """Connect for this queue under this lease; answer with `opened`, and in any case, at the end, with `closed`.

    `connect_timeout` is the short one while others wait and nothing has answered here lately.
    """

    connection: int
    key: QueueKey
    lease: int
    route: Route
    connect_timeout: float


@dataclass(frozen=True, slots=True)
class HurryConnect:
    """This connection is given up unless the host answers within `connect_timeout` from now. Not answered."""

    connection: int
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
    """Ask the governor for up to `count` attempts, a token of every rate each; answer with `Scheduler.tokens(ask, …)`.

    All rates in one ask: were they asked one by one, a token of a fast rate would grow old while a slow one is awaited.
    """

    ask: int
    rates: RateDemand
    count: int


@dataclass(frozen=True, slots=True)
class ReturnTokens:
    """So many attempts were not made (`Governor.return_tokens`); they could have been until then. Not answered."""

    rates: RateDemand
    count: int
    until: float


@dataclass(frozen=True, slots=True)
class Recall:
    """Read the durable row of this queue; answer with `Scheduler.recalled` (`QueueState(key)` where there is none)."""

    key: QueueKey


@dataclass(frozen=True, slots=True)
class Refill:
    """Read up to `limit` due entries of this queue from the spools, earliest first; answer with `Scheduler.refilled`.

    What the answer repeats of entries in memory is recognised by number.
    """

    key: QueueKey
    limit: int


@dataclass(frozen=True, slots=True)
class FindDue:
    """Read up to `limit` queues that are due on disk, earliest first; answer with `Scheduler.found`.

    `held`: the queues in memory, alive and readable from any thread by `in` alone: a spool that leaves them out saves
    reading them again and again. One that does not is asked for more the next time.
    """

    limit: int
    held: Container[QueueKey] = ()


@dataclass(frozen=True, slots=True)
class Postpone:
    """Write the queue's durable row (mode "normal": it has recovered). Not answered.

    `why`: what postponed it, for the event; None where only the state changed.
    """

    state: "QueueState"
    why: Deferred | None = None


@dataclass(frozen=True, slots=True)
class Evict:
    """The queue left memory; write `due`, when it must be looked at again (None: nothing is left in it). Not answered.

    Also said of a queue that never was in memory, to put its row right. Mail accepted later lowers the row by itself.
    """

    key: QueueKey
    due: float | None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Settle these entries with this outcome though no attempt is made: expired, or the domain takes no mail.

    Each goes through `Scheduler.settle` and `settled` as if it had been tried.
    """

    key: QueueKey
    entries: tuple[Entry, ...]
    outcome: Failed


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the schedulers of all other workers how this destination stands; there it is `Scheduler.heard`. Not answered.

    `attempts`: failures in a row, 0: it works; `until`: no new connection before.
    """

    site: str
    vmta: str
    until: float = 0.0
    attempts: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Call `next_actions` again at this time at the latest. Replaces the one before."""

    at: float


Action = (
    Resolve
    | RequestLease
    | WithdrawRequest
    | ReleaseLease
    | OpenConnection
    | HurryConnect
    | Deliver
    | CloseConnection
    | AskTokens
    | ReturnTokens
    | Recall
    | Refill
    | FindDue
    | Postpone
    | Evict
    | GiveUp
    | Tell
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
