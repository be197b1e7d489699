"""What one worker finds of a destination holds for its siblings: it tells them, and they hear it."""

from mta.model.outcome import Deferred, Extent
from mta.model.reply import a_reply
from mta.policy.rules import QueuePolicy
from mta.queue.actions import Tell
from tests.support.queue_world import FakeBook, Temper, World

REFUSED = Deferred(a_reply(451, "4.4.1", "connection refused"), Extent.CONNECTION, local=True)


def a_world(**policy: object) -> World:
    return World(FakeBook(QueuePolicy(**policy), None))  # type: ignore[arg-type]


def test_a_host_that_answers_is_told_of_once() -> None:
    world = a_world()
    for _ in range(5):
        world.accept("one.test")
    world.run(5)
    assert world.told == [Tell(world.told[0].site, "default")]


def test_a_host_that_does_not_answer_is_told_with_its_rest_and_later_its_recovery() -> None:
    world = a_world(backoff_initial=60.0)
    world.tempers["one.test"] = Temper(connect=REFUSED)
    world.accept("one.test")
    world.run(5)
    (first,) = world.told
    assert first.attempts == 1
    assert first.until > world.time + 30
    world.tempers["one.test"] = Temper()
    world.run(120)
    assert world.told[-1].attempts == 0


def test_what_is_heard_rests_the_queue_until_then() -> None:
    world = a_world()
    site = world.scheduler._book.site_for("one.test", ())
    world.scheduler.heard(Tell(site, "default", world.time + 30, 1, "421 not now"))
    (number,) = world.accept("one.test")
    world.run(25)
    assert not world.connects
    world.run(30)
    assert world.delivered[number] == 1


def test_that_it_works_again_ends_what_was_heard() -> None:
    world = a_world()
    site = world.scheduler._book.site_for("one.test", ())
    world.scheduler.heard(Tell(site, "default", world.time + 3000, 1, "421 not now"))
    world.scheduler.heard(Tell(site, "default"))
    (number,) = world.accept("one.test")
    world.run(5)
    assert world.delivered[number] == 1
