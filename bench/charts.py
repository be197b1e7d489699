"""Charts of a report: `python -m bench charts [REPORT]` writes SVG and PNG to bench/charts.

The same report gives the same bytes (no dates, fixed ids). The ground is opaque and pale, the ink dark, so a
chart can be read on a light page and on a dark one. Each is drawn only where the report has its scenarios, and its
title says what is seen, with the report's own numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.load import ROOT
from bench.rows import Scenario, good_runs, median_of, rate_rows

CHARTS = ROOT / "bench" / "charts"
REFERENCE = ROOT / "bench" / "results" / "reference.json"
GROUND, INK, GRID = "#f7f7f4", "#22252a", "#d5d6d2"
OURS, THEIRS = "#1f6f5c", "#9aa3ad"
LINES = ("#1f6f5c", "#4c6fa5", "#b4552d")  # p50, p95, p99
STYLE: Any = {
    "svg.hashsalt": "sluice",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 10.0,
    "figure.titlesize": 12.0,
    "figure.titleweight": "bold",
    "figure.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "savefig.facecolor": GROUND,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
BARS = ("plain", "signed", "large", "reconnect")  # scenarios with peers
CONDITIONS = ("three", "ed25519", "zipf", "slow", "refusals", "spread")  # Sluice beside itself

Scenarios = Mapping[str, Scenario]


def draw(arguments: Sequence[str]) -> int:
    """Draw every chart that the report has the data for; 1 when it has none."""
    parser = argparse.ArgumentParser(prog="python -m bench charts", description=__doc__)
    parser.add_argument("report", type=Path, nargs="?", default=REFERENCE)
    parser.add_argument("--to", type=Path, default=CHARTS)
    options = parser.parse_args(arguments)
    drawn = draw_report(json.loads(options.report.read_text()), options.to)
    for name in drawn:
        print(f"written: {options.to / name}.svg, .png")
    return 0 if drawn else 1


def draw_report(report: Mapping[str, Any], directory: Path) -> list[str]:
    """Draw what can be drawn; the names of the charts."""
    scenarios = {scenario["name"]: scenario for scenario in report["scenarios"]}
    directory.mkdir(parents=True, exist_ok=True)
    drawn = drawable(report)
    with mpl.rc_context(STYLE):
        for name in drawn:
            CHARTS_BY_NAME[name][0](scenarios)
            path = directory / name
            plt.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
            plt.savefig(path.with_suffix(".png"), dpi=160, metadata={"Software": None})
            plt.close("all")
    return drawn


def drawable(report: Mapping[str, Any]) -> list[str]:
    """The names of the charts that this report has the data for."""
    scenarios = {scenario["name"]: scenario for scenario in report["scenarios"]}
    return [name for name, (_, wants) in CHARTS_BY_NAME.items() if wants(scenarios)]


def _throughput(scenarios: Scenarios) -> None:
    shown = [scenarios[name] for name in BARS if _has_rates(scenarios.get(name))]
    bars = [len(rate_rows(scenario)) for scenario in shown]
    figure, panels = plt.subplots(
        len(shown),
        1,
        figsize=(8.0, 0.7 + 0.8 * len(shown) + 0.36 * sum(bars)),
        gridspec_kw={"height_ratios": bars},
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(_throughput_title(shown[0]))
    for axes, scenario in zip(panels[:, 0], shown, strict=True):
        _bars(axes, scenario)


def _throughput_title(first: Scenario) -> str:
    compared = [row for row in rate_rows(first) if row.ratio is not None]
    if not compared:
        return "Messages a second, door to door (medians)"
    words = ", ".join(f"{row.ratio:.1f} × {row.contestant}" for row in compared)
    return f"Messages a second, door to door (medians): Sluice is\n{words}"


def _bars(axes: Axes, scenario: Scenario) -> None:
    rows = list(reversed(rate_rows(scenario)))
    colours = [OURS if row.contestant.startswith("Sluice") else THEIRS for row in rows]
    names, rates = [row.contestant for row in rows], [row.rate for row in rows]
    drawn = axes.barh(names, rates, color=colours, height=0.7)
    words = [
        f"{row.rate:,.0f}" + (f"   Sluice: {row.ratio:.1f} ×" if row.ratio else "") for row in rows
    ]
    axes.bar_label(drawn, words, padding=4)
    axes.set_xlim(0, max(rates) * 1.3)
    axes.set_title(scenario["title"], loc="left", fontsize=10)
    _without_scale(axes)


def _conditions(scenarios: Scenarios) -> None:
    shown = [scenarios[name] for name in reversed(CONDITIONS) if _has_pair(scenarios.get(name))]
    shares, words, asked = [], [], []
    for scenario in shown:
        ours, plain = rate_rows(scenario)[:2]
        shares.append(ours.rate / plain.rate * 100)
        words.append(f"{shares[-1]:.0f} %: {ours.rate:,.0f} of {plain.rate:,.0f} a second")
        asked.append(_asked_percent(scenario, plain.rate))
    figure, axes = plt.subplots(figsize=(8.0, 0.9 + 0.5 * len(shown)), layout="constrained")
    figure.suptitle("What a harder task leaves of Sluice's own rate (medians)")
    titles = [textwrap.fill(one["title"], 34) for one in shown]
    axes.barh(titles, shares, color=OURS, height=0.6)
    for place, (text, limit) in enumerate(zip(words, asked, strict=True)):
        axes.text(max(*shares, 100) + 4, place, text, va="center")
        axes.plot([limit, limit], [place - 0.4, place + 0.4], color=LINES[2], linewidth=2)
    axes.plot([], [], color=LINES[2], linewidth=2, label="asked")
    figure.legend(frameon=False, loc="outside lower right")
    axes.set_xlim(0, max(*shares, 100) * 1.75)
    _without_scale(axes)


def _asked_percent(scenario: Scenario, plain_rate: float) -> float:
    """The limit of the scenario's first verdict, as a share of the rate it is compared with."""
    verdict = scenario["verdicts"][0]
    share = verdict["limit"] if verdict["unit"] == "×" else verdict["limit"] / plain_rate
    return float(share) * 100


def _workers(scenarios: Scenarios) -> None:
    scenario = scenarios["workers"]
    rows = sorted(rate_rows(scenario), key=lambda row: _count_workers(row.contestant))
    numbers = [_count_workers(row.contestant) for row in rows]
    busy = [(median_of(good_runs(scenario, row.contestant), "busy") or 0.0) * 100 for row in rows]
    first, last = rows[0], rows[-1]
    figure, panels = plt.subplots(1, 3, figsize=(8.0, 3.2), layout="constrained")
    figure.suptitle(
        f"{numbers[-1]} workers deliver {last.rate / first.rate:.2f} × what {numbers[0]} does"
    )
    for axes, values, label, form in (
        (panels[0], [row.rate for row in rows], "messages a second", "{:,.0f}"),
        (panels[1], [row.cpu_ms or 0.0 for row in rows], "CPU ms a message", "{:.2f}"),
        (panels[2], busy, "% of all cores in use, by all", "{:.0f}"),
    ):
        axes.plot(numbers, values, marker="o", color=OURS)
        for number, value in zip(numbers, values, strict=True):
            axes.annotate(
                form.format(value), (number, value), (0, 7), textcoords="offset points", ha="center"
            )
        axes.set(xlabel="workers", ylim=(0, max(values) * 1.2), xlim=(0.5, max(numbers) + 0.5))
        axes.set_title(label, fontsize=10)
        axes.set_xticks(numbers)
        axes.grid(axis="y", color=GRID)


def _memory(scenarios: Scenarios) -> None:
    curve = scenarios["million"]["series"][0]
    (_, empty), *_, (count, full) = curve["points"]
    figure, axes = plt.subplots(figsize=(8.0, 3.4), layout="constrained")
    figure.suptitle(f"{count:,.0f} queued recipients cost {full - empty:.0f} MB of memory")
    _line(axes, curve["points"], OURS, "all processes of Sluice")
    for queued, megabytes in curve["points"]:
        axes.annotate(
            f"{megabytes:.0f}", (queued, megabytes), (0, 7), textcoords="offset points", ha="center"
        )
    for verdict in scenarios["million"]["verdicts"]:
        if verdict["what"].startswith("memory"):
            limit = empty + verdict["limit"]
            axes.axhline(limit, color=LINES[2], linestyle="--", label="at most, as asked")
    counts = [queued for queued, _ in curve["points"]]
    axes.set_xscale("symlog", linthresh=counts[1])  # from 0 on, and the first looks apart
    axes.set_xticks(counts, [f"{queued:,.0f}" for queued in counts])
    axes.minorticks_off()
    axes.set_xlim(-counts[1] / 5, counts[-1] * 1.4)
    axes.set(xlabel=f"{curve['x']} (logarithmic)", ylabel=curve["y"])
    axes.set_ylim(0, max(axes.get_ylim()[1], full * 1.15))
    axes.legend(frameon=False, loc="lower right")


def _latency(scenarios: Scenarios) -> None:
    series = [one for one in scenarios["latency"]["series"] if one["points"]]
    owners = list(dict.fromkeys(one["of"] for one in series))
    times = list(dict.fromkeys(one["y"] for one in series))
    figure, panels = plt.subplots(
        len(owners),
        len(times),
        figsize=(8.0, 0.8 + 2.7 * len(owners)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(_latency_title(series))
    for row, owner in enumerate(owners):
        for column, what in enumerate(times):
            axes = panels[row, column]
            curves = [one for one in series if (one["of"], one["y"]) == (owner, what)]
            for curve, colour in zip(curves, LINES, strict=False):
                _line(axes, curve["points"], colour, curve["what"])
            axes.set_yscale("log")
            axes.set_title(f"{owner}: {what.removeprefix('ms ')}", loc="left", fontsize=10)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for axes in panels[:, 0]:
        axes.set_ylabel("milliseconds")
    for axes in panels[-1]:
        axes.set_xlabel(series[0]["x"])
        axes.set_xticks([share for share, _ in series[0]["points"]])
    panels[0, 0].legend(frameon=False, loc="upper left")


def _latency_title(series: Sequence[Mapping[str, Any]]) -> str:
    """The highest percentile that is drawn of the first contestant, at half of its load."""
    own = [one for one in series if one["of"] == series[0]["of"] and one["what"] == "p99"]
    found = [f"{dict(one['points']).get(50.0, math.nan):.0f}" for one in own]
    if len(found) != 2 or "nan" in found:
        return "How long it takes, by load"
    accepted, delivered = found
    return (
        f"At half load {own[0]['of']} has accepted 99 of 100 messages within {accepted} ms,\n"
        f"and delivered them within {delivered} ms"
    )


def _without_scale(axes: Axes) -> None:
    """The numbers stand at the bars."""
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _line(axes: Axes, points: Sequence[Sequence[float]], colour: str, label: str) -> None:
    axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=label)
    axes.grid(axis="y", color=GRID)


def _has_rates(scenario: Scenario | None) -> bool:
    return scenario is not None and bool(rate_rows(scenario))


def _has_pair(scenario: Scenario | None) -> bool:
    return scenario is not None and len(rate_rows(scenario)) >= 2 and bool(scenario["verdicts"])


def _has_series(name: str) -> Callable[[Scenarios], bool]:
    return lambda scenarios: any(one["points"] for one in scenarios.get(name, {}).get("series", ()))


def _count_workers(label: str) -> int:
    """From "Sluice, 2 workers"."""
    return int("".join(letter for letter in label if letter.isdigit()))


CHARTS_BY_NAME: Mapping[str, tuple[Callable[[Scenarios], None], Callable[[Scenarios], bool]]] = {
    "throughput": (_throughput, lambda had: any(_has_rates(had.get(name)) for name in BARS)),
    "conditions": (_conditions, lambda had: any(_has_pair(had.get(name)) for name in CONDITIONS)),
    "workers": (_workers, lambda had: _has_rates(had.get("workers"))),
    "memory": (_memory, _has_series("million")),
    "latency": (_latency, _has_series("latency")),
}
