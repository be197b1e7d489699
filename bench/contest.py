"""Who runs in a scenario and under what; and what is asked of the medians.

A judge looks at the result when all runs are done and returns its verdict; what is absent leaves the verdict
open, never met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.arena import Arena
from bench.peers import Peer
from bench.peers.sluice import refuses_workers
from bench.results import (
    Result,
    Verdict,
    at_least,
    at_most,
    median_cpu_ms,
    median_rate,
    ratio,
)
from bench.sink import Manner


@dataclass(frozen=True, slots=True)
class Contestant:
    """A peer under a label, with what differs for it in this scenario."""

    label: str
    peer: Peer
    setup: Mapping[str, Any] = field(default_factory=dict)  # fields of Setup
    load: Mapping[str, Any] = field(default_factory=dict)  # fields of Load
    key: str | None = None  # the algorithm it signs with
    dns: bool = False  # asks for MX records; otherwise all mail is routed
    manner: Manner | None = None  # of our own sink; None: smtp-sink

    def absent(self, arena: Arena) -> str:
        """Why it cannot run here; "" when it can."""
        if missing := self.peer.missing():
            return missing
        workers = self.setup.get("workers", arena.workers)
        if self.peer.name == "sluice" and workers != 1:
            with arena.place() as place:
                refused = refuses_workers(place, workers)
            return f"not available: workers = {workers}: {refused}" if refused else ""
        return ""


class Judge(Protocol):
    """Something asked of a result."""

    def verdict(self, result: Result) -> Verdict:
        """What was measured, and whether it is enough."""


@dataclass(frozen=True, slots=True)
class Faster:
    """`ours` must be at least `factor` times as fast as `theirs`."""

    ours: str
    theirs: str
    factor: float

    def verdict(self, result: Result) -> Verdict:
        measured = ratio(result, self.ours, self.theirs)
        return at_least(f"{self.ours} against {self.theirs}", measured, self.factor, "×")


@dataclass(frozen=True, slots=True)
class Cheaper:
    """`ours` may use at most `factor` times the CPU a message that `theirs` uses."""

    ours: str
    theirs: str
    factor: float

    def verdict(self, result: Result) -> Verdict:
        ours, theirs = median_cpu_ms(result, self.ours), median_cpu_ms(result, self.theirs)
        measured = ours / theirs if ours and theirs else None
        what = f"CPU a message, {self.ours} against {self.theirs}"
        return at_most(what, measured, self.factor, "×")


@dataclass(frozen=True, slots=True)
class ShareOf:
    """`ours` must reach `share` of a figure that the same scenario measured."""

    ours: str
    figure: str
    share: float

    def verdict(self, result: Result) -> Verdict:
        ours = median_rate(result, self.ours)
        limits = [figure.value for figure in result.figures if figure.what == self.figure]
        measured = ours / limits[0] * 100 if ours and limits else None
        return at_least(f"{self.ours}, of {self.figure}", measured, self.share * 100, "%")


@dataclass(frozen=True, slots=True)
class SlowSink:
    """With answers so late: `of_ideal` of what its connections allow, or `of_free` of `free`, whichever is less."""

    ours: str
    free: str  # the contestant whose sink does not wait
    ideal: float  # msg/s, were nothing else in the way
    of_ideal: float
    of_free: float

    def verdict(self, result: Result) -> Verdict:
        free = median_rate(result, self.free)
        asked = self.of_ideal * self.ideal
        if free is not None:
            asked = min(asked, self.of_free * free)
        measured = median_rate(result, self.ours) if free is not None else None
        return at_least(f"{self.ours}", measured, round(asked), "msg/s")


Remark = Callable[[Result], str]  # a sentence about the result; "" for none
