"""The scheduler under a licence: a hold begins nothing and forgets nothing; Emails are taken, brought back, waited for."""

from mta.model.envelope import QueueKey
from mta.policy.rules import QueuePolicy
from tests.support.queue_world import DEAD, GREYLISTED, FakeBook, Temper, World


def test_a_hold_lets_transactions_end_begins_none_and_release_goes_on_at_once() -> None:
    world = World(FakeBook(QueuePolicy(max_connections=2)))
    world.tempers["one.test"] = Temper(serve_s=1.0)
    for _ in range(20):
        world.accept("one.test")
    world.run(1.5)
    started = len(world.attempts)
    world.hold()
    world.run(30)
    assert len(world.attempts) == len(world.delivered) == started
    assert not world.leases
    world.release()
    world.run(3.0)
    assert len(world.delivered) > started
    world.run(60)
    assert len(world.delivered) == 20


def test_mail_that_comes_during_a_hold_waits_on_disk_and_says_why() -> None:
    world = World()
    world.hold()
    for domain in ("one.test", "two.test"):
        world.accept(domain, recipients=3)
    world.run(10)
    assert len(world.rows) == 6
    assert not len(world.scheduler)
    key = QueueKey("one.test", "default")
    world.accept("one.test")
    world.run(0.003)
    says = [each.what for each in world.scheduler.explain(key, world.time)]
    assert says[0] == "licence hold: no licence"
    world.release()
    world.run(5)
    assert not world.rows


def test_queues_that_rest_or_wait_for_their_retry_keep_their_times_through_a_hold() -> None:
    world = World(FakeBook(QueuePolicy(retry=(60.0,), backoff_initial=600.0)))
    world.tempers["grey.test"] = Temper(outcome=lambda e: GREYLISTED)
    world.tempers["dead.test"] = Temper(connect=DEAD)
    world.accept("grey.test")
    world.accept("dead.test")
    world.run(5)
    connects = len(world.connects)
    world.hold()
    world.run(20)
    world.release()
    world.run(5)
    assert len(world.connects) == connects
    world.heal()
    world.run(60)
    assert len(world.delivered) == 1
    world.run(700)
    assert len(world.delivered) == 2


def test_a_hundred_queues_share_the_last_emails_and_wait_for_more_without_calling_anybody() -> None:
    world = World()
    world.meter(30)
    for number in range(100):
        world.accept(f"d{number}.test")
    world.run(20)
    assert len(world.delivered) == 30
    calls = len(world.connects)
    world.run(300)
    assert len(world.connects) - calls < 200, "nobody is called again and again for nothing"
    world.meter(70)
    world.run(20)
    assert len(world.delivered) == 100


def test_an_attempt_that_does_not_deliver_brings_its_email_back() -> None:
    world = World(FakeBook(QueuePolicy(retry=(1.0,), backoff_initial=1.0)))
    world.meter(3)
    world.tempers["grey.test"] = Temper(outcome=lambda e: GREYLISTED)
    world.tempers["lost.test"] = Temper(outcome=lambda e: DEAD)
    world.accept("grey.test", recipients=10)
    world.accept("lost.test", recipients=10)
    world.run(30)
    assert len(world.attempts) > 20
    assert world.emails is not None
    world.check()
    world.heal()
    world.run(120)
    assert len(world.delivered) == 3


def test_no_volume_any_more_frees_everybody_who_waited_for_an_email() -> None:
    world = World()
    world.meter(0)
    world.accept("one.test", recipients=5)
    world.run(5)
    assert not world.delivered
    key = QueueKey("one.test", "default")
    assert any(each.what == "an Email" for each in world.scheduler.explain(key, world.time))
    world.meter(None)
    world.run(5)
    assert len(world.delivered) == 5
