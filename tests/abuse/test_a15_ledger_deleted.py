"""A15: the ledger is deleted. The vendor forgets nothing, the node goes on in a new epoch; offline it is borne for a while."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from licensing.entitlement import State
from licensing.guard import Delivered, Guard
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()
HOUR = 3_600.0


@pytest.fixture
def time() -> MachineTime:
    return MachineTime()


@pytest.fixture
async def server(time: MachineTime) -> AsyncIterator[LicenceServer]:
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        yield server


async def _after_a_day_of_mail(
    folder: Path, time: MachineTime, server: LicenceServer
) -> tuple[Guard, int]:
    """A node that reported 300 Emails and has sent 20 more, stopped, its ledger deleted, opened again."""
    guard = a_guard(folder, VENDOR, time, endpoint=server.url)
    await guard.open()
    await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    guard.take(320)
    await guard.delivered([Delivered("spool", 0, 300, 300)])
    await passes(guard, time, 61)
    assert server.total == 300
    await guard.delivered([Delivered("spool", 300, 320, 20)])
    await guard.stop()
    for path in (folder / "state").glob("ledger.db*"):
        path.unlink()
    again = a_guard(folder, VENDOR, time, endpoint=server.url)
    await again.open()
    return again, 300


async def test_a15_online_a_new_epoch_begins_and_nothing_is_forgotten(
    tmp_path: Path, time: MachineTime, server: LicenceServer
) -> None:
    guard, reported = await _after_a_day_of_mail(tmp_path, time, server)
    assert "ledger_missing" in (await guard.status())["findings"]
    # The journal is read again from its beginning: what was not pruned there is counted.
    await guard.delivered([Delivered("spool", 300, 320, 20)])
    await passes(guard, time, 61)
    (row,) = server.rows.values()
    assert (row.epoch, row.closed, row.cum) == (2, reported, 20)
    assert server.total == 320
    assert "ledger_missing" in server.reports[-1].flags
    assert guard.entitlement.state is State.VALID
    assert guard.take(10) == 10
    await guard.stop()


async def test_a15_offline_it_is_borne_for_72_hours_on_credit_alone(
    tmp_path: Path, time: MachineTime, server: LicenceServer
) -> None:
    server.is_down = True
    server.is_down = False
    guard, _ = await _after_a_day_of_mail(tmp_path, time, server)
    server.is_down = True
    await passes(guard, time, 2 * HOUR)
    status = await guard.status()
    assert guard.entitlement.state is State.GRACE
    assert status["volume"]["leases"] == [] and status["volume"]["on_credit"]
    assert guard.take(1) == 1
    guard.refund(1)
    await passes(guard, time, 71 * HOUR)
    assert guard.entitlement.state is State.TAMPERED
    # Nothing heals but the vendor.
    server.is_down = False
    await passes(guard, time, 901)
    await passes(guard, time, 61)
    assert guard.entitlement.state is State.VALID
    await guard.stop()


async def test_a15_the_same_without_the_anchor(
    tmp_path: Path, time: MachineTime, server: LicenceServer
) -> None:
    guard, reported = await _after_a_day_of_mail(tmp_path, time, server)
    await guard.stop()
    for path in (tmp_path / "state").glob("ledger.db*"):
        path.unlink()
    (tmp_path / "state" / "anchor.json").unlink()
    again = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
    await again.open()
    assert "ledger_missing" in (await again.status())["findings"]
    await passes(again, time, 61)
    await passes(again, time, 61)
    assert server.total == reported
    assert again.entitlement.state is State.VALID
    await again.stop()
