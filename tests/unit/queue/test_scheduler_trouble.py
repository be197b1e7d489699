"""Failures of a destination rest its queue, cost no entry a try, and end with the first success."""

from mta.model.envelope import Entry, QueueKey
from mta.model.outcome import Deferred, Extent
from mta.model.reply import a_reply
from mta.policy.rules import QueuePolicy
from mta.queue.scheduler import Options
from tests.support.queue_world import (
    CLOSING,
    DEAD,
    NO_DNS,
    NO_SUCH_DOMAIN,
    OK,
    FakeBook,
    Temper,
    World,
)

KEY = QueueKey("one.test", "default")


def a_world(**policy: object) -> World:
    sites = {"one.test": "shared", "two.test": "shared"} if policy.pop("shared", False) else {}
    return World(FakeBook(QueuePolicy(**policy), sites=sites))  # type: ignore[arg-type]


def test_a_dead_destination_rests_with_doubling_intervals_and_no_entry_is_touched() -> None:
    world = a_world(backoff_initial=60.0, backoff_cap=600.0)
    world.tempers["one.test"] = Temper(connect=DEAD)
    numbers = [world.accept("one.test")[0] for _ in range(50)]
    world.run(3600)
    gaps = [
        b.state.next_at - a.state.next_at
        for a, b in zip(world.postponed, world.postponed[1:], strict=False)
    ]
    assert [p.state.attempts for p in world.postponed] == list(range(1, len(gaps) + 2))
    assert gaps[0] > 60 and gaps[1] > 120 and gaps[2] > 240 and max(gaps) < 610
    assert (
        world.postponed[0].state.mode == "backoff"
        and "no answer" in world.postponed[0].state.reason
    )
    assert all(world.rows[number].attempts == 0 for number in numbers)
    assert len(world.connects) == len(world.postponed), "one connection tries for all"
    assert len(world.scheduler) == 0, "it rests on disk"


def test_the_first_success_ends_the_backoff() -> None:
    world = a_world(backoff_initial=60.0)
    world.tempers["one.test"] = Temper(connect=DEAD)
    numbers = [world.accept("one.test")[0] for _ in range(50)]
    world.run(30)
    world.heal()
    world.run(60)
    assert sorted(world.delivered) == numbers
    assert world.postponed[-1].state.mode == "normal" and world.postponed[-1].why is None


def test_421_in_every_dialogue_is_backoff_and_costs_no_try_but_one_of_the_suspect() -> None:
    world = a_world(backoff_initial=60.0, max_connections=1)
    world.tempers["one.test"] = Temper(outcome=lambda e: CLOSING)
    numbers = [world.accept("one.test")[0] for _ in range(5)]
    world.run(1)
    assert len(world.connects) == 1 and world.rows[numbers[0]].attempts == 0
    world.run(70)
    assert len(world.connects) == 2
    assert world.rows[numbers[0]].attempts == 1, "twice running under the same message"
    assert sum(world.rows[n].attempts for n in numbers) == 1


def test_a_message_that_kills_its_connection_does_not_hold_up_the_others() -> None:
    world = a_world(backoff_initial=60.0, retry=(3600.0,), max_connections=1)
    poison = world.accept("one.test")[0]
    world.tempers["one.test"] = Temper(outcome=lambda e: DEAD if e.number == poison else OK)
    others = [world.accept("one.test")[0] for _ in range(20)]
    world.run(400)
    assert sorted(world.delivered) == others


def test_connections_that_work_go_on_while_more_are_refused() -> None:
    world = a_world(max_connections=10)
    for _ in range(3000):
        world.accept("one.test")
    open_now: set[int] = set()

    def watch() -> None:
        open_now.clear()
        open_now.update(world.leases)
        # The host bears four.
        refuses = len(world.leases) > 4
        world.tempers["one.test"].connect = DEAD if refuses else None

    world.after_each = watch
    world.run(30)
    assert len(world.delivered) == 3000
    assert len(world.connects) < 30, "no hammering at the door"


def test_a_host_that_hangs_up_between_messages_is_no_failure() -> None:
    world = a_world(max_connections=1)
    world.accept("one.test")
    world.run(1)
    (connection,) = world.leases
    idle = Deferred(a_reply(421, "4.4.2", "idle too long"), Extent.CONNECTION)
    world._lost(connection, idle)
    world.run(1)
    assert not world.postponed


def test_a_dead_resolver_burns_no_tries_and_mail_flows_soon_after_it_is_back() -> None:
    world = a_world()
    numbers = []
    for n in range(20):
        world.tempers[f"d{n}.test"] = Temper(dns=NO_DNS)
        numbers += world.accept(f"d{n}.test")
    world.run(300)
    assert not world.connects and all(p.state.attempts == 0 for p in world.postponed)
    world.heal()
    world.run(60)
    assert sorted(world.delivered) == numbers
    assert not any(reason for reason in world.gone.values() if reason != "Delivered")


def test_a_domain_that_does_not_exist_fails_all_its_entries_window_by_window() -> None:
    world = World(FakeBook(), Options(window=20))
    world.tempers["one.test"] = Temper(dns=NO_SUCH_DOMAIN)
    numbers = [world.accept("one.test")[0] for _ in range(100)]
    world.run(10)
    assert not world.rows and not world.connects
    assert {world.gone[n] for n in numbers} == {"Failed"}


def test_what_expires_in_a_dead_queue_is_given_up_all_of_it() -> None:
    world = World(FakeBook(QueuePolicy(expire_after=7200.0)), Options(window=20))
    world.tempers["one.test"] = Temper(connect=DEAD)
    world.put_on_disk("one.test", 100, age=7200.0)
    world.put_on_disk("one.test", 5, age=10.0)
    world.run(20)
    assert sorted(world.gone.values()) == ["expired"] * 100
    assert len(world.rows) == 5 and len(world.connects) == 1


def test_time_of_a_licence_hold_does_not_count_for_expiry() -> None:
    world = a_world(expire_after=7200.0)
    world.tempers["one.test"] = Temper(connect=DEAD)
    world.scheduler.licence_held_s = lambda _spool, _now: 7000.0
    world.put_on_disk("one.test", 3, age=7200.0)
    world.run(20)
    assert len(world.rows) == 3


def test_queues_of_one_site_share_its_backoff_and_one_of_them_tries() -> None:
    world = a_world(shared=True, backoff_initial=60.0)
    for domain in ("one.test", "two.test"):
        world.tempers[domain] = Temper(connect=DEAD)
        world.accept(domain)
    world.run(25)
    assert len(world.connects) == 1
    world.heal()
    world.run(60)
    assert len(world.delivered) == 2


def test_retry_by_the_operator_tries_now() -> None:
    world = a_world(backoff_initial=3600.0)
    world.tempers["one.test"] = Temper(connect=DEAD)
    (number,) = world.accept("one.test")
    world.run(60)
    world.heal()
    world.scheduler.retry(KEY, world.time)
    world.run(1)
    assert world.delivered[number] == 1


def test_a_message_that_may_arrive_twice_is_marked_and_waits_its_own_time() -> None:
    world = a_world(retry=(600.0,))
    lost = Deferred(
        a_reply(451, "4.4.2", "lost after the dot"), Extent.MESSAGE, local=True, may_repeat=True
    )
    seen: list[Entry] = []

    def outcome(entry: Entry) -> Deferred:
        seen.append(entry)
        return lost

    world.tempers["one.test"] = Temper(outcome=outcome)
    (number,) = world.accept("one.test")
    world.run(1)
    assert seen[0].may_repeat and world.rows[number].due > world.time + 590
