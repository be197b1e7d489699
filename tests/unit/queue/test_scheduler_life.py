"""The life of a queue: into memory, through it, out of it again; and what stays on disk meanwhile."""

from mta.model.envelope import Entry, Message, QueueKey
from mta.policy.rules import QueuePolicy
from mta.queue import actions
from mta.queue.actions import QueueState
from mta.queue.scheduler import Options, Scheduler
from tests.support.queue_world import GREYLISTED, NO_SUCH_USER, OK, FakeBook, Temper, World

KEY = QueueKey("one.test", "default")


def a_world(
    *, total: int | None = None, window: int = 1000, max_active: int = 4000, **policy: object
) -> World:
    book = FakeBook(QueuePolicy(**policy), total)  # type: ignore[arg-type]
    return World(book, Options(window=window, max_active=max_active))


def test_a_message_is_delivered_and_its_queue_leaves_memory_without_a_trace() -> None:
    world = a_world()
    (number,) = world.accept("one.test")
    world.run(0.1)
    assert world.delivered[number] == 1
    assert len(world.scheduler) == 1, "it stays while its connection is idle"
    world.run(10)
    assert len(world.scheduler) == 0 and not world.leases
    assert world.evicted[-1] == actions.Evict(KEY, None)


def test_recipients_of_one_message_share_a_transaction_up_to_the_limit() -> None:
    world = a_world(max_recipients_per_message=10, max_connections=1)
    world.accept("one.test", recipients=25)
    world.run(1)
    times = sorted({at for at, _, _ in world.attempts})
    sizes = [sum(at == when for at, _, _ in world.attempts) for when in times]
    assert sizes == [10, 10, 5]


def test_a_burst_of_messages_grows_to_its_connections_quickly() -> None:
    world = a_world(max_connections=40)
    for _ in range(500):
        world.accept("one.test")
    world.tempers["one.test"] = Temper(serve_s=1.0)
    world.run(0.5)
    first = [at for at, _ in world.connects]
    assert len(first) == 40
    assert first[-1] - first[1] < 0.05, "after the first has answered, nothing is waited for"


def test_a_deferred_entry_leaves_memory_and_comes_back_when_it_is_due() -> None:
    world = a_world(retry=(600.0,))
    world.tempers["one.test"] = Temper(outcome=lambda e: OK if e.attempts else GREYLISTED)
    (number,) = world.accept("one.test")
    world.run(60)
    assert len(world.scheduler) == 0
    assert world.evicted[-1].due == world.rows[number].due
    assert 600 <= world.rows[number].due - world.time + 60 < 661
    world.run(700)
    assert world.delivered[number] == 1


def test_a_refused_recipient_is_gone_and_the_others_are_delivered() -> None:
    world = a_world()
    world.tempers["one.test"] = Temper(outcome=lambda e: NO_SUCH_USER if e.number % 2 else OK)
    numbers = world.accept("one.test", recipients=6)
    world.run(1)
    assert not world.rows
    assert sorted(world.delivered) == [n for n in numbers if n % 2 == 0]


def test_an_entry_that_is_refused_beyond_its_age_expires() -> None:
    world = a_world(expire_after=3600.0)
    world.tempers["one.test"] = Temper(outcome=lambda e: GREYLISTED)
    (number,) = world.accept("one.test", age=3600.0)
    world.run(1)
    assert world.gone[number] == "expired"


def test_no_more_than_a_window_of_a_queue_is_in_memory_and_order_is_kept() -> None:
    world = a_world(window=20, max_connections=1)
    world.after_each = world.check
    numbers = [world.accept("one.test")[0] for _ in range(200)]
    world.run(10)
    assert [number for _, _, number in world.attempts] == numbers


def test_what_an_earlier_run_left_is_found_and_delivered() -> None:
    world = a_world(window=50)
    world.put_on_disk("one.test", 300)
    world.put_on_disk("two.test", 3)
    world.run(10)
    assert len(world.delivered) == 303 and not world.rows


def test_more_queues_than_memory_takes_are_all_served() -> None:
    world = a_world(max_active=10)
    for n in range(300):
        world.put_on_disk(f"d{n}.test", 1)
    for n in range(300):
        world.accept(f"e{n}.test")
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, len(world.scheduler))

    world.after_each = look
    world.run(600)
    assert most <= 10
    assert len(world.delivered) == 600 and not world.rows


def test_a_backlog_from_the_disk_leaves_room_for_fresh_mail() -> None:
    world = a_world(max_active=40)
    for n in range(500):
        world.put_on_disk(f"d{n}.test", 1)
        world.tempers[f"d{n}.test"] = Temper(serve_s=300.0)
    world.run(5)
    (number,) = world.accept("fresh.test")
    world.run(1)
    assert world.delivered[number] == 1


def test_a_paused_queue_rests_until_it_is_resumed_even_if_it_left_memory() -> None:
    world = a_world()
    world.scheduler.pause(KEY, world.time)
    numbers = world.accept("one.test", 3)
    world.run(60)
    assert not world.attempts and len(world.scheduler) == 0
    world.scheduler.resume(KEY, world.time)
    world.run(1)
    assert sorted(world.delivered) == numbers


def test_pausing_stops_what_is_not_in_flight() -> None:
    world = a_world(max_connections=1)
    for _ in range(50):
        world.accept("one.test")
    world.run(0.1)
    world.scheduler.pause(KEY, world.time)
    world.run(0.02)
    done = len(world.attempts)
    world.run(30)
    assert len(world.attempts) == done and len(world.delivered) == done
    assert not world.leases and len(world.rows) == 50 - done


def test_deleted_entries_are_not_attempted() -> None:
    world = a_world(max_connections=1)
    world.tempers["one.test"] = Temper(connect_s=1.0)
    numbers = [world.accept("one.test")[0] for _ in range(20)]
    world.run(0.5)
    world.delete(numbers[5:15])
    world.run(10)
    assert sorted(world.delivered) == numbers[:5] + numbers[15:]


def test_a_connection_is_closed_after_its_messages_and_followed_by_another() -> None:
    world = a_world(max_connections=1, max_messages_per_connection=10)
    for _ in range(35):
        world.accept("one.test")
    world.run(3)
    assert len(world.delivered) == 35
    reasons = [reason for _, _, reason in world.closed]
    assert reasons.count("max_messages_per_connection") == 3


def test_an_idle_connection_is_closed_after_its_time() -> None:
    world = a_world(idle_timeout=5.0)
    world.accept("one.test")
    world.run(20)
    ((at, _, reason),) = world.closed
    assert reason == "idle" and 5.0 <= at - world.delivered_at.popitem()[1] < 5.1


def test_a_queue_whose_virtual_mta_was_removed_waits_and_says_so() -> None:
    world = a_world()
    (number,) = world.accept("one.test", vmta="gone")
    world.run(5)
    assert not world.connects and number in world.rows
    key = QueueKey("one.test", "gone")
    assert key not in world.scheduler
    (wait,) = world.scheduler.explain(key, world.time, QueueState(key))
    assert (wait.what, str(wait.place)) == ("virtual MTA gone", "sluice.toml [vmta.gone]")
    assert "reroute its mail, or put it back" in wait.detail


def test_entries_the_driver_never_settled_are_ready_again() -> None:
    world = a_world(max_connections=1)
    (number,) = world.accept("one.test")
    world.tempers["one.test"] = Temper(serve_s=1e9)
    world.run(1)
    (connection,) = world.leases
    world.tempers["one.test"] = Temper()
    world._lost(connection, None)
    assert world.scheduler.entries_in_memory(KEY) == (1, 0)
    world.run(1)
    assert world.delivered[number] == 1


def test_the_work_does_not_grow_with_idle_queues() -> None:
    def steps(idle: int) -> int:
        scheduler = Scheduler(FakeBook(), Options(max_active=200_000))
        now = 1.7e9
        states = [actions.QueueState(QueueKey(f"d{n}.test", "a")) for n in range(idle)]
        scheduler.found(states, None, now)
        for _ in range(3):
            for action in scheduler.next_actions(now):
                if isinstance(action, actions.Refill):
                    # In memory and waiting for an entry that is due in an hour.
                    scheduler.refilled(action.key, [], now + 3600.0, now)
        world = World(options=Options(max_active=200_000))
        world.scheduler = scheduler
        before = scheduler.steps
        for _ in range(100):
            world.accept("busy.test")
        world.run(30)
        assert len(world.delivered) == 100
        return scheduler.steps - before

    assert steps(10) == steps(20_000)


def test_mail_that_comes_while_the_last_outcome_is_being_written_is_not_overlooked() -> None:
    scheduler, now = Scheduler(FakeBook()), 1.7e9
    route = actions.Route("one.test", (actions.Candidate("mx.one.test", "192.0.2.1", 25),))
    opened: list[int] = []

    def turn() -> None:
        for _ in range(6):
            for action in scheduler.next_actions(now):
                match action:
                    case actions.Recall(key):
                        scheduler.recalled(actions.QueueState(key), now)
                    case actions.Resolve(key):
                        scheduler.resolved(key, route, now)
                    case actions.Refill(key):
                        scheduler.refilled(key, [], None, now)
                    case actions.RequestLease(request):
                        scheduler.granted(request, request, now)
                    case actions.OpenConnection(connection):
                        opened.append(connection)
                        scheduler.opened(connection, now)

    def an_entry(number: int) -> Entry:
        return Entry(Message(0, number, "", 1, now, "default"), KEY, "r@one.test", number=number)

    scheduler.add([an_entry(1)], now)
    turn()
    batch = scheduler.next_batch(opened[0], now)
    assert batch is not None
    scheduler.settle(batch.entries[0], OK, now)
    scheduler.closed(opened[0], None, now)
    turn()
    scheduler.add([an_entry(2)], now)
    turn()
    assert len(opened) == 2
    assert scheduler.next_batch(opened[1], now) is not None
