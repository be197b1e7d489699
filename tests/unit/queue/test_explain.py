"""Every queue that waits says why, until when, and where that was set."""

from mta.model.envelope import QueueKey
from mta.model.units import Rate
from mta.policy.rules import Place, QueuePolicy
from mta.queue.actions import QueueState
from mta.queue.answers import Wait
from tests.support.queue_world import DEAD, PLACE, FakeBook, Temper, World

KEY = QueueKey("one.test", "vmta-7")


def reasons(world: World, key: QueueKey = KEY) -> dict[str, Wait]:
    return {wait.what: wait for wait in world.scheduler.explain(key, world.time)}


def test_a_wait_reads_as_the_operator_expects() -> None:
    wait = Wait("message rate", "vmta-7 → gmail.com: 300/min", 1041.0, PLACE)
    assert wait.text(1000.0) == (
        "waiting 41 s: message rate (vmta-7 → gmail.com: 300/min, "
        "from conf.d/providers.toml [site.google])"
    )
    assert Wait("paused by the operator").text(0.0) == "waiting: paused by the operator"


def test_a_queue_beyond_its_rate_names_the_rate_and_its_place() -> None:
    book = FakeBook(QueuePolicy(message_rate=Rate(1, 60.0)), vmtas=frozenset({"vmta-7"}))
    world = World(book)
    world.accept("one.test", recipients=3, vmta="vmta-7")
    world.run(2)
    wait = reasons(world)["message rate"]
    assert wait.detail == "vmta-7 → one.test: 1/min"
    assert wait.place == PLACE
    assert 57 <= wait.until - world.time <= 60


def test_a_queue_that_waits_for_a_connection_names_the_full_key() -> None:
    world = World(FakeBook(server_total=1, vmtas=frozenset({"vmta-7"})))
    world.tempers["busy.test"] = Temper(serve_s=100.0)
    world.accept("busy.test", vmta="vmta-7")
    world.run(1)
    world.accept("one.test", vmta="vmta-7")
    world.run(1)
    assert reasons(world)["a free connection"].detail.startswith("server")


def test_all_reasons_are_named_not_only_the_first() -> None:
    places = {"backoff_initial": Place("sluice.toml", "default")}
    world = World(FakeBook(QueuePolicy(places=places), vmtas=frozenset({"vmta-7"})))
    world.tempers["one.test"] = Temper(connect_s=5.0)
    world.accept("one.test", vmta="vmta-7")
    world.run(1)
    world.tempers["one.test"].connect = DEAD
    world.scheduler.pause(KEY, world.time)
    found = reasons(world)
    assert {"paused by the operator"} <= set(found)


def test_a_queue_on_disk_speaks_from_its_row() -> None:
    world = World(FakeBook(vmtas=frozenset({"vmta-7"})))
    stored = QueueState(KEY, world.time + 50, 3, "backoff", "451 4.4.1 no answer", True)
    waits = world.scheduler.explain(KEY, world.time, stored)
    assert [wait.what for wait in waits] == ["paused by the operator", "backoff"]
    assert "no answer" in waits[1].text(world.time)
    assert world.scheduler.explain(KEY, world.time) == []


def test_dns_and_disk_are_reasons_too() -> None:
    world = World(FakeBook(vmtas=frozenset({"vmta-7"})), dns_s=3.0)
    world.accept("one.test", vmta="vmta-7")
    world.run(0.003)
    assert "its stored state" in reasons(world)
    world.run(1)
    assert "DNS" in reasons(world)
