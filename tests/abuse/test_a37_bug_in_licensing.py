"""A37: licensing raises, at each of its calls. The last decision stays in force, an event says so once, nothing stops."""

import asyncio
from pathlib import Path
from typing import TypeVar

import pytest

from licensing.clock import Reading
from licensing.decider import BORNE_S, INTERNAL_ERROR, Decider
from licensing.entitlement import UNLICENSED, Entitlement, State
from licensing.evaluate import evaluate
from licensing.facts import Facts, VolumeUse
from licensing.guard import Guard, GuardOptions, Surroundings
from licensing.model.license import Kind
from tests.support.license_facts import MIDDLE, SERVERS, the_facts
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, MACHINE
from tests.support.vendor import Vendor

T = TypeVar("T")

CALLS = ("gather", "now", "judge")


class Bug(Exception):
    """What a programmer forgot."""


class House:
    """The surroundings of a Decider, in which any call can be made to raise."""

    def __init__(self, kind: Kind = Kind.STANDARD_SERVER, **changes: object) -> None:
        self.facts = the_facts(kind, **changes)
        self.broken: set[str] = set()
        self.events: list[str] = []
        self.elapsed_s = 0.0
        self.decider = Decider(
            lambda: self._call("gather", self.facts),
            lambda: self._call("now", MIDDLE),
            elapsed=lambda: self.elapsed_s,
            told=self._told,
            judge=self._judge,
        )

    def _call(self, name: str, value: T) -> T:
        if name in self.broken:
            raise Bug(name)
        return value

    def raises(self) -> Facts:
        raise Bug("always")

    def _judge(self, facts: Facts, now: float) -> Entitlement:
        return self._call("judge", evaluate(facts, now))

    def _told(self, code: str, text: str) -> None:
        self._call("told", None)
        self.events.append(f"{code} {text}")


@pytest.mark.parametrize("call", CALLS)
def test_the_last_decision_stays_in_force_and_is_told_once(call: str) -> None:
    house = House()
    good = house.decider.decide()
    assert good.state is State.VALID
    house.broken = {call}
    for _ in range(100):
        found = house.decider.decide()
        assert (found.state, found.deliver, found.max_connections) == (State.VALID, True, 3)
        assert found.injection is good.injection
    assert house.events == [f"{INTERNAL_ERROR} Bug: {call}"]
    assert house.decider.failures == 100
    assert [each.code for each in found.remarks] == [f"{INTERNAL_ERROR}:0"]


@pytest.mark.parametrize("call", CALLS)
def test_after_a_day_it_is_called_grace_and_mail_still_flows(call: str) -> None:
    house = House()
    house.decider.decide()
    house.broken = {call}
    house.decider.decide()
    house.elapsed_s = BORNE_S - 1
    assert house.decider.decide().state is State.VALID
    house.elapsed_s = BORNE_S
    found = house.decider.decide()
    assert (found.state, found.deliver, found.max_connections) == (State.GRACE, True, 3)


def test_it_recovers_by_itself_and_the_next_trouble_is_told_again() -> None:
    house = House()
    good, told = house.decider.decide(), set()
    for _ in range(2):
        house.broken = {"gather"}
        told |= {each.code for each in house.decider.decide().remarks}
        house.broken = set()
        assert house.decider.decide() == good
        house.elapsed_s += 2 * BORNE_S
    assert len(house.events) == len(told) == 2


def test_who_is_told_may_be_broken_too() -> None:
    house = House()
    house.decider.decide()
    house.broken = {"gather", "told"}
    assert house.decider.decide().deliver


def test_trouble_gains_nothing() -> None:
    house = House(Kind.VOLUME, volume=VolumeUse("2027-03", 10, 10, 0))
    assert house.decider.decide().state is State.OVER_LIMIT
    house.broken = {"judge"}
    house.decider.decide()
    house.elapsed_s = 10 * BORNE_S
    found = house.decider.decide()
    assert (found.state, found.deliver) == (State.OVER_LIMIT, False)


def test_before_the_first_decision_what_was_given_is_in_force() -> None:
    house = House()
    house.broken = {"gather"}
    assert house.decider.decide().state is UNLICENSED.state
    house.decider = Decider(
        house.raises,
        lambda: MIDDLE,
        elapsed=lambda: 0.0,
        told=lambda code, text: None,
        first=evaluate(the_facts(*SERVERS), MIDDLE),
    )
    assert house.decider.decide().state is State.VALID


class Clocks:
    """The clocks of a machine on which reading them can be made to raise."""

    def __init__(self, time: MachineTime) -> None:
        self.time = time
        self.is_broken = False

    def read(self) -> Reading:
        if self.is_broken:
            raise Bug("clock")
        return self.time.read()


async def test_a_guard_whose_clock_raises_keeps_its_entitlement_and_its_tasks(
    tmp_path: Path,
) -> None:
    vendor, time, elapsed = Vendor(), MachineTime(), [0.0]
    clocks = Clocks(time)
    guard = Guard(
        GuardOptions(license_dir=tmp_path / "license.d", state_dir=tmp_path / "state"),
        Surroundings(
            read_clocks=clocks.read,
            elapsed=lambda: elapsed[0],
            trust=vendor.trust,
            machine=MACHINE,
            flush_every=0,
        ),
    )
    news: asyncio.Queue[Entitlement] = asyncio.Queue()
    guard.subscribe(news.put_nowait)
    await guard.start()
    await guard.install(vendor.file(Kind.STANDARD_SERVER, **EARLY))
    good = guard.entitlement
    assert (good.deliver, good.max_connections) == (True, 3)
    async with asyncio.timeout(20):
        while await news.get() != good:
            pass
        clocks.is_broken = True
        kept = await news.get()
        assert (kept.state, kept.deliver, kept.max_connections) == (good.state, True, 3)
        assert kept.remarks[0].code.startswith(INTERNAL_ERROR)
        elapsed[0] = BORNE_S
        graced = await news.get()
        assert (graced.state, graced.deliver, graced.max_connections) == (State.GRACE, True, 3)
        clocks.is_broken = False
        assert await news.get() == good
    await guard.stop()
