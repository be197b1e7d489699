"""Messages and questions between two of our processes: all of them, in order, and none is left without an answer."""

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mta.io.door import Door, door_pair, pass_on
from mta.io.link import Link
from mta.model.envelope import QueueKey
from mta.model.errors import SpoolError
from mta.runtime.calls import Answerer, Asker, CallFailed
from mta.runtime.follower_process import _Answers as FollowerAnswers
from mta.runtime.messages import Beat, Call, of_process, of_supervisor
from mta.runtime.worker_process import WorkerProcess


class Desk:
    """What can be asked."""

    async def add(self, first: int, second: int) -> int:
        return first + second

    async def name(self, key: QueueKey) -> str:
        assert isinstance(key, QueueKey), "arguments become what the annotations say"
        return str(key)

    async def fail(self) -> None:
        raise SpoolError("no room")

    async def never(self) -> None:
        await asyncio.sleep(60)


class Pair:
    """Two processes in one: an asker here, an answerer there."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.asker = Asker()
        self.answerer = Answerer(Desk())

    async def open(self) -> None:
        near, far = socket.socketpair()
        self.near = Link(of_process, self._near, lambda: self.asker.lost(self.near))
        self.far = Link(of_supervisor, self._far, lambda: None)
        self.asker.link = self.near
        await self.near.open(near)
        await self.far.open(far)

    def _near(self, message: Any) -> None:
        if isinstance(message, Beat):
            self.heard.append(message)
        else:
            self.asker.answered(message)

    def _far(self, message: Any) -> None:
        assert isinstance(message, Call)
        self.answerer.take(message, self.far)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    await pair.open()
    yield pair
    pair.near.close()
    pair.far.close()
    await asyncio.sleep(0)


async def test_questions_are_answered_whatever_their_order(pair: Pair) -> None:
    answers = await asyncio.gather(
        *(pair.asker.ask("add", 5, first=n, second=1) for n in range(100))
    )
    assert answers == [n + 1 for n in range(100)]
    assert await pair.asker.ask("name", 5, key=QueueKey("a.example", "b")) == "a.example/b"


async def test_a_failure_there_is_a_failure_here_with_its_kind_and_text(pair: Pair) -> None:
    with pytest.raises(CallFailed, match="no room") as caught:
        await pair.asker.ask("fail", 5)
    assert caught.value.kind == "SpoolError"
    with pytest.raises(CallFailed, match="no call named missing"):
        await pair.asker.ask("missing", 5)


async def test_who_does_not_answer_in_time_costs_nobody_else(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        await pair.asker.ask("never", 0.05)
    assert await pair.asker.ask("add", 5, first=1, second=1) == 2


async def test_the_end_of_the_other_process_answers_all_questions(pair: Pair) -> None:
    asked = asyncio.ensure_future(pair.asker.ask("never", 30))
    await asyncio.sleep(0.05)
    pair.far.close()
    with pytest.raises(ConnectionError):
        await asked
    with pytest.raises(ConnectionError):
        await pair.asker.ask("add", 5, first=1, second=1)


async def test_messages_come_whole_and_in_order_however_large(pair: Pair) -> None:
    for number in range(1000):
        pair.far.send(Beat(float(number), number, 0))
    big = "x" * 3_000_000
    assert len(await pair.asker.ask("name", 10, key=QueueKey(big, "b"))) == len(big) + 2
    assert [beat.clients for beat in pair.heard] == list(range(1000))


async def test_what_is_sent_before_the_link_is_open_is_not_lost() -> None:
    near, far = socket.socketpair()
    heard: list[Any] = []
    sender = Link(of_supervisor, lambda message: None, lambda: None)
    sender.send(Beat(0.0, 7, 0))
    await asyncio.sleep(0)
    receiver = Link(of_process, heard.append, lambda: None)
    await receiver.open(far)
    await sender.open(near)
    await asyncio.sleep(0.05)
    assert heard == [Beat(0.0, 7, 0)]
    sender.close()
    receiver.close()
    await asyncio.sleep(0)


async def test_a_door_passes_an_open_connection_with_its_note() -> None:
    near, far = door_pair()
    taken: list[tuple[bytes, socket.socket]] = []
    door = Door(far, lambda note, sock: taken.append((note, sock)))
    ours, theirs = socket.socketpair()
    assert pass_on(near, b"3", theirs.fileno())
    theirs.close()
    await asyncio.sleep(0.05)
    ((note, sock),) = taken
    assert note == b"3"
    sock.setblocking(True)
    sock.sendall(b"hello")
    assert ours.recv(5) == b"hello"
    for each in (sock, ours):
        each.close()
    door.close()
    assert not pass_on(near, b"3", near.fileno()), "nobody is there any more"
    near.close()


def test_the_supervisor_may_send_every_kind_of_process_home() -> None:
    # A follower that still ran when the workers were sent home was asked for what it had not: a traceback at the stop.
    for answers in (WorkerProcess, FollowerAnswers):
        assert inspect.iscoroutinefunction(getattr(answers, "end", None)), answers
