"""What waiting mail costs: memory above the empty daemon, the time of `queues` and of a restart.

Only Sluice is measured: the limits here are absolute. Memory is PSS over the process tree: before
the first message, at its peak, and at rest afterwards, which is what the limit is on.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.arena import Arena
from bench.estimate import LOOK_S, RESTART_S, seconds_to_queue
from bench.load import Load, pour, pour_pattern
from bench.peers import DEAD_DOMAIN, Setup
from bench.peers.sluice import QUEUED, RunningSluice, Sluice, find_sum
from bench.processes import Child, RunFailed, pss_bytes
from bench.results import Figure, Result, at_most
from bench.sink import Sink
from bench.throughput import LOOP_LAG_MS

MB = 1e6
EMPTY_S = 2.0  # the daemon is left alone so long before its empty memory is read
REST_S = 10.0  # and so long after the last 250
ASKED = 5  # times; the median counts
BODY_BYTES = 1024
SLOWEST_INTAKE = 200.0  # msg/s


@dataclass(frozen=True, slots=True)
class DeadDestination:
    """Many recipients queued for a destination that refuses every connection."""

    name: str = "dead"
    title: str = "100,000 recipients queued for a dead destination"
    count: int = 100_000
    quick_count: int = 10_000

    def run(self, arena: Arena) -> Result:
        """Fill, look, ask, restart; once (memory does not scatter)."""
        result = Result(self.name, self.title)
        if not may_run(result, arena):
            return result
        count = self.quick_count if arena.quick else self.count
        if arena.quick:
            result.notes.append(f"quick: {count:,} recipients only")
        with arena.place() as place, ExitStack() as stack:
            try:
                sink = stack.enter_context(Sink(place))
                dead_port = stack.enter_context(refusing_port())
                setup = Setup(place, sink.port, dead_port=dead_port, workers=arena.workers)
                load = Load(count, BODY_BYTES, recipient="user{n}@" + DEAD_DOMAIN)
                with Sluice().start(setup) as running:
                    _fill(running, load, result, place, arena, limit_mb=60.0)
                    _time_queues(running, result)
                time_restart("restart to first delivery elsewhere", setup, sink, result)
                time_restart("the same after kill -9", setup, sink, result, by_kill=True)
            except RunFailed as failure:
                result.failure = str(failure)
        return result

    def estimate_s(self, arena: Arena) -> float:
        """Roughly: fill, look, restart twice."""
        count = self.quick_count if arena.quick else self.count
        return seconds_to_queue(count) + LOOK_S + 3 * RESTART_S


@dataclass(frozen=True, slots=True)
class SilentDns:
    """As many domains as messages, and a DNS server that answers nothing."""

    name: str = "domains"
    title: str = "300,000 domains, one message each, no DNS answers"
    count: int = 300_000
    quick_count: int = 20_000

    def run(self, arena: Arena) -> Result:
        """Fill and look; once."""
        result = Result(self.name, self.title)
        if not may_run(result, arena):
            return result
        count = self.quick_count if arena.quick else self.count
        if arena.quick:
            result.notes.append(f"quick: {count:,} domains only")
        with arena.place() as place, ExitStack() as stack:
            try:
                sink = stack.enter_context(Sink(place))
                silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                silent.bind(("127.0.0.1", 0))  # never read: the kernel drops what does not fit
                silent_port = int(silent.getsockname()[1])
                setup = Setup(place, sink.port, dns_port=silent_port, workers=arena.workers)
                load = Load(count, BODY_BYTES, recipient="user@d{n}.example")
                with Sluice().start(setup) as running:
                    _fill(running, load, result, place, arena, limit_mb=150.0)
                if sink.count():
                    raise RunFailed(
                        f"{sink.count()} messages were delivered without an answer of the DNS"
                    )
            except RunFailed as failure:
                result.failure = str(failure)
        return result

    def estimate_s(self, arena: Arena) -> float:
        """Roughly: fill and look."""
        return seconds_to_queue(self.quick_count if arena.quick else self.count) + LOOK_S


class PeakMemory:
    """The highest PSS of some processes while the `with` block runs, looked at twice a second."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.peak_bytes = max(self.peak_bytes, pss_bytes(self._children))


def may_run(result: Result, arena: Arena) -> bool:
    """Whether Sluice is wanted and there; otherwise the result says what is missing."""
    missing = Sluice().missing()
    if missing:
        result.absent.append(f"Sluice: {missing}")
    return arena.wants("sluice") and not missing


def _fill(
    running: RunningSluice,
    load: Load,
    result: Result,
    place: Path,
    arena: Arena,
    *,
    limit_mb: float,
) -> None:
    """Pour the load in; note rate and memory, judge memory and loop lag."""
    time.sleep(EMPTY_S)
    empty = pss_bytes(running.children)
    with PeakMemory(running.children) as memory:
        answer = pour_pattern(load, running.port, place, 60.0 + load.count / SLOWEST_INTAKE)
        time.sleep(REST_S)
    rest = pss_bytes(running.children)
    running.children[0].require_alive()
    above = (rest - empty) / MB
    arena.say(f"{result.name}: {load.count:,} accepted, {above:.0f} MB above empty")
    result.figures += [
        Figure("accepted", load.count / answer["seconds"], "msg/s"),
        Figure("empty", empty / MB, "MB PSS"),
        Figure("peak above empty", (max(memory.peak_bytes, rest) - empty) / MB, "MB PSS"),
    ]
    result.verdicts.append(at_most("memory above empty", above, limit_mb, "MB PSS"))
    lag = running.loop_lag_p99_ms()
    result.verdicts.append(at_most("loop lag, p99", lag, LOOP_LAG_MS, "ms"))


def _time_queues(running: RunningSluice, result: Result) -> None:
    def on_the_socket() -> float:
        started = time.monotonic()
        answer = running.ask("queues")
        seconds = time.monotonic() - started
        counted.append(find_sum(answer, QUEUED))
        return seconds

    counted: list[float | None] = []
    socket_s = _median_seconds(on_the_socket, result)
    result.verdicts.append(at_most("queues, on the socket", socket_s, 0.2, "s"))
    if counted and counted[-1] is not None:
        result.figures.append(Figure("recipients that `queues` counts", counted[-1], ""))
    command_s = _median_seconds(lambda: running.command_seconds("queues"), result)
    result.verdicts.append(at_most("queues, the whole command", command_s, 0.6, "s"))


def _median_seconds(ask: Callable[[], float], result: Result) -> float | None:
    """The median of some asks; None, with a note, when one fails."""
    try:
        return statistics.median(ask() for _ in range(ASKED))
    except (OSError, ValueError, RunFailed) as error:
        result.notes.append(str(error))
        return None


def time_restart(
    what: str,
    setup: Setup,
    sink: Sink,
    result: Result,
    *,
    by_kill: bool = False,
    limit_s: float = 3.0,
) -> None:
    """Start on the full spool, hand in one message for elsewhere, wait for it at the sink.

    The daemon before this one has ended in order, or by SIGKILL after a second start.
    """
    if by_kill:
        with Sluice().start(setup) as running:
            running.children[0].kill()
    before, started = sink.count(), time.monotonic()
    with Sluice().start(setup) as running:
        pour(Load(1, BODY_BYTES), running.port, setup.directory, 30.0)
        seconds = sink.wait_for(before + 1, started + 60.0, running.children) - started
    result.verdicts.append(at_most(what, seconds, limit_s, "s"))


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port that is ours and refuses connections: bound, never listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])
