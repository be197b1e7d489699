"""Spools of other processes as followers see them: nothing is passed over, and nobody waits for a worker that is gone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from mta.follow.inbox import Numbered
from mta.follow.remote import RemoteSource, RemoteSources
from mta.follow.words import Committed
from tests.support.fake_spool import an_attempt
from tests.support.feeds import DEADLINE_S, FedWorker, Wire, until

ANSWER_S = 0.1


class Room:
    """A worker, and who follows it."""

    def __init__(self, path: Path) -> None:
        self.worker = FedWorker(path)
        self.sources = RemoteSources([0], answer_s=ANSWER_S, retry_s=0.05)
        self.new: list[int] = []
        self.sources.on_new_spool = self.new.append
        self.heard: list[Sequence[Numbered]] = []
        self._wires: list[Wire] = []

    async def connect(self) -> Wire:
        wire = Wire()
        self._wires.append(wire)
        self.sources.attach(wire.follower_end)
        self.worker.feed.attach(wire.worker_end)
        assert await self.sources.all_named(DEADLINE_S)
        await until(lambda: self.source.is_attached)
        return wire

    async def begin(self) -> Wire:
        wire = await self.connect()
        self.source.subscribe(self.heard.append)
        return wire

    @property
    def source(self) -> RemoteSource:
        return self.sources.named[0]

    async def deliver(self, count: int) -> None:
        self.worker.deliver(count)
        await self.worker.all_written()

    async def read(self, cursor: int, limit: int = 100) -> list[int]:
        asked: Future[list[Numbered]] = self.source.events(cursor, limit)
        return [number for number, _ in await asyncio.wrap_future(asked)]

    async def close(self) -> None:
        for wire in self._wires:
            await wire.cut()
        self.sources.close()
        await self.worker.close()


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    yield room
    await room.close()


async def test_events_come_from_the_table_and_then_from_memory(room: Room) -> None:
    await room.deliver(3)
    await room.begin()
    assert await room.read(0) == [1, 2, 3]
    assert await room.read(1, 1) == [2]
    await room.deliver(2)
    await until(lambda: room.heard)
    assert [number for number, _ in room.heard[0]] == [4, 5]
    assert room.heard[0][0][1] == an_attempt()


async def test_without_a_connection_there_is_nothing_and_with_the_next_one_the_table_is_read(
    room: Room,
) -> None:
    wire = await room.begin()
    await wire.cut()
    await until(lambda: not room.source.is_attached)
    await room.deliver(4)
    assert await room.read(0) == []
    room.heard.clear()
    await room.connect()
    assert [*map(len, room.heard)] == [0] * len(room.heard)
    assert room.heard
    assert await room.read(0) == [1, 2, 3, 4]


async def test_who_waits_for_an_answer_is_released_when_the_connection_is_lost(room: Room) -> None:
    wire = await room.begin()
    await room.deliver(4)
    wire.valve.clear()
    asked = room.source.events(0, 10)
    await asyncio.sleep(0.01)
    await wire.cut()
    assert await asyncio.wait_for(asyncio.wrap_future(asked), ANSWER_S / 2) == []


async def test_a_worker_that_hangs_is_not_asked_again_until_it_answers(room: Room) -> None:
    await room.deliver(5)
    wire = await room.begin()
    wire.back.clear()
    assert await room.read(0) == []
    began = asyncio.get_running_loop().time()
    assert await room.read(0) == []
    assert asyncio.get_running_loop().time() - began < ANSWER_S / 2
    # Nobody has read what was before: so nobody is offered what comes after it.
    await room.deliver(3)
    await asyncio.sleep(0.05)
    assert not any(room.heard)
    room.heard.clear()
    wire.open()
    await until(lambda: room.heard)
    assert room.heard == [[]]
    assert await room.read(0) == [1, 2, 3, 4, 5, 6, 7, 8]
    await room.deliver(1)
    await until(lambda: any(room.heard))


async def test_a_hole_in_what_is_told_is_seen(room: Room) -> None:
    await room.begin()
    event = an_attempt()
    room.source.take(Committed(0, 1, [event]))
    room.source.take(Committed(0, 3, [event]))
    assert [[number for number, _ in batch] for batch in room.heard] == [[1], [], [3]]


async def test_a_pruning_is_said_again_to_who_serves_the_spool_next(room: Room) -> None:
    wire = await room.begin()
    await room.deliver(4)
    await wire.cut()
    await until(lambda: not room.source.is_attached)
    room.source.prune(3)
    await room.connect()
    await until(lambda: room.worker.spool.pending_event_bytes < 600)
    assert await room.read(0) == [4]


async def test_another_spool_under_a_number_is_not_taken_for_the_old_one(
    room: Room, tmp_path: Path
) -> None:
    wire = await room.begin()
    await wire.cut()
    await until(lambda: not room.source.is_attached)
    assert room.new == [0]
    other = FedWorker(tmp_path / "other")
    last = Wire()
    room.sources.attach(last.follower_end)
    other.feed.attach(last.worker_end)
    await until(lambda: room.new == [0, 0])
    assert not room.source.is_attached
    await last.cut()
    await other.close()


async def test_a_spool_that_nobody_names_is_told_apart(tmp_path: Path) -> None:
    sources = RemoteSources([0, 1])
    worker, wire = FedWorker(tmp_path, 1), Wire()
    sources.attach(wire.follower_end)
    worker.feed.attach(wire.worker_end)
    assert not await sources.all_named(0.2)
    assert sources.unnamed == [0]
    assert [source.uuid for source in sources.named] == [worker.uuid]
    await wire.cut()
    await worker.close()
