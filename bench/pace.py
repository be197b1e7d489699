"""Latency at half of the maximum load: each contestant is measured at full speed, then paced at half of it.

The source keeps its pace whatever the contestant does and stamps each message with the time it fell
due; our own sink notes when its dot arrives. So a message that had to wait for a connection has waited.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.arena import Arena
from bench.contest import Contestant
from bench.load import Load
from bench.results import Figure, Result, Run, Series, Verdict, at_most, worst_loop_lag_ms
from bench.sink import Manner
from bench.throughput import LOOP_LAG_MS, describe, run_once, select_present

ACCEPT_MS, DELIVERED_MS = 50.0, 200.0
OURS = "Sluice"
SHARE = 0.5
FULL = Load(10_000, 4096, own_source=True)


@dataclass(frozen=True, slots=True)
class HalfLoad:
    """Two kinds of runs a contestant: `full` only says how fast `half` must be."""

    contestants: Sequence[Contestant]
    name: str = "latency"
    title: str = "4 KB at half of the maximum load: accepted, and delivered, after"
    full: Load = FULL
    quick_count: int = 1_500
    for_s: float = 20.0
    quick_for_s: float = 4.0

    def run(self, arena: Arena) -> Result:
        """Full, then half, for each contestant in turn, `arena.runs` times."""
        result = Result(self.name, self.title)
        for contestant in select_present(self.contestants, result, arena):
            own = replace(contestant, manner=Manner())
            full = replace(self.full, count=self.quick_count) if arena.quick else self.full
            for number in range(arena.runs):
                fastest = run_once(own, full, arena)
                if not fastest.ok:
                    result.runs.append(replace(fastest, contestant=f"{own.label}, full load"))
                    continue
                run = run_once(own, self._at_half(fastest.rate, arena), arena)
                result.runs.append(run)
                arena.say(
                    f"{self.name} {number + 1}/{arena.runs} {own.label}: full {describe(fastest)}; "
                    f"half {describe(run)}"
                )
            self._report(own.label, result)
        return result

    def _at_half(self, rate: float, arena: Arena) -> Load:
        per_second = rate * SHARE
        seconds = self.quick_for_s if arena.quick else self.for_s
        return replace(self.full, count=int(per_second * seconds), per_second=per_second)

    def _report(self, label: str, result: Result) -> None:
        runs = [run for run in result.good_runs(label) if run.transit_ms]
        if not runs:
            return
        result.series += [_curve(label, runs)]
        accepted = statistics.median(run.accept_p99_ms or 0.0 for run in runs)
        delivered = statistics.median(run.transit_ms["99"] for run in runs)
        asked: list[Verdict] = [
            at_most(f"{label}: accepted, p99", accepted, ACCEPT_MS, "ms"),
            at_most(f"{label}: delivered, p99", delivered, DELIVERED_MS, "ms"),
        ]
        if label == OURS:
            result.verdicts += asked
            lag = worst_loop_lag_ms(result)
            result.verdicts.append(at_most("loop lag, p99", lag, LOOP_LAG_MS, "ms"))
        else:
            result.figures += [Figure(one.what, one.measured or 0.0, one.unit) for one in asked]


def _curve(label: str, runs: Sequence[Run]) -> Series:
    """The median over the runs of each percentile."""
    points = [
        (float(rank), statistics.median(run.transit_ms[rank] for run in runs))
        for rank in runs[0].transit_ms
    ]
    return Series(label, "percentile", "ms from due to delivered", points)
