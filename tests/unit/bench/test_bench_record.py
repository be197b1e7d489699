"""A bench that was stopped goes on: what the report on disk holds, and what must be measured again."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.arena import Arena
from bench.estimate import format_minutes
from bench.measuring import Plan
from bench.peers.sluice import Sluice
from bench.record import Conditions, Measured, Record
from bench.results import Result, Run
from bench.scenarios import NAMES, QUICK, QUICK_PEERS, SCENARIOS

UNDER = Conditions("abc1234", workers=2, quick=False, peers=["Sluice 1", "Postfix 3"])


def a_result(name: str, *, arrived: int = 1000, failure: str = "") -> Result:
    run = Run("Sluice", 1000, arrived, 1.0, 1.0, 0.5)
    return Result(name, "a title", runs=[run], failure=failure)


def how(*, runs: int = 3, under: Conditions = UNDER) -> Measured:
    return Measured("2026-01-01T00:00:00Z", runs, 0.1, 60.0, under)


def an_arena(place: Path, *, quick: bool = False) -> Arena:
    peers = frozenset(QUICK_PEERS if quick else ())
    return Arena(place, {}, 3, quick, peers, 2, False, print)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def test_a_report_that_is_opened_again_holds_what_was_measured(path: Path) -> None:
    Record(path, NAMES).add(a_result("plain"), how())
    again = Record(path, NAMES)
    assert again.holds("plain", 3, UNDER)
    assert again.holds("plain", 2, UNDER)
    assert not again.holds("signed", 1, UNDER)


@pytest.mark.parametrize(
    "changed",
    [
        replace(UNDER, commit="def5678"),
        replace(UNDER, workers=1),
        replace(UNDER, quick=True),
        replace(UNDER, peers=["Sluice 1"]),
    ],
)
def test_under_other_conditions_it_is_measured_again(path: Path, changed: Conditions) -> None:
    Record(path, NAMES).add(a_result("plain"), how())
    assert not Record(path, NAMES).holds("plain", 3, changed)


def test_more_runs_than_there_were_and_failures_are_measured_again(path: Path) -> None:
    record = Record(path, NAMES)
    record.add(a_result("plain"), how(runs=3))
    record.add(a_result("three", arrived=999), how())
    record.add(a_result("dead", failure="the daemon ended"), how())
    assert not record.holds("plain", 5, UNDER)
    assert not record.holds("three", 3, UNDER)
    assert not record.holds("dead", 3, UNDER)


def test_a_scenario_takes_the_place_of_its_earlier_self_and_leaves_the_others(path: Path) -> None:
    record = Record(path, NAMES)
    record.add(a_result("signed"), how())
    record.add(a_result("plain"), how())
    record.add(a_result("signed", arrived=7), how())
    names = [scenario["name"] for scenario in Record(path, NAMES).report()["scenarios"]]
    assert names == ["plain", "signed"]  # in the order of the table
    assert Record(path, NAMES).report()["scenarios"][1]["runs"][0]["arrived"] == 7


def test_a_report_from_before_it_said_how_it_was_measured_counts_as_none(path: Path) -> None:
    path.write_text('{"machine": {}, "scenarios": [{"name": "plain", "runs": [], "failure": ""}]}')
    assert not Record(path, NAMES).holds("plain", 1, UNDER)


def test_how_long_it_took_says_how_long_it_will_take(path: Path) -> None:
    record = Record(path, NAMES)
    record.add(a_result("plain"), how(runs=3))
    assert record.took_s("plain", 5, quick=False) == 100.0
    assert record.took_s("plain", 5, quick=True) is None
    assert record.took_s("signed", 5, quick=False) is None


def test_only_what_is_open_is_planned_unless_everything_is_asked_for(path: Path) -> None:
    record = Record(path, NAMES)
    record.add(a_result("plain"), how())
    plan = Plan(SCENARIOS[:2], an_arena(path.parent), record, UNDER, again=False)
    assert [one.name for one in plan.open()] == ["three"]
    assert [one.name for one in replace(plan, again=True).open()] == ["plain", "three"]
    assert plan.estimate_s(SCENARIOS[0]) == 60.0


def test_a_quick_bench_is_estimated_at_less_than_five_minutes(tmp_path: Path) -> None:
    assert set(QUICK) < set(NAMES)
    arena = replace(an_arena(tmp_path, quick=True), runs=1)
    quick = [one.estimate_s(arena) for one in SCENARIOS if one.name in QUICK]
    assert all(seconds > 0 for seconds in quick)
    assert sum(quick) < 300.0


def test_more_runs_take_longer(tmp_path: Path) -> None:
    assert Sluice().missing() == ""
    few, many = (replace(an_arena(tmp_path), runs=runs) for runs in (1, 5))
    measured_once = {"dead", "domains", "licensing"}
    for one in SCENARIOS:
        assert (one.estimate_s(few) < one.estimate_s(many)) is (one.name not in measured_once)


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (720, "12 min"), (7_500, "2 h 05 min")]
)
def test_a_duration_is_said_as_one_says_it(seconds: float, words: str) -> None:
    assert format_minutes(seconds) == words
