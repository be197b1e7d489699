"""`python -m bench.license_hotpath`: what licensing costs a message, and what it costs a second.

A real guard, from a licence file to the ledger on disk, under a Volume licence: the only kind for which a message does more than
read a decision. What counts is CPU, the least of some runs, for what others do on the machine only adds; the bare loop is taken
off. Exit status 0: a message pays less than asked; 1: more.

Nothing is sent and nobody is asked: the guard has not been activated, and uses the block it may use before that.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from licensing.clock import TrustedClock, read_machine
from licensing.evaluate import evaluate
from licensing.facts import Finding
from licensing.guard import Delivered, Guard, GuardOptions, Surroundings
from licensing.model.license import Kind
from tests.support.license_facts import MIDDLE, the_facts
from tests.support.machine_time import MachineTime
from tests.support.vendor import Vendor

ASKED_NS = 1_000.0  # a message (design, section 5)
ASKED_EVALUATE_US = 50.0
BATCH = 5_000  # Emails a second that the followers tell of together
COMMITS = 20
RUNS = 3


def least(run: Callable[[int], float], count: int, runs: int = RUNS) -> float:
    """Seconds of CPU for one of `count`, the least of some runs."""
    return min(run(count) for _ in range(runs)) / count


def bare(count: int) -> float:
    """The loop itself."""
    began = time.thread_time()
    for _ in range(count):
        pass
    return time.thread_time() - began


def reading(guard: Guard) -> Callable[[int], float]:
    """What every message does: may it be delivered?"""

    def run(count: int) -> float:
        allowed = 0
        began = time.thread_time()
        for _ in range(count):
            if guard.entitlement.deliver:
                allowed += 1
        took = time.thread_time() - began
        assert allowed == count
        return took

    return run


def taking(guard: Guard) -> Callable[[int], float]:
    """An Email for each message, and back: as dear as it can be, for a delivery gives none back."""

    def run(count: int) -> float:
        granted = 0
        began = time.thread_time()
        for _ in range(count):
            granted += guard.take(1)
            guard.refund(1)
        took = time.thread_time() - began
        assert granted == count
        return took

    return run


async def counting(guard: Guard, commits: int) -> float:
    """Seconds of CPU for one Email of those told together, each batch durable in the ledger."""
    upto = 0
    began = time.process_time()
    for _ in range(commits):
        await guard.delivered([Delivered("spool", upto, upto + BATCH, BATCH)])
        upto += BATCH
    return (time.process_time() - began) / (commits * BATCH)


async def ticking(guard: Guard, ticks: int) -> float:
    """Seconds of CPU for one turn of the guard: time, leases, findings, decision."""
    began = time.process_time()
    for _ in range(ticks):
        await guard.tick()
    return (time.process_time() - began) / ticks


async def measure_guard(count: int, folder: Path) -> float:
    """Print the guard's figures; the nanoseconds a message pays."""
    vendor, machine = Vendor(), MachineTime()
    guard = Guard(
        GuardOptions(license_dir=folder / "license.d", state_dir=folder / "state"),
        Surroundings(read_clocks=machine.read, trust=vendor.trust, flush_every=0),
    )
    await guard.open()
    try:
        begun = datetime.fromtimestamp(machine.true, UTC) - timedelta(days=1)
        await guard.install(vendor.file(Kind.VOLUME, not_before=begun, issued_at=begun))
        empty = least(bare, count)
        read = least(reading(guard), count) - empty
        taken = least(taking(guard), count) - empty
        say("the loop itself, taken off below", empty * 1e9, "ns")
        say(f"the entitlement read ({count:,} times)", read * 1e9, "ns")
        say("an Email taken and given back", taken * 1e9, "ns")
        tick = await ticking(guard, 200)
        counted = await counting(guard, COMMITS)
        say(f"an Email counted, in batches of {BATCH:,} on disk", counted * 1e9, "ns CPU")
        message = (read + taken + counted) * 1e9
        say(f"all of it, a message (asked: < {ASKED_NS:,.0f})", message, "ns")
        say("a turn of the guard, each second", tick * 1e6, "µs CPU")
    finally:
        await guard.stop()
    return message


def measure_decisions() -> None:
    """Print what a judgement costs, on a good day of each kind and on a bad one."""
    for kind in Kind:
        facts = the_facts(kind)
        say(f"evaluate, {kind.value.replace('_', ' ')}", judging(facts) * 1e6, "µs")
    findings = tuple(Finding(code, MIDDLE) for code in ("clone", "rewind", "clock_step"))
    bad = replace(the_facts(Kind.VOLUME), findings=findings, volume=None, last_contact=None)
    cost = judging(bad) * 1e6
    say(f"evaluate, volume with five troubles (asked: < {ASKED_EVALUATE_US:.0f})", cost, "µs")
    clock = TrustedClock(read_machine())
    say("the trusted clock", least(repeating(clock.now), 10_000) * 1e6, "µs")


def judging(facts: object) -> float:
    """Seconds for one judgement."""
    return least(repeating(lambda: evaluate(facts, MIDDLE)), 5_000)  # type: ignore[arg-type]


def repeating(call: Callable[[], object]) -> Callable[[int], float]:
    """A run of this call."""

    def run(count: int) -> float:
        began = time.thread_time()
        for _ in range(count):
            call()
        return time.thread_time() - began

    return run


def say(what: str, figure: float, unit: str) -> None:
    print(f"{what:<64}{figure:10.1f} {unit}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000_000, help="messages of each run")
    count = parser.parse_args().count
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as folder:
        message = asyncio.run(measure_guard(count, Path(folder)))
    measure_decisions()
    return 0 if message < ASKED_NS else 1


if __name__ == "__main__":
    sys.exit(main())
