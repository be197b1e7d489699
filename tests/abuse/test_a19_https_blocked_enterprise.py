"""A19: outgoing HTTPS is blocked under an Enterprise licence. It never stops; an activation comes by file."""

from pathlib import Path

from licensing.entitlement import State
from licensing.envelope import decode_envelope, encode_envelope
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()
DAY = 86_400.0


async def test_a19_an_enterprise_server_delivers_through_a_year_without_contact(
    tmp_path: Path,
) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        server.is_down = True
        await guard.install(VENDOR.file(Kind.ENTERPRISE_SERVER, **EARLY))
        answer = server.activate(decode_envelope(await guard.request()))
        found = decode_envelope(encode_envelope(answer))
        await guard.install(encode_envelope(found))
        assert guard.entitlement.state is State.VALID
        for _ in range(33):
            await passes(guard, time, DAY)
            assert guard.entitlement.deliver and guard.entitlement.max_connections is None
        # The certificate nears its end: a new one by hand.
        answer = server.activate(decode_envelope(await guard.request()))
        await guard.install(encode_envelope(answer))
        for _ in range(30):
            await passes(guard, time, DAY)
            assert guard.entitlement.deliver
        await guard.stop()


async def test_a19_with_reporting_off_nothing_is_ever_sent(tmp_path: Path) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url, reporting=False)
        await guard.open()
        await guard.install(VENDOR.file(Kind.ENTERPRISE_SERVER, **EARLY))
        answer = server.activate(decode_envelope(await guard.request()))
        await guard.install(encode_envelope(answer))
        for _ in range(34):
            await passes(guard, time, DAY)
        assert server.requests == [] and guard.entitlement.deliver
        await guard.stop()
