"""A16: a row of the ledger is edited, or its end cut off. The place is found, mail goes on, the vendor is told."""

from pathlib import Path

import apsw
import pytest

from licensing.entitlement import State
from licensing.guard import Delivered
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()

EDITS = {
    "a count is lowered": "UPDATE ledger SET record = CAST(replace(record, '\"cum\":30', '\"cum\":3') AS BLOB)",
    "a record is taken out": "DELETE FROM ledger WHERE seq = 2",
    "the end is cut off": "DELETE FROM ledger WHERE seq >= 2",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_a16_a_changed_ledger_is_located_flagged_and_does_not_stop_mail(
    tmp_path: Path, edit: str
) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        at = 0
        for _ in range(3):
            guard.take(10)
            await guard.delivered([Delivered("spool", at, at + 10, 10)])
            at += 10
            await passes(guard, time, 61)
        await guard.stop()
        ledger = apsw.Connection(str(tmp_path / "state" / "ledger.db"))
        ledger.execute(edit)
        ledger.close()

        again = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await again.open()
        assert again.entitlement.state is State.GRACE and again.entitlement.deliver
        (event,) = [each for each in await again.events() if each["code"] == "ledger_chain"]
        assert "at record " in event["text"]
        assert again.take(10) == 10
        await again.delivered([Delivered("spool", at, at + 10, 10)])
        await passes(again, time, 61)
        flagged = server.reports[-1]
        assert "ledger_chain" in flagged.flags
        assert server.total == 40
        assert again.entitlement.state is State.VALID
        await again.stop()


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.95])
async def test_a16_a_file_that_is_no_database_any_more_is_put_aside_and_the_vendor_counts_on(
    tmp_path: Path, place: float
) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        guard.take(30)
        await guard.delivered([Delivered("spool", 0, 30, 30)])
        for _ in range(20):
            await passes(guard, time, 61)
        await guard.stop()
        path = tmp_path / "state" / "ledger.db"
        data = bytearray(path.read_bytes())
        start = int(len(data) * place)
        data[start : start + 6_000] = b"\xaa" * len(data[start : start + 6_000])
        path.write_bytes(data)

        again = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await again.open()
        assert "ledger_chain" in (await again.status())["findings"]
        await passes(again, time, 61)
        await passes(again, time, 61)
        assert server.total >= 30 and again.entitlement.deliver
        assert again.take(5) == 5
        await again.stop()
