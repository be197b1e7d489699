"""Watches are bounded in number and in lines, and end when nobody reads them."""

from dataclasses import dataclass

from mta.egress.tracer import FORGOTTEN_S, MAX_LINES, MAX_WATCHES, Tap, Tracer
from mta.model.envelope import QueueKey

KEY = QueueKey("one.example", "a")


@dataclass
class Session:
    number: int = 7
    tap: Tap | None = None
    peer: str = "mx.one.example [192.0.2.1]"
    is_sending: bool = False


class World:
    def __init__(self) -> None:
        self.time = 100.0
        self.tracer = Tracer(lambda: self.time)


def test_only_watched_queues_are_tapped_also_those_that_run_already() -> None:
    world = World()
    session, later, other = Session(), Session(8), Session(9)
    world.tracer.attach(KEY, session)
    assert session.tap is None
    number = world.tracer.begin([("one.example", "")], [(KEY, session)])
    world.tracer.attach(KEY, later)
    world.tracer.attach(QueueKey("two.example", "a"), other)
    assert session.tap is not None
    assert later.tap is not None
    assert other.tap is None
    session.tap.received(b"220 hello\r\n")
    lines, dropped = world.tracer.read(number) or ([], -1)
    assert dropped == 0
    (line,) = lines
    assert (line["connection"], line["side"], line["text"]) == (7, "<", "220 hello")
    assert world.tracer.read(number) == ([], 0)


def test_what_is_not_read_is_dropped_and_counted() -> None:
    world, session = World(), Session()
    number = world.tracer.begin([KEY], [(KEY, session)])
    assert session.tap is not None
    for _ in range(MAX_LINES + 5):
        session.tap.sent(b"NOOP\r\n")
    lines, dropped = world.tracer.read(number) or ([], -1)
    assert (len(lines), dropped) == (MAX_LINES, 5)


def test_there_are_few_watches_and_forgotten_ones_end() -> None:
    world = World()
    numbers = [world.tracer.begin([KEY], []) for _ in range(MAX_WATCHES)]
    assert world.tracer.begin([KEY], []) == 0
    world.tracer.end(numbers[0])
    assert world.tracer.begin([KEY], [])
    world.time += FORGOTTEN_S + 1
    assert world.tracer.begin([KEY], [])
    assert world.tracer.read(numbers[1]) is None
