"""A36: a stolen license-signing key issues revision 10⁹ and a back-dated licence; root 2 repairs it."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from licensing.envelope import Envelope, format_armour
from licensing.errors import LicenseError
from licensing.model.license import Kind, License
from licensing.store import LicenseStore
from tests.support.vendor import ISSUED, STARTS, Vendor

NOW = (STARTS + timedelta(days=1)).timestamp()


class Theft:
    """A vendor whose signing key a thief has too, and a customer's machine."""

    def __init__(self, place: Path) -> None:
        self.vendor = Vendor()
        self.trust = self.vendor.trust
        self.places = place / "license.d", place / "state"
        self.store = LicenseStore(*self.places, self.trust)
        self.genuine = self.vendor.license(Kind.STANDARD_SERVER, revision=4)
        self.genuine_file = self.vendor.sign_license(self.genuine)
        self.runaway = self.vendor.sign_license(
            msgspec.structs.replace(self.genuine, revision=10**9, quantity=500)
        )
        self.back_dated = self.vendor.issue(
            Kind.ENTERPRISE_SERVER, issued_at=ISSUED - timedelta(days=100)
        )

    def repair(self) -> tuple[License, Envelope]:
        """Root 2 calls the key compromised, and a new key issues the next revision; the file brings the root."""
        vendor = self.vendor
        vendor.rotate(
            compromised=(vendor.key_id("license-signing"),),
            known_good=(self.genuine_file.payload_sha256(),),
        )
        vendor.delegate("license-signing")
        repaired = msgspec.structs.replace(
            self.genuine, revision=5, issued_at=vendor.root.issued_at
        )
        envelope = vendor.sign_license(repaired)
        return repaired, msgspec.structs.replace(envelope, roots=tuple(vendor.roots[1:]))


def _file(envelope: Envelope) -> bytes:
    return format_armour(envelope).encode()


def test_a36_until_root_2_the_forgeries_work(tmp_path: Path) -> None:
    # Else the tests below would show nothing.
    theft = Theft(tmp_path)
    theft.store.install(_file(theft.runaway), NOW)
    assert theft.store.read(NOW).seats == 500
    assert theft.trust.open_license(theft.back_dated)


def test_a36_under_root_2_both_forgeries_die_and_the_genuine_licence_lives(tmp_path: Path) -> None:
    theft = Theft(tmp_path)
    theft.store.install(_file(theft.genuine_file), NOW)
    theft.store.install(_file(theft.runaway), NOW)
    theft.repair()
    assert theft.store.adopt_roots(tuple(theft.vendor.roots))
    for forged in (theft.runaway, theft.back_dated):
        with pytest.raises(LicenseError, match="stolen") as caught:
            theft.store.install(_file(forged), NOW)
        assert caught.value.code == "compromised_key"
    theft.store.install(_file(theft.genuine_file), NOW)  # 10⁹ of the stolen key bars nothing
    selection = theft.store.read(NOW)
    assert [each.license for each in selection.chosen] == [theft.genuine]
    assert [each.code for each in selection.passed_over] == ["compromised_key"]


def test_a36_the_repair_from_the_new_key_brings_root_2_and_is_accepted(tmp_path: Path) -> None:
    theft = Theft(tmp_path)
    theft.store.install(_file(theft.runaway), NOW)
    repaired, envelope = theft.repair()
    late = max(NOW, repaired.issued_at.timestamp())
    theft.store.adopt_roots(envelope.roots)
    theft.store.install(_file(envelope), late)
    for store in (theft.store, LicenseStore(*theft.places, theft.trust)):
        assert store.trust.root.version == 2
        assert [each.license for each in store.read(late).chosen] == [repaired]


def test_a36_the_repair_alone_is_enough(tmp_path: Path) -> None:
    theft = Theft(tmp_path)
    theft.store.install(_file(theft.runaway), NOW)
    repaired, envelope = theft.repair()
    theft.store.install(_file(envelope), NOW)
    assert [each.license for each in theft.store.read(NOW).chosen] == [repaired]


def test_a36_the_repair_put_there_by_hand_is_enough(tmp_path: Path) -> None:
    theft = Theft(tmp_path)
    theft.store.install(_file(theft.runaway), NOW)
    repaired, envelope = theft.repair()
    (tmp_path / "license.d" / "z-repair.lic").write_bytes(_file(envelope))
    for _ in range(2):
        assert [each.license for each in theft.store.read(NOW).chosen] == [repaired]
        theft.store = LicenseStore(*theft.places, theft.trust)
        assert theft.store.trust.root.version == 2
