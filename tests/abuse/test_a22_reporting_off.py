"""A22: reporting switched off under a Volume licence is a mistake of the configuration that names section 8.4 (C12).

At the check, at the start, and at a reload, after which the server goes on as before. A guard that is told so reports anyway.
"""

from pathlib import Path

import pytest

from licensing.checks import installed_licenses
from licensing.model.license import Kind
from mta.config.load import load
from mta.control.protocol import ControlError
from mta.model.errors import ConfigError
from mta.runtime.license import check_reporting
from tests.support.licence_server import LicenceServer
from tests.support.licensed import Licensed, an_entitlement, licensed, licensed_daemon
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard
from tests.support.vendor import Vendor

METERED = an_entitlement(is_metered=True)
OFF = "[license]\nreporting = false"
HOSTS = 'hosts = ["127.0.0.1:9"]'


def test_a22_the_check_names_clause_file_line_and_key(tmp_path: Path) -> None:
    vendor = Vendor()
    (tmp_path / "license.d").mkdir()
    (tmp_path / "license.d" / "v.lic").write_bytes(vendor.file(Kind.VOLUME))
    file = tmp_path / "sluice.toml"
    file.write_text(f'[server]\nhostname = "mta.example.com"\n{OFF}\n')
    kinds = {each.kind for each in installed_licenses(tmp_path / "license.d", vendor.trust)}
    with pytest.raises(ConfigError, match=r"8\.4") as caught:
        check_reporting(load(file), kinds)
    (problem,) = caught.value.problems
    assert (problem.key, problem.line) == ("license.reporting", 4)
    for other in {*Kind} - {Kind.VOLUME}:
        check_reporting(load(file), {other})


def test_a22_what_is_installed_is_what_the_vendor_signed(tmp_path: Path) -> None:
    vendor = Vendor()
    (tmp_path / "a.lic").write_bytes(vendor.file(Kind.VOLUME))
    (tmp_path / "b.lic").write_bytes(Vendor().file(Kind.VOLUME))
    (tmp_path / "c.lic").write_text("no licence at all")
    assert [each.kind for each in installed_licenses(tmp_path, vendor.trust)] == [Kind.VOLUME]


async def test_a22_a_guard_that_is_told_so_all_the_same_reports(tmp_path: Path) -> None:
    vendor, time = Vendor(), MachineTime()
    async with LicenceServer(vendor) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, vendor, time, endpoint=server.url, reporting=False)
        await guard.open()
        await guard.install(vendor.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        assert len(server.reports) == 1
        await guard.stop()


def test_a22_a_reload_is_refused_and_the_server_goes_on_as_before(tmp_path: Path) -> None:
    with licensed(tmp_path, METERED, default=HOSTS) as (daemon, _):
        good = daemon.config.read_text()
        daemon.config.write_text(f"{good}\n{OFF}\n")
        with pytest.raises(ControlError, match=r"8\.4"):
            daemon.ask("reload")
        daemon.config.write_text(good)
        daemon.ask("reload")


def test_a22_a_server_does_not_start_with_it(tmp_path: Path) -> None:
    Licensed(tmp_path).allow(METERED)
    daemon = licensed_daemon(tmp_path, default=HOSTS, more=OFF)
    daemon.start(wait=False)
    assert daemon.wait_for_exit() == 78
    assert "8.4" in daemon.log
