"""`python -m bench`: run the scenarios, print the table, write it as JSON; `python -m bench charts`: draw it.

Exit status 0: no limit missed and no run failed; 1: otherwise; 130: interrupted (what was measured
is still reported).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.arena import Arena
from bench.charts import draw
from bench.machine import machine_facts, machine_limits
from bench.processes import RunFailed
from bench.report import print_machine, print_result, print_verdicts, write_json
from bench.results import Result, all_passed
from bench.scenarios import PEERS, SCENARIOS
from bench.signature import RSA, make_keys

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PLAIN_WIDTH = 130  # columns when the output is no terminal


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = [scenario.name for scenario in SCENARIOS]
    peers = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=[*names, "machine"], help="may be repeated"
    )
    parser.add_argument("--peer", action="append", choices=peers, help="may be repeated")
    parser.add_argument("--runs", type=int, default=3, help="of each contestant, interleaved")
    parser.add_argument("--workers", type=int, default=1, help="of Sluice (default: 1)")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: is it alive?")
    parser.add_argument("--keep", action="store_true", help="leave the directories of all runs")
    parser.add_argument(
        "--dir", type=Path, default=ROOT / "build", help="on the disk to be measured"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for and report it."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["charts"]:
        return draw(words[1:])
    options = parse_arguments(words)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
    absent = [program for program in ("smtp-source", "smtp-sink") if shutil.which(program) is None]
    if absent:
        console.print(f"{', '.join(absent)} not found: install Debian's postfix package")
        return 1
    options.dir.mkdir(parents=True, exist_ok=True)
    directory = options.dir.resolve() / f"bench-{os.getpid()}"
    directory.mkdir(mode=0o755)
    results: list[Result] = []
    machine: dict[str, Any] = {}
    try:
        _measure(options, directory, console, results, machine)
    except KeyboardInterrupt:
        console.print("interrupted; what was measured until now:")
        _finish(console, results, machine)
        return INTERRUPTED
    finally:
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
    _finish(console, results, machine)
    return 0 if all_passed(results) else 1


def _measure(
    options: argparse.Namespace,
    directory: Path,
    console: Console,
    results: list[Result],
    machine: dict[str, Any],
) -> None:
    """Fill `results` and `machine` step by step: an interrupted bench still reports them."""
    keys = make_keys(directory)
    arena = Arena(
        directory,
        keys,
        runs=options.runs,
        quick=options.quick,
        peers=frozenset(options.peer or ()),
        workers=options.workers,
        keep=options.keep,
        say=lambda text: console.print(text, markup=False),
    )
    machine.update(
        machine_facts(directory), runs=options.runs, quick=options.quick, workers=options.workers
    )
    present = [peer for peer in PEERS if arena.wants(peer.name)]
    machine["peers"] = {
        peer.name: f"absent: {peer.missing()}" if peer.missing() else peer.version()
        for peer in present
    }
    machine["settings"] = {peer.name: peer.settings for peer in present}
    machine["limits"] = []
    try:
        machine["limits"] = [
            asdict(f) for f in machine_limits(directory, keys[RSA], quick=options.quick)
        ]
    except RunFailed as failure:
        console.print(f"the machine's limits could not be measured: {failure}")
    print_machine(console, machine)
    for scenario in SCENARIOS:
        if options.only is None or scenario.name in options.only:
            result = scenario.run(arena)
            if options.quick:  # a tenth of the load says nothing of a limit
                result.verdicts = [replace(one, passed=None) for one in result.verdicts]
            results.append(result)
            print_result(console, result)


def _finish(console: Console, results: Sequence[Result], machine: dict[str, Any]) -> None:
    if not machine:
        return
    print_verdicts(console, results)
    path = RESULTS / time.strftime("%Y%m%dT%H%M%SZ.json", time.gmtime())
    write_json(path, results, machine)
    console.print(f"written: {path}")


def _interrupt(number: int, frame: object) -> None:
    # Once: a second signal in the middle of the cleaning up would leave processes behind.
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
