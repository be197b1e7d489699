"""What an operator does with the queued messages of one worker: list, count, hold, release, delete, retry.

All is by filter, in chunks (`mta.spool.changes`), and the scheduler is told of each chunk. A filter that names a site is made one
of domains here, where routes are known.
"""

import functools
from asyncio import wrap_future
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from mta.model.envelope import Entry, QueueKey, format_message_id
from mta.runtime.worker import Worker
from mta.spool.queries import Queries
from mta.spool.store import Spool
from mta.spool.words import Filter, Listed

Row = dict[str, Any]
CHUNK = 1000


class WorkerMessages:
    """The queued recipients of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def listed(self, which: Filter, limit: int) -> list[Row]:
        """Recipients that match, from the oldest, up to `limit` of each spool."""
        which, now = self.placed(which), self._worker.clock.now()
        rows: list[Row] = []
        for spool in self._spools():
            found = await wrap_future(spool.list_messages(which, limit))
            rows.extend(_row(spool, each, now) for each in found)
        return rows

    async def count(self, which: Filter) -> int:
        """How many recipients match, searched in pieces: nothing else waits for it."""
        which, now = self.placed(which), self._worker.clock.now()
        return sum([await _count(spool, which, now) for spool in self._spools()])

    async def hold(self, which: Filter, reason: str) -> int:
        """Stop these until they are released, over restarts; what is in flight is held if it is not done with."""
        claim = self._worker.claim
        return await self._sum(lambda spool, each: spool.hold(each, reason, claim), which)

    async def release(self, which: Filter) -> int:
        """Let held ones go on at once."""
        return await self._sum(lambda spool, each: spool.release(each, self._look_at), which)

    async def delete(self, which: Filter) -> int:
        """Remove these, with a record each; what is in flight stays."""
        claim = self._worker.claim
        deleted = await self._sum(lambda spool, each: spool.delete(each, claim), which)
        self._worker.counts.deleted += deleted
        return deleted

    async def retry(self, which: Filter) -> int:
        """Let these be due now and end the backoff of their queues; a pause or a hold stays."""
        worker = self._worker
        paused: set[QueueKey] = set()
        for spool in self._spools():
            paused.update(await wrap_future(spool.call(Queries.paused_queues)))
        begun: set[QueueKey] = set()

        def due(entries: list[Entry]) -> None:
            keys = {entry.key for entry in entries} - begun
            for key in keys - paused:
                worker.scheduler.retry(key, worker.clock.now())
            begun.update(keys)
            self._look_at(entries)

        now = worker.clock.now()
        free = replace(which, held=False)
        return await self._sum(lambda spool, each: spool.make_due(each, now, due), free)

    def _look_at(self, entries: Iterable[Entry]) -> None:
        """What the disk has of these queues is no longer what the scheduler knows."""
        worker = self._worker
        worker.scheduler.look_at({entry.key for entry in entries}, worker.clock.now())
        worker.dispatcher.kick()

    async def _sum(self, change: Callable[[Spool, Filter], "Future[int]"], which: Filter) -> int:
        placed = self.placed(which)
        return sum([await wrap_future(change(spool, placed)) for spool in self._spools()])

    def _spools(self) -> list[Spool]:
        return [*self._worker.spools.values()]

    def placed(self, which: Filter) -> Filter:
        """The filter with its site's domains as far as they are known."""
        if not which.site:
            return which
        worker = self._worker
        loaded = worker.scheduler.sites()
        domains = worker.sites.domains(which.site, worker.settings.book, loaded)
        return replace(which, domains=domains)


async def _count(spool: Spool, which: Filter, now: float) -> int:
    count = 0
    after: int | None = 0
    while after is not None:
        search = functools.partial(Queries.search, wanted=which, limit=CHUNK, after=after, now=now)
        found, after = await wrap_future(spool.call(search))
        count += len(found)
    return count


def _row(spool: Spool, listed: Listed, now: float) -> Row:
    entry, message = listed.entry, listed.entry.message
    return {
        "id": format_message_id(spool.uuid, message.number),
        "message": message.number,
        "spool": message.spool,
        "recipient": entry.address,
        "sender": message.sender,
        "queue": str(entry.key),
        "job": message.job,
        "size": message.size,
        "received_at": message.received_at,
        "attempts": entry.attempts,
        "due": entry.due,
        "status": _status(spool, listed, now),
        "release_at": message.release_at or None,
        "priority": message.priority.name.lower(),
        "held": listed.held,
        "hold_reason": listed.hold_reason,
        "last_reply": listed.reply,
    }


def _status(spool: Spool, listed: Listed, now: float) -> str:
    if spool.is_marked(listed.entry):
        return "in flight"
    if listed.held:
        return "held"
    if listed.entry.due <= now:
        return "due"
    return "deferred" if listed.entry.attempts else "scheduled"
