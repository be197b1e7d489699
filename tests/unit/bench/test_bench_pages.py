"""Charts and pages of a report: the same every time, only what was measured, and the page in the repository up to date."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.charts import REFERENCE, draw, draw_report, drawable
from bench.pages import BLOCK, BLOCKS, PAGE, render
from bench.results import Figure, Result, Run, Series, at_least, at_most, to_json
from bench.rows import rate_rows
from bench.scenarios import NAMES


def a_run(contestant: str, seconds: float, **changes: Any) -> Run:
    return Run(contestant, 1000, 1000, seconds, seconds / 2, 0.5, **changes)


def a_report() -> dict[str, Any]:
    """Two contestants; a condition; workers; a pace; a queue that grows."""
    plain = Result("plain", "4 KB", runs=[a_run("Sluice", 1.0), a_run("Postfix", 4.0)])
    plain.figures.append(Figure("a limit", 2000.0, "/s"))
    plain.verdicts.append(at_least("Sluice against Postfix", 4.0, 8.0, "×"))
    three = Result("three", "3 connections", runs=[a_run("few", 2.0), a_run("many", 1.0)])
    three.verdicts.append(at_least("few against many", 0.5, 0.75, "×"))
    two, one = a_run("Sluice, 2 workers", 1.0, busy=0.9), a_run("Sluice, 1 worker", 1.5, busy=0.5)
    workers = Result("workers", "2 against 1", runs=[two, one])
    series = [
        Series("p99", "%", f"ms {what}", [(10, ms), (50, ms * 2)], of="Sluice")
        for what, ms in (("accepted", 2.0), ("delivered", 3.0))
    ]
    paced = a_run("Sluice at 50 %", 1.0, transit_ms={"99": 6.0})
    latency = Result("latency", "paced", runs=[paced], series=series)
    points = [(0.0, 60.0), (1_000_000.0, 90.0)]
    million = Result("million", "full", series=[Series("memory", "n", "MB", points)])
    million.verdicts.append(at_most("memory above empty", 30.0, 60.0, "MB PSS"))
    machine = {
        "at": "2026-01-01T00:00:00Z",
        "commit": "abc1234",
        "runs": 1,
        "load_before": 0.1,
        "limits": [{"what": "syncs", "value": 900.0, "unit": "/s"}],
    }
    scenarios = [to_json(each) for each in (plain, three, workers, latency, million)]
    return {"machine": machine, "scenarios": scenarios}


def test_every_chart_is_drawn_that_the_report_has_the_data_for(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(a_report()))
    assert draw([str(tmp_path / "report.json"), "--to", str(tmp_path / "to")]) == 0
    drawn = sorted(path.name for path in (tmp_path / "to").iterdir())
    charts = ["conditions", "latency", "memory", "throughput", "workers"]
    assert drawn == [f"{name}.{kind}" for name in charts for kind in ("png", "svg")]


def test_the_same_report_gives_the_same_charts(tmp_path: Path) -> None:
    report = {"machine": {}, "scenarios": a_report()["scenarios"][:1]}
    for place in ("a", "b"):
        assert draw_report(report, tmp_path / place) == ["throughput"]
    for name in ("throughput.png", "throughput.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_chart_without_its_scenario_is_not_drawn(tmp_path: Path) -> None:
    report = {"machine": {}, "scenarios": a_report()["scenarios"][:1]}
    assert drawable(report) == ["throughput"]
    (tmp_path / "none.json").write_text('{"machine": {}, "scenarios": []}')
    assert draw([str(tmp_path / "none.json"), "--to", str(tmp_path)]) == 1


def test_rates_stand_beside_how_many_times_as_fast_the_first_one_was() -> None:
    ours, theirs = rate_rows(a_report()["scenarios"][0])
    assert (ours.contestant, ours.ratio) == ("Sluice", None)
    assert (theirs.rate, theirs.ratio) == (250.0, 4.0)


def test_a_load_that_has_a_pace_has_no_rate_to_compare() -> None:
    assert rate_rows(a_report()["scenarios"][3]) == []


@pytest.mark.parametrize(
    ("block", "line"),
    [
        ("verdicts", "| `plain` | Sluice against Postfix | ≥ 8 × | 4 × | **missed** |"),
        ("rates", "|  | Postfix | 250 | 4.00 × | 0.50 ms | 1 |"),
        ("figures", "| `plain` | a limit | 2,000 /s |"),
        ("origin", "| `plain` | 2026-01-01T00:00:00Z | abc1234 | 1 | 0.1 | none |"),
        ("machine", "| limit: syncs | 900 /s |"),
        ("charts", "![memory](charts/memory.svg)"),
    ],
)
def test_a_block_holds_the_numbers_of_the_report(block: str, line: str) -> None:
    page = f"before\n<!-- measured: {block} -->\nold\n<!-- end of {block} -->\nafter\n"
    rendered = render(page, a_report())
    assert line in rendered.splitlines()
    assert "old" not in rendered
    assert render(rendered, a_report()) == rendered


def test_what_was_not_measured_is_said() -> None:
    rendered = BLOCKS["origin"](a_report())
    missing = set(NAMES) - {"plain", "three", "workers", "latency", "million"}
    assert all(f"`{name}`" in rendered.splitlines()[-1] for name in missing)


def test_the_page_says_what_the_reference_holds() -> None:
    page = PAGE.read_text("utf-8")
    assert {found[1] for found in BLOCK.findall(page)} == set(BLOCKS)
    assert render(page, json.loads(REFERENCE.read_text("utf-8"))) == page


def test_the_page_explains_every_scenario() -> None:
    page = PAGE.read_text("utf-8")
    assert [name for name in NAMES if f"\n| `{name}` | " not in BLOCK.sub("", page)] == []
