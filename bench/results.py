"""What a measurement is, and what follows from several: medians, ratios, verdicts, JSON. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contestant, from the first injection to the last message at the sink."""

    contestant: str
    expected: int
    arrived: int
    seconds: float
    accepted_seconds: float  # until the load generator had its last 250
    cpu_seconds: float  # of the contestant's processes, user and system
    loop_lag_p99_ms: float | None = None
    accept_p50_ms: float | None = None  # from the final dot to its 250, where the source takes it
    accept_p99_ms: float | None = None
    recorded: int | None = None  # deliveries in its accounting or log, the warm-up's included
    counted: int | None = None  # what the rate counts, where it is not messages
    busy: float | None = None  # share of all cores that was in use, by whomever
    # Percentile → milliseconds, where the load has a pace: final dot to its 250, due to arrival.
    accept_ms: Mapping[str, float] = field(default_factory=dict)
    transit_ms: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Exactly what was sent arrived, and nothing went wrong."""
        return not self.problem and self.arrived == self.expected

    @property
    def rate(self) -> float:
        """Messages, or what else is counted, a second from door to door."""
        return self._count / self.seconds if self.seconds > 0 else 0.0

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a message, or what else is counted; NaN where it cannot be told."""
        return self.cpu_seconds * 1e3 / self._count if self._count else math.nan

    @property
    def _count(self) -> int:
        return self.arrived if self.counted is None else self.counted


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that is reported as it is."""

    what: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Series:
    """Points of a curve, for the charts."""

    what: str
    x: str
    y: str
    points: Sequence[tuple[float, float]]
    of: str = ""  # whose it is, where several contestants have one


@dataclass(frozen=True, slots=True)
class Verdict:
    """A measured number against its limit; `passed` is None where it could not be judged."""

    what: str
    measured: float | None
    limit: float
    unit: str
    at_least: bool
    passed: bool | None


@dataclass(slots=True)
class Result:
    """Everything one scenario brought."""

    name: str
    title: str
    runs: list[Run] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)  # contestants that did not run, with the reason
    failure: str = ""  # why the scenario could not be carried through

    def good_runs(self, contestant: str) -> list[Run]:
        """The runs that count for `contestant`."""
        return [run for run in self.runs if run.contestant == contestant and run.ok]


def at_least(what: str, measured: float | None, limit: float, unit: str) -> Verdict:
    """The verdict for a number that must not be below `limit`."""
    return Verdict(
        what, measured, limit, unit, True, None if measured is None else measured >= limit
    )


def at_most(what: str, measured: float | None, limit: float, unit: str) -> Verdict:
    """The verdict for a number that must not be above `limit`."""
    return Verdict(
        what, measured, limit, unit, False, None if measured is None else measured <= limit
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in ascending order; NaN without values."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def percentiles_ms(ordered_s: Sequence[float]) -> dict[str, float]:
    """PERCENTILES of seconds in ascending order, in milliseconds; empty without values."""
    return {str(rank): percentile(ordered_s, rank) * 1e3 for rank in PERCENTILES if ordered_s}


def median_rate(result: Result, contestant: str) -> float | None:
    """The median messages a second of its good runs; None without one."""
    rates = [run.rate for run in result.good_runs(contestant)]
    return statistics.median(rates) if rates else None


def median_cpu_ms(result: Result, contestant: str) -> float | None:
    """The median CPU milliseconds a message of its good runs; None without one."""
    costs = [run.cpu_ms for run in result.good_runs(contestant) if not math.isnan(run.cpu_ms)]
    return statistics.median(costs) if costs else None


def ratio(result: Result, contestant: str, peer: str) -> float | None:
    """How many times as fast as `peer` it was, by medians; None where either is missing."""
    ours, theirs = median_rate(result, contestant), median_rate(result, peer)
    return ours / theirs if ours and theirs else None


def worst_loop_lag_ms(result: Result) -> float | None:
    """The worst p99 of the loop lag any good run reported; None when none did."""
    lags = [
        run.loop_lag_p99_ms for run in result.runs if run.ok and run.loop_lag_p99_ms is not None
    ]
    return max(lags, default=None)


def all_passed(results: Sequence[Result]) -> bool:
    """No scenario and no run failed, no limit was missed (what was not judged is no failure)."""
    return all(
        not result.failure
        and all(run.ok for run in result.runs)
        and all(verdict.passed is not False for verdict in result.verdicts)
        for result in results
    )


def to_json(result: Result) -> dict[str, Any]:
    """One scenario as plain data; every run is in it, with its rate and CPU a message."""
    plain = asdict(result)
    for row, run in zip(plain["runs"], result.runs, strict=True):
        row.update(rate=run.rate, ok=run.ok)
        for name, value in (("cpu_ms", run.cpu_ms), ("cpu_seconds", run.cpu_seconds)):
            row[name] = None if math.isnan(value) else value  # JSON knows no NaN
    names = dict.fromkeys(run.contestant for run in result.runs)
    plain["median_rates"] = {name: median_rate(result, name) for name in names}
    return plain
