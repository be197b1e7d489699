"""What the pages say of a report: `python -m bench pages [REPORT]` draws the charts and writes the numbers into bench/README.md.

A page marks the place of each block, and everything between the two marks is rendered; the words around them are
written by hand and hold no measured number.

    <!-- measured: rates -->
    …
    <!-- end of rates -->
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.charts import CHARTS, REFERENCE, draw_report, drawable
from bench.load import ROOT
from bench.report import format_figure, format_verdict
from bench.results import Figure, Verdict
from bench.rows import format_cost, format_ratio, rate_rows
from bench.scenarios import SCENARIOS

PAGE = ROOT / "bench" / "README.md"
BLOCK = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
MARKS = {True: "met", False: "**missed**", None: "not judged"}
FACTS = {  # of the machine, with their words
    "processor": "processor",
    "cores": "cores, for contestant, load generator and sink together",
    "memory_gb": "memory, GB",
    "kernel": "kernel",
    "file_system": "file system",
    "python": "Python",
    "packages": "packages",
    "peers": "contestants",
    "workers": "workers of Sluice",
}

Report = Mapping[str, Any]


def write_pages(arguments: Sequence[str]) -> int:
    """Draw the charts and render the page anew."""
    parser = argparse.ArgumentParser(prog="python -m bench pages", description=__doc__)
    parser.add_argument("report", type=Path, nargs="?", default=REFERENCE)
    options = parser.parse_args(arguments)
    report = json.loads(options.report.read_text())
    for name in draw_report(report, CHARTS):
        print(f"written: {CHARTS / name}.svg, .png")
    PAGE.write_text(render(PAGE.read_text(), report))
    print(f"written: {PAGE}")
    return 0


def render(page: str, report: Report) -> str:
    """The page with every block rendered from the report."""
    return BLOCK.sub(
        lambda found: f"{found[1]}\n{BLOCKS[found[2]](report).strip()}\n\n{found[3]}", page
    )


def _render_machine(report: Report) -> str:
    machine = report["machine"]
    rows = [[words, _plain(machine[name])] for name, words in FACTS.items() if name in machine]
    limits = [
        [f"limit: {figure['what']}", format_figure(Figure(**figure))]
        for figure in machine["limits"]
    ]
    return _table(["the machine", ""], [*rows, *limits])


def _render_verdicts(report: Report) -> str:
    rows = []
    for scenario in report["scenarios"]:
        if scenario["failure"]:
            rows.append([f"`{scenario['name']}`", scenario["failure"], "", "", "**failed**"])
        for plain in scenario["verdicts"]:
            verdict = Verdict(**plain)
            what, asked, measured, _ = format_verdict(verdict)
            rows.append([f"`{scenario['name']}`", what, asked, measured, MARKS[verdict.passed]])
    return _table(["scenario", "what", "asked", "measured", ""], rows)


def _render_rates(report: Report) -> str:
    rows = [
        [
            scenario["title"] if number == 0 else "",
            row.contestant,
            f"{row.rate:,.0f}",
            format_ratio(row),
            format_cost(row),
            str(row.runs),
        ]
        for scenario in report["scenarios"]
        for number, row in enumerate(rate_rows(scenario))
    ]
    head = ["", "contestant", "messages/s", "the first one is", "CPU a message", "runs"]
    return _table(head, rows)


def _render_figures(report: Report) -> str:
    rows = [
        [f"`{scenario['name']}`", plain["what"], format_figure(Figure(**plain))]
        for scenario in report["scenarios"]
        for plain in scenario["figures"]
    ]
    notes = [
        f"- `{scenario['name']}`: {note}"
        for scenario in report["scenarios"]
        for note in scenario["notes"]
    ]
    return "\n\n".join([_table(["scenario", "what", "measured"], rows), "\n".join(notes)])


def _render_origin(report: Report) -> str:
    """When and where from each scenario is, and which are missing."""
    machine = report["machine"]
    rows = []
    for scenario in report["scenarios"]:
        measured = scenario.get("measured") or {
            "at": machine["at"],
            "runs": machine["runs"],
            "load_before": machine["load_before"],
            "under": machine,
        }
        under = measured["under"]
        absent = "; ".join(scenario["absent"]) or "none"
        cells = [measured["at"], under["commit"], measured["runs"], measured["load_before"]]
        rows.append([f"`{scenario['name']}`", *map(str, cells), absent])
    head = ["scenario", "measured at", "commit", "runs", "load average before", "absent"]
    known = {scenario["name"] for scenario in report["scenarios"]}
    missing = [f"`{one.name}`" for one in SCENARIOS if one.name not in known]
    words = f"Not measured yet: {', '.join(missing)}." if missing else "No scenario is missing."
    return f"{_table(head, rows)}\n\n{words}"


def _render_charts(report: Report) -> str:
    return "\n\n".join(f"![{name}](charts/{name}.svg)" for name in drawable(report))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(_named(name, text) for name, text in value.items())
    return str(value)


def _named(name: str, text: str) -> str:
    """A version often begins with the name of what it is of."""
    return text if text.lower().startswith(name.partition("+")[0]) else f"{name} {text}"


BLOCKS: Mapping[str, Callable[[Report], str]] = {
    "charts": _render_charts,
    "rates": _render_rates,
    "verdicts": _render_verdicts,
    "figures": _render_figures,
    "origin": _render_origin,
    "machine": _render_machine,
}
