"""Messages a second from door to door: interleaved runs of several contestants under the same load.

A run starts its contestant and its sink anew, warms both up, checks a signature where one is due,
and then takes the time from the first injection until the last message stands at the sink. It
counts only if exactly what was sent arrived.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.arena import Arena
from bench.load import Load, pour, pour_pattern
from bench.peers import Peer, Running, Setup
from bench.processes import RunFailed, cpu_seconds
from bench.results import Result, Run, at_least, at_most, ratio, worst_loop_lag_ms
from bench.signature import CHECK_DOMAIN, require_signed
from bench.sink import OneMessage, Sink

WARM_UP = 200
AFTER_S = 0.5  # so long a message too many is waited for
RECORDS_S = 5.0  # and so long a follower may be behind with its records
LOOP_LAG_MS = 50.0
SLOWEST_RATE = 40.0  # msg/s: a run below it is given up


@dataclass(frozen=True, slots=True)
class Contestant:
    """A peer under a label, with what differs for it in this scenario."""

    label: str
    peer: Peer
    total_connections: int | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """`ours` must be at least `factor` times as fast as `theirs`."""

    ours: str
    theirs: str
    factor: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """One row of the table: the load, who runs under it, and what is asked."""

    name: str
    title: str
    load: Load
    quick_count: int
    contestants: Sequence[Contestant]
    limit: Limit | None = None
    signed: bool = False
    latency: bool = False  # pour with bench.source, which takes the time of each final dot

    def run(self, arena: Arena) -> Result:
        """Run all contestants in turn, `arena.runs` times, and judge."""
        result = Result(self.name, self.title)
        load = replace(self.load, count=self.quick_count) if arena.quick else self.load
        present = []
        for contestant in filter(lambda one: arena.wants(one.peer.name), self.contestants):
            if missing := contestant.peer.missing():
                result.notes.append(f"{contestant.label} did not run: {missing}")
            else:
                present.append(contestant)
        for number in range(arena.runs):
            for contestant in present:
                run = self._run_once(contestant, load, arena)
                result.runs.append(run)
                arena.say(
                    f"{self.name} {number + 1}/{arena.runs} {contestant.label}: {_describe(run)}"
                )
        self._judge(result, present)
        return result

    def _judge(self, result: Result, present: Sequence[Contestant]) -> None:
        labels = {contestant.label for contestant in present}
        if self.limit is not None and {self.limit.ours, self.limit.theirs} <= labels:
            measured = ratio(result, self.limit.ours, self.limit.theirs)
            what = f"{self.limit.ours} against {self.limit.theirs}"
            result.verdicts.append(at_least(what, measured, self.limit.factor, "×"))
        if any(contestant.peer.name == "sluice" for contestant in present):
            lag = worst_loop_lag_ms(result)
            result.verdicts.append(at_most("loop lag, p99", lag, LOOP_LAG_MS, "ms"))

    def _run_once(self, contestant: Contestant, load: Load, arena: Arena) -> Run:
        with arena.place() as place, ExitStack() as stack:
            try:
                sink = stack.enter_context(Sink(place))
                look = stack.enter_context(OneMessage()) if self.signed else None
                setup = Setup(
                    place,
                    sink.port,
                    total_connections=contestant.total_connections,
                    key=arena.key if self.signed else None,
                    check_port=look.port if look else None,
                )
                running = stack.enter_context(contestant.peer.start(setup))
                self._warm_up(running, sink, look, load, place, arena)
                return self._measure(contestant.label, running, sink, load, place)
            except RunFailed as failure:
                return Run(contestant.label, load.count, 0, 0.0, 0.0, 0.0, problem=str(failure))

    def _warm_up(
        self,
        running: Running,
        sink: Sink,
        look: OneMessage | None,
        load: Load,
        place: Path,
        arena: Arena,
    ) -> None:
        pour(replace(load, count=WARM_UP), running.port, place, 30.0)
        sink.wait_for(WARM_UP, time.monotonic() + 60.0, running.children)
        if look is not None:
            one = replace(load, count=1, recipient=f"look@{CHECK_DOMAIN}")
            pour(one, running.port, place, 30.0)
            require_signed(look.message(30.0), arena.key)

    def _measure(self, label: str, running: Running, sink: Sink, load: Load, place: Path) -> Run:
        limit_s = 60.0 + load.count / SLOWEST_RATE
        before, latency = sink.count(), dict[str, float]()
        cpu_before = cpu_seconds(running.children)
        started = time.monotonic()
        if self.latency:
            latency = pour_pattern(load, running.port, place, limit_s)
            accepted_s = latency["seconds"]
        else:
            accepted_s = pour(load, running.port, place, limit_s)
        try:
            end = sink.wait_for(before + load.count, started + limit_s, running.children)
            seconds, problem = end - started, ""
        except RunFailed as failure:
            seconds, problem = time.monotonic() - started, str(failure)
        cpu_s = cpu_seconds(running.children) - cpu_before
        time.sleep(AFTER_S)
        arrived = sink.count() - before
        recorded = 0 if problem else _wait_for_records(running, before + load.count)
        if not problem and arrived != load.count:
            problem = f"{arrived} messages arrived of {load.count} sent"
        elif not problem and recorded < before + load.count:
            problem = f"{recorded} deliveries on record of {before + load.count}"
        return Run(
            label,
            load.count,
            arrived,
            seconds,
            accepted_s,
            cpu_s,
            loop_lag_p99_ms=running.loop_lag_p99_ms(),
            accept_p50_ms=latency.get("p50_ms"),
            accept_p99_ms=latency.get("p99_ms"),
            recorded=recorded,
            problem=problem,
        )


def _wait_for_records(running: Running, count: int) -> int:
    """Deliveries on record, once there are `count` or RECORDS_S have passed."""
    deadline = time.monotonic() + RECORDS_S
    while (recorded := running.recorded()) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    return recorded


def _describe(run: Run) -> str:
    if not run.ok:
        return f"failed: {run.problem}"
    return f"{run.rate:,.0f} msg/s, {run.cpu_ms:.2f} ms CPU a message"
