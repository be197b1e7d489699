"""What the tables and charts say of a scenario, from its plain data as it stands in a report."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Scenario = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RateRow:
    """A contestant's medians; `ratio` says how many times as fast the scenario's first one was."""

    contestant: str
    rate: float
    ratio: float | None  # None of the first one itself
    cpu_ms: float | None  # None where it cannot be told
    runs: int


def rate_rows(scenario: Scenario) -> list[RateRow]:
    """One row for each contestant with a rate; none for a scenario whose load has a pace."""
    if any(run["transit_ms"] for run in scenario["runs"]):
        return []
    rates = {name: rate for name, rate in scenario["median_rates"].items() if rate}
    if not rates:
        return []
    ours = next(iter(scenario["median_rates"]))
    rows = []
    for name, rate in rates.items():
        good = good_runs(scenario, name)
        ratio = rates[ours] / rate if ours in rates and name != ours else None
        rows.append(RateRow(name, rate, ratio, median_of(good, "cpu_ms"), len(good)))
    return rows


def good_runs(scenario: Scenario, contestant: str) -> list[Mapping[str, Any]]:
    """The runs that count."""
    return [run for run in scenario["runs"] if run["ok"] and run["contestant"] == contestant]


def median_of(runs: Sequence[Mapping[str, Any]], what: str) -> float | None:
    """The median of a number of the runs; None where none has it."""
    known = [run[what] for run in runs if run[what] is not None]
    return statistics.median(known) if known else None


def format_ratio(row: RateRow) -> str:
    """As "6.80 ×"; nothing for the first one."""
    return "" if row.ratio is None else f"{row.ratio:.2f} ×"


def format_cost(row: RateRow) -> str:
    """CPU milliseconds."""
    return "not counted" if row.cpu_ms is None else f"{row.cpu_ms:.2f} ms"
