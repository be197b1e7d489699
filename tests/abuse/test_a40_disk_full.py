"""A40: the disk of the state directory is full. Counters go on in memory, mail flows; afterwards the count is exact."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from licensing.entitlement import State
from licensing.guard import Delivered, Guard
from licensing.ledger_file import LedgerError
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()
# Each is a spool with a name of 36 characters: a hundred cursors need pages that a full disk does not have.
MANY = [f"{number:036}" for number in range(400)]


@pytest.fixture
def time() -> MachineTime:
    return MachineTime()


@pytest.fixture
async def guard(tmp_path: Path, time: MachineTime) -> AsyncIterator[Guard]:
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        await passes(guard, time, 61)
        yield guard
        await guard.stop()


async def _pages(guard: Guard, *, full: bool) -> None:
    """SQLite's own limit: beyond it every write says SQLITE_FULL, as on a disk without room."""
    home = guard._home
    assert home is not None
    db = home.ledger._file._db

    def limit() -> None:
        pages = db.pragma("page_count") if full else 1_000_000
        db.pragma("max_page_count", pages)

    await home.thread.run(limit)


async def _fails(guard: Guard, counts: list[Delivered]) -> None:
    with pytest.raises(LedgerError, match="full"):
        await guard.delivered(counts)


async def test_a40_counters_go_on_in_memory_and_the_count_is_exact_when_there_is_room_again(
    guard: Guard, time: MachineTime
) -> None:
    await _pages(guard, full=True)
    assert guard.take(400) == 400
    await _fails(guard, [Delivered(spool, 0, 1, 1) for spool in MANY])
    await passes(guard, time, 1, talk=False)
    assert guard.entitlement.deliver
    assert "ledger_waiting" in [each.code.partition(":")[0] for each in guard.entitlement.remarks]
    assert guard.take(10_000) == 600, "what was counted in memory is used up"
    guard.refund(600)
    await passes(guard, time, 600, talk=False)
    assert guard.entitlement.state is State.VALID
    await passes(guard, time, 301, talk=False)
    assert guard.entitlement.state is State.GRACE and guard.entitlement.deliver
    assert "ledger_unwritable" in (await guard.status())["findings"]
    # The follower asks where it is, and hears nothing that is not on disk.
    with pytest.raises(LedgerError):
        await guard.cursors()

    await _pages(guard, full=False)
    cursors = await guard.cursors()
    assert cursors == dict.fromkeys(MANY, 1)
    await passes(guard, time, 1)
    assert guard.entitlement.state is State.VALID
    assert (await guard.usage())["counted"] == 400


async def test_a40_killed_while_the_disk_is_full_the_journal_gives_the_rest(
    tmp_path: Path, guard: Guard, time: MachineTime
) -> None:
    await guard.delivered([Delivered(spool, 0, 1, 1) for spool in MANY[:5]])
    await _pages(guard, full=True)
    await _fails(guard, [Delivered(spool, 0, 1, 1) for spool in MANY[5:]])
    home = guard._home
    assert home is not None
    guard._home = None
    home.close()  # as a kill leaves it
    again = a_guard(tmp_path, VENDOR, time)
    await again.open()
    known = await again.cursors()
    assert known == dict.fromkeys(MANY[:5], 1)
    await again.delivered([Delivered(spool, 0, 1, 1) for spool in MANY if spool not in known])
    assert (await again.usage())["counted"] == 400
    await again.stop()
