"""Charts of a report: `python -m bench charts RESULT.json` writes SVG and PNG to bench/charts.

The same report gives the same bytes (no dates, fixed ids). The ground is opaque and pale, the ink dark, so a
chart can be read on a light page and on a dark one; each is drawn only where the report has its scenarios.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

CHARTS = Path(__file__).resolve().parent / "charts"
GROUND, INK, GRID = "#f7f7f4", "#22252a", "#d5d6d2"
OURS, THEIRS = "#1f6f5c", "#9aa3ad"
LINES = ("#1f6f5c", "#b4552d", "#4c6fa5", "#8a5a9e", "#7d7d3c")
STYLE: Any = {
    "svg.hashsalt": "sluice",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 10.0,
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

Scenarios = Mapping[str, Mapping[str, Any]]


def draw(arguments: Sequence[str]) -> int:
    """Draw every chart that the report has the data for; 1 when it has none."""
    parser = argparse.ArgumentParser(prog="python -m bench charts", description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--to", type=Path, default=CHARTS)
    options = parser.parse_args(arguments)
    report = json.loads(options.report.read_text())
    scenarios = {scenario["name"]: scenario for scenario in report["scenarios"]}
    options.to.mkdir(parents=True, exist_ok=True)
    drawn = [
        _write(options.to, name, paint, scenarios)
        for name, (paint, wants) in CHARTS_BY_NAME.items()
        if wants(scenarios)
    ]
    for path in drawn:
        print(f"written: {path}.svg, .png")
    return 0 if drawn else 1


def speed_ratios(scenario: Mapping[str, Any], ours: str = "Sluice") -> dict[str, float]:
    """How many times as fast as each other contestant Sluice was, by medians."""
    rates = scenario["median_rates"]
    own = rates.get(ours)
    return {name: own / rate for name, rate in rates.items() if own and rate and name != ours}


def _write(
    directory: Path, name: str, paint: Callable[[Scenarios], None], scenarios: Scenarios
) -> Path:
    with mpl.rc_context(STYLE):
        paint(scenarios)
        path = directory / name
        plt.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
        plt.savefig(path.with_suffix(".png"), dpi=160, metadata={"Software": None})
        plt.close("all")
    return path


def _throughput(scenarios: Scenarios) -> None:
    shown = [scenarios[name] for name in BARS if _has_rates(scenarios.get(name))]
    bars = [len(scenario["median_rates"]) for scenario in shown]
    figure, panels = plt.subplots(
        len(shown),
        1,
        figsize=(8.0, 0.9 * len(shown) + 0.42 * sum(bars)),
        gridspec_kw={"height_ratios": bars},
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle("Messages a second, door to door (medians)")
    for axes, scenario in zip(panels[:, 0], shown, strict=True):
        _bars(axes, scenario)


def _bars(axes: Axes, scenario: Mapping[str, Any]) -> None:
    rates = {name: rate for name, rate in scenario["median_rates"].items() if rate}
    ratios = speed_ratios(scenario)
    names = list(reversed(rates))
    colours = [OURS if name.startswith("Sluice") else THEIRS for name in names]
    drawn = axes.barh(names, [rates[name] for name in names], color=colours, height=0.7)
    words = [
        f"{rates[name]:,.0f}" + (f"   Sluice {ratios[name]:.1f} ×" if name in ratios else "")
        for name in names
    ]
    axes.bar_label(drawn, words, padding=4)
    axes.set_xlim(0, max(rates.values()) * 1.25)
    axes.set_title(scenario["title"], loc="left", fontsize=10)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _workers(scenarios: Scenarios) -> None:
    scenario = scenarios["workers"]
    rates = sorted(
        (_count_workers(name), rate) for name, rate in scenario["median_rates"].items() if rate
    )
    costs = sorted(
        (
            _count_workers(name),
            statistics.median(
                run["cpu_ms"]
                for run in scenario["runs"]
                if run["ok"] and run["contestant"] == name and run["cpu_ms"]
            ),
        )
        for name, rate in scenario["median_rates"].items()
        if rate
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.2), layout="constrained")
    figure.suptitle("Sluice over workers")
    for axes, points, label in (
        (left, rates, "messages a second"),
        (right, costs, "CPU ms a message"),
    ):
        axes.plot(*zip(*points, strict=True), marker="o", color=OURS)
        axes.set(xlabel="workers", ylabel=label, ylim=(0, None))
        axes.set_xticks([number for number, _ in points])
        axes.grid(axis="y", color=GRID)


def _memory(scenarios: Scenarios) -> None:
    curve = scenarios["million"]["series"][0]
    figure, axes = plt.subplots(figsize=(8.0, 3.4), layout="constrained")
    figure.suptitle("Memory over queue length")
    _line(axes, curve["points"], OURS, "measured")
    limits = [
        verdict["limit"]
        for verdict in scenarios["million"]["verdicts"]
        if verdict["what"].startswith("memory")
    ]
    if limits:
        axes.axhline(limits[0], color=LINES[1], linestyle="--", label="limit")
    axes.set(xlabel=curve["x"], ylabel=curve["y"], ylim=(0, None))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(frameon=False)


def _latency(scenarios: Scenarios) -> None:
    figure, axes = plt.subplots(figsize=(8.0, 3.6), layout="constrained")
    figure.suptitle("From due to delivered, at half of each one's maximum load")
    for curve, colour in zip(scenarios["latency"]["series"], LINES, strict=False):
        _line(axes, [(rank, ms) for rank, ms in curve["points"]], colour, curve["what"])
    axes.set(xlabel="percentile", ylabel="milliseconds", yscale="log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False)


def _line(axes: Axes, points: Sequence[Sequence[float]], colour: str, label: str) -> None:
    axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=label)
    axes.grid(axis="y", color=GRID)


def _has_rates(scenario: Mapping[str, Any] | None) -> bool:
    return scenario is not None and any(scenario["median_rates"].values())


def _has_series(name: str) -> Callable[[Scenarios], bool]:
    return lambda scenarios: bool(scenarios.get(name, {}).get("series"))


def _count_workers(label: str) -> int:
    """From "Sluice, 2 workers"."""
    return int("".join(letter for letter in label if letter.isdigit()))


CHARTS_BY_NAME: Mapping[str, tuple[Callable[[Scenarios], None], Callable[[Scenarios], bool]]] = {
    "throughput": (_throughput, lambda had: any(_has_rates(had.get(name)) for name in BARS)),
    "workers": (_workers, lambda had: _has_rates(had.get("workers"))),
    "memory": (_memory, _has_series("million")),
    "latency": (_latency, _has_series("latency")),
}
