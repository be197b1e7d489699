"""Virtual MTAs out of service: their queues leave memory with a reason, touch nothing, and go on when they are woken."""

from mta.model.envelope import QueueKey
from mta.policy.rules import QueuePolicy
from mta.queue.actions import NEVER, QueueState
from mta.queue.answers import Wait
from mta.queue.scheduler import Options
from tests.support.queue_world import FakeBook, Temper, World

KEY = QueueKey("one.test", "a")
STOP = Wait("stopped", "by the operator")


def test_a_queue_that_is_stopped_leaves_memory_and_no_row_of_it_changes() -> None:
    world = World(FakeBook())
    world.stop("a")
    (number,) = world.accept("one.test", vmta="a")
    (other,) = world.accept("one.test", vmta="b")
    world.run(5)
    assert world.delivered == {other: 1}
    assert KEY not in world.scheduler and not world.postponed
    assert world.dues[KEY] >= NEVER and number in world.rows
    assert world.scheduler.explain(KEY, world.time, QueueState(KEY)) == [STOP]
    world.stop()
    world.run(5)
    assert world.delivered == {other: 1, number: 1}


def test_a_stop_in_the_middle_finishes_what_is_in_a_transaction_and_nothing_else() -> None:
    world = World(FakeBook(QueuePolicy(max_connections=1)))
    world.tempers["one.test"] = Temper(serve_s=1.0)
    for _ in range(10):
        world.accept("one.test", vmta="a")
    world.run(2.5)
    begun = len(world.attempts)
    assert 0 < begun < 10
    world.stop("a")
    world.run(20)
    assert len(world.attempts) == begun == len(world.delivered)
    assert world.scheduler.connections == 0 and KEY not in world.scheduler
    world.stop()
    world.run(20)
    assert sorted(world.delivered.values()) == [1] * 10


def test_a_thousand_stopped_queues_cost_nothing_while_they_wait() -> None:
    world = World(FakeBook(), Options(max_active=100))
    world.stop("a")
    for number in range(1000):
        world.put_on_disk(f"d{number}.test", 1, vmta="a")
    world.scheduler.look_for_due(world.time)
    world.run(30)
    assert len(world.scheduler) == 0
    before = world.scheduler.steps
    world.run(600)
    assert world.scheduler.steps == before
    world.stop()
    world.run(120)
    assert len(world.delivered) == 1000


def test_a_stop_expires_nothing() -> None:
    world = World(FakeBook(QueuePolicy(expire_after=10.0)))
    world.stop("a")
    world.accept("one.test", vmta="a", age=100.0)
    world.run(60)
    assert len(world.rows) == 1 and not world.gone


def test_what_was_moved_on_disk_is_delivered_whether_its_queue_is_in_memory_or_not() -> None:
    world = World(FakeBook(), Options(max_active=1))
    world.accept("one.test", vmta="a")
    world.run(0.001)
    numbers = []
    for domain in ("one.test", "two.test"):
        world.put_on_disk(domain, 3, vmta="b")
        numbers += [number for number, row in world.rows.items() if row.key.domain == domain]
        world.scheduler.moved([QueueKey(domain, "b")], world.time)
    world.run(30)
    assert len(world.delivered) == 7 and set(world.delivered.values()) == {1}


def test_what_is_moved_to_a_queue_that_believes_its_disk_empty_is_delivered() -> None:
    world = World(FakeBook(QueuePolicy(max_connections=1, idle_timeout=600.0)))
    (first,) = world.accept("one.test", vmta="b")
    world.run(5)
    target = QueueKey("one.test", "b")
    assert target in world.scheduler and world.delivered == {first: 1}  # idle, its connection open
    world.stop("a")
    (moved,) = world.accept("one.test", vmta="a")
    world.run(5)
    world.reroute(KEY, target)
    world.run(5)
    assert world.delivered == {first: 1, moved: 1}
