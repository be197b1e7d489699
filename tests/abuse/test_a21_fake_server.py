"""A21: somebody runs a licence server of his own in the customer's network. It cannot sign, so nothing it says counts."""

from pathlib import Path

from licensing.entitlement import State
from licensing.guard import Delivered
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()


async def test_a21_acknowledgements_of_a_forger_change_nothing(tmp_path: Path) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR, quota=1_000) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        guard.take(900)
        await guard.delivered([Delivered("spool", 0, 900, 900)])
        before = (await guard.status())["volume"]
        server.faults = ["forged"] * 40
        for _ in range(40):
            await passes(guard, time, 901)
        status = await guard.status()
        assert status["volume"]["leases"] == before["leases"]
        assert "signature" in status["report"]["failure"]
        assert (await guard.usage())["acknowledged"] == 0
        # Its word is no contact: the silence goes on until mail is held.
        server.faults = ["forged"] * 2_000
        for _ in range(30):
            await passes(guard, time, 43_200)
        assert guard.entitlement.state is State.OVER_LIMIT and not guard.entitlement.deliver
        server.faults = []
        await passes(guard, time, 901)
        assert guard.entitlement.deliver and server.total == 900
        await guard.stop()


async def test_a21_a_seat_given_by_a_forger_is_none(tmp_path: Path) -> None:
    time = MachineTime()
    async with LicenceServer(Vendor()) as forger:
        forger.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=forger.url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.ENTERPRISE_SERVER, **EARLY))
        await guard.talk()
        assert guard.entitlement.state is State.PENDING
        assert not (tmp_path / "state" / "activations").exists()
        await guard.stop()
