"""Sentences that say what bounds a result, made from its runs."""

from __future__ import annotations

import os
import statistics

from bench.results import Result, Run, ratio

FULL = 0.9  # of all cores: then the machine is the bound


def explain_workers(result: Result) -> str:
    """The ratio of the rates of 2 workers and 1, and what bounds it."""
    measured = ratio(result, "Sluice, 2 workers", "Sluice, 1 worker")
    runs = result.good_runs("Sluice, 2 workers")
    if measured is None or not runs:
        return ""
    busy = statistics.median(run.busy or 0.0 for run in runs)
    own = statistics.median(_own_share(run) for run in runs)
    bound = "the cores" if busy >= FULL else "not the cores"
    return (
        f"2 workers are {measured:.2f} × as fast as 1; bound by {bound}: {busy:.0%} of all cores in use, "
        f"{own:.0%} by Sluice, the rest by load generator, sink and system"
    )


def _own_share(run: Run) -> float:
    return run.cpu_seconds / (run.seconds * (os.cpu_count() or 1)) if run.seconds else 0.0
