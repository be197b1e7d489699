"""The jobs an operator paused, in one worker: held by its spools, and kept out of the scheduler."""

import functools
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Protocol

from mta.model.envelope import Draft, Entry, QueueKey
from mta.policy.orders import BY_OPERATOR, PAUSE, Order
from mta.queue.scheduler import Scheduler
from mta.spool.store import Spool
from mta.spool.words import Holds


class Kicked(Protocol):
    """The dispatcher, as far as a change of what may go is concerned."""

    def kick(self) -> None: ...


class JobStops:
    """What is paused now. The spools' own rows are put right at the start and with every change."""

    def __init__(
        self, spools: Mapping[int, Spool], scheduler: Scheduler, dispatcher: Kicked
    ) -> None:
        self._spools = spools
        self._scheduler = scheduler
        self._dispatcher = dispatcher
        self.jobs: dict[str, str] = {}  # name → reason
        for spool in spools.values():
            # What an earlier life held and nobody orders any more.
            spool.holds().add_done_callback(functools.partial(self._put_right, spool))

    def follow(self, orders: Iterable[Order], now: float) -> None:
        """From now on these are paused, and no others."""
        wanted = {
            each.name: each.value or BY_OPERATOR
            for each in orders
            if each.scope == "job" and each.setting == PAUSE
        }
        before, self.jobs = self.jobs, wanted
        for spool in self._spools.values():
            for name, reason in wanted.items():
                if before.get(name) != reason:
                    spool.hold_job(name, reason)
            for name in before.keys() - wanted.keys():
                spool.release_job(name)
        if wanted.keys() != before.keys():
            # What is ready in memory may be of such a job; the disk knows what is not.
            self._scheduler.read_anew(now)
            self._dispatcher.kick()

    def may_try(self, draft: Draft) -> list[Entry]:
        """The entries of a message that was just committed, none if its job is paused."""
        if draft.message.job not in self.jobs:
            return draft.entries
        spool = self._spools[draft.message.spool]
        keys: set[QueueKey] = {entry.key for entry in draft.entries}
        for key in keys:
            if key not in self._scheduler:
                spool.evict(key, None)  # its row says that it is due, and nobody looks after it
        return []

    def _put_right(self, spool: Spool, found: "Future[Holds]") -> None:
        if found.exception() is None:
            for name in found.result().jobs.keys() - self.jobs.keys():
                spool.release_job(name)
