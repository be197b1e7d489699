"""The signed statements: licences, activations, reports, acknowledgements, leases, revocations. Shapes and field rules only.

Vendor → customer statements ignore unknown fields (an older daemon reads a newer licence; what it must understand stands in
`crit`). Customer → vendor statements are closed: the report has exactly these fields and no other, ever (C20, C30; the test of
the schema's hash fails when one is added). Times are seconds since 1970 (UTC) in reports, RFC 3339 in licences.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

from licensing.envelope import Envelope
from licensing.errors import LicenseError

# The payload types. What is signed as one can never be read as another.
LICENSE = "application/vnd.sluice.license.v1+json"
ROOT = "application/vnd.sluice.trust-root.v1+json"
DELEGATION = "application/vnd.sluice.delegation.v1+json"
REVOCATIONS = "application/vnd.sluice.revocations.v1+json"
ACTIVATION_REQUEST = "application/vnd.sluice.activation-request.v1+json"
ACTIVATION = "application/vnd.sluice.activation.v1+json"
DEACTIVATION = "application/vnd.sluice.deactivation.v1+json"
LICENSE_QUERY = "application/vnd.sluice.license-query.v1+json"
USAGE_REPORT = "application/vnd.sluice.usage-report.v1+json"
USAGE_ACK = "application/vnd.sluice.usage-ack.v1+json"
REWIND_GRANT = "application/vnd.sluice.rewind-grant.v1+json"

CONNECTIONS_PER_STANDARD_LICENCE = 3  # C14, clause 8.5

Moment = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Day = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class Kind(StrEnum):
    """The six products of clause 8.2 (C1)."""

    ENTERPRISE_SERVER = "enterprise_server"
    STANDARD_SERVER = "standard_server"
    VOLUME = "volume"
    HOT_BACKUP = "hot_backup"
    MANAGEMENT_CONSOLE = "management_console"
    DEVELOPMENT = "development"


class Limitation(StrEnum):
    """What a licence limits: exactly one of server and volume, none only where there is nothing to limit (C5)."""

    SERVER = "server"
    VOLUME = "volume"
    NONE = "none"


LIMITATION_OF = {
    Kind.ENTERPRISE_SERVER: Limitation.SERVER,
    Kind.STANDARD_SERVER: Limitation.SERVER,
    Kind.HOT_BACKUP: Limitation.SERVER,
    Kind.VOLUME: Limitation.VOLUME,
    Kind.MANAGEMENT_CONSOLE: Limitation.NONE,
    Kind.DEVELOPMENT: Limitation.NONE,
}

KNOWN_CRIT = frozenset({"volume.lease"})  # features this version understands

# -- the licence --------------------------------------------------------------------------------------


class Licensee(Struct, frozen=True, kw_only=True):
    """Who bought it: a business identity only."""

    name: Name
    customer_id: Name


class LeaseTerms(Struct, frozen=True, kw_only=True):
    """How blocks of Emails are cut from the pool. `min` in Emails, `horizon_s` seconds of traffic a block should last."""

    min: Positive = 1_000
    horizon_s: Positive = 86_400
    reclaim: Literal["on_report", "on_expiry"] = "on_report"


class VolumeLimit(Struct, frozen=True, kw_only=True):
    """So many Emails in each period, over all servers (C10)."""

    emails: Positive
    period: Literal["term", "year", "month"]
    anchor: date
    on_exhausted: Literal["hold", "overage"] = "hold"
    overage_pct: Annotated[int, Meta(ge=0, le=1_000)] = 0
    grace_emails_pct: Annotated[int, Meta(ge=0, le=100)] = 0
    lease: LeaseTerms = LeaseTerms()


class DevelopmentLimit(Struct, frozen=True, kw_only=True):
    """What a Development licence may do (3.11): allow-listed recipients (`@domain` or a whole address), stamped messages."""

    emails_per_day: Positive = 1_000
    max_conn: Positive = 2
    recipients: tuple[str, ...] = ()
    loopback: bool = True
    header: str = "X-Sluice-License: development"
    stamp_banner: bool = True
    nodes: Positive = 5


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of a licence; None is no limit of this sort."""

    max_nodes: Positive | None = None
    conn_per_seat: Positive | None = None
    volume: VolumeLimit | None = None
    dev: DevelopmentLimit | None = None


class CountTerms(Struct, frozen=True, kw_only=True):
    """What one Email is (C11)."""

    unit: Literal["recipient", "message"] = "recipient"
    exclude: tuple[str, ...] = ("local", "pipe", "discard", "own_dsn")


class Binding(Struct, frozen=True, kw_only=True):
    """What a seat is bound to, and what may take one."""

    mode: Literal["node", "none"] = "node"
    match: Literal["most"] = "most"
    allow: tuple[str, ...] = ("physical", "vm", "container")
    preauthorized: tuple[str, ...] = ()


class Reporting(Struct, frozen=True, kw_only=True):
    """Whom to report to, how often, and how long silence is borne, in seconds."""

    required: bool
    endpoints: tuple[str, ...] = ()
    interval_s: Annotated[int, Meta(ge=60, le=86_400)] = 60
    notice_s: Positive = 86_400
    grace_after_s: Positive = 259_200
    max_silence_s: Positive = 1_209_600
    offline_allowed: bool = False


class Grace(Struct, frozen=True, kw_only=True):
    """How long each trouble is borne, in seconds; `cure_business_days` of C24."""

    activation_s: Count = 259_200
    unreachable_s: Count = 1_209_600
    integrity_s: Count = 259_200
    cure_business_days: Count = 15


class License(Struct, frozen=True, kw_only=True):
    """`license.v1`. A renewal or upgrade is the same `license_id` with a higher `revision`."""

    v: Literal[1] = 1
    crit: tuple[str, ...] = ()
    license_id: Annotated[str, Meta(pattern="^L[0-9A-HJKMNP-TV-Z]{26}$")]
    revision: Positive
    kind: Kind
    limitation: Limitation
    quantity: Positive
    licensee: Licensee
    order_ref: Name
    issued_at: Moment
    not_before: Moment
    expires_at: Moment  # exclusive
    terminate_at: Moment  # the last instant of grace
    support_until: date
    updates_until: date
    limits: Limits
    count: CountTerms = CountTerms()
    binding: Binding = Binding()
    reporting: Reporting
    grace: Grace = Grace()
    pair_group: str | None = None
    features: tuple[str, ...] = ()
    supersedes: tuple[str, ...] = ()


def check_license(found: License) -> None:
    """The rules between fields. Raises LicenseError with all that is broken (C5; `sluice-license issue` refuses by them too)."""
    limits, kind = found.limits, found.kind
    is_standard = kind is Kind.STANDARD_SERVER
    broken = [
        text
        for is_broken, text in (
            (
                found.limitation is not LIMITATION_OF[kind],
                f"a {kind} licence has the limitation {LIMITATION_OF[kind]}, not {found.limitation}",
            ),
            (
                (limits.volume is not None) != (kind is Kind.VOLUME),
                "limits.volume belongs to a volume licence and only there",
            ),
            (
                (limits.dev is not None) != (kind is Kind.DEVELOPMENT),
                "limits.dev belongs to a development licence and only there",
            ),
            (
                limits.conn_per_seat != (CONNECTIONS_PER_STANDARD_LICENCE if is_standard else None),
                f"limits.conn_per_seat is {CONNECTIONS_PER_STANDARD_LICENCE} for standard_server and null for all others",
            ),
            (
                kind is Kind.VOLUME and limits.max_nodes is not None,
                "a volume licence runs on any number of servers: limits.max_nodes is null",
            ),
            (
                kind is Kind.VOLUME
                and not (found.reporting.required and found.reporting.endpoints),
                "a volume licence reports: reporting.required with at least one endpoint",
            ),
            (
                kind is Kind.HOT_BACKUP and not found.pair_group,
                "a hot_backup licence names its pair_group",
            ),
            (
                any(not each.startswith("https://") for each in found.reporting.endpoints),
                "reporting.endpoints are https:// URLs",
            ),
            (
                not found.not_before < found.expires_at <= found.terminate_at,
                "not_before < expires_at <= terminate_at",
            ),
        )
        if is_broken
    ]
    if broken:
        raise LicenseError("fields", "; ".join(broken))


# -- trust --------------------------------------------------------------------------------------------


class Root(Struct, frozen=True, kw_only=True):
    """`trust-root.v1`: who may delegate. Version N+1 is signed by the threshold of N and by its own (TUF's rule)."""

    v: Literal[1] = 1
    version: Positive
    issued_at: Moment
    expires_at: Moment
    production: bool  # a root that is not validates Development licences only
    threshold: Positive
    keys: tuple[str, ...]  # base64 of raw Ed25519 public keys
    revoked_after: dict[str, Moment] = {}  # key id → no statement issued later is believed
    compromised: tuple[str, ...] = ()  # key ids: believed only for payloads in known_good
    known_good: tuple[Hash, ...] = ()


class Delegation(Struct, frozen=True, kw_only=True):
    """`delegation.v1`: a key that may sign these payload types (and, of licences, these kinds) in this window."""

    v: Literal[1] = 1
    key: str  # base64 of the raw Ed25519 public key
    role: Literal["license-signing", "server-online", "revocation"]
    payload_types: tuple[str, ...]
    kinds: tuple[Kind, ...] = ()
    not_before: Moment
    not_after: Moment
    issued_at: Moment


class Revocation(Struct, frozen=True, kw_only=True):
    """One licence taken back, from a moment on, for a reason (C2: never at once)."""

    license_id: str
    effective_at: Moment
    reason: Name


class Revocations(Struct, frozen=True, kw_only=True):
    """`revocations.v1`: all of them, with a number that only rises."""

    v: Literal[1] = 1
    number: Positive
    issued_at: Moment
    revoked: tuple[Revocation, ...] = ()


# -- activation ---------------------------------------------------------------------------------------

ServerClass = Literal["physical", "vm", "container", "backup"]
Role = Literal["primary", "standby", "active", "fenced"]
Fingerprint = dict[str, Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]]


class ActivationRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`activation-request.v1`, signed by the node key it carries. Nothing in it names the host."""

    v: Literal[1] = 1
    license_sha256: Hash
    license_id: str
    revision: Positive
    node_pub: str  # base64 of the raw key
    fp: Fingerprint
    server_class: ServerClass
    role: Role = "primary"
    seats: Positive = 1
    label: Annotated[str, Meta(max_length=64)] = ""  # only what the operator typed
    version: Annotated[str, Meta(max_length=32)]
    nonce: Annotated[str, Meta(min_length=16, max_length=64)]
    wall: Count


class Activation(Struct, frozen=True, kw_only=True):
    """`activation.v1`: this node has its seats until then."""

    v: Literal[1] = 1
    activation_id: Annotated[str, Meta(pattern="^A[0-9A-HJKMNP-TV-Z]{26}$")]
    license_id: str
    node_id: str
    seats: Positive
    role: Role
    fence: Count = 0
    epoch: Positive
    token: str
    valid_until: Count
    fp: Fingerprint
    server_time: Count
    in_reply_to: Hash


class Deactivation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`deactivation.v1`, signed by the node key: the seat is free again."""

    v: Literal[1] = 1
    activation_id: str
    node_id: str
    wall: Count
    nonce: str


class LicenseQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`license-query.v1`, signed by the node key: which file of this licence is the newest?"""

    v: Literal[1] = 1
    license_id: str
    activation_id: str
    node_id: str
    wall: Count


# -- metering -----------------------------------------------------------------------------------------


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


# -- around the statements, on the wire ----------------------------------------------------------------


class Presented(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/reports when the server fell behind what it once acknowledged: its own word, shown to it (A27).

    Otherwise the body is the envelope of the report alone. `report` is byte for byte the one that was refused.
    """

    report: Envelope
    last_ack: Envelope


class ReportBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/reports:batch: reports carried by hand or by a relay, the oldest of each node first."""

    reports: Annotated[tuple[Envelope, ...], Meta(min_length=1, max_length=200)]


class SeatTaken(Struct, frozen=True, kw_only=True):
    """One seat of a licence, as told to a node that found none free (A1)."""

    label: str
    server_class: str
    seats: int
    last_seen: Count


class Refusal(Struct, frozen=True, kw_only=True):
    """Why a request was not taken: the JSON body of every answer that is no envelope. `error` is for programs."""

    error: str
    text: str
    seats: tuple[SeatTaken, ...] = ()
    retry_after_s: int | None = None


class BatchAnswer(Struct, frozen=True, kw_only=True):
    """The answer to one report of a batch: the status it would have had alone, and an envelope or a refusal."""

    status: int
    envelope: Envelope | None = None
    refusal: Refusal | None = None


class BatchAnswers(Struct, frozen=True, kw_only=True):
    """The body of the answer to POST /v1/reports:batch, in the order of the reports."""

    answers: tuple[BatchAnswer, ...]
