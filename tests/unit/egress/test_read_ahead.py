"""Bodies read ahead: each that is asked for comes once, what comes next is at hand, and nothing grows without end."""

from collections.abc import Callable, Sequence

from mta.egress import ahead
from mta.egress.ahead import ReadAhead
from mta.model.envelope import Message
from mta.model.errors import SpoolError
from mta.spool.bodies import Body
from tests.support.spools import FakeClock

LOST = 13


class Shelf:
    """A spool that answers when it is told to. Message `LOST` cannot be read."""

    def __init__(self) -> None:
        self.reads: list[list[int]] = []
        self._answers: list[Callable[[], None]] = []

    def bodies(
        self, messages: Sequence[Message], done: Callable[[list[Body | SpoolError]], None]
    ) -> None:
        self.reads.append([message.number for message in messages])
        found = [self._body(message) for message in messages]
        self._answers.append(lambda: done(found))

    def answer(self) -> None:
        answers, self._answers = self._answers, []
        for each in answers:
            each()

    @staticmethod
    def _body(message: Message) -> Body | SpoolError:
        if message.number == LOST:
            return SpoolError("lost")
        return b"", b"body of %d" % message.number


class Reader:
    """A connection whose queue sends messages 0, 1, 2 …"""

    def __init__(self, *, size: int = 4096, count: int = 10_000) -> None:
        self.shelf = Shelf()
        self.clock = FakeClock()
        self.ahead = ReadAhead({0: self.shelf}, self.clock)
        self.size, self.count = size, count
        self.next = 0

    def message(self, number: int) -> Message:
        return Message(0, number, "", self.size, 0.0, "default")

    def upcoming(self, limit: int) -> list[Message]:
        last = min(self.next + limit, self.count)
        return [self.message(number) for number in range(self.next, last)]

    def send(self) -> Body | SpoolError:
        """The body of the next message, from memory or read."""
        message = self.message(self.next)
        self.next += 1
        found: list[Body | SpoolError] = []
        body = self.ahead.take(message, self.upcoming)
        if body is not None:
            return body
        self.ahead.fetch(message, found.append, self.upcoming)
        self.shelf.answer()
        (answer,) = found
        return answer


def test_a_backlog_is_read_in_batches_each_message_once() -> None:
    reader = Reader(count=100)
    for number in range(100):
        body = reader.send()
        if number == LOST:
            assert isinstance(body, SpoolError)
        else:
            assert body == (b"", b"body of %d" % number)
        reader.shelf.answer()
    numbers = [number for read in reader.shelf.reads for number in read]
    # One that cannot be read is asked for again when its turn comes: then its own delivery hears why.
    assert sorted(n for n in numbers if n != LOST) == [n for n in range(100) if n != LOST]
    assert len(reader.shelf.reads) <= 2 + 2 * 100 / ahead.MOST_MESSAGES
    assert reader.ahead.held_bytes == 0


def test_the_next_read_begins_before_the_last_is_used_up() -> None:
    reader = Reader()
    reader.send()
    waited = 0
    for _ in range(10 * ahead.MOST_MESSAGES):
        before = len(reader.shelf.reads)
        reader.shelf.answer()  # the spool is quick
        body = reader.ahead.take(reader.message(reader.next), reader.upcoming)
        waited += body is None and reader.next != LOST
        reader.next += 1
        assert len(reader.shelf.reads) - before <= 1
    assert not waited


def test_who_asks_for_what_is_being_read_waits_for_that_read() -> None:
    reader = Reader(count=4)
    found: list[Body | SpoolError] = []
    reader.ahead.prepare(reader.upcoming)
    for number in (0, 0, 3):
        reader.ahead.fetch(reader.message(number), found.append, reader.upcoming)
    assert reader.shelf.reads == [[0, 1, 2, 3]] and not found
    reader.shelf.answer()
    assert found == [(b"", b"body of 0"), (b"", b"body of 0"), (b"", b"body of 3")]


def test_large_messages_are_not_heaped_up() -> None:
    reader = Reader(size=ahead.MOST_BYTES)
    reader.send()
    assert reader.shelf.reads == [[0, 1]]
    reader = Reader(size=ahead.MOST_BYTES + 1)
    reader.send()
    assert reader.shelf.reads == [[0]]


def test_what_nobody_comes_for_makes_room() -> None:
    reader = Reader(size=100_000)
    for _ in range(200):
        reader.ahead.prepare(reader.upcoming)
        reader.shelf.answer()
        reader.next += 5  # others had them deleted meanwhile
    assert 0 < reader.ahead.held_bytes <= ahead.HELD_BYTES


def test_what_was_read_long_ago_is_read_anew() -> None:
    reader = Reader(count=3)
    reader.ahead.prepare(reader.upcoming)
    reader.shelf.answer()
    reader.clock.time += ahead.KEPT_S + 1
    assert reader.send() == (b"", b"body of 0")
    assert len(reader.shelf.reads) == 2
