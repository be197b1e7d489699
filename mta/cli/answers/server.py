"""Shapes of what a running server answers about itself: status, configuration, the way of a domain's mail, traces."""

from mta.cli.answers.license import LicenseStatus
from mta.cli.answers.words import (
    UNSET,
    Annotated,
    Meta,
    Seconds,
    Shape,
    Silent,
    Time,
    UnsetType,
)


class Totals(Shape):
    """Numbers of one worker. Counters begin at 0 when a worker starts."""

    messages_in: Annotated[int, Meta(description="Messages accepted since the start.")]
    recipients_in: Annotated[int, Meta(description="Their recipients.")]
    delivered: Annotated[int, Meta(description="Recipients delivered since the start.")]
    deferred: Annotated[int, Meta(description="Attempts that are to be repeated.")]
    bounced: Annotated[int, Meta(description="Recipients given up, the expired among them.")]
    expired: Annotated[int, Meta(description="Recipients whose time ran out.")]
    notices: Annotated[int, Meta(description="Notices to senders that were queued.")]
    notices_waived: Annotated[int, Meta(description="Failures of which nobody is told.")]
    notices_folded: Annotated[int, Meta(description="Messages that are told of in a digest.")]
    notices_failed: Annotated[int, Meta(description="Notices that could not be delivered.")]
    last_minute_in: Annotated[int, Meta(description="Messages accepted in the last minute.")]
    last_minute_delivered: Annotated[int, Meta(description="Recipients delivered in it.")]
    connections_in: Annotated[int, Meta(description="Clients connected now.")]
    connections_out: Annotated[int, Meta(description="Connections to other hosts now.")]
    queued_messages: Annotated[int, Meta(description="Messages in the spool.")]
    queued_recipients: Annotated[int, Meta(description="Recipients in the spool.")]
    held: Annotated[int, Meta(description="Recipients of them that an operator holds.")]
    queues: Annotated[int, Meta(description="Queues in the spool.")]
    active_queues: Annotated[int, Meta(description="Queues of them in memory.")]
    spool_bytes: Annotated[int, Meta(description="Bytes of the spool's database in use.")]
    unsettled: Annotated[int, Meta(description="Outcomes on their way to the disk.")]
    intake_memory: Annotated[int, Meta(description="Bytes of messages being received.")]
    body_cache: Annotated[int, Meta(description="Bytes of bodies kept in memory.")]
    bugs: Annotated[int, Meta(description="Faults of ours, each with its traceback in the log.")]


class WorkerStatus(Shape):
    """How one worker is."""

    number: int
    totals: Totals
    loop_lag_p50_ms: Annotated[float, Meta(description="Lag of its event loop, milliseconds.")]
    loop_lag_p99_ms: float
    loop_lag_max_ms: float
    free_bytes: Annotated[int | None, Meta(description="Free on the spool's disk; null: unknown.")]
    intake: Annotated[str, Meta(description='"open", or why mail is refused now.')]
    licence: Annotated[str, Meta(description="The licence's state, or `lab`.")]
    licence_hold: Annotated[str, Meta(description='Why the licence holds delivery; "" if not.')]
    vmtas_out: Annotated[dict[str, str], Meta(description="Virtual MTAs out of service, and why.")]


class Accounting(Shape):
    """How one set of accounting files is."""

    name: str
    cursors: Annotated[dict[str, int], Meta(description="Spool \u2192 last event that is written.")]
    waiting: Annotated[int, Meta(description="Events in memory that are not written yet.")]
    reads_table: Annotated[bool, Meta(description="It did not keep up, and reads from the spool.")]
    trouble: Annotated[str, Meta(description='Why it cannot write; "" if it can.')]
    retry_at: Annotated[Time, Meta(description="When it tries again; 0 if nothing is wrong.")]
    place: Annotated[str, Meta(description="The file.")]
    lag_s: Annotated[float, Meta(description="Age of the oldest event that is not saved.")]


class Status(Shape):
    """How the server is. `workers` are those that answered."""

    version: str
    hostname: str
    pid: int
    processes: Annotated[
        dict[str, int], Meta(description="Name \u2192 pid; empty where one process does it all.")
    ]
    uptime_s: Seconds
    lab: bool
    config: Annotated[str, Meta(description="The configuration file.")]
    listeners: list[str]
    followers: list[Accounting]
    license: LicenseStatus
    totals: Annotated[
        dict[str, int], Meta(description="The sums of the workers' totals; empty if none answered.")
    ]
    loop_lag_p99_ms: Annotated[float, Meta(description="The worst of the workers.")]
    workers: list[WorkerStatus]
    silent: Silent


class Candidate(Shape):
    """One address to try."""

    host: str
    address: str
    port: int
    preference: int


class Resolved(Shape):
    """Where a domain's mail goes. Either `candidates`, best first, or why there is no way."""

    domain: str
    vmta: str
    site: Annotated[str, Meta(description='"" where there is no way.')]
    candidates: list[Candidate] | UnsetType = UNSET
    fails: Annotated[
        str | UnsetType, Meta(description="The domain takes no mail: mail for it bounces.")
    ] = UNSET
    waits: Annotated[
        str | UnsetType, Meta(description="DNS does not answer: mail for it waits.")
    ] = UNSET


class Reloaded(Shape):
    """The configuration was read again."""

    reloaded: bool
    notes: Annotated[list[str], Meta(description="What will probably go wrong.")]


class Rotated(Shape):
    """New accounting files were begun."""

    finished: Annotated[
        dict[str, str], Meta(description='Set \u2192 the finished file; "": nothing was in it.')
    ]


class Stopping(Shape):
    """The server stops."""

    stopping: bool
    drain: Annotated[bool, Meta(description="First what is due is delivered.")]


class TraceLine(Shape):
    """A line of an SMTP dialogue."""

    at: Time
    worker: int
    connection: int
    queue: str
    peer: Annotated[str, Meta(description="The host and its address.")]
    side: Annotated[str, Meta(description="`>` ours, `<` the host's, `*` neither.")]
    text: str


class ConfigChange(Shape):
    """One value that differs; values are TOML, null is: not set there."""

    section: str
    key: str
    running: str | None
    file: str | None


class ConfigChanges(Shape):
    """Where the file differs from what the server runs with."""

    changes: list[ConfigChange]
