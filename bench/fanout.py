"""One message with 10,000 recipients at one domain: recipients a second, and the body kept once.

The spool is looked at while the mail waits for a destination that refuses connections; the rate is
taken by a second message that goes to the sink.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from bench.arena import Arena
from bench.backlog import may_run, refusing_port
from bench.estimate import START_S
from bench.load import Load, pour
from bench.peers import DEAD_DOMAIN, Setup
from bench.peers.sluice import RunningSluice, Sluice
from bench.processes import RunFailed, cpu_seconds
from bench.results import Figure, Result, at_least, at_most
from bench.sink import RECIPIENTS, Manner, Sink

ASKED_RATE = 10_000.0
BODY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class OneMessageManyRecipients:
    """The load is the same in a quick run: it takes a second."""

    name: str = "recipients"
    title: str = "one message, 10,000 recipients at one domain"
    recipients: int = 10_000

    def run(self, arena: Arena) -> Result:
        """`arena.runs` times, each on a daemon of its own."""
        result = Result(self.name, self.title)
        if not may_run(result, arena):
            return result
        rates, costs = [], []
        try:
            for number in range(arena.runs):
                rate, cpu_ms, rows = self._run_once(arena)
                arena.say(f"{self.name} {number + 1}/{arena.runs} Sluice: {rate:,.0f} recipients/s")
                rates.append(rate)
                costs.append(cpu_ms)
        except RunFailed as failure:
            result.failure = str(failure)
            return result
        result.verdicts += [
            at_least("door to door", statistics.median(rates), ASKED_RATE, "recipients/s"),
            at_most("message rows in the spool while it waits", rows, 1, ""),
        ]
        result.figures.append(Figure("CPU a recipient", statistics.median(costs) * 1e3, "µs"))
        return result

    def estimate_s(self, arena: Arena) -> float:
        """Roughly, all runs."""
        return 2 * START_S * arena.runs

    def _run_once(self, arena: Arena) -> tuple[float, float, int]:
        """Recipients a second, CPU milliseconds a recipient, and message rows while it waits."""
        with arena.place() as place, ExitStack() as stack:
            sink = stack.enter_context(Sink(place, Manner()))
            dead = stack.enter_context(refusing_port())
            setup = Setup(place, sink.port, dead_port=dead, workers=arena.workers)
            with Sluice().start(setup) as running:
                seconds, cpu_s = self._deliver(running, sink, place)
                pour(self._load(DEAD_DOMAIN), running.port, place, 60.0)
            # Read when the daemon has let go of it: while it runs, the spool is locked.
            rows = count_messages(running.spool, self.recipients)
        return self.recipients / seconds, cpu_s * 1e3 / self.recipients, rows

    def _deliver(self, running: RunningSluice, sink: Sink, place: Path) -> tuple[float, float]:
        warm = Load(100, BODY_BYTES)
        pour(warm, running.port, place, 30.0)
        sink.wait_for(100, time.monotonic() + 30.0, running.children)
        cpu_before, started = cpu_seconds(running.children), time.monotonic()
        pour(self._load("dest.example"), running.port, place, 60.0)
        due = 100 + self.recipients
        end = sink.wait_for(due, started + 120.0, running.children, RECIPIENTS)
        time.sleep(0.5)
        if sink.count(RECIPIENTS) != due:
            raise RunFailed(f"{sink.count(RECIPIENTS)} recipients at the sink instead of {due}")
        return end - started, cpu_seconds(running.children) - cpu_before

    def _load(self, domain: str) -> Load:
        return Load(
            1,
            BODY_BYTES,
            connections=1,
            recipient=f"user{{r}}@{domain}",
            own_source=True,
            recipients_each=self.recipients,
        )


def count_messages(spool: Path, recipients: int) -> int:
    """Message rows of all the spools, each with its body once; RunFailed unless all `recipients` wait there."""
    messages = waiting = 0
    for path in spool.glob("[0-9]*.sqlite"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            messages += database.execute("SELECT count(*) FROM message").fetchone()[0]
            waiting += database.execute("SELECT count(*) FROM recipient").fetchone()[0]
    if waiting != recipients:
        raise RunFailed(f"{waiting} recipients in the spool instead of {recipients}")
    return messages
