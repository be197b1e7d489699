"""From an order to a licence: what each kind gets when the Order Form says no more. No keys, no files, no clock.

What comes out is checked by `check_license`, the rule the customer's daemon applies too (C5).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from licensing.model.license import (
    CONNECTIONS_PER_STANDARD_LICENCE,
    LIMITATION_OF,
    Binding,
    DevelopmentLimit,
    Kind,
    License,
    Licensee,
    Limits,
    Reporting,
    VolumeLimit,
)

GRACE_DAYS = 30  # after expiry, unless the Order Form says otherwise (3.9)

# A server licence counts its seats; Volume runs anywhere, Development says its own number, a console has no engine.
SEATED = frozenset({Kind.ENTERPRISE_SERVER, Kind.STANDARD_SERVER, Kind.HOT_BACKUP})
ANYWHERE = ("physical", "vm", "container")  # C8: each of them is a Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an Order Form says. `ends` is exclusive; times carry their zone."""

    kind: Kind
    licensee: str
    customer_id: str
    order_ref: str
    starts: datetime
    ends: datetime
    quantity: int = 1
    grace_days: int = GRACE_DAYS
    emails: int | None = None
    period: Literal["term", "year", "month"] = "month"
    overage_pct: int | None = None  # None: hold at 100 %
    recipients: tuple[str, ...] = ()
    pair_group: str | None = None
    endpoints: tuple[str, ...] = ()
    offline_reports: bool = False
    features: tuple[str, ...] = ()
    supersedes: tuple[str, ...] = ()


def draw_up(order: Order, *, issued_at: datetime, license_id: str, revision: int = 1) -> License:
    """The licence an order buys; not checked yet."""
    last_day = (order.ends - timedelta(seconds=1)).date()
    return License(
        crit=("volume.lease",) if order.kind is Kind.VOLUME else (),
        license_id=license_id,
        revision=revision,
        kind=order.kind,
        limitation=LIMITATION_OF[order.kind],
        quantity=order.quantity,
        licensee=Licensee(name=order.licensee, customer_id=order.customer_id),
        order_ref=order.order_ref,
        issued_at=issued_at,
        not_before=order.starts,
        expires_at=order.ends,
        terminate_at=order.ends + timedelta(days=order.grace_days),
        support_until=last_day,
        updates_until=last_day,
        limits=_limits(order),
        reporting=Reporting(
            required=order.kind is Kind.VOLUME,
            endpoints=order.endpoints,
            offline_allowed=order.offline_reports,
        ),
        binding=Binding(allow=(*ANYWHERE, "backup") if order.kind is Kind.HOT_BACKUP else ANYWHERE),
        pair_group=order.pair_group,
        features=order.features,
        supersedes=order.supersedes,
    )


def _limits(order: Order) -> Limits:
    is_standard = order.kind is Kind.STANDARD_SERVER
    return Limits(
        max_nodes=order.quantity if order.kind in SEATED else None,
        conn_per_seat=CONNECTIONS_PER_STANDARD_LICENCE if is_standard else None,
        volume=_volume(order),
        dev=_development(order),
    )


def _volume(order: Order) -> VolumeLimit | None:
    if order.emails is None:
        return None
    return VolumeLimit(
        emails=order.emails,
        period=order.period,
        anchor=order.starts.date(),
        on_exhausted="hold" if order.overage_pct is None else "overage",
        overage_pct=order.overage_pct or 0,
    )


def _development(order: Order) -> DevelopmentLimit | None:
    if order.kind is not Kind.DEVELOPMENT and not order.recipients:
        return None
    return DevelopmentLimit(recipients=tuple(each.lower() for each in order.recipients))
