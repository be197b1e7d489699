"""The real guard of a node against the real licence server, over TLS: both sides' words fit together."""

from datetime import datetime
from pathlib import Path

import msgspec

from licensing.entitlement import State
from licensing.envelope import format_armour
from licensing.guard import Delivered, Guard
from licensing.model.license import License, Limits
from tests.support.licence_office import a_volume, renewed
from tests.support.licence_wire import WallClock, Wire, a_wire
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

QUOTA = 5_000


def a_license(vendor: Vendor, emails: int) -> License:
    moments: dict[str, datetime] = EARLY
    return msgspec.structs.replace(a_volume(vendor, emails), **moments)


class Node:
    """A guard, and the mail it sends."""

    def __init__(self, guard: Guard, time: MachineTime, wire: Wire) -> None:
        self.guard = guard
        self.time = time
        self.wire = wire
        self.sent = 0

    async def mail(self, emails: int) -> int:
        granted = self.guard.take(emails)
        if granted:
            counted = Delivered("spool", self.sent, self.sent + granted, granted)
            await self.guard.delivered([counted])
        self.sent += granted
        return granted

    async def passes(self, seconds: float) -> None:
        self.wire.clock.now = self.time.true + seconds
        await passes(self.guard, self.time, seconds)


async def test_activate_send_count_exhaust_hold_upgrade_flow(tmp_path: Path) -> None:
    vendor, time, clock = Vendor(), MachineTime(), WallClock()
    clock.now = time.true
    license = a_license(vendor, QUOTA)
    (tmp_path / "server").mkdir()
    async with a_wire(tmp_path / "server", vendor, clock=clock) as wire:
        known = await wire.learn(license)
        guard = a_guard(
            tmp_path, vendor, time, endpoint=wire.url, ca_file=tmp_path / "server" / "tls.pem"
        )
        await guard.open()
        node = Node(guard, time, wire)
        await guard.install(format_armour(known.envelope).encode())
        await guard.talk()
        assert guard.entitlement.state is State.VALID
        for _ in range(120):
            await node.mail(400)
            await node.passes(61)
            if node.sent == QUOTA:
                break
        assert node.sent == QUOTA, "to the last Email"
        assert await node.mail(1) == 0
        await node.passes(61)
        assert guard.entitlement.state is State.OVER_LIMIT
        assert await wire.total(license) == QUOTA

        assert license.limits.volume is not None
        more = msgspec.structs.replace(license.limits.volume, emails=2 * QUOTA)
        await wire.learn(renewed(license, limits=Limits(volume=more)))
        await node.passes(61)  # the renewal comes with the ack
        await node.passes(61)
        assert guard.entitlement.state is State.VALID
        assert await node.mail(100) == 100
        await node.passes(61)
        assert await wire.total(license) == QUOTA + 100
        assert (await guard.usage())["difference"] == 0
        await guard.stop()
