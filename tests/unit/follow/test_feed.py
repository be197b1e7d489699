"""The worker's side of following, heard by a bare link: what is said, in which order, and what is left out."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mta.follow.words import (
    Committed,
    Hello,
    Missed,
    PruneRows,
    ReadRows,
    Rows,
    Unread,
    of_worker,
)
from mta.io.link import Link
from mta.model.event import decode_event
from tests.support.feeds import SMALL_BUFFER, FedWorker, until

MAX_WAITING = 20_000


class Ear:
    """A follower process that only listens."""

    def __init__(self) -> None:
        self.words: list[Any] = []
        self.is_lost = False
        self.worker_end, self._end = socket.socketpair()
        for sock in (self.worker_end, self._end):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
            sock.setblocking(False)
        self.link = Link(of_worker, self.words.append, self._lost)

    async def listen(self) -> None:
        await self.link.open(self._end)

    def heard(self, kind: type) -> list[Any]:
        return [word for word in self.words if isinstance(word, kind)]

    def ids(self) -> list[int]:
        return [
            number
            for word in self.heard(Committed)
            for number, _ in enumerate(word.events, word.first)
        ]

    def _lost(self) -> None:
        self.is_lost = True


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[FedWorker]:
    worker = FedWorker(tmp_path, 3, max_waiting=MAX_WAITING)
    yield worker
    await worker.close()


@pytest.fixture
async def ear(worker: FedWorker) -> AsyncIterator[Ear]:
    ear = Ear()
    worker.feed.attach(ear.worker_end)
    yield ear
    ear.link.close()
    ear._end.close()


async def test_it_names_its_spools_then_tells_each_commit_in_order(
    worker: FedWorker, ear: Ear
) -> None:
    await ear.listen()
    await until(lambda: ear.words)
    for _ in range(5):
        worker.deliver(7)
        await worker.all_written()
    await until(lambda: len(ear.ids()) == 35)
    assert ear.words[0] == Hello(((3, worker.uuid),))
    assert ear.ids() == list(range(1, 36))
    assert {word.spool for word in ear.words[1:]} == {3}


async def test_the_table_is_read_and_pruned(worker: FedWorker, ear: Ear) -> None:
    worker.deliver(10)
    await worker.all_written()
    await ear.listen()
    await until(lambda: ear.words)
    ear.link.send(ReadRows(3, 1, 4, 3))
    await until(lambda: ear.heard(Rows))
    (answer,) = ear.heard(Rows)
    assert (answer.number, [number for number, _ in answer.rows]) == (1, [5, 6, 7])
    assert decode_event(answer.rows[0][1]).recipient == "someone@example.net"  # type: ignore[union-attr]
    ear.link.send(PruneRows(3, 6))
    ear.link.send(ReadRows(3, 2, 0, 100))
    await until(lambda: len(ear.heard(Rows)) == 2)
    # Reads are answered after what was to be written before them.
    assert [number for number, _ in ear.heard(Rows)[1].rows] == [7, 8, 9, 10]


async def test_a_follower_that_does_not_read_is_told_once_after_the_last_that_was_left_out(
    worker: FedWorker, ear: Ear
) -> None:
    await until(lambda: worker.feed.is_attached)
    for _ in range(5):
        while not worker.feed.left_out:
            worker.deliver(20)
            await worker.all_written()
        worker.deliver(1)
        await worker.all_written()
        await asyncio.sleep(0.03)  # the feed looks whether there is room: there is none
    assert worker.feed.left_out > 5
    await ear.listen()
    await until(lambda: ear.heard(Missed))
    told = ear.ids()
    assert told == list(range(1, len(told) + 1))
    assert len(told) < worker.written
    worker.deliver(2)
    await until(lambda: ear.ids()[-1] == worker.written == ear.ids()[-2] + 1)
    kinds = [type(word) for word in ear.words]
    assert kinds.count(Missed) == 1
    assert kinds[-2:] == [Missed, Committed]


async def test_one_that_asks_and_does_not_read_gets_no_more_answers(
    worker: FedWorker, ear: Ear
) -> None:
    worker.deliver(100)
    await worker.all_written()
    await until(lambda: worker.feed.is_attached)
    await ear.listen()
    ear.link._transport.pause_reading()  # type: ignore[union-attr]
    for number in range(50):
        ear.link.send(ReadRows(3, number, 0, 100))
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.05)
    ear.link._transport.resume_reading()  # type: ignore[union-attr]
    await until(lambda: len(ear.heard(Rows)) + len(ear.heard(Unread)) == 50)
    assert 0 < len(ear.heard(Rows)) < 20


async def test_another_follower_takes_the_place_of_the_first(worker: FedWorker, ear: Ear) -> None:
    await ear.listen()
    await until(lambda: ear.words)
    second = Ear()
    worker.feed.attach(second.worker_end)
    await second.listen()
    await until(lambda: second.words)
    worker.deliver(3)
    await until(lambda: second.ids() == [1, 2, 3])
    await until(lambda: ear.is_lost)
    assert ear.ids() == []
    second.link.close()
    await until(lambda: not worker.feed.is_attached)
    worker.deliver(3)
    await worker.all_written()
