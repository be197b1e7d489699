"""A14: a false time and a reboot, with no contact, after the licence has expired. The latest time that was kept wins.

What is not seen is how long the machine was off: with a false clock over the boot that time is not counted. That risk is left,
and is said in the documentation.
"""

from pathlib import Path

from licensing.clock import TrustedClock
from licensing.entitlement import State
from licensing.envelope import decode_envelope, encode_envelope
from licensing.evaluate import evaluate
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.license_facts import TERMINATES, the_facts
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

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


async def test_an_answer_kept_in_a_drawer_gives_no_term_again(tmp_path: Path) -> None:
    vendor, time = Vendor(), MachineTime()
    async with LicenceServer(vendor) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, vendor, time, endpoint=server.url, reporting=False)
        await guard.open()
        await guard.install(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
        first, kept = [
            encode_envelope(server.activate(decode_envelope(await guard.request())))
            for _ in range(2)
        ]
        await guard.install(first)
        await passes(guard, time, 300 * DAY, talk=False)
        await guard.install(kept)
        assert guard.home().clock.now() == time.true
        await guard.stop()


async def test_an_acknowledgement_that_was_lost_for_days_does_not_set_the_clock_back(
    tmp_path: Path,
) -> None:
    vendor, time = Vendor(), MachineTime()
    async with LicenceServer(vendor) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
        await guard.open()
        await guard.install(vendor.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        server.faults = ["lost"]
        await passes(guard, time, 61)
        counted = server.total
        time.wall_error = -5 * DAY  # the wall clock helps nobody
        await passes(guard, time, 5 * DAY)
        assert guard.home().clock.now() == time.true
        assert server.total == counted
        await guard.stop()
