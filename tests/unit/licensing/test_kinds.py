"""C1, C5, C10, C13–C15: the six kinds, the limits each has, and that no other can be read."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.envelope import sign
from licensing.errors import LicenseError, UpgradeRequired
from licensing.model.fields import LICENSE
from licensing.model.license import (
    LIMITATION_OF,
    DevelopmentLimit,
    Kind,
    License,
    Limitation,
    Limits,
    Reporting,
    check_license,
)
from tests.support.vendor import Vendor

VENDOR = Vendor()


@pytest.mark.parametrize(
    ("kind", "limitation", "nodes", "connections"),
    [
        (Kind.ENTERPRISE_SERVER, Limitation.SERVER, 1, None),  # C13
        (Kind.STANDARD_SERVER, Limitation.SERVER, 1, 3),  # C14
        (Kind.VOLUME, Limitation.VOLUME, None, None),  # C10, C15
        (Kind.HOT_BACKUP, Limitation.SERVER, 1, None),
        (Kind.MANAGEMENT_CONSOLE, Limitation.NONE, None, None),
        (Kind.DEVELOPMENT, Limitation.NONE, None, None),
    ],
)
def test_each_kind_has_its_limits(
    kind: Kind, limitation: Limitation, nodes: int | None, connections: int | None
) -> None:
    found, _ = VENDOR.trust.open_license(VENDOR.issue(kind))
    assert found.limitation is limitation
    assert found.limits.max_nodes == nodes
    assert found.limits.conn_per_seat == connections
    assert (found.limits.volume is not None) == (kind is Kind.VOLUME)
    assert (found.limits.dev is not None) == (kind is Kind.DEVELOPMENT)


def test_there_are_six_kinds() -> None:
    assert len(Kind) == len(LIMITATION_OF) == 6


def test_a_kind_we_do_not_know_asks_for_an_upgrade() -> None:
    strange = {**msgspec.to_builtins(VENDOR.license(Kind.VOLUME)), "kind": "quantum_server"}
    envelope = sign(
        LICENSE,
        msgspec.json.encode(strange),
        [VENDOR.keys["license-signing"]],
        delegation=VENDOR.delegations["license-signing"],
    )
    with pytest.raises(UpgradeRequired, match="quantum_server") as caught:
        VENDOR.trust.open_license(envelope)
    assert caught.value.code == "upgrade_required"


LIMITS = st.fixed_dictionaries(
    {
        "max_nodes": st.none() | st.integers(1, 9),
        "conn_per_seat": st.none() | st.integers(1, 9),
        "volume": st.none() | st.just(VENDOR.license(Kind.VOLUME).limits.volume),
        "dev": st.none() | st.just(DevelopmentLimit()),
    }
)


@given(st.sampled_from(Kind), st.sampled_from(Limitation), LIMITS)
def test_a_licence_limits_servers_or_volume_and_never_both_or_neither(
    kind: Kind, limitation: Limitation, limits: dict[str, Any]
) -> None:
    found = VENDOR.license(kind, limitation=limitation, limits=Limits(**limits))
    unlimited = kind in (Kind.MANAGEMENT_CONSOLE, Kind.DEVELOPMENT)
    is_right = (
        (limitation is Limitation.NONE) == unlimited
        and (limitation is Limitation.VOLUME) == (kind is Kind.VOLUME)
        and (limits["volume"] is not None) == (kind is Kind.VOLUME)
        and (limits["dev"] is not None) == (kind is Kind.DEVELOPMENT)
        and limits["conn_per_seat"] == (3 if kind is Kind.STANDARD_SERVER else None)
        and not (kind is Kind.VOLUME and limits["max_nodes"] is not None)
    )
    assert _passes(found) == is_right


def _passes(found: License) -> bool:
    try:
        check_license(found)
    except LicenseError as error:
        assert error.code == "fields"
        return False
    return True


def test_every_mistake_is_told_at_once() -> None:
    plain = VENDOR.license(Kind.VOLUME)
    wrong = msgspec.structs.replace(
        plain,
        limitation=Limitation.SERVER,
        reporting=Reporting(required=False, endpoints=("http://plain.example",)),
        expires_at=plain.not_before,
    )
    with pytest.raises(LicenseError) as caught:
        check_license(wrong)
    for part in ("limitation", "reports", "https://", "not_before < expires_at"):
        assert part in str(caught.value)
