"""1,000,000 messages waiting for a dead destination: memory, the rate of the others' mail, and a restart.

The queue is filled in steps, and memory is read at rest after each: the curve of the charts. The rate elsewhere is
compared with that of an empty daemon under the same load.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.arena import Arena
from bench.backlog import BODY_BYTES, EMPTY_S, MB, REST_S, SLOWEST_INTAKE, may_run, refusing_port
from bench.backlog import time_restart as restart
from bench.contest import Contestant
from bench.estimate import (
    LOOK_S,
    RESTART_S,
    seconds_of_runs,
    seconds_to_queue,
)
from bench.load import Load, pour
from bench.peers import DEAD_DOMAIN, Setup
from bench.peers.sluice import QUEUED, RunningSluice, Sluice, find_sum
from bench.processes import RunFailed, pss_bytes
from bench.results import Figure, Result, Series, at_least, at_most
from bench.sink import Sink
from bench.throughput import AFTER_S, LOOP_LAG_MS, run_once

MEMORY_MB, FIRST_S, ELSEWHERE = 60.0, 5.0, 0.90
LEVELS = (0.01, 0.1, 0.3, 1.0)  # of the whole count: 10,000, 100,000, 300,000, 1,000,000
ELSEWHERE_LOAD = Load(20_000, 4096)


@dataclass(frozen=True, slots=True)
class Million:
    """Filled once; the rates elsewhere are medians."""

    name: str = "million"
    title: str = "1,000,000 recipients queued for a dead destination"
    count: int = 1_000_000
    quick_count: int = 10_000
    elsewhere: Load = ELSEWHERE_LOAD
    quick_elsewhere: int = 2_000

    def run(self, arena: Arena) -> Result:
        """The empty daemon's rate, fill, look, the full daemon's rate, restart."""
        result = Result(self.name, self.title)
        if not may_run(result, arena):
            return result
        count = self.quick_count if arena.quick else self.count
        elsewhere = (
            replace(self.elsewhere, count=self.quick_elsewhere) if arena.quick else self.elsewhere
        )
        if arena.quick:
            result.notes.append(f"quick: {count:,} recipients only")
        try:
            empty_rate = self._empty_rate(elsewhere, arena)
            self._fill_and_look(count, elsewhere, empty_rate, result, arena)
        except (RunFailed, OSError, ValueError) as failure:  # it does not answer
            result.failure = str(failure)
        return result

    def estimate_s(self, arena: Arena) -> float:
        """Roughly: the rate of the empty and of the full daemon, fill, look, restart."""
        own = [Contestant("Sluice", Sluice())]
        rates_s = 2 * seconds_of_runs(own, self.elsewhere, arena)
        count = self.quick_count if arena.quick else self.count
        return rates_s + seconds_to_queue(count) + LOOK_S * len(LEVELS) + RESTART_S

    def _empty_rate(self, elsewhere: Load, arena: Arena) -> float:
        runs = [
            run_once(Contestant("Sluice, empty", Sluice()), elsewhere, arena)
            for _ in range(arena.runs)
        ]
        for run in runs:
            if not run.ok:
                raise RunFailed(f"the empty daemon's rate: {run.problem}")
        return statistics.median(run.rate for run in runs)

    def _fill_and_look(
        self, count: int, elsewhere: Load, empty_rate: float, result: Result, arena: Arena
    ) -> None:
        with arena.place() as place, ExitStack() as stack:
            sink = stack.enter_context(Sink(place))
            dead = stack.enter_context(refusing_port())
            setup = Setup(place, sink.port, dead_port=dead, workers=arena.workers)
            with Sluice().start(setup) as running:
                _fill(running, count, result, place, arena)
                rates = [_rate(running, sink, elsewhere, place) for _ in range(arena.runs)]
                lag = running.loop_lag_p99_ms()
            rate = statistics.median(rates)
            result.figures += [
                Figure("elsewhere, queue empty", empty_rate, "msg/s"),
                Figure("elsewhere, queue full", rate, "msg/s"),
            ]
            share = rate / empty_rate * 100
            result.verdicts += [
                at_least("rate of other destinations", share, ELSEWHERE * 100, "%"),
                at_most("loop lag, p99", lag, LOOP_LAG_MS, "ms"),
            ]
            words = "restart to first delivery elsewhere"
            restart(words, setup, sink, result, limit_s=FIRST_S)


def _fill(running: RunningSluice, count: int, result: Result, place: Path, arena: Arena) -> None:
    """Pour it in by steps; after each, and a rest, note the memory of all its processes."""
    time.sleep(EMPTY_S)
    points = [(0.0, pss_bytes(running.children) / MB)]
    queued, seconds = 0, 0.0
    for level in LEVELS:
        more = round(count * level) - queued
        step = Load(more, BODY_BYTES, recipient="user{n}@" + DEAD_DOMAIN, own_source=True)
        seconds += pour(step, running.port, place, 60.0 + more / SLOWEST_INTAKE).seconds
        queued += more
        time.sleep(REST_S)
        running.children[0].require_alive()
        points.append((float(queued), pss_bytes(running.children) / MB))
        arena.say(f"{result.name}: {queued:,} queued, {points[-1][1]:.0f} MB in all")
    _require_queued(running, count)
    empty, full = points[0][1], points[-1][1]
    result.series.append(Series("memory", "recipients queued", "MB PSS, all processes", points))
    result.figures += [
        Figure("accepted", count / seconds, "msg/s"),
        Figure("empty", empty, "MB PSS"),
        Figure("full", full, "MB PSS"),
    ]
    result.verdicts.append(at_most("memory above empty", full - empty, MEMORY_MB, "MB PSS"))


def _require_queued(running: RunningSluice, count: int) -> None:
    """RunFailed unless exactly so many wait for the dead destination."""
    waiting = find_sum(running.ask("queues"), QUEUED)
    if waiting != count:
        raise RunFailed(f"{waiting} recipients wait instead of {count}")


def _rate(running: RunningSluice, sink: Sink, load: Load, place: Path) -> float:
    before, started = sink.count(), time.monotonic()
    pour(load, running.port, place, 120.0)
    end = sink.wait_for(before + load.count, started + 120.0, running.children)
    time.sleep(AFTER_S)
    if sink.count() != before + load.count:
        raise RunFailed(f"{sink.count() - before} messages arrived of {load.count} sent")
    return load.count / (end - started)
