"""Licences and facts for tests of decisions: plain values, nothing is signed. One year from 2026-12-01, 30 days of grace."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from licensing.facts import Facts, Held, VolumeUse
from licensing.model.activation import Activation
from licensing.model.license import (
    LIMITATION_OF,
    DevelopmentLimit,
    Kind,
    License,
    Licensee,
    Limits,
    Reporting,
    VolumeLimit,
    check_license,
)

BEGINS = datetime(2026, 12, 1, tzinfo=UTC)
EXPIRES = datetime(2027, 12, 1, tzinfo=UTC)
TERMINATES = EXPIRES + timedelta(days=30)
MIDDLE = datetime(2027, 3, 1, 12, tzinfo=UTC).timestamp()  # nothing is wrong, nothing is near

LIMITS = {
    Kind.STANDARD_SERVER: Limits(conn_per_seat=3),
    Kind.VOLUME: Limits(
        volume=VolumeLimit(emails=1_000_000, period="month", anchor=date(2026, 12, 1))
    ),
    Kind.DEVELOPMENT: Limits(dev=DevelopmentLimit(recipients=("@Example.test", "dev@example.net"))),
}
WITH_ENGINE = [kind for kind in Kind if kind is not Kind.MANAGEMENT_CONSOLE]
SERVERS = [Kind.ENTERPRISE_SERVER, Kind.STANDARD_SERVER]


def a_license(kind: Kind, *, number: int = 1, **changes: Any) -> License:
    """A licence that the rules between its fields allow; `number` makes another `license_id`."""
    is_volume = kind is Kind.VOLUME
    plain = License(
        license_id=f"L{number:026d}",
        revision=1,
        kind=kind,
        limitation=LIMITATION_OF[kind],
        quantity=1,
        licensee=Licensee(name="Example SA", customer_id="C-1042"),
        order_ref="OF-2026-0117",
        issued_at=BEGINS - timedelta(days=10),
        not_before=BEGINS,
        expires_at=EXPIRES,
        terminate_at=TERMINATES,
        support_until=EXPIRES.date(),
        updates_until=EXPIRES.date(),
        limits=LIMITS.get(kind, Limits()),
        reporting=Reporting(
            required=is_volume, endpoints=("https://license.vendor.example",) if is_volume else ()
        ),
        pair_group="pair-1" if kind is Kind.HOT_BACKUP else None,
    )
    found = msgspec.structs.replace(plain, **changes)
    check_license(found)
    return found


def activated(terms: License, *, at: float | None = None, **changes: Any) -> Activation:
    """The activation of all its seats, from `at` on (its begin, else), to the end of its grace."""
    plain = Activation(
        activation_id="A" + "0" * 26,
        license_id=terms.license_id,
        node_id="k" * 26,
        seats=terms.quantity,
        role="primary",
        epoch=1,
        token="t",
        valid_until=int(terms.terminate_at.timestamp()) + 10 * 86_400,
        fp={},
        server_time=int(terms.not_before.timestamp() if at is None else at),
        in_reply_to="0" * 64,
    )
    return msgspec.structs.replace(plain, **changes)


def held(terms: License, **changes: Any) -> Held:
    """The licence as an activated node holds it, seen when it began."""
    values = {"first_seen": terms.not_before.timestamp(), "activation": activated(terms)}
    return Held(terms, **(values | changes))


def the_facts(*found: Held | License | Kind, **changes: Any) -> Facts:
    """An activated node on which all is well, under these licences. A backup is active, contact was in the middle."""
    licenses = [a_license(each) if isinstance(each, Kind) else each for each in found]
    stands = tuple(each if isinstance(each, Held) else held(each) for each in licenses)
    kinds = {each.license.kind for each in stands}
    values: dict[str, Any] = {"held": stands, "node_label": "mx1", "last_contact": MIDDLE}
    if Kind.VOLUME in kinds:
        values["volume"] = VolumeUse(period="2027-03", quota=1_000_000, used=1_000, left=20_000)
    if Kind.HOT_BACKUP in kinds:
        values["role"] = "active"
    return Facts(**(values | changes))
