"""A18: outgoing HTTPS is blocked under a Volume licence. Notice, grace, hold; unblocked, mail flows again within seconds."""

from pathlib import Path

from licensing.entitlement import Injection, State
from licensing.guard import Delivered
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()
HOUR, DAY = 3_600.0, 86_400.0


async def test_a18_from_the_first_silent_minute_to_the_hold_and_back(tmp_path: Path) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR, block=1_000, quota=100_000) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        began = time.true
        server.is_down = True
        at = sent = 0

        async def mail(emails: int) -> int:
            nonlocal at, sent
            granted = guard.take(emails)
            if granted:
                await guard.delivered([Delivered("spool", at, at + granted, granted)])
            at, sent = at + granted, sent + granted
            return granted

        await passes(guard, time, 23 * HOUR)
        assert guard.entitlement.state is State.VALID
        assert await mail(600) == 600
        await passes(guard, time, 2 * HOUR)
        assert guard.entitlement.exit_code == 1, "a notice after 24 h"
        # The lease is used up: its last Emails, then this server's share of what was free.
        assert await mail(1_000) == 400
        assert await mail(500) == 500
        await passes(guard, time, 48 * HOUR)
        assert guard.entitlement.state is State.GRACE and guard.entitlement.deliver
        await passes(guard, time, began + 14 * DAY - 60 - time.true)
        assert guard.entitlement.deliver and await mail(10) == 10
        await passes(guard, time, 120)
        assert guard.entitlement.state is State.OVER_LIMIT
        assert not guard.entitlement.deliver
        assert guard.entitlement.injection is Injection.UNTIL_FULL
        assert await mail(1) == 0

        server.is_down = False
        server.requests.clear()
        server.reports.clear()
        await passes(guard, time, 901)  # the longest back-off
        await passes(guard, time, 2)
        assert guard.entitlement.state is State.VALID and guard.entitlement.deliver
        # Each report once: the one that had waited all the time, and a fresh one.
        assert len(server.requests) == 2
        assert [report.cum for report in server.reports] == [0, sent]
        assert server.total == sent == 1_510
        await guard.stop()


async def test_a18_an_operator_who_unblocks_need_not_wait_for_the_back_off(tmp_path: Path) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        server.is_down = True
        for _ in range(30):
            await passes(guard, time, 12 * HOUR)
        assert not guard.entitlement.deliver
        server.is_down = False
        assert (await guard.report_now())["outcome"] == "acknowledged"
        assert guard.entitlement.deliver
        await guard.stop()
