"""A14: a false time and a reboot, with no contact, after the licence has expired. The latest time that was kept wins.

What is not seen is how long the machine was off: with a false clock over the boot that time is not counted. That risk is left,
and is said in the documentation.
"""

from licensing.clock import TrustedClock
from licensing.entitlement import State
from licensing.evaluate import evaluate
from licensing.model import Kind
from tests.support.license_facts import TERMINATES, the_facts
from tests.support.machine_time import MachineTime

DAY = 86_400.0
FACTS = the_facts(Kind.ENTERPRISE_SERVER, reports=False)


def test_an_expired_licence_stays_expired_over_reboots_into_the_past() -> None:
    machine = MachineTime(TERMINATES.timestamp() + 1)
    clock = TrustedClock(machine.read)
    assert evaluate(FACTS, clock.now()).state is State.EXPIRED
    for years in (1, 2, 30):
        machine.wall_error = -years * 365 * DAY
        machine.reboots(off_s=30 * DAY)
        clock = TrustedClock(machine.read, clock.state)
        assert evaluate(FACTS, clock.now()).state is State.EXPIRED


def test_the_run_off_goes_on_being_counted_by_the_time_the_machine_is_up() -> None:
    machine = MachineTime(TERMINATES.timestamp() + 1)
    clock = TrustedClock(machine.read)
    machine.wall_error = -365 * DAY
    for _ in range(3):
        assert evaluate(FACTS, clock.now()).deliver
        machine.reboots()
        clock = TrustedClock(machine.read, clock.state)
        machine.passes(DAY)
    assert not evaluate(FACTS, clock.now()).deliver


def test_a_licence_that_was_issued_later_than_the_clock_says_moves_it() -> None:
    machine = MachineTime()
    machine.wall_error = -30 * 365 * DAY
    clock = TrustedClock(machine.read)  # nothing was kept: the state was deleted
    issued_at = FACTS.held[0].license.issued_at.timestamp()
    clock.at_least(issued_at)
    assert clock.now() >= issued_at
