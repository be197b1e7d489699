"""A12: the clock is rolled back a year before the expiry. The term goes on, it expires in time, and somebody hears of it."""

from licensing.clock import TrustedClock
from licensing.entitlement import State
from licensing.evaluate import evaluate
from licensing.facts import Facts, Finding
from licensing.model.license import Kind
from tests.support.license_facts import EXPIRES, TERMINATES, the_facts
from tests.support.machine_time import MachineTime

DAY = 86_400.0


def facts_of(clock: TrustedClock, since: float) -> Facts:
    behind = (Finding("clock_step", since),) if clock.is_long_behind else ()
    return the_facts(Kind.ENTERPRISE_SERVER, findings=behind, reports=False)


def test_a_clock_rolled_back_a_year_does_not_put_off_the_expiry() -> None:
    machine = MachineTime(EXPIRES.timestamp() - 2 * DAY)
    events: list[str] = []
    clock = TrustedClock(machine.read, told=lambda code, text: events.append(code))
    machine.wall_error = -365 * DAY
    rolled_back_at = machine.true
    for _ in range(2 * 24):
        assert evaluate(facts_of(clock, rolled_back_at), clock.now()).state is State.VALID
        machine.passes(3_600)
    found = evaluate(facts_of(clock, rolled_back_at), clock.now())
    assert found.state is State.GRACE
    assert any(each.code.startswith("clock_step") for each in found.remarks)
    machine.passes(TERMINATES.timestamp() + 1 - machine.true)
    assert evaluate(facts_of(clock, rolled_back_at), clock.now()).state is State.EXPIRED
    assert events == ["clock_step"]


def test_rolling_back_over_a_restart_and_a_boot_gains_nothing() -> None:
    machine = MachineTime(EXPIRES.timestamp() - 1)
    kept = TrustedClock(machine.read).state
    machine.wall_error = -365 * DAY
    machine.passes(1)
    clock = TrustedClock(machine.read, kept)
    assert evaluate(facts_of(clock, machine.true), clock.now()).state is State.GRACE
    machine.reboots(off_s=0)
    clock = TrustedClock(machine.read, clock.state)
    assert evaluate(facts_of(clock, machine.true), clock.now()).state is State.GRACE
