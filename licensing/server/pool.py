"""Volume pools (design 3.6): periods, the size of a lease, what a report, an expiry or the vendor does to one. Pure.

The invariant: used + reserved <= quota × (1 + overage), where reserved is what lies unused in open leases. Granting keeps it; use
that was never leased (grace credit, a rewound twin) is still counted, for refusing it would hide it.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from msgspec.structs import replace

from licensing.model.license import LeaseTerms, VolumeLimit
from licensing.model.usage import Want
from licensing.server.rows import LeaseRow, PoolRow

MAX_OPEN_LEASES = 2
ROUND_TO = 100  # Emails: leases in round figures, while there are enough
EXPIRY_MARGIN_S = 300  # a node stops at `use_until` by its own clock; only after this much more is the rest given to others


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time with a quota of its own; `ends_at` (seconds) is None where only the licence ends it."""

    name: str
    ends_at: int | None


@lru_cache(maxsize=4_096)  # asked several times a report, and changes once a day
def period_at(terms: VolumeLimit, day: date) -> Period:
    """The period a UTC day belongs to. Months and years begin on the anchor's day, or on the last day of a shorter month."""
    if terms.period == "term":
        return Period("term", None)
    if terms.period == "year":
        start = _in_month(day.year, terms.anchor.month, terms.anchor.day)
        year = day.year if day >= start else day.year - 1
        end = _in_month(year + 1, terms.anchor.month, terms.anchor.day)
        return Period(f"{year:04}", _midnight(end))
    year, month = day.year, day.month
    if day < _in_month(year, month, terms.anchor.day):
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    after = (year, month + 1) if month < 12 else (year + 1, 1)
    return Period(f"{year:04}-{month:02}", _midnight(_in_month(*after, terms.anchor.day)))


def day_at(now: float) -> date:
    """The UTC day of a moment."""
    return datetime.fromtimestamp(now, UTC).date()


def _in_month(year: int, month: int, day: int) -> date:
    following = date(year + month // 12, month % 12 + 1, 1)
    return min(date(year, month, 1) + timedelta(days=day - 1), following - timedelta(days=1))


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


# -- figures ------------------------------------------------------------------------------------------


def ceiling(terms: VolumeLimit) -> int:
    """Emails that may be leased in a period: the quota, and the overage where the order form has one."""
    allowed = terms.overage_pct if terms.on_exhausted == "overage" else 0
    return terms.emails + terms.emails * allowed // 100


def free(terms: VolumeLimit, pool: PoolRow) -> int:
    """Emails that are neither used nor reserved."""
    return max(0, ceiling(terms) - pool.used - pool.reserved)


def share(terms: VolumeLimit, pool: PoolRow, nodes: int) -> int:
    """What one node may use of the free quota when nobody answers; all shares together are never more than what is free."""
    return max(0, terms.emails - pool.used - pool.reserved) // max(1, nodes)


def block_size(terms: VolumeLimit, pool: PoolRow, want: Want, nodes: int, open_leases: int) -> int:
    """Emails to lease now, 0 for none: what the node asks or its rate over the horizon, at most half of its part of the rest.

    So blocks shrink as the end comes near, below `lease.min` and down to single Emails, and the last one is given too.
    """
    available = free(terms, pool)
    if want.emails == 0 or open_leases >= MAX_OPEN_LEASES or available == 0:
        return 0
    forecast = want.rate_1h * terms.lease.horizon_s // 3600
    most = available // (2 * max(1, nodes))
    block = min(max(want.emails, forecast, terms.lease.min), most)
    if block >= ROUND_TO:
        block -= block % ROUND_TO
    return max(1, block)


def use_until(lease: LeaseTerms, period: Period, now: int, *, max_silence_s: int, end: int) -> int:
    """How long a lease may be used: with `on_report` as long as silence is borne, for nobody else gets the rest meanwhile."""
    lasts = lease.horizon_s if lease.reclaim == "on_expiry" else max_silence_s
    return min(now + lasts, end, period.ends_at if period.ends_at is not None else end)


# -- leases -------------------------------------------------------------------------------------------


def after_report(lease: LeaseRow, used: int, now: float) -> LeaseRow:
    """The lease once its node has said how much of it is used: closed when nothing is left, or nothing may be used any more."""
    used = min(lease.emails, max(lease.used, used))
    is_over = used == lease.emails or now >= lease.use_until
    return replace(lease, used=used, state="closed" if is_over else "open")
