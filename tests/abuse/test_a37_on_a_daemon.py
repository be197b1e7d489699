"""A37 on a server: licensing fails in each of its calls. Mail goes on by the last decision; once it works, all is counted."""

from pathlib import Path

import pytest

from tests.scenario.stage import Letter, Stage, hand_in, kinds, wait_until
from tests.support.licensed import an_entitlement, licensed

METERED = an_entitlement(is_metered=True, max_connections=6)
CALLS = ("take", "refund", "cursors", "delivered", "connections", "status", "spools")


@pytest.mark.parametrize("workers", [1, 2])
def test_a37_whatever_licensing_throws_mail_goes_on_and_is_counted_later(
    tmp_path: Path, workers: int
) -> None:
    with Stage() as stage:
        host = stage.witness()
        with licensed(
            tmp_path,
            METERED,
            emails=5000,
            faults_meant=True,
            default=f'hosts = ["{host.host}"]',
            server=f"workers = {workers}",
        ) as (daemon, guard):
            hand_in(daemon, [Letter((f"a{n}@d{n % 7}.example",)) for n in range(100)])
            host.wait_for(100)
            guard.allow(METERED, emails=5000, fails=CALLS)
            hand_in(daemon, [Letter((f"b{n}@d{n % 7}.example",)) for n in range(300)])
            host.wait_for(400)
            status = daemon.ask("status")
            assert status["license"]["state"] == "valid"
            assert "a fault was asked for" in status["license"]["trouble"]
            wait_until(lambda: "licensing failed" in daemon.log, "the log says nothing")
            assert guard.counted.emails <= 400
            guard.allow(METERED, emails=5000)
            wait_until(lambda: guard.counted.emails == 400, lambda: str(guard.counted), 20.0)
            assert kinds(daemon.records())["d"] == 400


def test_a37_a_server_whose_licensing_fails_from_the_start_serves_by_what_it_was_told(
    tmp_path: Path,
) -> None:
    with Stage() as stage:
        host = stage.witness()
        with licensed(
            tmp_path,
            an_entitlement(),
            fails=CALLS,
            faults_meant=True,
            default=f'hosts = ["{host.host}"]',
        ) as (daemon, guard):
            hand_in(daemon, [Letter((f"a{n}@d.example",)) for n in range(50)])
            host.wait_for(50)
            guard.allow(an_entitlement())
            wait_until(lambda: guard.counted.emails == 50, lambda: str(guard.counted), 20.0)
