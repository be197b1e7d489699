"""Latency over load, and what is asked of it and of the licence server."""

from pathlib import Path
from typing import Any

import pytest

from bench.arena import Arena
from bench.contest import Contestant
from bench.license_server import Round, judge
from bench.load import Load
from bench.pace import ACCEPTED, DELIVERED, DRAWN, SHARES, Paced, label_at
from bench.peers.sluice import Sluice
from bench.results import Result, Run

FULL_RATE = 1_000.0


def a_run(contestant: Contestant, load: Load, arena: Arena) -> Run:
    """At full speed FULL_RATE; paced, each message takes longer the more there are."""
    slower = load.per_second / FULL_RATE
    accept_ms = dict.fromkeys(DRAWN, slower * 10) if load.per_second else {}
    transit_ms = dict.fromkeys(DRAWN, slower * 100) if load.per_second else {}
    times: dict[str, Any] = {"accept_ms": accept_ms, "transit_ms": transit_ms}
    seconds = load.count / FULL_RATE
    return Run(
        contestant.label,
        load.count,
        load.count,
        seconds,
        seconds,
        0.1,
        loop_lag_p99_ms=1.0,
        **times,
    )


@pytest.fixture
def result(tmp_path: Path) -> Result:
    arena = Arena(tmp_path, {}, 2, False, frozenset(), 1, False, lambda text: None)
    return Paced((Contestant("Sluice", Sluice()),), measure=a_run).run(arena)


def test_each_share_of_the_maximum_runs_so_long_at_its_pace(result: Result) -> None:
    for share in SHARES:
        runs = result.good_runs(label_at("Sluice", share))
        assert [run.expected for run in runs] == [FULL_RATE * share * 20.0] * 2


def test_the_curves_hold_each_percentile_over_the_load(result: Result) -> None:
    found = {(one.of, one.y, one.what): one.points for one in result.series}
    assert set(found) == {
        ("Sluice", f"ms {what}", f"p{rank}") for what in (ACCEPTED, DELIVERED) for rank in DRAWN
    }
    assert found["Sluice", f"ms {ACCEPTED}", "p99"] == [
        (10.0, 1.0),
        (25.0, 2.5),
        (50.0, 5.0),
        (75.0, 7.5),
    ]


def test_limits_are_those_at_half_of_the_load(result: Result) -> None:
    accepted, delivered, lag = result.verdicts
    assert (accepted.measured, delivered.measured, lag.measured) == (5.0, 50.0, 1.0)
    assert all(verdict.passed for verdict in result.verdicts)


def test_the_licence_server_is_judged_by_its_fast_and_its_steady_round() -> None:
    fast = Round(seconds=1.0, cpu=1.0, delays=[0.05] * 2_000)
    steady = Round(seconds=10.0, cpu=1.0, delays=[0.06] * 1_670)
    reports, cpu, p99 = judge(fast, steady)
    assert (reports.measured, reports.passed) == (2_000.0, True)
    assert (cpu.measured, cpu.passed) == (0.5, True)
    assert (p99.measured, p99.passed) == (60.0, False)
