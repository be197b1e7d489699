"""What follows from measured runs: medians, ratios, verdicts and the JSON of the report."""

import json
import math
from dataclasses import replace

import pytest

from bench.contest import Cheaper, Faster, ShareOf, SlowSink
from bench.remarks import explain_workers
from bench.report import format_contestant, format_figure, format_verdict
from bench.results import (
    Figure,
    Result,
    Run,
    all_passed,
    at_least,
    at_most,
    median_rate,
    percentile,
    percentiles_ms,
    ratio,
    to_json,
    worst_loop_lag_ms,
)


def a_run(contestant: str, seconds: float, *, arrived: int = 1000, problem: str = "") -> Run:
    return Run(contestant, 1000, arrived, seconds, seconds / 2, 0.5, problem=problem)


def a_result(*runs: Run) -> Result:
    return Result("plain", "a title", runs=list(runs))


def test_the_median_leaves_an_unlucky_run_out() -> None:
    result = a_result(a_run("A", 1.0), a_run("A", 50.0), a_run("A", 2.0))
    assert median_rate(result, "A") == 500.0


def test_a_run_with_a_message_too_many_or_too_few_does_not_count() -> None:
    for arrived in (999, 1001):
        result = a_result(a_run("A", 1.0, arrived=arrived))
        assert median_rate(result, "A") is None
        assert not all_passed([result])


def test_a_ratio_compares_medians_and_is_absent_without_a_peer() -> None:
    result = a_result(a_run("A", 1.0), a_run("B", 4.0))
    assert ratio(result, "A", "B") == 4.0
    assert ratio(result, "A", "C") is None


def test_a_limit_that_could_not_be_measured_is_neither_met_nor_missed() -> None:
    verdict = at_least("A against B", None, 4.0, "×")
    assert verdict.passed is None
    assert format_verdict(verdict)[2:] == ["not reported", "not judged"]


def test_limits_are_met_when_they_are_just_reached() -> None:
    assert at_least("rate", 4.0, 4.0, "×").passed
    assert at_most("memory", 60.0, 60.0, "MB").passed
    assert not at_most("memory", 60.1, 60.0, "MB").passed


def test_a_missed_limit_fails_the_report() -> None:
    result = a_result(a_run("A", 1.0))
    assert all_passed([result])
    result.verdicts.append(at_most("memory", 61.0, 60.0, "MB"))
    assert not all_passed([result])


def test_a_scenario_that_broke_off_fails_the_report() -> None:
    result = a_result(a_run("A", 1.0))
    result.failure = "the daemon ended"
    assert not all_passed([result])


def test_the_worst_loop_lag_of_all_good_runs_counts() -> None:
    lags = [replace(a_run("A", 1.0), loop_lag_p99_ms=lag) for lag in (3.0, 7.0, None)]
    assert worst_loop_lag_ms(a_result(*lags)) == 7.0
    assert worst_loop_lag_ms(a_result(a_run("A", 1.0))) is None


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 2), (99, 4), (100, 4)])
def test_percentiles_are_values_that_were_measured(percent: float, value: int) -> None:
    assert percentile([1, 2, 3, 4], percent) == value


def test_there_is_no_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 99))


def test_percentiles_are_said_in_milliseconds_under_their_rank() -> None:
    found = percentiles_ms([number / 1000 for number in range(1, 1001)])
    assert found["50"] == pytest.approx(500.0)
    assert found["99.9"] == pytest.approx(999.0)
    assert percentiles_ms([]) == {}


def test_a_failed_run_is_shown_among_the_others() -> None:
    row = format_contestant(
        a_result(a_run("A", 1.0), a_run("A", 0.0, arrived=0, problem="no")), "A"
    )
    assert row[:3] == ["A", "1,000 · failed", "1,000"]


def test_the_json_holds_every_run_and_is_valid_even_when_nothing_arrived() -> None:
    result = a_result(a_run("A", 1.0), a_run("A", 0.0, arrived=0, problem="no"))
    scenario = json.loads(json.dumps(to_json(result), allow_nan=False))
    assert [run["ok"] for run in scenario["runs"]] == [True, False]
    assert scenario["median_rates"] == {"A": 1000.0}


def test_small_figures_keep_a_decimal() -> None:
    assert format_figure(Figure("memory", 3.46, "MB")) == "3.5 MB"
    assert format_figure(Figure("rate", 11893.4, "msg/s")) == "11,893 msg/s"


def test_a_rate_may_count_something_else_than_messages() -> None:
    run = replace(a_run("A", 2.0), counted=4000)
    assert run.rate == 2000.0
    assert run.cpu_ms == 0.125


def test_judges_compare_medians_and_leave_open_what_is_absent() -> None:
    result = a_result(a_run("A", 1.0), a_run("B", 4.0))
    result.figures.append(Figure("limit", 2000.0, "/s"))
    assert Faster("A", "B", 4.0).verdict(result).passed
    assert Cheaper("A", "B", 1.15).verdict(result).passed
    assert ShareOf("A", "limit", 0.5).verdict(result).measured == 50.0
    for judge in (Faster("A", "C", 4.0), Cheaper("A", "C", 1.15), ShareOf("A", "none", 0.5)):
        assert judge.verdict(result).passed is None


@pytest.mark.parametrize(("ideal", "asked"), [(500.0, 400), (10_000.0, 600)])
def test_a_slow_sink_asks_for_the_lesser_of_its_two_limits(ideal: float, asked: int) -> None:
    result = a_result(a_run("slow", 1.0), a_run("free", 1.0))
    assert SlowSink("slow", "free", ideal, 0.8, 0.6).verdict(result).limit == asked


def test_the_remark_on_workers_says_what_bounds_them() -> None:
    two = replace(a_run("Sluice, 2 workers", 1.0), busy=0.99)
    remark = explain_workers(a_result(two, a_run("Sluice, 1 worker", 1.5)))
    assert "1.50 ×" in remark
    assert "bound by the cores" in remark
    assert explain_workers(a_result(two)) == ""


def test_what_cannot_be_counted_is_null_in_the_report() -> None:
    run = replace(a_run("A", 1.0), cpu_seconds=math.nan)
    written = json.loads(json.dumps(to_json(a_result(run)), allow_nan=False))
    assert written["runs"][0]["cpu_ms"] is None
