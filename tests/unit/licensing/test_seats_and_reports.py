"""Where taking a seat and reporting meet: what comes between them changes neither."""

import asyncio
from pathlib import Path

import pytest

from licensing.errors import LicenseError
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard
from tests.support.vendor import Vendor


async def test_the_first_report_names_the_seat_that_came_while_the_files_were_read(
    tmp_path: Path,
) -> None:
    vendor, time = Vendor(), MachineTime()
    async with LicenceServer(vendor) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
        await guard.open()
        await guard.install(vendor.file(Kind.VOLUME, **EARLY))

        async def read_again_and_again() -> None:
            while True:
                await guard.read_licenses()

        reading = asyncio.create_task(read_again_and_again())
        await guard.activate()
        reading.cancel()
        await guard.talk()
        await guard.tick()  # which writes the events
        assert [each.activation_id for each in server.reports] != []
        assert "report_failed" not in {each["code"] for each in await guard.events()}
        await guard.stop()


async def test_a_farewell_that_was_refused_is_said_once_more_and_no_oftener(
    tmp_path: Path,
) -> None:
    # A vendor that takes one report in ten seconds would refuse a second one, and so every next try.
    vendor, time = Vendor(), MachineTime()
    async with LicenceServer(vendor) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
        await guard.open()
        await guard.install(vendor.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        server.faults.append("busy")
        with pytest.raises(LicenseError, match="the seat is kept"):
            await guard.deactivate()
        before = len(server.reports)
        await guard.deactivate()
        assert [each.final for each in server.reports[before:]] == [True]
        await guard.stop()


async def test_a_vendor_that_cannot_be_reached_is_told_in_words(tmp_path: Path) -> None:
    vendor, time = Vendor(), MachineTime()
    guard = a_guard(tmp_path, vendor, time, endpoint="https://127.0.0.1:9")
    await guard.open()
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    with pytest.raises(LicenseError) as refused:
        await guard.activate()
    assert "https://127.0.0.1:9" in str(refused.value)
    assert "refused" in str(refused.value) or "Connect call failed" in str(refused.value)
    assert "object at" not in str(refused.value), "Python's own names are nobody's business"
    await guard.stop()
