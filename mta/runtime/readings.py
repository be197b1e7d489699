"""The numbers of one worker for the metrics page: a snapshot (`mta.metrics.catalogue`), read when somebody scrapes.

Nearly all of it stands in memory. What the spool holds is counted by its thread, which a backlog of a million makes slow (it
walks an index), so a count stands for fifty times as long as it took: whoever scrapes how often, it takes two per cent of that
thread, and a scrape does not wait for it longer than `COUNTED_WITHIN_S`.
"""

import asyncio
import os
import resource
from asyncio import wrap_future
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import structlog

from mta.metrics.catalogue import Snapshot, snapshot_histogram
from mta.metrics.counts import Counts
from mta.metrics.timings import COMMITS_HELP, sum_of
from mta.runtime.worker import Worker
from mta.runtime.worker_queues import Row, WorkerQueues
from mta.spool.words import Counts as Spooled

logger = structlog.get_logger()

COUNTED_WITHIN_S = 0.5  # of the second that a worker has to answer
STANDS_TIMES = 50
LARGEST_QUEUES = 20
OTHER_QUEUES = "other"  # no queue is named so: theirs have a slash
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")


class Readings:
    """What one worker has to show. Lives on its loop."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._queues = WorkerQueues(worker)
        self._spooled: list[Spooled] = []  # of each spool, as counted last
        self._largest: list[Row] = []
        self._counting: asyncio.Task[None] | None = None
        self._count_again_at = 0.0

    async def snapshot(self) -> Snapshot:
        """Every number by its name in the catalogue; None for one that is not known."""
        worker = self._worker
        await self._count_spools()
        counts = {each.name: getattr(worker.counts, each.name) for each in fields(Counts)}
        usage = resource.getrusage(resource.RUSAGE_SELF)
        free = worker.house.free
        return {
            **{name: _copy(each) for name, each in counts.items()},
            **self._of_the_spools(),
            "dns_lookups": worker.resolver.questions,
            "scheduler_steps": worker.scheduler.steps,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "active_queues": len(worker.scheduler),
            "open_connections_in": len(worker.smtp.connections),
            "open_connections_out": worker.dispatcher.connections,
            "unsettled_outcomes": worker.settler.unsettled,
            "event_bytes": sum(each.pending_event_bytes for each in worker.spools.values()),
            "free_bytes": free.free_bytes if free else None,
            "free_inodes": free.free_inodes if free else None,
            "intake_open": int(worker.house.refusal() is None),
            "intake_memory_bytes": worker.memory.held_bytes,
            "body_cache_bytes": worker.bodies.held_bytes,
            "memory_bytes": _resident_bytes(),
            "vmta_out": worker.vmtas.gauge(),
            "dns_down": int(worker.resolver.down),
            "loop_lag_seconds": snapshot_histogram(worker.lag.histogram),
            **{name: snapshot_histogram(each) for name, each in worker.timings.by_name().items()},
            **self._commits(),
        }

    def _commits(self) -> Snapshot:
        """Of all spools together."""
        spools = [each.commits.by_name() for each in self._worker.spools.values()]
        return {
            name: snapshot_histogram(sum_of([each[name] for each in spools]))
            for name in COMMITS_HELP
        }

    def _of_the_spools(self) -> Snapshot:
        spooled, is_held = self._spooled, bool(self._worker.enforcement.hold)

        def total(read: Callable[[Spooled], int]) -> int | None:
            return sum(map(read, spooled)) if spooled else None

        return {
            "queued_messages": total(lambda each: each.messages),
            "queued_recipients": total(lambda each: each.recipients),
            "due_recipients": total(lambda each: each.due),
            "deferred_recipients": total(lambda each: each.deferred),
            "held_recipients": total(lambda each: each.held),
            "license_hold_messages": total(lambda each: each.messages) if is_held else 0,
            "queues": total(lambda each: each.queues),
            "queue_recipients": self._largest_queues(),
            "spool_bytes": total(lambda each: each.size_bytes),
        }

    def _largest_queues(self) -> dict[str, int]:
        """Recipients by queue, of the largest; of the others the sum, so that the numbers on the page are bounded."""
        shown = {row["queue"]: row["recipients"] for row in self._largest}
        others = sum(each.recipients for each in self._spooled) - sum(shown.values())
        # Counted a moment apart: not below nothing.
        return {**shown, OTHER_QUEUES: max(0, others)}

    async def _count_spools(self) -> None:
        """Have the spools counted again if it is time; not waiting for longer than allowed."""
        loop = asyncio.get_running_loop()
        if self._counting is None and loop.time() >= self._count_again_at:
            self._counting = loop.create_task(self._count())
        if self._counting is not None:
            await asyncio.wait([self._counting], timeout=COUNTED_WITHIN_S)

    async def _count(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._spooled = [
                await wrap_future(spool.counts()) for spool in self._worker.spools.values()
            ]
            _, self._largest = await self._queues.queues(
                sort="recipients", limit=LARGEST_QUEUES, match=""
            )
        except (
            Exception
        ):  # a task border: the next scrape counts again, and all other numbers stand
            logger.exception("the spool could not be counted for the metrics")
        finally:
            now = loop.time()
            self._count_again_at = now + STANDS_TIMES * (now - began)
            self._counting = None


def _copy(value: Any) -> Any:
    """A snapshot stays what it was."""
    if isinstance(value, dict):
        return {label: _copy(each) for label, each in value.items()}
    return value


def _resident_bytes() -> int | None:
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES  # proc(5): resident pages
    except (OSError, IndexError, ValueError):
        return None
