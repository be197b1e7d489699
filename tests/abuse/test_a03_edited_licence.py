"""A3: a licence file is edited – its quantity, a date, its kind – and installed, or changed where it lies."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from licensing.envelope import Envelope, format_armour, sign
from licensing.errors import LicenseError
from licensing.model.fields import LICENSE
from licensing.model.license import Kind, License
from licensing.store import LicenseStore, file_name
from tests.support.vendor import ENDS, STARTS, Vendor

NOW = (STARTS + timedelta(days=1)).timestamp()

EDITS: dict[str, Callable[[License], License]] = {
    "quantity": lambda found: msgspec.structs.replace(found, quantity=100),
    "date": lambda found: msgspec.structs.replace(found, terminate_at=ENDS + timedelta(days=9999)),
    "kind": lambda found: msgspec.structs.replace(
        found,
        kind=Kind.ENTERPRISE_SERVER,
        limits=msgspec.structs.replace(found.limits, conn_per_seat=None),
    ),
}


def _edited(envelope: Envelope, edit: Callable[[License], License]) -> bytes:
    """The payload changed, the signature left as it was."""
    found = msgspec.json.decode(envelope.payload_bytes(), type=License)
    other = sign(LICENSE, msgspec.json.encode(edit(found)), [])
    return format_armour(msgspec.structs.replace(envelope, payload=other.payload)).encode()


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a03_an_edited_file_is_refused_and_the_good_copy_stays(
    tmp_path: Path, edit: Callable[[License], License]
) -> None:
    vendor = Vendor()
    store = LicenseStore(tmp_path / "license.d", tmp_path / "state", vendor.trust)
    found = vendor.license(Kind.STANDARD_SERVER)
    envelope = vendor.sign_license(found)
    store.install(format_armour(envelope).encode(), NOW)
    before = _all_files(tmp_path)
    with pytest.raises(LicenseError, match="signature does not match"):
        store.install(_edited(envelope, edit), NOW)
    assert _all_files(tmp_path) == before
    assert [each.license for each in store.read(NOW).chosen] == [found]


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a03_a_file_edited_where_it_lies_is_served_from_the_good_copy(
    tmp_path: Path, edit: Callable[[License], License]
) -> None:
    vendor = Vendor()
    store = LicenseStore(tmp_path / "license.d", tmp_path / "state", vendor.trust)
    found = vendor.license(Kind.STANDARD_SERVER)
    envelope = vendor.sign_license(found)
    path = store.install(format_armour(envelope).encode(), NOW).path
    path.write_bytes(_edited(envelope, edit))
    selection = store.read(NOW)
    assert [each.license for each in selection.chosen] == [found]
    assert selection.altered == (path,)


def test_a03_where_no_good_one_is_left_there_is_no_licence(tmp_path: Path) -> None:
    vendor = Vendor()
    folder = tmp_path / "license.d"
    folder.mkdir()
    store = LicenseStore(folder, tmp_path / "state", vendor.trust)
    found = vendor.license(Kind.STANDARD_SERVER)
    edited = _edited(vendor.sign_license(found), EDITS["quantity"])
    (folder / file_name(found)).write_bytes(edited)
    selection = store.read(NOW)
    assert selection.chosen == ()
    assert [each.code for each in selection.passed_over] == ["signature"]
    assert not (tmp_path / "state").exists()


def _all_files(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
