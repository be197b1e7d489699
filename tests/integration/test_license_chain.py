"""The node against the real licence server, over HTTP: seats, leases, counts, restores, and who knows what in the end."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec

from licensing.entitlement import State
from licensing.envelope import encode_envelope, format_armour
from licensing.guard import Delivered, Guard
from licensing.model import Kind, License
from licensing.server.book import verify_license
from licensing.server.rows import LicenseRow
from licensing.server.serve import Running, ServeOptions, serving
from tests.support.licence_office import a_signer, a_volume
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()


@asynccontextmanager
async def real_server(
    folder: Path, time: MachineTime, *licenses: License
) -> AsyncIterator[tuple[str, Running]]:
    """Serving, with these licences imported; its URL."""
    database = folder / "server.db"
    options = ServeOptions(database, ("127.0.0.1", 0), None)
    async with serving(options, a_signer(VENDOR), VENDOR.trust, now=lambda: time.true) as server:
        for license in licenses:
            known = verify_license(VENDOR.sign_license(license), VENDOR.trust)
            row = LicenseRow(
                license.license_id,
                license.revision,
                known.sha256,
                encode_envelope(known.envelope),
                int(time.true),
            )
            await server.committer.run(lambda store, row=row: store.put_license(row))
            server.desk.book.add(known)
        yield f"http://127.0.0.1:{server.port}", server


async def total(server: Running, license: License) -> int:
    """The billing figure (C27)."""
    rows = await server.committer.run(
        lambda store: store.usage(license.license_id, "", "9999", 10**6)
    )
    return sum(row.emails for row in rows)


def a_pool(emails: int) -> License:
    """A Volume licence in force at the machine's time."""
    license = msgspec.structs.replace(a_volume(VENDOR, emails, anchor=date(2026, 11, 1)), **EARLY)
    assert license.not_before == datetime(2026, 11, 1, tzinfo=UTC)
    return license


def a_file(license: License) -> bytes:
    return format_armour(VENDOR.sign_license(license)).encode()


class Spool:
    def __init__(self, name: str) -> None:
        self.name, self.at = name, 0

    async def sends(self, guard: Guard, wanted: int) -> int:
        granted = guard.take(wanted)
        if granted:
            since, self.at = self.at, self.at + granted
            await guard.delivered([Delivered(self.name, since, self.at, granted)])
        return granted


async def test_two_servers_share_a_pool_to_the_last_email(tmp_path: Path) -> None:
    time, license = MachineTime(), a_pool(5_000)
    async with real_server(tmp_path, time, license) as (url, server):
        guards, spools = [], []
        for name in ("one", "two"):
            guard = a_guard(tmp_path / name, VENDOR, time, endpoint=url)
            await guard.open()
            await guard.install(a_file(license))
            await guard.talk()
            assert guard.entitlement.state is State.VALID
            guards.append(guard)
            spools.append(Spool(name))
        sent = 0
        for _ in range(120):
            for guard, spool in zip(guards, spools, strict=True):
                sent += await spool.sends(guard, 100)
                await passes(guard, time, 31)
        assert sent == 5_000
        assert await total(server, license) == sent
        for guard in guards:
            assert guard.entitlement.state is State.OVER_LIMIT
            assert guard.take(1) == 0
            await guard.stop()


async def test_a_restored_node_and_a_deleted_ledger_are_counted_on(tmp_path: Path) -> None:
    time, license = MachineTime(), a_pool(100_000)
    async with real_server(tmp_path, time, license) as (url, server):
        folder, spool = tmp_path / "node", Spool("spool")
        guard = a_guard(folder, VENDOR, time, endpoint=url)
        await guard.open()
        await guard.install(a_file(license))
        await guard.talk()
        await spool.sends(guard, 100)
        await passes(guard, time, 121)
        await guard.stop()
        shutil.copytree(folder / "state", folder / "snapshot")
        guard = a_guard(folder, VENDOR, time, endpoint=url)
        await guard.open()
        await spool.sends(guard, 50)
        await passes(guard, time, 121)
        assert await total(server, license) == 150
        await guard.stop()

        shutil.rmtree(folder / "state")
        (folder / "snapshot").rename(folder / "state")
        spool.at = 100
        guard = a_guard(folder, VENDOR, time, endpoint=url)
        await guard.open()
        await spool.sends(guard, 7)
        await passes(guard, time, 121)
        await passes(guard, time, 121)
        assert await total(server, license) == 157
        assert guard.entitlement.deliver
        await guard.stop()

        for path in (folder / "state").glob("ledger.db*"):
            path.unlink()
        guard = a_guard(folder, VENDOR, time, endpoint=url)
        await guard.open()
        await passes(guard, time, 121)
        await passes(guard, time, 121)
        assert guard.entitlement.deliver
        assert await spool.sends(guard, 3) == 3
        await passes(guard, time, 121)
        assert await total(server, license) == 160
        assert (await guard.usage())["difference"] == 0
        await guard.stop()


async def test_seats_of_a_server_licence_are_limited_and_freed(tmp_path: Path) -> None:
    time = MachineTime()
    license = VENDOR.license(Kind.STANDARD_SERVER, **EARLY)
    async with real_server(tmp_path, time, license) as (url, _):
        first = a_guard(tmp_path / "one", VENDOR, time, endpoint=url, node_label="mail-1")
        second = a_guard(tmp_path / "two", VENDOR, time, endpoint=url)
        for guard in (first, second):
            await guard.open()
            await guard.install(a_file(license))
            await guard.talk()
        assert first.entitlement.state is State.VALID
        assert second.entitlement.state is State.PENDING
        refusal = (await second.status())["licenses"][0]["refusal"]
        assert "mail-1" in refusal
        await first.deactivate()
        await second.activate()
        assert second.entitlement.state is State.VALID
        await passes(second, time, 86_401)
        assert (await second.status())["report"]["failure"] == ""
        for guard in (first, second):
            await guard.stop()
