"""Messages a second from door to door: interleaved runs of several contestants under the same load.

A run starts its contestant and its sink anew, warms both up, checks a signature where one is due,
and then takes the time from the first injection until the last message stands at the sink. It
counts only if exactly what was sent arrived.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.arena import Arena
from bench.contest import Contestant, Judge, Remark
from bench.estimate import seconds_of_runs
from bench.load import Load, Poured, pour
from bench.machine import signatures_per_second
from bench.names_server import Names
from bench.peers import Running, Setup
from bench.processes import Busy, RunFailed, cpu_seconds
from bench.results import Figure, Result, Run, at_most, worst_loop_lag_ms
from bench.signature import CHECK_DOMAIN, RSA, SigningKey, require_signed
from bench.sink import REFUSED, Samples, Sink

WARM_UP = 200
SAMPLES = 3  # messages whose signature is verified, before and after each signed run
AFTER_S = 0.5  # so long a message too many is waited for
RECORDS_S = 5.0  # and so long a follower may be behind with its records
LOOP_LAG_MS = 50.0
SLOWEST_RATE = 40.0  # msg/s: a run below it is given up
RSA_LIMIT = f"RSA-2048 signatures of {os.cpu_count()} cores"
PLAIN_RECIPIENT = "user@dest.example"


@dataclass(frozen=True, slots=True)
class Throughput:
    """One row of the table: the load, who runs under it, and what is asked."""

    name: str
    title: str
    load: Load
    quick_count: int
    contestants: Sequence[Contestant]
    judges: Sequence[Judge] = ()
    rsa_limit: bool = False  # measure it beside the runs, in the same minutes
    remarks: Sequence[Remark] = field(default_factory=tuple)

    def run(self, arena: Arena) -> Result:
        """Run all contestants in turn, `arena.runs` times, and judge."""
        result = Result(self.name, self.title)
        present = select_present(self.contestants, result, arena)
        load = self._load(arena)
        limits = []
        for number in range(arena.runs if present else 0):
            if self.rsa_limit:
                limits.append(signatures_per_second(arena.keys[RSA], os.cpu_count() or 1))
            for contestant in present:
                run = run_once(contestant, load, arena)
                result.runs.append(run)
                turn = f"{self.name} {number + 1}/{arena.runs} {contestant.label}"
                arena.say(f"{turn}: {describe(run)}")
        if limits:
            result.figures.append(Figure(RSA_LIMIT, statistics.median(limits), "/s"))
        self._judge(result, present)
        return result

    def estimate_s(self, arena: Arena) -> float:
        """Roughly, all runs."""
        return seconds_of_runs(self.contestants, self._load(arena), arena)

    def _load(self, arena: Arena) -> Load:
        return replace(self.load, count=self.quick_count) if arena.quick else self.load

    def _judge(self, result: Result, present: Sequence[Contestant]) -> None:
        if not any(contestant.peer.name == "sluice" for contestant in present):
            return
        for judge in self.judges:
            result.verdicts.append(judge.verdict(result))
        lag = worst_loop_lag_ms(result)
        result.verdicts.append(at_most("loop lag, p99", lag, LOOP_LAG_MS, "ms"))
        result.notes += filter(None, (remark(result) for remark in self.remarks))


def select_present(
    contestants: Sequence[Contestant], result: Result, arena: Arena
) -> list[Contestant]:
    """Those that were asked for and can run; the reasons of the absent go to the result."""
    present = []
    for contestant in contestants:
        if not arena.wants(contestant.peer.name):
            continue
        if reason := contestant.absent(arena):
            result.absent.append(f"{contestant.label}: {reason}")
        else:
            present.append(contestant)
    return present


def run_once(contestant: Contestant, load: Load, arena: Arena) -> Run:
    """One run, its contestant and sink started anew; what went wrong is its problem."""
    load = replace(load, **contestant.load)
    with arena.place() as place, ExitStack() as stack:
        try:
            sink = stack.enter_context(Sink(place, contestant.manner))
            key = arena.keys[contestant.key] if contestant.key else None
            samples = stack.enter_context(Samples()) if key else None
            names = stack.enter_context(Names(place)) if contestant.dns else None
            options = {"workers": arena.workers, **contestant.setup}
            setup = Setup(
                place,
                sink.port,
                key=key,
                check_port=samples.port if samples else None,
                dns_port=names.port if names else None,
                **options,
            )
            running = stack.enter_context(contestant.peer.start(setup))
            _warm_up(running, sink, load, place)
            verified = _verify(samples, key, running, place)
            run = _measure(contestant, running, sink, load, place, verified)
            _verify(samples, key, running, place)
        except RunFailed as failure:
            return Run(contestant.label, load.count, 0, 0.0, 0.0, 0.0, problem=str(failure))
        if contestant.manner is not None and run.ok and load.per_second:
            run = replace(run, transit_ms=sink.summary()["transit_ms"])
        return run


def describe(run: Run) -> str:
    """A run in a line, for the one who waits."""
    if not run.ok:
        return f"failed: {run.problem}"
    cpu = "" if math.isnan(run.cpu_ms) else f", {run.cpu_ms:.2f} ms CPU a message"
    return f"{run.rate:,.0f}/s{cpu}"


def _warm_up(running: Running, sink: Sink, load: Load, place: Path) -> None:
    warm = Load(WARM_UP, load.size_bytes, recipient=PLAIN_RECIPIENT)
    pour(warm, running.port, place, 30.0)
    sink.wait_for(WARM_UP, time.monotonic() + 60.0, running.children)


def _verify(samples: Samples | None, key: SigningKey | None, running: Running, place: Path) -> int:
    """Take some messages at the port for samples and verify them; how many. RunFailed."""
    if samples is None or key is None:
        return 0
    pour(Load(SAMPLES, 4096, recipient=f"look@{CHECK_DOMAIN}"), running.port, place, 30.0)
    for _ in range(SAMPLES):
        require_signed(samples.message(30.0), key)
    return SAMPLES


def _measure(
    contestant: Contestant, running: Running, sink: Sink, load: Load, place: Path, earlier: int
) -> Run:
    limit_s = 60.0 + load.count / (load.per_second or SLOWEST_RATE)
    before = sink.count()
    poured, problem, busy = Poured(0.0), "", Busy()
    cpu_before, started = cpu_seconds(running.children), time.monotonic()
    try:
        poured = pour(load, running.port, place, limit_s)
        end = sink.wait_for(before + load.count, started + limit_s, running.children)
        seconds = end - started
    except RunFailed as failure:
        seconds, problem = time.monotonic() - started, str(failure)
    cpu_s, share = cpu_seconds(running.children) - cpu_before, busy.share()
    time.sleep(AFTER_S)
    arrived = sink.count() - before
    due = before + earlier + load.count
    recorded = 0 if problem else _wait_for_records(running, due)
    if not problem and arrived != load.count:
        problem = f"{arrived} messages arrived of {load.count} sent"
    elif not problem and recorded < due:
        problem = f"{recorded} deliveries on record of {due}"
    refuses = contestant.manner is not None and contestant.manner.refuse_first
    return Run(
        contestant.label,
        load.count,
        arrived,
        seconds,
        poured.seconds,
        cpu_s if running.cpu_is_whole else math.nan,
        loop_lag_p99_ms=running.loop_lag_p99_ms(),
        accept_p50_ms=poured.p50_ms,
        accept_p99_ms=poured.p99_ms,
        accept_ms=poured.accept_ms if load.per_second else {},
        recorded=recorded,
        counted=arrived + sink.count(REFUSED) if refuses else None,
        busy=share,
        problem=problem,
    )


def _wait_for_records(running: Running, count: int) -> int:
    """Deliveries on record, once there are `count` or RECORDS_S have passed."""
    deadline = time.monotonic() + RECORDS_S
    while (recorded := running.recorded()) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    return recorded
