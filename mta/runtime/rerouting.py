"""Moves queued mail of one worker to another virtual MTA or pool: a chunk a transaction, everything else in between.

Each chunk is claimed as for a deletion, so that nothing is delivered and moved at once. A pool gives each message one of its
virtual MTAs, as it does when mail comes in; what has one of those already stays where it is. Nothing but the queue changes:
times, attempts and holds of a recipient stand.
"""

import functools
from asyncio import wrap_future
from collections.abc import Iterable

from mta.model.envelope import Entry, QueueKey
from mta.runtime.worker import Worker
from mta.spool.queries import Queries
from mta.spool.store import Spool
from mta.spool.words import Filter

CHUNK = 1000


class Rerouting:
    """One order of the operator."""

    def __init__(self, worker: Worker, to: str) -> None:
        self._worker = worker
        self._to = to
        self._pools = worker.vmtas.pools
        self._stays = self._pools.takers(to)
        self._last = (0, 0)  # the message chosen for last, and its virtual MTA
        self._chosen = to

    async def count(self, which: Filter) -> int:
        """How many recipients would be moved, as far as none of them is in flight."""
        return sum([await self._count(spool, which) for spool in self._worker.spools.values()])

    async def run(self, which: Filter) -> int:
        """Move them; how many were."""
        moved = 0
        for spool in self._worker.spools.values():
            future = spool.reroute(which, self._target, self._claim, self._moved)
            moved += await wrap_future(future)
        return moved

    async def _count(self, spool: Spool, which: Filter) -> int:
        now, count = self._worker.clock.now(), 0
        after: int | None = 0
        while after is not None:
            search = functools.partial(
                Queries.search, wanted=which, limit=CHUNK, after=after, now=now
            )
            found, after = await wrap_future(spool.call(search))
            count += len(self._movable(each.entry for each in found))
        return count

    def _claim(self, entries: list[Entry]) -> list[Entry]:
        return self._worker.claim(self._movable(entries))

    def _movable(self, entries: Iterable[Entry]) -> list[Entry]:
        return [entry for entry in entries if entry.key.vmta not in self._stays]

    def _target(self, entry: Entry) -> QueueKey:
        message = entry.message
        name = (message.spool, message.number)
        if (
            name != self._last
        ):  # recipients of one message come one after the other, and go together
            self._last = name
            self._chosen = self._pools.choose(self._to, message.job) or self._to
        return QueueKey(entry.key.domain, self._chosen)

    def _moved(self, keys: set[QueueKey]) -> None:
        self._worker.scheduler.moved(keys, self._worker.clock.now())
        self._worker.dispatcher.kick()
