"""Shapes of what a running server answers about queued mail: queues, messages, groups, virtual MTAs, orders, waits."""

from mta.cli.answers.words import (
    UNSET,
    Annotated,
    Bytes,
    MaybeTime,
    Meta,
    Shape,
    Silent,
    Time,
    UnsetType,
)

OLDEST = Meta(description="When its oldest message came; 0 if it is empty. Unix time in seconds.")


class Wait(Shape):
    """One reason why something waits."""

    what: Annotated[str, Meta(description="The reason, in words.")]
    of: Annotated[str, Meta(description="The queue, or `ID to RECIPIENT`, that waits for it.")]
    until: Annotated[MaybeTime, Meta(description="null: nobody can know.")]
    place: Annotated[str, Meta(description='Where the value or the order was set; "" for none.')]
    command: Annotated[str, Meta(description='What ends it, if an operator stopped it; else "".')]


class Explained(Shape):
    """Every reason at once. None: it is empty, or being delivered."""

    what: str
    waits: list[Wait]
    silent: Silent


class QueueRow(Shape):
    """One queue."""

    queue: Annotated[str, Meta(description="`domain/vmta`.")]
    domain: str
    vmta: str
    recipients: int
    held: Annotated[int, Meta(description="Recipients of these that an operator holds.")]
    size_bytes: Annotated[Bytes, Meta(description="A message counts for each recipient.")]
    oldest_at: Annotated[float, OLDEST]
    due: Annotated[MaybeTime, Meta(description="When its first recipient is due.")]
    next_at: Annotated[Time, Meta(description="When the queue itself goes on; 0: at once.")]
    attempts: Annotated[int, Meta(description="Failures of the queue in a row.")]
    mode: Annotated[str, Meta(description="`normal`, `backoff`, `stopped`, `held`.")]
    reason: Annotated[str, Meta(description="The last error, or why it is stopped or held.")]
    paused: Annotated[bool, Meta(description="By `sluice queue pause`.")]
    site: Annotated[str, Meta(description='"": not resolved yet.')]
    ready: Annotated[int, Meta(description="Recipients in memory that are due.")]
    in_flight: int
    connections: int


class Setting(Shape):
    """A value of a queue's policy."""

    name: str
    value: Annotated[str, Meta(description="As a configuration writes it.")]
    place: Annotated[str, Meta(description="Where it is set.")]


class QueueShown(QueueRow):
    """One queue, why it waits, and its policy."""

    waits: list[Wait]
    policy: list[Setting]
    silent: Silent


class Queues(Shape):
    """The first queues in the order asked for."""

    total: Annotated[int, Meta(description="How many there are.")]
    total_is_exact: Annotated[bool, Meta(description="false: at least so many.")]
    queues: list[QueueRow]
    missing: Annotated[
        int, Meta(description="What a queue that is not shown may have; 0: no more than the last.")
    ]
    silent: Silent


class QueuePaused(Shape):
    """A queue was paused or resumed."""

    queue: str
    paused: bool
    silent: Silent
    was_paused: bool | UnsetType = UNSET


class QueueRetried(Shape):
    """All of a queue is due."""

    queue: str
    due: Annotated[int, Meta(description="Recipients that became due.")]
    silent: Silent


class Order(Shape):
    """An order of an operator."""

    scope: Annotated[str, Meta(description="`domain`, `site`, `job` or `queue`.")]
    name: str
    setting: Annotated[str, Meta(description="`pause`, `drain`, or the limit.")]
    value: Annotated[str, Meta(description="A limit's value; else the reason.")]
    until: Annotated[MaybeTime, Meta(description="null: until it is ended.")]
    by: Annotated[str, Meta(description='The user who gave it; "": not known.')]
    given_at: MaybeTime
    command: Annotated[str, Meta(description="What ends it.")]


class Orders(Shape):
    """Orders in force, or those that were just given."""

    orders: list[Order]


class Recalled(Shape):
    """Orders that were ended."""

    name: str
    recalled: Annotated[int, Meta(description="How many there were.")]


class Group(Shape):
    """What is queued for one domain, site or job."""

    name: str
    recipients: int
    held: int
    size_bytes: Bytes
    oldest_at: Annotated[float, OLDEST]
    queues: int
    orders: list[Order]


class Domains(Shape):
    """What is queued, by domain."""

    domains: list[Group]
    total: int
    total_is_exact: bool
    silent: Silent


class Sites(Shape):
    """What is queued, by site."""

    sites: list[Group]
    total: int
    total_is_exact: bool
    silent: Silent


class Jobs(Shape):
    """What is queued, by job."""

    jobs: list[Group]
    total: int
    total_is_exact: bool
    silent: Silent


class Vmta(Shape):
    """A virtual MTA: one of the configuration, or one that is gone and has mail."""

    vmta: str
    addresses: list[str]
    ehlo_name: str
    total_connections: Annotated[int | None, Meta(description="The limit; null: none.")]
    total_message_rate: str | None
    pools: list[str]
    state: Annotated[
        str,
        Meta(description="`running`, `paused`, `drained`, `no address`, `gone` or `unknown`."),
    ]
    reason: str
    recipients: int
    queues: int
    connections: int
    delivered: int
    delivered_last_minute: int


class Vmtas(Shape):
    """The virtual MTAs."""

    vmtas: list[Vmta]
    silent: Silent


class VmtaState(Shape):
    """What an operator wants of a virtual MTA."""

    vmta: str
    state: str
    silent: Silent


class Recipient(Shape):
    """One queued recipient of a message."""

    id: Annotated[str, Meta(description="The message's id.")]
    message: Annotated[int, Meta(description="Its number in its spool.")]
    spool: int
    recipient: str
    sender: Annotated[str, Meta(description='"": the null sender.')]
    queue: str
    job: str
    size: Bytes
    received_at: Time
    attempts: int
    due: Time
    status: Annotated[
        str, Meta(description="`due`, `deferred`, `scheduled`, `held` or `in flight`.")
    ]
    release_at: Annotated[MaybeTime, Meta(description="Not before; null: at once.")]
    priority: Annotated[str, Meta(description="`high`, `normal` or `low`.")]
    held: bool
    hold_reason: str
    last_reply: str


class Recipients(Shape):
    """Queued recipients, the oldest first."""

    recipients: list[Recipient]
    silent: Silent


class Held(Shape):
    """Recipients that were held; with `--dry-run` the other number."""

    silent: Silent
    held: int | UnsetType = UNSET
    would_hold: int | UnsetType = UNSET


class Released(Shape):
    """Recipients that were released; with `--dry-run` the other number."""

    silent: Silent
    released: int | UnsetType = UNSET
    would_release: int | UnsetType = UNSET


class Deleted(Shape):
    """Recipients that were deleted; with `--dry-run` the other number."""

    silent: Silent
    deleted: int | UnsetType = UNSET
    would_delete: int | UnsetType = UNSET


class Retried(Shape):
    """Recipients that are due now; with `--dry-run` the other number."""

    silent: Silent
    due: int | UnsetType = UNSET
    would_retry: int | UnsetType = UNSET


class Rerouted(Shape):
    """Recipients that were moved; with `--dry-run` the other number."""

    to: str
    silent: Silent
    moved: int | UnsetType = UNSET
    would_move: int | UnsetType = UNSET


class Exported(Shape):
    """What was written."""

    messages: int
    recipients: int
    gone: Annotated[int, Meta(description="Messages that ended while they were read.")]


class Imported(Shape):
    """What was taken."""

    taken: Annotated[int, Meta(description="Messages that are queued now.")]
    known: Annotated[int, Meta(description="Messages that are here, or were imported before.")]
    refused: Annotated[dict[str, str], Meta(description="Id \u2192 why it was not taken.")]


class Refused(Shape):
    """What was refused of one domain, site, category, job, virtual MTA or verdict, or of all."""

    name: Annotated[str, Meta(description='"*": names too rare to be kept; "all" in the total.')]
    attempts: Annotated[int, Meta(description="Attempts that ended, well or not.")]
    refused: Annotated[int, Meta(description="Of them, those that bounced or were deferred.")]
    bounced: int
    deferred: int
    expired: Annotated[int, Meta(description="Recipients whose time ran out.")]
    queues: Annotated[int, Meta(description="Refusals of a whole connection, before any message.")]
    share: Annotated[float, Meta(description="Refused of attempts, 0 to 1.")]


class RefusedRow(Refused):
    """The same with its course."""

    line: Annotated[list[int], Meta(description="Refusals over the span, the oldest first.")]


class RefusedReply(Shape):
    """A reply that hosts gave, without names and numbers."""

    reply: str
    category: str
    verdict: str
    count: int


class Refusals(Shape):
    """What is refused, how often, and in which words."""

    by: str
    since: Annotated[Time, Meta(description="Where the span begins.")]
    hours_a_point: Annotated[int, Meta(description="Hours of one number in `line`.")]
    total: Refused
    rows: list[RefusedRow]
    replies: list[RefusedReply]
    unnamed: Annotated[int, Meta(description="Refusals too rare to keep the name asked for.")]
