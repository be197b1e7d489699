"""High before normal before low in one queue, in memory and from disk, and nobody is starved."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.model.envelope import Priority, QueueKey
from mta.policy.rules import QueuePolicy
from mta.queue.priority import HIGH_ROOM, merge_classes, parse_priority
from mta.queue.scheduler import Options
from tests.support.queue_world import FakeBook, Temper, World

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW


@pytest.mark.parametrize(("text", "found"), [("high", HIGH), (" Normal ", NORMAL), ("LOW", LOW)])
def test_a_class_is_read_in_any_case(text: str, found: Priority) -> None:
    assert parse_priority(text) is found


@pytest.mark.parametrize("text", ["", "1", "urgent", "high low"])
def test_what_is_no_class_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="high, normal or low"):
        parse_priority(text)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 200))
def test_classes_keep_their_order_and_share_what_there_is(
    normal: int, high: int, low: int, limit: int
) -> None:
    waiting = {
        name: [(name, number) for number in range(count)]
        for name, count in (
            ("N", min(normal, limit)),
            ("H", min(high, limit)),
            ("L", min(low, limit)),
        )
    }
    merged = merge_classes(waiting["N"], waiting["H"], waiting["L"], limit)
    assert len(merged) == min(limit, sum(map(len, waiting.values())))
    for name, rows in waiting.items():
        mine = [row for row in merged if row[0] == name]
        assert mine == rows[: len(mine)]


def test_of_many_of_each_the_shares_are_sixteen_four_and_one() -> None:
    many = {name: [name] * 1000 for name in "NHL"}
    counts = Counter(merge_classes(many["N"], many["H"], many["L"], 210))
    assert counts == {"H": 160, "N": 40, "L": 10}


def a_world(window: int = 1000) -> World:
    world = World(FakeBook(QueuePolicy(max_connections=1)), Options(window=window))
    world.tempers["one.test"] = Temper(serve_s=0.1)
    return world


def places(world: World, numbers: list[int]) -> list[int]:
    """The place of each of these among all that was delivered."""
    order = sorted(world.delivered_at, key=lambda number: world.delivered_at[number])
    return [order.index(number) for number in numbers]


@pytest.mark.parametrize(("window", "waiting"), [(1000, 100), (20, 300)], ids=["memory", "disk"])
def test_high_passes_a_backlog_in(window: int, waiting: int) -> None:
    world = a_world(window=window)
    for _ in range(waiting):
        world.accept("one.test")
    world.run(1.0)
    (urgent,) = world.accept("one.test", priority=HIGH)
    before = len(world.delivered)
    world.run(60)
    assert places(world, [urgent])[0] <= before + 2
    assert len(world.delivered) == waiting + 1


def test_without_end_of_high_the_others_go_on() -> None:
    world = a_world(window=50)
    normal = [number for _ in range(20) for number in world.accept("one.test")]
    low = world.accept("one.test", priority=LOW)
    for _ in range(400):
        world.accept("one.test", priority=HIGH)
        world.run(0.09)  # more comes than can be served
    served = len(world.delivered)
    assert sum(number in world.delivered for number in normal) == 20
    assert all(number in world.delivered for number in low)
    assert served < 400
    world.run(120)
    assert len(world.delivered) == 421


def test_low_makes_way_for_what_comes_later() -> None:
    world = a_world()
    first = world.accept("one.test")
    low = [number for _ in range(30) for number in world.accept("one.test", priority=LOW)]
    normal = [number for _ in range(30) for number in world.accept("one.test")]
    world.run(60)
    assert len(world.delivered) == 61
    assert places(world, first) == [0]
    assert sum(places(world, normal)) < sum(places(world, low))
    assert sorted(places(world, low))[0] < 30  # by its share, though


def test_what_is_in_memory_stays_bounded() -> None:
    world = a_world(window=20)
    world.tempers["one.test"] = Temper(serve_s=5.0)
    for _ in range(300):
        world.accept("one.test")
        world.accept("one.test", priority=HIGH)
    world.run(2.0)
    assert sum(world.scheduler.entries_in_memory(QueueKey("one.test", "default"))) <= 20 + HIGH_ROOM


def test_in_a_message_to_many_the_class_counts_for_all() -> None:
    world = a_world()
    for _ in range(50):
        world.accept("one.test")
    world.run(0.5)
    urgent = world.accept("one.test", recipients=5, priority=HIGH)
    before = len(world.delivered)
    world.run(60)
    assert max(places(world, urgent)) <= before + 6
    low = world.accept("one.test", recipients=5, priority=LOW)
    world.run(10)
    assert all(number in world.delivered for number in low)
