"""The time for licences goes forward, by BOOTTIME, whatever happens to the wall clock."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.clock import AGREEMENT_S, STEP_S, ClockState, TrustedClock, read_machine
from tests.support.machine_time import MOMENT, MachineTime

YEAR_S = 365 * 86_400.0


def test_it_begins_with_the_wall_clock_and_goes_with_boottime() -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    assert clock.now() == MOMENT
    machine.passes(90)
    assert clock.now() == MOMENT + 90


def test_a_small_lead_of_the_wall_clock_is_followed() -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    machine.wall_error = STEP_S
    assert clock.now() == MOMENT + STEP_S


def test_small_leads_do_not_add_up() -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    for step in range(1, 100):
        machine.wall_error = step * 500.0
        clock.now()
    assert clock.now() <= MOMENT + STEP_S


def test_a_clock_set_back_is_told_once_and_gains_nothing() -> None:
    machine, events = MachineTime(), []
    clock = TrustedClock(machine.read, told=lambda code, text: events.append(code))
    machine.wall_error = -YEAR_S
    for _ in range(3):
        machine.passes(10)
        clock.now()
    assert clock.now() == machine.true
    assert events == ["clock_step"]
    assert clock.is_long_behind
    assert clock.offset == -YEAR_S


def test_a_clock_that_is_ahead_is_believed_after_a_day_of_agreement() -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    machine.wall_error = YEAR_S
    for _ in range(int(AGREEMENT_S // 1800)):
        assert clock.now() == machine.true
        machine.passes(1800)
    assert clock.now() == machine.true + YEAR_S


def test_a_day_in_which_nobody_looked_is_no_agreement() -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    machine.wall_error = YEAR_S
    clock.now()
    machine.passes(AGREEMENT_S + 1)
    assert clock.now() == machine.true


def test_an_agreement_goes_on_over_a_restart_of_the_daemon_but_not_of_the_machine() -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    machine.wall_error = YEAR_S
    clock.now()
    for _ in range(23 * 2):
        machine.passes(1800)
        clock = TrustedClock(machine.read, clock.state)
    machine.reboots()
    clock = TrustedClock(machine.read, clock.state)
    for _ in range(3):
        machine.passes(1800)
        assert clock.now() < machine.true + STEP_S


@pytest.mark.parametrize("between", [0.0, 2 * YEAR_S])
def test_an_agreement_that_was_broken_begins_anew(between: float) -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    for hour in range(30):
        machine.wall_error = between if hour == 22 else YEAR_S
        assert clock.now() == machine.true
        machine.passes(3_600)


def test_a_snapshot_that_takes_boottime_back_does_not_take_the_time_back() -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    machine.boottime -= 900
    machine.wall_error = -900
    assert clock.now() == MOMENT
    machine.passes(60)
    assert clock.now() == MOMENT + 60


def test_signed_time_confirms_a_clock_that_is_ahead() -> None:
    machine = MachineTime()
    machine.wall_error = -YEAR_S
    clock = TrustedClock(machine.read)
    machine.wall_error = 0.0
    assert clock.now() == MOMENT - YEAR_S
    clock.signed(machine.true, asked_at=clock.now())
    assert clock.now() == machine.true


def test_signed_time_may_set_the_clock_back() -> None:
    machine = MachineTime()
    machine.wall_error = YEAR_S
    clock = TrustedClock(machine.read)
    assert clock.now() == MOMENT + YEAR_S
    clock.signed(machine.true, asked_at=clock.now())
    assert clock.now() == MOMENT
    machine.passes(60)
    assert clock.now() == MOMENT + 60


@pytest.mark.parametrize("kept_s", [61.0, 300 * 86_400.0])
def test_an_answer_from_a_drawer_does_not_set_the_clock_back(kept_s: float) -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    asked_at, answered = clock.now(), machine.true
    machine.passes(kept_s)
    for at in (asked_at, 0.0):
        clock.signed(answered, asked_at=at)
        assert clock.now() == machine.true


def test_a_late_answer_still_says_that_it_is_not_earlier() -> None:
    machine = MachineTime()
    machine.wall_error = -YEAR_S
    clock = TrustedClock(machine.read)
    clock.signed(machine.true, asked_at=0.0)
    assert clock.now() == machine.true


def test_it_is_never_before_a_statement_of_the_vendor_was_issued() -> None:
    machine = MachineTime()
    machine.wall_error = -machine.true  # 1970: a dead battery
    clock = TrustedClock(machine.read)
    clock.at_least(MOMENT)
    machine.passes(5)
    assert clock.now() == MOMENT + 5
    for _ in range(2):
        clock.signed(MOMENT - YEAR_S, asked_at=clock.now())
        assert clock.now() == MOMENT
        machine.passes(60)
        assert clock.now() == MOMENT + 60


def test_after_a_boot_at_least_the_time_since_that_boot_has_passed() -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    kept = clock.state
    machine.reboots(off_s=7_200)
    assert TrustedClock(machine.read, kept).now() == MOMENT + 5
    machine.wall_error = -YEAR_S
    assert TrustedClock(machine.read, kept).now() == MOMENT + 5


def test_a_short_boot_follows_the_wall_clock_at_once() -> None:
    machine = MachineTime()
    kept = TrustedClock(machine.read).state
    machine.reboots(off_s=300)
    assert TrustedClock(machine.read, kept).now() == machine.true


def test_what_is_kept_survives_json() -> None:
    state = TrustedClock(MachineTime().read).state
    assert msgspec.json.decode(msgspec.json.encode(state), type=ClockState) == state


def test_this_machine_can_be_read() -> None:
    read = read_machine()
    first, second = read(), read()
    assert first.boot_id == second.boot_id != ""
    assert first.boottime <= second.boottime


# What may happen to a machine, by name: seconds pass, its wall clock is set wrong by so much, it or the daemon starts again.
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("passes"), st.floats(0, 7_200)),
        st.tuples(st.just("set"), st.floats(-40 * YEAR_S, 40 * YEAR_S)),
        st.tuples(st.just("reboots"), st.floats(0, 86_400)),
        st.tuples(st.just("restarts"), st.just(0.0)),
    ),
    max_size=30,
)


def _act(machine: MachineTime, clock: TrustedClock, name: str, value: float) -> TrustedClock:
    match name:
        case "passes":
            machine.passes(value)
        case "set":
            machine.wall_error = value
        case "reboots":
            machine.reboots(value)
            return TrustedClock(machine.read, clock.state)
        case "restarts":
            return TrustedClock(machine.read, clock.state)
    return clock


@given(acts=ACTS)
def test_without_signed_time_it_never_goes_back(acts: list[tuple[str, float]]) -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    before = clock.now()
    for name, value in acts:
        clock = _act(machine, clock, name, value)
        after = clock.now()
        assert after >= before
        before = after


@given(acts=ACTS)
def test_while_the_machine_is_up_no_setting_of_its_clock_loses_a_second(
    acts: list[tuple[str, float]],
) -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    up = 0.0
    for name, value in acts:
        clock = _act(machine, clock, name, value)
        up += value if name == "passes" else 5.0 if name == "reboots" else 0.0
        assert clock.now() >= MOMENT + up - 0.001


@given(
    by=st.floats(-40 * YEAR_S, 40 * YEAR_S),
    steps=st.lists(st.floats(0, 60), max_size=5),
)
def test_a_jump_of_five_minutes_length_moves_it_by_ten_minutes_at_most(
    by: float, steps: list[float]
) -> None:
    machine = MachineTime()
    clock = TrustedClock(machine.read)
    machine.wall_error = by
    for seconds in steps:
        machine.passes(seconds)
        assert machine.true - 0.001 <= clock.now() <= machine.true + STEP_S
    machine.wall_error = 0.0
    machine.passes(STEP_S)
    assert abs(clock.now() - machine.true) < 0.001
