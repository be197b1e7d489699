"""The only way from an outcome to the spool: decide with the scheduler, write the event, settle in batches.

A connection does not wait for the commit of its last outcome (3 connections, waiting: 1,491 msg/s; not waiting: 5,286), but at
most `MAX_UNSETTLED` outcomes a worker await theirs: that bounds the duplicates of a crash.
"""

import asyncio
from collections.abc import Callable, Container, Mapping
from typing import Protocol

from mta.bounce.classify import SUCCESS, Classifier
from mta.egress.session import Facts
from mta.io.clock import Clock
from mta.metrics.counts import Counts, add_to, add_to_both
from mta.metrics.timings import Timings
from mta.model.envelope import Entry
from mta.model.event import Attempt
from mta.model.outcome import Deferred, Delivered, Outcome
from mta.queue.answers import Decision
from mta.queue.scheduler import Scheduler
from mta.spool.bodies import BodyCache
from mta.spool.words import Settlement

MAX_UNSETTLED = 1000
OTHER_SITES = "other"  # domains that are sites of their own are many: they are counted together
_OUTCOMES = {"d": "delivered", "t": "deferred", "b": "bounced"}


class SettlingSpool(Protocol):
    """What settling needs of a spool."""

    def settle(self, batch: list[Settlement], done: Callable[[], None]) -> None: ...

    def unmark(self, entry: Entry) -> None: ...


class Settler:
    """Collects the outcomes of one turn of the loop and settles them together."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        spools: Mapping[int, SettlingSpool],
        bodies: BodyCache,
        clock: Clock,
        counts: Counts,
        on_change: Callable[[], None],
        timings: Timings | None = None,
        named_sites: Container[str] = (),
        classifier: Classifier | None = None,
        owes_notice: Callable[[Entry, Attempt], bool] = lambda _entry, _event: False,
    ) -> None:
        """`owes_notice`: whether the sender is to be told of this end of an entry."""
        self.classifier = classifier or Classifier(())  # a reload brings another
        self._owes_notice = owes_notice
        self.named_sites = named_sites  # those of the configuration; a reload brings others
        self._timings = timings or Timings()
        self._scheduler = scheduler
        self._spools = spools
        self._bodies = bodies
        self._clock = clock
        self._counts = counts
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._batch: list[tuple[Entry, Settlement]] = []
        self._unsettled = 0

    @property
    def is_full(self) -> bool:
        """As many outcomes await their commit as may: no connection takes new work."""
        return self._unsettled >= MAX_UNSETTLED

    @property
    def unsettled(self) -> int:
        return self._unsettled

    async def drain(self, within_s: float) -> None:
        """Wait until nothing is unsettled, at most `within_s`."""
        until = self._loop.time() + within_s
        while self._unsettled and self._loop.time() < until:
            await asyncio.sleep(0.01)

    def settle(self, entry: Entry, outcome: Outcome, facts: Facts) -> None:
        """One attempt for one entry ended."""
        now = self._clock.now()
        decision = self._scheduler.settle(entry, outcome, now)
        if decision is None:
            # The refusal was of the connection or the site: the entry was not tried and stays as it was.
            self._spools[entry.message.spool].unmark(entry)
            return
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._unsettled += 1
        event = self._event(entry, outcome, decision, facts, now)
        settlement = Settlement(entry, decision.due, event)
        # Who asked for nothing hears of failures alone; what is delivered for them passes in 20 ns.
        if entry.notify or event.kind == "b":
            settlement.owes_notice = event.kind != "t" and self._owes_notice(entry, event)
        self._batch.append((entry, settlement))

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        by_spool: dict[int, list[tuple[Entry, Settlement]]] = {}
        for item in batch:
            by_spool.setdefault(item[0].message.spool, []).append(item)
        for number, items in by_spool.items():
            self._settle_in(number, items)

    def _settle_in(self, number: int, items: list[tuple[Entry, Settlement]]) -> None:
        spool = self._spools[number]

        def on_disk() -> None:
            self._unsettled -= len(items)
            for entry, settlement in items:
                spool.unmark(entry)
                if settlement.due is None:
                    self._bodies.release(entry.message)
            self._scheduler.settled([entry for entry, _ in items], self._clock.now())
            self._on_change()

        spool.settle([settlement for _, settlement in items], on_disk)

    def _event(
        self, entry: Entry, outcome: Outcome, decision: Decision, facts: Facts, now: float
    ) -> Attempt:
        message, reply = entry.message, outcome.reply
        local = False
        if isinstance(outcome, Delivered):
            kind = "d"
            category, verdict, fault = SUCCESS, "", ""
            self._counts.delivered += 1
            add_to(self._counts.delivered_by_vmta, entry.key.vmta)
            self._timings.delivery.observe(max(0.0, now - message.received_at))
        else:
            local = outcome.local
            refusal = self.classifier.classify(reply, facts.site, local)
            category, verdict, fault = refusal.category, refusal.verdict, refusal.fault
            add_to_both(self._counts.refusals, category, verdict)
            kind = "t" if decision.due is not None else "b"
            if kind == "t":
                self._counts.deferred += 1
                add_to(self._counts.deferrals_by_category, category)
            else:
                self._counts.bounced += 1
                add_to(self._counts.bounces_by_category, category)
                self._counts.expired += decision.by == "expired"
        site = facts.site if facts.site in self.named_sites else OTHER_SITES
        add_to_both(self._counts.attempts_by_site, site, _OUTCOMES[kind])
        may_repeat = entry.may_repeat or (isinstance(outcome, Deferred) and outcome.may_repeat)
        self._counts.may_repeat += may_repeat
        return Attempt(
            kind,
            now,
            message.number,
            entry.number,
            message.sender,
            entry.address,
            entry.orcpt,
            entry.key.domain,
            entry.key.vmta,
            message.job,
            message.envid,
            message.size,
            message.received_at,
            entry.first_attempt,
            entry.attempts,
            reply.code,
            reply.enhanced,
            reply.text,
            local,
            category,
            message.source_kind,
            message.source_name,
            message.source_ip,
            message.user,
            facts.remote_name,
            facts.remote_ip,
            facts.local_ip,
            facts.extensions,
            facts.tls_protocol,
            facts.tls_cipher,
            may_repeat,
            facts.site,
            decision.by,
            verdict,
            fault,
        )
