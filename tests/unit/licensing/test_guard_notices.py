"""Notices from the count to the mail, over a restart: what the ledger knows as told is told once."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from licensing.guard import Delivered, Guard, GuardOptions, Surroundings
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, MACHINE, passes
from tests.support.vendor import Vendor

QUOTA = 1_000


class Postman:
    """What the daemon would send: the subjects, as they come."""

    def __init__(self) -> None:
        self.subjects: asyncio.Queue[str] = asyncio.Queue()

    async def send(self, recipients: Sequence[str], subject: str, text: str) -> None:
        assert recipients == ("ops@example.test",)
        self.subjects.put_nowait(subject)

    async def next(self) -> str:
        async with asyncio.timeout(5):
            return await self.subjects.get()


def a_guard_with(
    postman: Postman, folder: Path, vendor: Vendor, time: MachineTime, endpoint: str
) -> Guard:
    return Guard(
        GuardOptions(
            license_dir=folder / "license.d",
            state_dir=folder / "state",
            endpoint=endpoint,
            node_label="mx1",
            notify_email=("ops@example.test",),
        ),
        Surroundings(
            read_clocks=time.read,
            trust=vendor.trust,
            machine=MACHINE,
            flush_every=0,
            send_mail=postman.send,
        ),
    )


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


async def test_80_percent_is_mailed_once_over_reports_and_a_restart_and_90_is_news(
    tmp_path: Path, vendor: Vendor
) -> None:
    time, postman = MachineTime(), Postman()
    async with LicenceServer(vendor, quota=QUOTA, block=QUOTA) as server:
        server.now = lambda: time.true
        guard = a_guard_with(postman, tmp_path, vendor, time, server.url)
        await guard.open()
        await guard.install(vendor.file(Kind.VOLUME, **EARLY))
        assert "pending" in await postman.next()
        await passes(guard, time, 1)
        await guard.delivered([Delivered("spool", 0, 810, 810)])
        await passes(guard, time, 61)
        assert "mx1: volume 80" in await postman.next()
        await passes(guard, time, 61)
        await guard.stop()

        guard = a_guard_with(postman, tmp_path, vendor, time, server.url)
        await guard.open()
        await passes(guard, time, 61)
        await guard.delivered([Delivered("spool", 810, 905, 95)])
        await passes(guard, time, 61)
        assert "mx1: volume 90" in await postman.next()
        assert postman.subjects.empty()
        await guard.stop()
