"""The queues of one worker as the operator sees them: what its spools hold, with what the scheduler has in memory.

A worker drives more than one spool after it adopted one; the same queue may stand in several. They are merged by the same rule
as the workers are, one floor up.
"""

from asyncio import wrap_future
from collections.abc import Sequence
from typing import Any

from mta.control.tables import merge_queues, read_table
from mta.model.envelope import QueueKey
from mta.runtime.worker import Worker
from mta.spool.store import Spool
from mta.spool.words import QueueRow

Row = dict[str, Any]
SPOOLS_DEADLINE_S = 0.9  # of the second that a worker has in all


class SpoolQueues:
    """The table of one spool: a `QueueSource`."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    @property
    def number(self) -> int:
        return self._spool.number

    async def queues(self, *, sort: str, limit: int, match: str) -> tuple[int, list[Row]]:
        """How many match, and the first."""
        total, rows = await wrap_future(self._spool.queue_table(limit, sort, match))
        return total, [_row(each) for each in rows]

    async def queues_named(self, keys: Sequence[QueueKey]) -> list[Row]:
        """The rows of these."""
        found = await wrap_future(self._spool.call(lambda read: read.queues_named(keys)))
        return [_row(each) for each in found]

    async def queue_names(self, match: str, limit: int) -> list[str]:
        """The names of those that match."""
        return await wrap_future(self._spool.call(lambda read: read.queue_names(match, limit)))


class WorkerQueues:
    """The table of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def queues(self, *, sort: str, limit: int, match: str) -> tuple[int, list[Row]]:
        """How many queues have `match` in their names, and the first `limit` in this order."""
        sources = self._sources()
        if len(sources) == 1:
            total, rows = await sources[0].queues(sort=sort, limit=limit, match=match)
        else:
            table = await read_table(
                sources, sort=sort, limit=limit, match=match, deadline_s=SPOOLS_DEADLINE_S
            )
            total, rows = table.total, table.rows
        return total, self._with_memory(rows)

    async def queues_named(self, keys: Sequence[QueueKey]) -> list[Row]:
        """The rows of those of these queues that there are."""
        rows = [row for each in self._sources() for row in await each.queues_named(keys)]
        return self._with_memory(merge_queues(rows))

    async def queue_names(self, match: str, limit: int) -> list[str]:
        """The names of up to `limit` queues that match."""
        found: set[str] = set()
        for each in self._sources():
            found.update(await each.queue_names(match, limit))
        return list(found)[:limit]

    def _sources(self) -> list[SpoolQueues]:
        return [SpoolQueues(spool) for spool in self._worker.spools.values()]

    def _with_memory(self, rows: list[Row]) -> list[Row]:
        """The scheduler's part, once a queue, however many spools have it."""
        scheduler = self._worker.scheduler
        for row in rows:
            key = QueueKey(row["domain"], row["vmta"])
            ready, in_flight = scheduler.entries_in_memory(key)
            row.update(
                site=scheduler.site(key),
                ready=ready,
                in_flight=in_flight,
                connections=scheduler.connections_of(key),
            )
            stop = scheduler.stop_of(key.vmta)
            if stop is not None:
                row.update(mode="stopped", reason=f"{stop.what} ({stop.detail})")
            if scheduler.held_for:
                row.update(mode="held", reason=f"licence hold: {scheduler.held_for}")
        return rows


def _row(row: QueueRow) -> Row:
    return {
        "queue": str(row.key),
        "domain": row.key.domain,
        "vmta": row.key.vmta,
        "recipients": row.recipients,
        "held": row.held,
        "size_bytes": row.size_bytes,
        "oldest_at": row.oldest_at,
        "due": row.due,
        "next_at": row.next_at,
        "attempts": row.attempts,
        "mode": row.mode,
        "reason": row.reason,
        "paused": row.paused,
        "site": "",
        "ready": 0,
        "in_flight": 0,
        "connections": 0,
    }
