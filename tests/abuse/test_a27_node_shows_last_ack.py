"""A27: the vendor's server is restored from a backup and knows less than it signed for. It is shown its own word."""

import copy
from pathlib import Path

import msgspec

from licensing.guard import Delivered
from licensing.model.bodies import Presented
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()


async def test_a27_a_server_that_is_behind_is_shown_its_last_acknowledgement(
    tmp_path: Path,
) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        (name,) = server.rows
        backup = copy.copy(server.rows[name])
        at = 0
        for _ in range(3):
            guard.take(20)
            await guard.delivered([Delivered("spool", at, at + 20, 20)])
            at += 20
            await passes(guard, time, 61)
        assert server.total == 60

        server.rows[name] = backup
        assert server.total == 0
        guard.take(5)
        await guard.delivered([Delivered("spool", at, at + 5, 5)])
        await passes(guard, time, 61)
        shown = msgspec.json.decode(server.requests[-1][1], type=Presented)
        assert shown.last_ack.payload_type.endswith("usage-ack.v1+json")
        assert server.total == 65
        assert server.rows[name].epoch == 1, "no new epoch was needed"
        assert (await guard.usage())["difference"] == 0
        await guard.stop()
