"""The report for the eye, as Rich tables; bench.record keeps it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.results import Figure, Result, Run, Verdict, median_cpu_ms, median_rate, to_json
from bench.rows import format_cost, format_ratio, rate_rows

NOT_REPORTED = "not reported"
BUSY = 0.7  # load average above which the machine is not ours alone


def print_machine(console: Console, machine: Mapping[str, Any]) -> None:
    """What the machine is, and its limits."""
    facts = Table(title="Machine", show_header=False, title_justify="left")
    for name, value in machine.items():
        if name in (
            "limits",
            "settings",
        ):  # the one has its own table, the other stands in the JSON
            continue
        text = (
            ", ".join(f"{k} {v}" for k, v in value.items())
            if isinstance(value, dict)
            else str(value)
        )
        facts.add_row(name, text)
    console.print(facts)
    if machine["load_before"] > BUSY:
        console.print("[yellow]others use this machine: take the numbers as a look only[/yellow]")
    limits = Table("limit of the machine", "measured", title="Limits", title_justify="left")
    for figure in machine["limits"]:
        limits.add_row(figure["what"], format_figure(Figure(**figure)))
    console.print(limits)


def print_result(console: Console, result: Result) -> None:
    """Every run of one scenario, its figures and notes."""
    console.print(f"\n[bold]{result.title}[/bold]  ({result.name})")
    if result.runs:
        table = Table(
            "contestant", "runs, msg/s", "median", "CPU ms/msg", "accepted in", "cores busy"
        )
        table.add_column("loop lag p99")
        table.add_column("final dot p50 / p99")
        for name in dict.fromkeys(run.contestant for run in result.runs):
            table.add_row(*format_contestant(result, name))
        console.print(table)
    for figure in result.figures:
        console.print(f"  {figure.what}: {format_figure(figure)}")
    for run in result.runs:
        if not run.ok:
            console.print(f"  [red]failed run[/red] {run.contestant}: {escape(run.problem)}")
    if result.failure:
        console.print(f"  [red]failed[/red]: {escape(result.failure)}")
    for reason in result.absent:
        console.print(f"  absent: {reason}", markup=False)
    for note in result.notes:
        console.print(f"  note: {note}", markup=False)


def print_rates(console: Console, results: Sequence[Result]) -> None:
    """The table of rates, each beside how many times as fast the first one was."""
    table = Table(
        "scenario",
        "contestant",
        "msg/s",
        "the first one is",
        "CPU a message",
        title="Rates (medians, door to door)",
        title_justify="left",
    )
    for result in results:
        for row in rate_rows(to_json(result)):
            cells = (f"{row.rate:,.0f}", format_ratio(row), format_cost(row))
            table.add_row(result.name, row.contestant, *cells)
    console.print(table)


def print_verdicts(console: Console, results: Sequence[Result]) -> None:
    """The table of what was asked and what was measured."""
    table = Table(
        "scenario", "what", "asked", "measured", "", title="Verdicts", title_justify="left"
    )
    for result in results:
        for verdict in result.verdicts:
            table.add_row(result.name, *format_verdict(verdict))
    console.print(table)


def format_contestant(result: Result, contestant: str) -> list[str]:
    """The cells of one contestant's row."""
    runs = [run for run in result.runs if run.contestant == contestant]
    good = [run for run in runs if run.ok]
    rates = " · ".join(f"{run.rate:,.0f}" if run.ok else "failed" for run in runs)
    middle = median_rate(result, contestant)
    if middle is None:
        return [contestant, rates, *["–"] * 6]
    cost = median_cpu_ms(result, contestant)
    return [
        contestant,
        rates,
        f"{middle:,.0f}",
        "not counted" if cost is None else f"{cost:.2f}",
        f"{statistics.median(run.accepted_seconds for run in good):.1f} s",
        f"{statistics.median(run.busy or 0.0 for run in good):.0%}",
        _format_lag(good),
        _format_latency(good),
    ]


def format_figure(figure: Figure) -> str:
    """A number with its unit, with decimals only where it is small."""
    digits = 0 if abs(figure.value) >= 100 else 1
    return f"{figure.value:,.{digits}f} {figure.unit}".strip()


def format_verdict(verdict: Verdict) -> list[str]:
    """What, asked, measured, and the mark of one verdict."""
    sign = "≥" if verdict.at_least else "≤"
    measured = NOT_REPORTED if verdict.measured is None else _with_unit(verdict.measured, verdict)
    mark = {True: "[green]met[/green]", False: "[red]MISSED[/red]", None: "not judged"}
    asked = f"{sign} {verdict.limit:,g} {verdict.unit}".strip()
    return [verdict.what, asked, measured, mark[verdict.passed]]


def _with_unit(value: float, verdict: Verdict) -> str:
    digits = 0 if value >= 100 or value == int(value) else 2
    return f"{value:,.{digits}f} {verdict.unit}".strip()


def _format_lag(runs: Sequence[Run]) -> str:
    lags = [run.loop_lag_p99_ms for run in runs if run.loop_lag_p99_ms is not None]
    return f"{max(lags):.1f} ms" if lags else NOT_REPORTED


def _format_latency(runs: Sequence[Run]) -> str:
    middles = [run.accept_p50_ms for run in runs if run.accept_p50_ms is not None]
    highs = [run.accept_p99_ms for run in runs if run.accept_p99_ms is not None]
    if not middles or not highs:
        return "–"
    return f"{statistics.median(middles):.1f} / {statistics.median(highs):.1f} ms"
