"""A22: reporting is switched off in the configuration under a Volume licence. That is an error that names clause 8.4."""

from pathlib import Path

import pytest

from licensing.checks import installed_licenses, reporting_error
from licensing.model import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard
from tests.support.vendor import Vendor

VENDOR = Vendor()


def test_a22_under_volume_reporting_cannot_be_switched_off() -> None:
    text = reporting_error([VENDOR.license(Kind.VOLUME)], False)
    assert "clause 8.4" in text and "reporting = false" in text


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.VOLUME])
def test_a22_under_other_licences_it_can(kind: Kind) -> None:
    assert reporting_error([VENDOR.license(kind)], False) == ""


def test_a22_with_reporting_on_all_is_well() -> None:
    assert reporting_error([VENDOR.license(Kind.VOLUME)], True) == ""
    assert reporting_error([], False) == ""


def test_a22_the_files_say_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "a.lic").write_bytes(VENDOR.file(Kind.VOLUME))
    (tmp_path / "b.lic").write_bytes(Vendor().file(Kind.VOLUME))
    (tmp_path / "c.lic").write_text("no licence at all")
    assert [each.kind for each in installed_licenses(tmp_path, VENDOR.trust)] == [Kind.VOLUME]


async def test_a22_a_daemon_that_is_told_so_all_the_same_reports(tmp_path: Path) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url, reporting=False)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        assert len(server.reports) == 1
        await guard.stop()
