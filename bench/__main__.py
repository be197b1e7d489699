"""`python -m bench`: run the scenarios, print the tables, keep the report; `charts` and `pages` draw and write it down.

Exit status 0: no limit missed and no run failed; 1: otherwise; 130: interrupted (what was measured
is in the report, and `--to` the same file goes on from there).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.arena import Arena
from bench.charts import draw
from bench.load import ROOT
from bench.measuring import Plan, find_conditions, measure, print_plan
from bench.pages import write_pages
from bench.record import Record
from bench.report import print_rates, print_verdicts
from bench.results import Result, all_passed
from bench.scenarios import NAMES, PEERS, QUICK, QUICK_PEERS, SCENARIOS
from bench.signature import make_keys

RESULTS = ROOT / "bench" / "results"
INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PLAIN_WIDTH = 130  # columns when the output is no terminal
MACHINE = "machine"  # for `--only`: nothing but the machine's limits


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    peers = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", action="extend", choices=[*NAMES, MACHINE], help="these scenarios")
    add("--peer", nargs="+", action="extend", choices=peers, help="these contestants")
    add("--runs", type=int, default=3, help="of each contestant, interleaved (default: 3)")
    add("--workers", type=int, default=1, help="of Sluice (default: 1)")
    add("--quick", action="store_true", help="a few scenarios, small counts: is it alive?")
    add("--plan", action="store_true", help="say what is to be done and how long it takes")
    add("--to", type=Path, help="the report; what it holds already is not measured again")
    add("--again", action="store_true", help="measure that too")
    add("--keep", action="store_true", help="leave the directories of all runs")
    add("--dir", type=Path, default=ROOT / "build", help="on the disk to be measured")
    options = parser.parse_args(arguments)
    if options.quick:
        options.only = options.only or list(QUICK)
        options.peer = options.peer or list(QUICK_PEERS)
    options.to = options.to or RESULTS / time.strftime("%Y%m%dT%H%M%SZ.json", time.gmtime())
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for and report it."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    commands = {"charts": draw, "pages": write_pages}
    if words and words[0] in commands:
        return commands[words[0]](words[1:])
    options = parse_arguments(words)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
    options.dir.mkdir(parents=True, exist_ok=True)
    directory = options.dir.resolve() / f"bench-{os.getpid()}"
    directory.mkdir(mode=0o755)
    results: list[Result] = []
    plan = _make_plan(options, directory, console)
    started = time.monotonic()
    try:
        if options.plan:
            print_plan(console, plan)
            return 0
        measure(console, plan, directory, results)
    except KeyboardInterrupt:
        console.print("interrupted; what was measured until now:")
        _finish(console, results, plan.record, started)
        return INTERRUPTED
    finally:
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
    _finish(console, results, plan.record, started)
    return 0 if all_passed(results) else 1


def _make_plan(options: argparse.Namespace, directory: Path, console: Console) -> Plan:
    arena = Arena(
        directory,
        make_keys(directory),
        runs=options.runs,
        quick=options.quick,
        peers=frozenset(options.peer or ()),
        workers=options.workers,
        keep=options.keep,
        say=lambda text: console.print(text, markup=False),
    )
    wanted = [one for one in SCENARIOS if options.only is None or one.name in options.only]
    record = Record(options.to, NAMES)
    return Plan(wanted, arena, record, find_conditions(arena), options.again)


def _finish(console: Console, results: Sequence[Result], record: Record, started: float) -> None:
    if not record.path.exists():
        return
    console.rule("what came of it", align="left")
    print_rates(console, results)
    print_verdicts(console, results)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    console.print(f"took {minutes} min {seconds:02} s; written: {record.path}")


def _interrupt(number: int, frame: object) -> None:
    # Once: a second signal in the middle of the cleaning up would leave processes behind.
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
