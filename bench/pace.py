"""Latency under a steady load: each contestant is measured at full speed, then paced at shares of it.

The source keeps its pace whatever the contestant does and stamps each message with the time it fell
due; our own sink notes when its dot arrives. So a message that had to wait for a connection has waited.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.arena import Arena
from bench.contest import Contestant
from bench.estimate import START_S, seconds_of_runs
from bench.load import Load
from bench.results import Figure, Result, Run, Series, Verdict, at_most, worst_loop_lag_ms
from bench.sink import Manner
from bench.throughput import LOOP_LAG_MS, describe, run_once, select_present

ACCEPT_MS, DELIVERED_MS = 50.0, 200.0
OURS = "Sluice"
SHARES = (0.10, 0.25, 0.50, 0.75)
JUDGED = 0.50  # the share that has limits
DRAWN = ("50", "95", "99")  # percentiles of the curves; all are in the runs
FULL = Load(10_000, 4096, own_source=True)
ACCEPTED, DELIVERED = "from the final dot to its 250", "from due to delivered"
# What a run says of each message, by percentile.
TIMES: Mapping[str, Callable[[Run], Mapping[str, float]]] = {
    ACCEPTED: lambda run: run.accept_ms,
    DELIVERED: lambda run: run.transit_ms,
}


@dataclass(frozen=True, slots=True)
class Paced:
    """In each round a contestant runs at full speed, which only says how fast the paced runs after it must be."""

    contestants: Sequence[Contestant]
    name: str = "latency"
    title: str = "4 KB at 10, 25, 50 and 75 % of the maximum load: accepted, and delivered, after"
    full: Load = FULL
    quick_count: int = 1_500
    for_s: float = 20.0
    quick_for_s: float = 4.0
    measure: Callable[[Contestant, Load, Arena], Run] = run_once

    def run(self, arena: Arena) -> Result:
        """Full, then paced, for each contestant in turn, `arena.runs` times."""
        result = Result(self.name, self.title)
        for contestant in select_present(self.contestants, result, arena):
            own = replace(contestant, manner=Manner())
            for number in range(arena.runs):
                self._one_round(own, f"{number + 1}/{arena.runs}", result, arena)
            _report(own.label, result)
        return result

    def estimate_s(self, arena: Arena) -> float:
        """Roughly, all rounds of all contestants."""
        full_s = seconds_of_runs(self.contestants, self._full(arena), arena)
        present = [one for one in self.contestants if arena.wants(one.peer.name)]
        paced_s = len(SHARES) * (START_S + self._seconds(arena))
        return full_s + paced_s * arena.runs * len(present)

    def _one_round(self, own: Contestant, turn: str, result: Result, arena: Arena) -> None:
        fastest = self.measure(own, self._full(arena), arena)
        if not fastest.ok:
            result.runs.append(replace(fastest, contestant=f"{own.label}, full load"))
            return
        arena.say(f"{self.name} {turn} {own.label}, full load: {describe(fastest)}")
        for share in SHARES:
            per_second = fastest.rate * share
            count = max(1, int(per_second * self._seconds(arena)))
            load = replace(self.full, count=count, per_second=per_second)
            run = self.measure(replace(own, label=label_at(own.label, share)), load, arena)
            result.runs.append(run)
            arena.say(f"{self.name} {turn} {run.contestant}: {describe(run)}")

    def _full(self, arena: Arena) -> Load:
        return replace(self.full, count=self.quick_count) if arena.quick else self.full

    def _seconds(self, arena: Arena) -> float:
        return self.quick_for_s if arena.quick else self.for_s


def label_at(label: str, share: float) -> str:
    """The label of a contestant's runs at a share of its maximum."""
    return f"{label} at {share * 100:.0f} %"


def _report(label: str, result: Result) -> None:
    for what, of_run in TIMES.items():
        result.series += [_curve(label, what, rank, of_run, result) for rank in DRAWN]
    judged = label_at(label, JUDGED)
    if not result.good_runs(judged):
        return
    asked: list[Verdict] = [
        at_most(
            f"{judged}: {what}, p99", _median_ms(result, judged, "99", TIMES[what]), limit, "ms"
        )
        for what, limit in ((ACCEPTED, ACCEPT_MS), (DELIVERED, DELIVERED_MS))
    ]
    if label == OURS:
        lag = worst_loop_lag_ms(result)
        result.verdicts += [*asked, at_most("loop lag, p99", lag, LOOP_LAG_MS, "ms")]
    else:
        result.figures += [Figure(one.what, one.measured or 0.0, one.unit) for one in asked]


def _curve(
    label: str, what: str, rank: str, of_run: Callable[[Run], Mapping[str, float]], result: Result
) -> Series:
    """One percentile over the shares of the load, each the median of its runs."""
    points = [
        (share * 100, ms)
        for share in SHARES
        if (ms := _median_ms(result, label_at(label, share), rank, of_run)) is not None
    ]
    return Series(f"p{rank}", "% of its maximum load", f"ms {what}", points, of=label)


def _median_ms(
    result: Result, contestant: str, rank: str, of_run: Callable[[Run], Mapping[str, float]]
) -> float | None:
    known = [of_run(run)[rank] for run in result.good_runs(contestant) if of_run(run)]
    return statistics.median(known) if known else None
