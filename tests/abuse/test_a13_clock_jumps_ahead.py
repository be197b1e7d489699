"""A13: the clock jumps to 2036 for five minutes. Nothing expires, no period ends; an event, and no more."""

import pytest

from licensing.clock import STEP_S, TrustedClock
from licensing.entitlement import State
from licensing.evaluate import evaluate
from licensing.facts import VolumeUse
from licensing.model.license import Kind
from tests.support.license_facts import MIDDLE, WITH_ENGINE, the_facts
from tests.support.machine_time import MachineTime

TO_2036 = 9 * 365 * 86_400.0


@pytest.mark.parametrize("kind", WITH_ENGINE)
def test_five_minutes_in_2036_expire_nothing(kind: Kind) -> None:
    machine = MachineTime(MIDDLE)
    events: list[str] = []
    clock = TrustedClock(machine.read, told=lambda code, text: events.append(code))
    changes = {}
    if kind is Kind.VOLUME:  # its lease and its period end in a day
        use = VolumeUse("2027-03", 1_000, 10, 10, left_until=MIDDLE + 86_400)
        changes = {"volume": use}
    facts = the_facts(kind, **changes)
    machine.wall_error = TO_2036
    for _ in range(5 * 60):
        machine.passes(1)
        assert evaluate(facts, clock.now()).state is State.VALID
    machine.wall_error = 0.0
    machine.passes(1)
    assert clock.now() == machine.true
    assert events == ["clock_step"]


def test_the_day_of_a_development_licence_does_not_change_either() -> None:
    machine = MachineTime(MIDDLE)
    clock = TrustedClock(machine.read)
    machine.wall_error = 86_400.0
    facts = the_facts(Kind.DEVELOPMENT, dev_day="2027-03-01", dev_used=1_000)
    found = evaluate(facts, clock.now())
    assert found.state is State.OVER_LIMIT
    assert clock.now() <= machine.true + STEP_S
