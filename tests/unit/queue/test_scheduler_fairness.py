"""Connections that are shared: who gets one, who makes room, and at what rate attempts start."""

from collections import Counter

import pytest

from mta.model.envelope import QueueKey
from mta.model.units import Rate
from mta.policy.rules import QueuePolicy
from tests.support.queue_world import FakeBook, Temper, World


def a_world(total: int | None = None, **policy: object) -> World:
    return World(FakeBook(QueuePolicy(**policy), total))  # type: ignore[arg-type]


@pytest.mark.parametrize("total", [1, 3])
def test_one_message_is_served_within_5_seconds_while_a_backlog_waits(total: int) -> None:
    world = a_world(total)
    for _ in range(20_000):
        world.accept("big.test")
    world.run(10)
    (number,) = world.accept("small.test")
    asked = world.time
    world.run(10, until=lambda: number in world.delivered)
    assert world.time - asked <= 5.0
    assert len(world.leases) <= total


def test_many_small_domains_share_three_connections_with_two_backlogs() -> None:
    world = a_world(3)
    for _ in range(5000):
        world.accept("big.test")
        world.accept("huge.test")
    world.run(10)
    numbers = [world.accept(f"d{n}.test")[0] for n in range(20)]
    asked = world.time
    world.run(60, until=lambda: all(number in world.delivered for number in numbers))
    # Each takes a turn of at most a quantum from one of three connections.
    assert world.time - asked <= 20 * 1.2 / 3 + 5


def test_two_backlogs_share_evenly() -> None:
    world = a_world(4)
    for _ in range(4000):
        world.accept("one.test")
        world.accept("two.test")
    world.run(12)
    served = Counter(key.domain for _, key, _ in world.attempts)
    assert 0.7 < served["one.test"] / served["two.test"] < 1.4


def test_a_connection_alone_in_the_world_is_never_asked_to_yield() -> None:
    world = a_world(3, max_messages_per_connection=100_000)
    for _ in range(3000):
        world.accept("big.test")
    world.run(9)
    assert len(world.connects) == 3 and not world.closed


def test_idle_connections_make_room_at_once() -> None:
    world = a_world(1, idle_timeout=60.0)
    world.accept("one.test")
    world.run(1)
    (number,) = world.accept("two.test")
    world.run(0.2)
    assert world.delivered[number] == 1


def test_at_most_64_requests_are_out_and_4_wait_at_a_full_key() -> None:
    world = a_world(2)  # the world asserts the 64
    for n in range(300):
        world.accept(f"d{n}.test", recipients=3)
        world.tempers[f"d{n}.test"] = Temper(serve_s=0.3)
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, world.governor.waiting)

    world.run(2)
    world.after_each = look
    world.run(10)
    assert 1 <= most <= 8, "four at the server's key, four at that of the unproven"


def test_unproven_destinations_leave_room_for_those_that_answer() -> None:
    """500 domains, 30 % of them dead, three connections: a rule per destination gave nothing here, this one two thirds."""

    def delivered(dead: int) -> int:
        world = a_world(3, idle_timeout=1.0, backoff_initial=60.0)
        for n in range(500):
            world.tempers[f"d{n}.test"] = Temper(serve_s=0.05, hangs=n % 10 < dead)
            world.put_on_disk(f"d{n}.test", 200)
        world.run(200)
        return len(world.delivered)

    clean, mixed = delivered(0), delivered(3)
    assert mixed >= 0.7 * clean, f"{mixed} of {clean}"


def test_who_connects_to_a_silent_host_has_two_seconds_from_when_others_come_to_wait() -> None:
    world = a_world(3, connect_timeout=30.0)
    world.tempers["silent.test"] = Temper(hangs=True)
    world.accept("silent.test")
    world.run(5)
    (number,) = world.accept("two.test")
    world.run(1.5)
    assert number not in world.delivered_at
    world.run(1)
    assert world.delivered[number] == 1


def test_a_silent_host_for_which_nobody_waits_has_its_full_time() -> None:
    world = a_world(3, connect_timeout=30.0)
    world.tempers["silent.test"] = Temper(hangs=True)
    world.accept("silent.test")
    world.run(29)
    assert world.leases
    world.run(2)
    assert not world.leases


@pytest.mark.parametrize("rate", [Rate(300, 60.0), Rate(50, 1.0), Rate(1, 5.0), Rate(7, 1.0)])
def test_attempts_follow_the_message_rate_without_a_burst(rate: Rate) -> None:
    world = a_world(message_rate=rate, max_recipients_per_message=10)
    for _ in range(200):
        world.accept("one.test", recipients=3)
    world.run(60)
    times = [at for at, _, _ in world.attempts]
    allowed = rate.per_second * 60
    assert 0.9 * min(allowed, 600) - 2 <= len(times) <= allowed + max(1.0, rate.per_second * 0.1)
    burst = max(1.0, rate.per_second * 0.1)
    # A token may be used a twentieth of a second after it was given.
    slack = max(0.3, rate.per_second * 0.05)
    for first in range(len(times)):
        for last in range(first, min(first + 60, len(times))):
            window = times[last] - times[first]
            assert last - first + 1 <= rate.per_second * window + burst + slack


def test_a_slow_rate_does_not_connect_for_nothing() -> None:
    world = a_world(message_rate=Rate(1, 60.0), idle_timeout=5.0)
    for _ in range(5):
        world.accept("one.test")
    world.run(301)
    assert len(world.delivered) == 5
    assert len(world.connects) <= 6


def test_connections_start_no_faster_than_their_rate() -> None:
    world = a_world(connection_rate=Rate(2, 1.0), max_messages_per_connection=1)
    for _ in range(100):
        world.accept("one.test")
    world.run(20)
    assert 38 <= len(world.connects) <= 41
    gaps = [b - a for (a, _), (b, _) in zip(world.connects, world.connects[1:], strict=False)]
    assert min(gaps) >= 0.49


def test_queues_of_a_site_share_its_limit() -> None:
    book = FakeBook(QueuePolicy(max_connections=2), sites={f"d{n}.test": "site" for n in range(20)})
    world = World(book)
    world.after_each = world.check
    for n in range(20):
        world.tempers[f"d{n}.test"] = Temper(serve_s=0.2)
        world.accept(f"d{n}.test", recipients=2)
    world.run(30)
    assert len(world.delivered) == 40
    assert QueueKey("d0.test", "default") not in world.scheduler


def test_work_follows_what_happens_not_how_many_destinations_wait_for_three_connections() -> None:
    # Waiting queues once walked from the line of the server to that of the unproven and back, all of them at each connection.
    domains = 500
    world = a_world(3)
    for number in range(domains):
        world.accept(f"d{number}.test")
    world.run(1)
    steps, connects = world.scheduler.steps, len(world.connects)
    world.run(600, until=lambda: len(world.delivered) == domains)
    assert len(world.delivered) == domains
    assert world.scheduler.steps - steps <= 25 * (len(world.connects) - connects)
