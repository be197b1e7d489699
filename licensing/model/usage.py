"""What a node reports, and what it is answered: usage reports, acknowledgements with leases, rewind grants."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from licensing.envelope import Envelope
from licensing.model.activation import Role
from licensing.model.fields import Count, Day, Hash, Positive


class LeaseUse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of a lease is used up."""

    id: str
    fence: Count
    used: Count


class Want(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the node asks for: Emails, and what it sent in the last hour."""

    emails: Count
    rate_1h: Count


class UsageReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`usage-report.v1`, signed by the node key: THE COMPLETE LIST of what ever leaves a customer's server in operation.

    `cum` and `days` are cumulative in (node, epoch); `seq` rises by one a report; `token` is the one of the last ack. Server
    kinds send it as a heartbeat, with `cum`, `days`, `leases` and `want` null.
    """

    v: Literal[1] = 1
    license_id: str
    revision: Positive
    activation_id: str
    node_id: str
    epoch: Positive
    seq: Positive
    token: str
    cum: Count | None
    days: dict[Day, Count] | None
    leases: tuple[LeaseUse, ...] | None
    want: Want | None
    role: Role
    seats: Positive
    conn_peak: Count
    prev: Hash
    head: Hash
    fp_match: Annotated[str, Meta(pattern="^[0-9]{1,2}/[0-9]{1,2}$")]
    boot: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    wall: Count
    flags: tuple[Annotated[str, Meta(pattern="^[a-z_]{1,32}$")], ...] = ()
    version: Annotated[str, Meta(max_length=32)]
    final: bool = False


class Acked(Struct, frozen=True, kw_only=True):
    """Up to where the vendor has counted."""

    epoch: Positive
    seq: Positive
    cum: Count | None
    head: Hash


class Lease(Struct, frozen=True, kw_only=True):
    """A block of Emails out of the pool, for one period, to be used until `use_until`."""

    id: str
    fence: Count
    period: str
    emails: Positive
    use_until: Count


class Pool(Struct, frozen=True, kw_only=True):
    """The pool as the vendor saw it at the ack; `share` is what this node may use when nobody answers."""

    period: str
    quota: Count
    used: Count
    reserved: Count
    nodes: Count
    share: Count


class Notice(Struct, frozen=True, kw_only=True):
    """Something the vendor wants the operator to know, once."""

    id: str
    level: Literal["info", "warn", "error"]
    text: str = ""


class UsageAck(Struct, frozen=True, kw_only=True):
    """`usage-ack.v1`, signed by a `server-online` key: the report `in_reply_to` is counted."""

    v: Literal[1] = 1
    in_reply_to: Hash
    activation_id: str = (
        ""  # whose: an ack shown to a restored server counts for this node only (A27)
    )
    server_time: Count
    ack: Acked
    token: str
    activation_until: Count
    role: Role = "primary"
    fence: Count = 0
    leases: tuple[Lease, ...] = ()
    pool: Pool | None = None
    next_report_s: Annotated[int, Meta(ge=1, le=86_400)] = 60
    notices: tuple[Notice, ...] = ()
    license: Envelope | None = None  # a renewal that waits
    roots: tuple[Envelope, ...] = ()
    revocations: Envelope | None = None
    latest_version: str = ""


class Closed(Struct, frozen=True, kw_only=True):
    """Where the vendor closed an epoch: that figure stands."""

    epoch: Positive
    seq: Count
    cum: Count


class RewindGrant(Struct, frozen=True, kw_only=True):
    """`rewind-grant.v1`: the node's state was older than the vendor's; it goes on in a new epoch."""

    v: Literal[1] = 1
    in_reply_to: Hash
    server_time: Count
    reason: Literal["REWIND", "FORK", "EPOCH"]
    new_epoch: Positive
    closed: Closed
    token: str
