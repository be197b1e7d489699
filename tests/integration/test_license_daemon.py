"""The whole of it but for the vendor's server: a real daemon, the real guard, licences as a vendor signs them.

Installed by the operator's verb while the server runs; the vendor cannot be reached, so a licence is PENDING and good for 72 h.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from licensing.model.license import Kind
from mta.control.protocol import ControlError
from tests.scenario.stage import Letter, Stage, hand_in, kinds, wait_until
from tests.support.cli import Cli
from tests.support.daemon import Daemon, running, serving
from tests.support.vendor import Vendor
from tests.support.vendored import LICENSE, vendored_daemon

NOW = datetime.now(UTC).replace(microsecond=0)
TERM = {
    "issued_at": NOW - timedelta(days=2),
    "not_before": NOW - timedelta(days=1),
    "expires_at": NOW + timedelta(days=300),
    "terminate_at": NOW + timedelta(days=330),
}


@contextmanager
def vendored(place: Path, vendor: Vendor, **settings: Any) -> Iterator[Daemon]:
    with serving(vendored_daemon(place, vendor, **settings)) as daemon:
        yield daemon


def state(daemon: Daemon) -> str:
    found: str = daemon.ask("license.status")["state"]
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_a_licence_is_installed_while_the_server_runs_and_held_mail_flows(
    tmp_path: Path, workers: int
) -> None:
    vendor = Vendor()
    with Stage() as stage:
        host = stage.witness()
        default, server = f'hosts = ["{host.host}"]', f"workers = {workers}"
        with vendored(tmp_path, vendor, default=default, server=server) as daemon:
            assert state(daemon) == "unlicensed"
            bad = Vendor().file(Kind.STANDARD_SERVER, **TERM).decode()
            with pytest.raises(ControlError):
                daemon.ask("license.install", text=bad)
            assert state(daemon) == "unlicensed"
            text = vendor.file(Kind.STANDARD_SERVER, quantity=2, **TERM).decode()
            answer = daemon.ask("license.install", text=text)
            assert answer["kind"] == "standard_server"
            assert "verb=license.install" in daemon.log
            assert "END SLUICE LICENSE" not in daemon.log, "the log has no use for a whole file"
            wait_until(
                lambda: state(daemon) == "pending", lambda: str(daemon.ask("license.status"))
            )
            hand_in(daemon, [Letter((f"m{n}@d{n}.example",)) for n in range(50)])
            host.wait_for(50)
            found = daemon.ask("status")["license"]
            assert found["connections"]["limit"] == 6
            assert 1 <= found["connections"]["peak"] <= 6


def install_volume(place: Path, vendor: Vendor, block: int) -> None:
    """A Volume licence whose first block has so many Emails, before any activation."""
    volume = vendor.license(Kind.VOLUME, **TERM).limits.volume
    assert volume is not None
    lease = msgspec.structs.replace(volume.lease, min=block)
    limits = msgspec.structs.replace(
        vendor.license(Kind.VOLUME).limits, volume=msgspec.structs.replace(volume, lease=lease)
    )
    (place / "license.d").mkdir()
    file = vendor.file(Kind.VOLUME, limits=limits, **TERM)
    (place / "license.d" / "volume.lic").write_bytes(file)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_notice_is_mailed_though_all_mail_is_held_and_counts_as_no_email(
    tmp_path: Path, workers: int
) -> None:
    vendor, block = Vendor(), 10
    install_volume(tmp_path, vendor, block)
    license = f'{LICENSE}notify_email = ["ops@ops.example"]\n'
    with Stage() as stage:
        host = stage.witness()
        default, server = f'hosts = ["{host.host}"]', f"workers = {workers}"
        with vendored(tmp_path, vendor, license=license, default=default, server=server) as daemon:
            hand_in(daemon, [Letter((f"m{n}@d{n % 9}.example",)) for n in range(30)])
            wait_until(lambda: state(daemon) == "over_limit", lambda: state(daemon))

            def told() -> list[bytes]:
                return [each.data for each in host.mailbox.of("ops@ops.example")]

            wait_until(lambda: any(b"Emails" in each for each in told()), lambda: str(told()))
            assert all(b"Auto-Submitted: auto-generated" in each for each in told())
            assert daemon.ask("license.usage")["counted"] == block
            assert kinds(daemon.records())["d"] == block
            files = [*tmp_path.glob("acct*.csv")]
            words = [word for file in files for word in ("--reconcile", str(file))]
            assert "equal" in Cli(daemon).text("license", "usage", *words)
            files[0].write_text("".join(files[0].read_text().splitlines(keepends=True)[:-1]))
            missing = Cli(daemon)("license", "usage", *words)
            assert missing.code == 1 and "difference 1" in missing.out
            assert Cli(daemon)("license", "usage", "--reconcile", __file__).code == 2
            assert daemon.totals()["queued_recipients"] == 30 - block
            assert len([each for each in host.recipients if each != "ops@ops.example"]) == block


@pytest.mark.parametrize("workers", [1, 2])
def test_before_its_activation_a_volume_licence_gives_exactly_its_start_block(
    tmp_path: Path, workers: int
) -> None:
    vendor, block = Vendor(), 120
    install_volume(tmp_path, vendor, block)
    with Stage() as stage:
        host = stage.witness()
        with vendored(
            tmp_path, vendor, default=f'hosts = ["{host.host}"]', server=f"workers = {workers}"
        ) as daemon:
            hand_in(daemon, [Letter((f"m{n}@d{n % 9}.example",)) for n in range(300)])
            host.wait_for(block)
            wait_until(
                lambda: state(daemon) == "over_limit", lambda: str(daemon.ask("license.status"))
            )
            daemon.kill()
            daemon.start()
            wait_until(
                lambda: state(daemon) == "over_limit", lambda: str(daemon.ask("license.status"))
            )
            wait_until(
                lambda: daemon.ask("license.usage")["counted"] == block,
                lambda: str(daemon.ask("license.usage")),
            )
            assert len(host.recipients) == block
            assert kinds(daemon.records())["d"] == block
            assert daemon.totals()["queued_recipients"] == 300 - block


def test_a_root_of_ones_own_opens_a_development_licence_and_no_other(tmp_path: Path) -> None:
    ours = Vendor(production=False)
    root = tmp_path / "own-root.json"
    root.write_bytes(ours.root_bytes)
    with Stage() as stage:
        host = stage.witness()
        more = f'{LICENSE}root = "own-root.json"\n'
        # `sluice run` as it is, with nothing put in its place.
        with running(tmp_path, lab=False, default=f'hosts = ["{host.host}"]', more=more) as d:
            with pytest.raises(ControlError):
                d.ask("license.install", text=ours.file(Kind.ENTERPRISE_SERVER, **TERM).decode())
            d.ask("license.install", text=ours.file(Kind.DEVELOPMENT, **TERM).decode())
            wait_until(lambda: state(d) == "pending", lambda: str(d.ask("license.status")))
            hand_in(d, [Letter(("a@example.test",))])
            host.wait_for(1)
            (taken,) = host.mailbox.of("a@example.test")
            assert taken.data.lower().startswith(b"x-sluice-license: development")


def test_a32_a_second_server_under_the_same_licences_ends_with_3_and_names_the_first(
    tmp_path: Path,
) -> None:
    vendor = Vendor()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    shared = LICENSE.replace('"license"', f'"{tmp_path}/license"')
    default = 'hosts = ["127.0.0.1:9"]'
    with vendored(tmp_path / "one", vendor, default=default, license=shared) as first:
        second = vendored_daemon(tmp_path / "two", vendor, default=default, license=shared)
        second.start(wait=False)
        assert second.wait_for_exit() == 3
        assert f"process {first.pid}" in second.log
