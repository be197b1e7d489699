"""The licence: what was sold to whom, its limits and terms, and the rules between its fields."""

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

from licensing.errors import LicenseError
from licensing.model.fields import Count, Moment, Name, Positive

CONNECTIONS_PER_STANDARD_LICENCE = 3  # C14, clause 8.5


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
