"""Why mail of one worker waits: what the scheduler says of a queue, what the spools hold back, and the operator's doings.

What an operator stopped names who did it, until when, and the command that ends it.
"""

import shlex
from asyncio import wrap_future
from collections.abc import Iterable
from functools import partial
from typing import Any

from mta.model.envelope import Entry, QueueKey, format_message_id
from mta.policy.orders import BY_OPERATOR, LIMITS, PAUSE, Order, ending_of
from mta.queue.answers import VMTA_PAUSED, Wait
from mta.runtime.worker import Worker
from mta.spool.queries import Queries
from mta.spool.words import Filter, Listed, Waiting

Row = dict[str, Any]
ENTRIES_OF_A_MESSAGE = 1000
SCHEDULED = "scheduled: its sender set a time before which it is not sent"
# What the scheduler says where it knows nothing of single entries; the spools do.
_OF_ENTRIES = ("retry", "its turn")


class Explaining:
    """Asks scheduler, spools and orders of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def queue(self, key: QueueKey) -> list[Row]:
        """Every reason the queue waits for, or a part of what is in it."""
        found = await self._mail_of(key)
        # What is not due, or stopped, or not there, does not wait for its turn.
        idle = ("retry",) if found.is_due else _OF_ENTRIES
        waits = [each for each in await self._waits(key) if each.what not in idle]
        rows = [*self._of_orders(str(key), key), *self._rows(str(key), key, waits)]
        rows += [self._of_job(str(key), name, "some of its mail") for name in found.jobs]
        if found.held:
            text = f"held: {found.held} of its recipients"
            command = f"sluice messages release --domain {key.domain} --vmta {key.vmta}"
            rows.append(_row(text, str(key), command=command))
        if found.next_due is not None:
            rows.append(self._of_time(key, found))
        return rows

    async def message(self, number: int, spool: str = "") -> list[Row]:
        """Every reason any recipient of the message waits for; `spool`: how its spool's UUID begins, "" any."""
        rows: list[Row] = []
        which = Filter(message=number, spool=spool)
        for each in self._worker.spools.values():
            name = format_message_id(each.uuid, number)
            for listed in await wrap_future(each.list_messages(which, ENTRIES_OF_A_MESSAGE)):
                rows += await self._recipient(name, listed)
        return rows

    async def _recipient(self, message: str, listed: Listed) -> list[Row]:
        entry, now = listed.entry, self._worker.clock.now()
        key, name = entry.key, f"{message} to {entry.address}"
        rows = []
        if listed.held:
            command = f"sluice messages release --message {message}"
            rows.append(_row(f"held: {listed.hold_reason}", name, command=command))
        elif not entry.attempts and entry.message.release_at > now:
            rows.append(_row(SCHEDULED, name, entry.due))
        elif entry.due > now:
            last = f"; last answer: {listed.reply}" if listed.reply else ""
            text = f"next attempt is number {entry.attempts + 1}{last}"
            rows.append(_row(text, name, entry.due, self._place_of_retry(entry.key)))
        if entry.message.job in self._worker.job_stops.jobs:
            rows.append(self._of_job(name, entry.message.job, "its job"))
        rows += self._of_orders(name, key)
        waits = [each for each in await self._waits(key) if self._concerns(each, entry, now)]
        rows += self._rows(name, key, waits)
        if not listed.held and any(each["command"] for each in rows):
            rows.append(self._expiry(name, entry))
        return rows

    def _expiry(self, name: str, entry: Entry) -> Row:
        """A pause stops no clock: whoever paused it is told how long it may last."""
        worker, message = self._worker, entry.message
        policy = worker.settings.book.policy(entry.key, worker.scheduler.site(entry.key))
        spool = worker.spools[message.spool]
        held_s = spool.licence_held_s(worker.clock.now()) - message.licence_held_s
        until = max(message.received_at, message.release_at) + held_s + policy.expire_after
        place = str(policy.places.get("expire_after", ""))
        return _row("it expires on time, paused or not", name, until, place)

    @staticmethod
    def _concerns(wait: Wait, entry: Entry, now: float) -> bool:
        """Whether what the queue waits for is nothing of other entries'."""
        return wait.what != "retry" and (wait.what != "its turn" or entry.due <= now)

    async def _waits(self, key: QueueKey) -> list[Wait]:
        worker, stored = self._worker, None
        for spool in worker.spools.values():
            stored = await wrap_future(spool.queue_state(key)) or stored
        now = worker.clock.now()
        return worker.scheduler.explain(key, now, stored, worker.site_of(key.domain))

    async def _mail_of(self, key: QueueKey) -> Waiting:
        ask = partial(Queries.waiting, key=key, now=self._worker.clock.now())
        spools = self._worker.spools.values()
        found = [await wrap_future(spool.call(ask)) for spool in spools]
        later = min(
            (each for each in found if each.next_due is not None),
            key=lambda each: each.next_due or 0.0,
            default=Waiting(),
        )
        return Waiting(
            sum(each.held for each in found),
            tuple(dict.fromkeys(name for each in found for name in each.jobs)),
            any(each.is_due for each in found),
            later.next_due,
            later.is_scheduled,
        )

    # -- rows -----------------------------------------------------------------------------------

    def _rows(self, of: str, key: QueueKey, waits: Iterable[Wait]) -> list[Row]:
        """What the scheduler says; pauses by orders aside, all of which are told apart."""
        limits = {str(each): ending_of(each) for each in self._orders(LIMITS)}
        rows = []
        for wait in waits:
            if wait.what == "paused by an order":
                continue
            what = wait.what + (f" ({wait.detail})" if wait.detail else "")
            place = "" if wait.place is None else str(wait.place)
            command = limits.get(place, "")
            if wait.what == "paused by the operator":
                command = f"sluice queue resume {key}"
            elif wait.what == VMTA_PAUSED:
                command = f"sluice vmta resume {key.vmta}"
            rows.append(_row(what, of, wait.until or None, place, command))
        return rows

    def _of_orders(self, of: str, key: QueueKey) -> list[Row]:
        """Every order that stops the queue, not the most specific alone: each must end before mail goes."""
        site = self._worker.scheduler.site(key) or self._worker.site_of(key.domain)
        subjects = {("domain", key.domain), ("site", site), ("queue", str(key))}
        return [
            _row(
                f"paused by an order ({each.value or BY_OPERATOR})",
                of,
                each.until,
                str(each),
                ending_of(each),
            )
            for each in self._orders((PAUSE,))
            if (each.scope, each.name) in subjects
        ]

    def _of_job(self, of: str, job: str, whose: str) -> Row:
        order = next(
            (each for each in self._orders((PAUSE,)) if each.subject[:2] == ("job", job)), None
        )
        reason = self._worker.job_stops.jobs.get(job, BY_OPERATOR)
        text = f"paused job {job}: {whose} ({reason})"
        if order is None:  # it is just being ended
            return _row(text, of, command=f"sluice jobs resume {shlex.quote(job)}")
        return _row(text, of, order.until, str(order), ending_of(order))

    def _of_time(self, key: QueueKey, found: Waiting) -> Row:
        if found.is_scheduled:
            return _row("scheduled: mail whose sender set a time", str(key), found.next_due)
        place = self._place_of_retry(key)
        return _row("retry (the next deferred entry)", str(key), found.next_due, place)

    def _place_of_retry(self, key: QueueKey) -> str:
        site = self._worker.scheduler.site(key)
        return str(self._worker.settings.book.policy(key, site).places.get("retry", ""))

    def _orders(self, settings: Iterable[str]) -> list[Order]:
        return [each for each in self._worker.settings.orders if each.setting in settings]


def _row(what: str, of: str, until: float | None = None, place: str = "", command: str = "") -> Row:
    return {"what": what, "of": of, "until": until, "place": place, "command": command}
