"""What licensing costs: of each message (bench.license_hotpath) and of the vendor's server (bench.license_server).

Both are commands of their own, too. That a whole daemon with licensing is as fast as one without is a matter of pairs
and their noise, and takes long: bench.license_pairs.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from bench import license_hotpath, license_server
from bench.arena import Arena
from bench.processes import RunFailed
from bench.results import Result, at_most


@dataclass(frozen=True, slots=True)
class Licensing:
    """Each is measured once: what others do on the machine only adds."""

    name: str = "licensing"
    title: str = "what licensing costs a message, and the vendor's licence server"
    messages: int = 10_000_000
    quick_messages: int = 200_000
    nodes: int = 6_000
    quick_nodes: int = 300
    steady_s: float = 30.0
    quick_steady_s: float = 1.5

    def run(self, arena: Arena) -> Result:
        """The guard first, then the server."""
        result = Result(self.name, self.title)
        try:
            self._measure_guard(result, arena)
            self._measure_server(result, arena)
        except (RunFailed, OSError) as failure:
            result.failure = str(failure)
        return result

    def estimate_s(self, arena: Arena) -> float:
        """Roughly, both."""
        return 15.0 if arena.quick else 120.0

    def _measure_guard(self, result: Result, arena: Arena) -> None:
        count = self.quick_messages if arena.quick else self.messages
        # The guard logs what it finds of its licence: here it is only in the way.
        quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
        structlog.configure(wrapper_class=quiet)
        with tempfile.TemporaryDirectory() as folder:
            cost_ns = asyncio.run(license_hotpath.measure_guard(count, Path(folder)))
        words, asked_us = "CPU of licensing a message", license_hotpath.ASKED_NS / 1e3
        result.verdicts.append(at_most(words, cost_ns / 1e3, asked_us, "µs"))

    def _measure_server(self, result: Result, arena: Arena) -> None:
        count = self.quick_nodes if arena.quick else self.nodes
        seconds = self.quick_steady_s if arena.quick else self.steady_s
        with arena.place() as place, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            nodes = license_server.prepare(place, count)
            fast, steady = runner.run(license_server.measure(place, nodes, seconds))
        result.verdicts += license_server.judge(fast, steady)
        for verdict in result.verdicts:
            arena.say(f"{self.name}: {verdict.what}: {verdict.measured:.2f} {verdict.unit}")
