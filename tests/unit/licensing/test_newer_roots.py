"""A root that is too long for answers reaches a node: it asks for the next one, and believes it by the one before."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from licensing.envelope import encode_envelope
from licensing.guard import Guard
from licensing.model.license import Kind
from licensing.server.signer import MAX_ROOTS_BYTES
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

MANY = tuple(f"{number:064x}" for number in range(400))


@pytest.fixture
def time() -> MachineTime:
    return MachineTime()


@pytest.fixture
async def server(time: MachineTime) -> AsyncIterator[LicenceServer]:
    async with LicenceServer(Vendor()) as server:
        server.now = lambda: time.true
        yield server


@pytest.fixture
async def guard(tmp_path: Path, server: LicenceServer, time: MachineTime) -> AsyncIterator[Guard]:
    """It believes root 1 and reports under Volume."""
    guard = a_guard(tmp_path, server.vendor, time, endpoint=server.url)
    await guard.open()
    await guard.install(server.vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    yield guard
    await guard.stop()


def believed(guard: Guard) -> int:
    return guard.home().store.trust.root.version


async def test_a_long_root_is_fetched_within_a_day(
    guard: Guard, server: LicenceServer, time: MachineTime
) -> None:
    assert server.roots_asked == [2]
    root = server.vendor.rotate(known_good=MANY)
    assert len(encode_envelope(root)) > MAX_ROOTS_BYTES
    for _ in range(3):
        await passes(guard, time, 61)
    assert server.roots_asked == [2] and believed(guard) == 1, "it asks once a day"
    await passes(guard, time, 86_400)
    assert believed(guard) == 2


async def test_an_answer_signed_under_roots_that_are_not_here_is_believed_once_they_are_fetched(
    guard: Guard, server: LicenceServer, time: MachineTime, tmp_path: Path
) -> None:
    server.vendor.rotate(new_keys=True, known_good=MANY)
    server.vendor.rotate(new_keys=True)
    server.vendor.delegate("server-online")
    await passes(guard, time, 3_601)
    assert believed(guard) == 3
    status = await guard.status()
    assert status["report"]["failure"] == "" and not status["report"]["under_way"]
    assert (tmp_path / "state/roots.json").exists()


async def test_a_root_the_one_before_has_not_signed_is_not_believed_and_not_asked_for_at_each_turn(
    guard: Guard, server: LicenceServer, time: MachineTime
) -> None:
    forger = Vendor()
    server.vendor.roots.append(forger.rotate())
    server.vendor.delegations = forger.delegations
    server.vendor.keys = forger.keys
    await passes(guard, time, 3_601)
    for _ in range(20):
        await passes(guard, time, 30)
    assert believed(guard) == 1 and server.roots_asked == [2, 2]
    assert any(each["code"] == "root_not_fetched" for each in await guard.events())


async def test_a_seat_is_taken_under_a_newer_root(
    tmp_path: Path, server: LicenceServer, time: MachineTime
) -> None:
    file = server.vendor.file(Kind.VOLUME, **EARLY)
    guard = a_guard(tmp_path / "other", server.vendor, time, endpoint=server.url)
    await guard.open()
    server.vendor.rotate(new_keys=True, known_good=MANY)
    server.vendor.delegate("server-online")
    await guard.install(file)
    await guard.talk()
    await passes(guard, time, 61)
    assert believed(guard) == 2 and (await guard.status())["licenses"][0]["activation_id"]
    await guard.stop()
