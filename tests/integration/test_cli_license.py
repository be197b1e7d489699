"""`sluice license …` against a running server and without one, and what `sluice status` says of the licence."""

import re
from pathlib import Path

from licensing.model.license import Kind
from tests.integration.test_license_daemon import TERM
from tests.scenario.stage import Letter, Stage, hand_in, wait_until
from tests.support.cli import Cli
from tests.support.daemon import Daemon, running
from tests.support.licensed import an_entitlement, licensed
from tests.support.vendor import Vendor
from tests.support.vendored import LICENSE

OWN_ROOT = f'{LICENSE}root = "own-root.json"\n'


def a_vendor(place: Path) -> Vendor:
    vendor = Vendor(production=False)
    (place / "own-root.json").write_bytes(vendor.root_bytes)
    return vendor


def a_file(place: Path, vendor: Vendor, kind: Kind = Kind.DEVELOPMENT) -> str:
    path = place / f"{kind}.lic"
    path.write_bytes(vendor.file(kind, **TERM))
    return str(path)


def test_a_licence_is_installed_and_shown_and_the_exit_code_says_the_state(tmp_path: Path) -> None:
    vendor = a_vendor(tmp_path)
    nowhere = 'hosts = ["127.0.0.1:9"]'
    with running(tmp_path, lab=False, default=nowhere, more=OWN_ROOT) as daemon:
        sluice = Cli(daemon)
        ended = sluice("license", "status")
        assert ended.code == 5
        assert "sluice license install FILE" in ended.out
        refused = sluice("license", "install", a_file(tmp_path, vendor, Kind.ENTERPRISE_SERVER))
        assert refused.code == 1
        assert "Development" in refused.err or "development" in refused.err
        stranger = Vendor(production=False)
        assert sluice("license", "install", a_file(tmp_path, stranger)).code == 1
        assert sluice("license", "status").code == 5
        text = sluice.text("license", "install", a_file(tmp_path, vendor))
        assert "development" in text
        ended = sluice("license", "status")
        assert ended.code == 2, ended
        assert "development: pending" in ended.out
        shown = sluice.text("license", "show")
        assert "Example SA" in shown and "OF-2026-0117" in shown and "8.7" in shown
        assert sluice.json("license", "show")["licenses"][0]["kind"] == "development"
        assert sluice.json("license", "usage")["counted"] == 0
        wait_until(
            lambda: "as sent: " in sluice.text("license", "report", "show"),
            "nothing was sent, though a licence is to be activated",
        )
        assert sluice("license", "activate").code == 1, "nobody answers at the vendor's"
        request = sluice.text("license", "request")
        assert "payloadType" in request


def test_without_a_server_the_commands_work_on_what_lies_on_the_disk(tmp_path: Path) -> None:
    vendor = a_vendor(tmp_path)
    daemon = Daemon(tmp_path, lab=False, default='hosts = ["127.0.0.1:9"]', more=OWN_ROOT)
    sluice = Cli(daemon)
    assert sluice("license", "status").code == 5
    assert sluice("license", "install", a_file(tmp_path, vendor)).code == 0
    looked = sluice("license", "status", "--json")
    assert (looked.code, looked.json["state"]) == (2, "pending")
    daemon.start()
    try:
        assert daemon.ask("license.status")["state"] == "pending"
        # A look from the command line tells nobody: what is to be noticed is the server's to tell.
        wait_until(lambda: "code=pending:" in daemon.log, lambda: daemon.log)
    finally:
        assert daemon.stop() == 0


def test_status_names_kind_state_connections_and_volume(tmp_path: Path) -> None:
    with Stage() as stage:
        host = stage.witness()
        valid = an_entitlement(is_metered=True, max_connections=3)
        with licensed(tmp_path, valid, emails=1000, default=f'hosts = ["{host.host}"]') as (
            daemon,
            guard,
        ):
            hand_in(daemon, [Letter((f"a{n}@d{n}.example",)) for n in range(60)])
            host.wait_for(60)
            text = Cli(daemon).text("status")
            assert "volume valid" in text
            assert re.search(r"[0-3]/3 \(peak [1-3]\)", text), text
            assert "at hand" in text
            guard.allow(an_entitlement(reason="all is well"))


def test_a_lab_needs_no_licence_and_says_so(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, default='hosts = ["127.0.0.1:9"]')
    daemon.start()
    try:
        ended = Cli(daemon)("license", "status")
        assert (ended.code, ended.out.strip()) == (
            0,
            "lab mode: needs no licence, reaches loopback only",
        )
        refused = Cli(daemon)("license", "usage")
        assert refused.code == 1
        assert "lab mode" in refused.err
    finally:
        assert daemon.stop() == 0
