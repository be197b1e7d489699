"""A7: after a downgrade of the quantity the older, larger revision is installed again. No option lets it in."""

import inspect
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from licensing.envelope import format_armour
from licensing.errors import LicenseError
from licensing.model.license import Kind, License
from licensing.store import LicenseStore, file_name
from tests.support.vendor import ENDS, STARTS, Vendor

NOW = (STARTS + timedelta(days=1)).timestamp()


def _revisions(vendor: Vendor) -> tuple[License, License]:
    large = vendor.license(Kind.STANDARD_SERVER, quantity=10)
    return large, msgspec.structs.replace(large, revision=2, quantity=1)


def _file(vendor: Vendor, found: License) -> bytes:
    return format_armour(vendor.sign_license(found)).encode()


def test_a07_an_older_revision_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    vendor = Vendor()
    large, small = _revisions(vendor)
    places = tmp_path / "license.d", tmp_path / "state"
    store = LicenseStore(*places, vendor.trust)
    for found in (large, small):
        store.install(_file(vendor, found), NOW)
    for held in (store, LicenseStore(*places, vendor.trust)):
        with pytest.raises(LicenseError, match="revision 2 has been in force") as caught:
            held.install(_file(vendor, large), NOW, replace_others=True)
        assert caught.value.code == "older_revision"
        assert held.read(NOW).seats == 1


@pytest.mark.parametrize("is_new_file_left", [True, False])
def test_a07_an_older_revision_put_back_by_hand_is_passed_over(
    tmp_path: Path, is_new_file_left: bool
) -> None:
    vendor = Vendor()
    large, small = _revisions(vendor)
    store = LicenseStore(tmp_path / "license.d", tmp_path / "state", vendor.trust)
    store.install(_file(vendor, small), NOW)
    (tmp_path / "license.d" / file_name(large)).write_bytes(_file(vendor, large))
    if not is_new_file_left:
        (tmp_path / "license.d" / file_name(small)).unlink()
    selection = store.read(NOW)
    assert selection.seats == (1 if is_new_file_left else 0)
    assert [each.code for each in selection.passed_over] == ["older_revision"]


def test_a07_a_planned_rotation_of_the_key_opens_no_way_back(tmp_path: Path) -> None:
    vendor = Vendor()
    large, small = _revisions(vendor)
    file = _file(vendor, large)
    vendor.delegate("license-signing")
    store = LicenseStore(tmp_path / "license.d", tmp_path / "state", vendor.trust)
    store.install(_file(vendor, small), NOW)
    with pytest.raises(LicenseError, match="revision 2 has been in force"):
        store.install(file, NOW)


def test_a07_a_staged_revision_does_not_shut_out_the_present_one(tmp_path: Path) -> None:
    vendor = Vendor()
    large, small = _revisions(vendor)
    small = msgspec.structs.replace(
        small, not_before=ENDS, expires_at=ENDS + timedelta(1), terminate_at=ENDS + timedelta(1)
    )
    store = LicenseStore(tmp_path / "license.d", tmp_path / "state", vendor.trust)
    store.install(_file(vendor, small), NOW)
    store.install(_file(vendor, large), NOW)
    assert store.read(NOW).seats == 10


def test_a07_force_does_not_exist() -> None:
    assert list(inspect.signature(LicenseStore.install).parameters) == [
        "self",
        "data",
        "now",
        "replace_others",
    ]
