"""A26: a server is restored from a snapshot. The vendor's figure stands; never less is counted, at most one interval more."""

import shutil
from pathlib import Path

from licensing.guard import Delivered, Guard
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()


async def _mail(guard: Guard, since: int, emails: int) -> int:
    guard.take(emails)
    await guard.delivered([Delivered("spool", since, since + emails, emails)])
    return since + emails


async def test_a26_after_a_restore_the_vendor_counts_on(tmp_path: Path) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        at = await _mail(guard, 0, 100)
        await passes(guard, time, 61)
        at = await _mail(guard, at, 7)  # in the snapshot, and reported before the restore as well
        await guard.stop()
        shutil.copytree(tmp_path / "state", tmp_path / "snapshot")

        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        for _ in range(3):
            at = await _mail(guard, at, 50)
            await passes(guard, time, 61)
        assert server.total == 257
        await guard.stop()

        shutil.rmtree(tmp_path / "state")
        shutil.copytree(tmp_path / "snapshot", tmp_path / "state")
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        await _mail(guard, 107, 30)  # the restored disk has its old journal, and sends on
        await passes(guard, time, 61)
        (row,) = server.rows.values()
        assert row.epoch == 2
        true_total = 257 + 30
        assert true_total <= server.total <= true_total + 7
        assert guard.entitlement.deliver and guard.take(10) == 10
        usage = await guard.usage()
        assert usage["epoch"] == 2 and usage["difference"] == 0
        await guard.stop()
