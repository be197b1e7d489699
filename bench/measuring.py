"""One scenario after another: what is to be done and how long it will take, progress, and a report that grows."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.arena import Arena
from bench.estimate import format_minutes
from bench.load import has_smtp_source
from bench.machine import machine_facts, machine_limits, product_commit
from bench.processes import RunFailed
from bench.record import Conditions, Measured, Record
from bench.report import print_machine, print_result
from bench.results import Result
from bench.scenarios import PEERS, Scenario
from bench.signature import RSA

LIMITS_S = 15.0  # bench.machine


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured, and where it goes."""

    scenarios: Sequence[Scenario]
    arena: Arena
    record: Record
    under: Conditions
    again: bool  # measure what the record holds already, too

    def open(self) -> list[Scenario]:
        """Those that the record does not hold yet."""
        return [
            one
            for one in self.scenarios
            if self.again or not self.record.holds(one.name, self.arena.runs, self.under)
        ]

    def estimate_s(self, scenario: Scenario) -> float:
        """As long as it took the last time, or else a rough guess."""
        arena = self.arena
        known = self.record.took_s(scenario.name, arena.runs, quick=arena.quick)
        return scenario.estimate_s(arena) if known is None else known


def find_conditions(arena: Arena) -> Conditions:
    """The commit, the settings, and which peers are here."""
    here = [peer for peer in PEERS if arena.wants(peer.name) and not peer.missing()]
    peers = [peer.version() for peer in here]
    return Conditions(product_commit(), arena.workers, arena.quick, peers)


def print_plan(console: Console, plan: Plan) -> None:
    """Each scenario with its time, and what is done already."""
    todo = {one.name for one in plan.open()}
    table = Table("scenario", "what", "about", title="The plan", title_justify="left")
    for one in plan.scenarios:
        time_needed = format_minutes(plan.estimate_s(one)) if one.name in todo else "is done"
        table.add_row(one.name, one.title, time_needed)
    total = LIMITS_S + sum(plan.estimate_s(one) for one in plan.scenarios if one.name in todo)
    console.print(table)
    console.print(f"{plan.arena.runs} run(s) of each contestant, about {format_minutes(total)}")


def measure(console: Console, plan: Plan, directory: Path, results: list[Result]) -> None:
    """Measure what is open, the record written after each; `results` grows, so that a stop loses little."""
    todo = plan.open()
    done = [one.name for one in plan.scenarios if one not in todo]
    if done:
        console.print(f"measured already, at this commit: {', '.join(done)} (--again: anew)")
    if not todo and plan.scenarios:
        return
    say_who_is_there(console, plan.arena)
    _measure_limits(console, plan, directory)
    plan.record.write()
    print_machine(console, plan.record.machine)
    left_s = sum(plan.estimate_s(one) for one in todo)
    console.print(f"{len(todo)} scenario(s), about {format_minutes(left_s)}")
    for number, scenario in enumerate(todo, 1):
        expected_s = plan.estimate_s(scenario)
        console.rule(
            f"{number}/{len(todo)} {scenario.name}: about {format_minutes(expected_s)},"
            f" in all {format_minutes(left_s)} left",
            align="left",
        )
        result = _measure_one(scenario, plan)
        results.append(result)
        print_result(console, result)
        left_s -= expected_s


def say_who_is_there(console: Console, arena: Arena) -> None:
    """A line for each peer that is missing, and for what stands in for Postfix's tools."""
    for peer in PEERS:
        if arena.wants(peer.name) and (why := peer.missing()):
            console.print(f"without {peer.name}: {why}", markup=False)
    if not has_smtp_source():
        console.print("Postfix is not installed: bench.source and bench.uvsink make and take mail")


def _measure_limits(console: Console, plan: Plan, directory: Path) -> None:
    arena, before = plan.arena, plan.record.machine
    present = [peer for peer in PEERS if arena.wants(peer.name)]
    plan.record.machine = {
        **machine_facts(directory),
        "runs": arena.runs,
        "quick": arena.quick,
        "workers": arena.workers,
        # Who takes no part now may have in a scenario that stands there from before.
        "peers": {
            **before.get("peers", {}),
            **{
                peer.name: f"absent: {peer.missing()}" if peer.missing() else peer.version()
                for peer in present
            },
        },
        "settings": {
            **before.get("settings", {}),
            **{peer.name: peer.settings for peer in present},
        },
        "limits": [],
    }
    console.print(f"the machine's limits, about {LIMITS_S:.0f} s", highlight=False)
    try:
        limits = machine_limits(directory, arena.keys[RSA], quick=arena.quick)
    except RunFailed as failure:
        console.print(f"the machine's limits could not be measured: {failure}")
        return
    plan.record.machine["limits"] = [asdict(figure) for figure in limits]


def _measure_one(scenario: Scenario, plan: Plan) -> Result:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    load_before, started = round(os.getloadavg()[0], 2), time.monotonic()
    result = scenario.run(plan.arena)
    if plan.arena.quick:  # so small a load says nothing of a limit
        measured_ones = (one for one in result.verdicts if one.measured is not None)
        result.verdicts = [replace(one, passed=None) for one in measured_ones]
    took_s = round(time.monotonic() - started, 1)
    measured = Measured(at, plan.arena.runs, load_before, took_s, plan.under)
    plan.record.add(result, measured)
    return result
