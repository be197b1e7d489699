"""What one worker answers to the operator: the `WorkerFace` of the control verbs, over a `Worker` in this process."""

import asyncio
from asyncio import wrap_future
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mta.config.show import write_value
from mta.control.archive import Page, Parcel, Taken
from mta.model.envelope import QueueKey, format_message_id
from mta.model.outcome import Deferred, Failed
from mta.queue.answers import Wait
from mta.runtime.readings import Readings
from mta.runtime.rerouting import Rerouting
from mta.runtime.worker import Worker
from mta.runtime.worker_archive import WorkerArchive
from mta.runtime.worker_groups import WorkerGroups
from mta.runtime.worker_messages import WorkerMessages
from mta.runtime.worker_queues import WorkerQueues
from mta.spool.queries import Queries
from mta.spool.words import Filter

Row = dict[str, Any]
ENTRIES_OF_A_MESSAGE = 1000


class WorkerFront:
    """The operator's view of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._readings = Readings(worker)
        self._queues = WorkerQueues(worker)
        self._groups = WorkerGroups(worker)
        self._messages = WorkerMessages(worker)
        self._archive = WorkerArchive(worker)

    @property
    def number(self) -> int:
        return self._worker.number

    async def send_letter(self, recipient: str, subject: str, text: str) -> str:
        """A notice of ours to one recipient, outside of the queues; "" or why the host did not take it."""
        try:
            await self._worker.letters.send(recipient, subject, text)
        except OSError as error:
            return str(error) or type(error).__name__
        return ""

    async def status(self) -> Row:
        """Totals, rates, connections, disk, lag."""
        worker = self._worker
        counts = worker.counts
        spooled = [await wrap_future(spool.counts()) for spool in worker.spools.values()]
        messages_in, delivered = worker.traffic.last_minute()
        lag = worker.lag.histogram.summary()
        free = worker.house.free
        refusal = worker.house.refusal()
        return {
            "number": worker.number,
            "totals": {
                "messages_in": counts.messages_in,
                "recipients_in": counts.recipients_in,
                "delivered": counts.delivered,
                "deferred": counts.deferred,
                "bounced": counts.bounced,
                "expired": counts.expired,
                "notices": counts.notices,
                "notices_folded": counts.notices_folded,
                "notices_failed": counts.notices_failed,
                "notices_waived": counts.notices_waived,
                "last_minute_in": messages_in,
                "last_minute_delivered": delivered,
                "connections_in": len(worker.smtp.connections),
                "connections_out": worker.dispatcher.connections,
                "queued_messages": sum(each.messages for each in spooled),
                "queued_recipients": sum(each.recipients for each in spooled),
                "held": sum(each.held for each in spooled),
                "queues": sum(each.queues for each in spooled),
                "active_queues": len(worker.scheduler),
                "spool_bytes": sum(each.size_bytes for each in spooled),
                "unsettled": worker.settler.unsettled,
                "intake_memory": worker.memory.held_bytes,
                "body_cache": worker.bodies.held_bytes,
                "bugs": counts.bugs,
            },
            "loop_lag_p50_ms": round(lag.p50 * 1000, 2),
            "loop_lag_p99_ms": round(lag.p99 * 1000, 2),
            "loop_lag_max_ms": round(lag.max * 1000, 2),
            "free_bytes": free.free_bytes if free else None,
            "intake": "open" if refusal is None else str(refusal),
            "licence": "lab"
            if worker.settings.server.lab
            else str(worker.enforcement.entitlement.state),
            "licence_hold": worker.enforcement.hold,
            "vmtas_out": worker.vmtas.out(),
        }

    async def metrics(self) -> Row:
        """Every number of the metrics page."""
        return await self._readings.snapshot()

    async def queues(self, *, sort: str, limit: int, match: str) -> tuple[int, list[Row]]:
        """How many queues have `match` in their names, and the first `limit` in this order."""
        return await self._queues.queues(sort=sort, limit=limit, match=match)

    async def queues_named(self, keys: Sequence[QueueKey]) -> list[Row]:
        """The rows of those of these queues that there are."""
        return await self._queues.queues_named(keys)

    async def queue_names(self, match: str, limit: int) -> list[str]:
        """The names of up to `limit` queues that match."""
        return await self._queues.queue_names(match, limit)

    async def groups(self, *, kind: str, sort: str, match: str) -> list[Row]:
        """What is queued by domain, site or job."""
        return await self._groups.rows(kind, sort, match)

    async def queue(self, key: QueueKey) -> Row | None:
        """One queue: its row, why it waits, its policy with the place of each value."""
        worker = self._worker
        rows = await self.queues_named([key])
        if not rows:
            return None
        row = rows[0]
        book, site = worker.settings.book, worker.scheduler.site(key)
        return {
            **row,
            "waits": await self.explain_queue(key),
            "policy": [
                {"name": name, "value": write_value(name, value), "place": str(place)}
                for name, value, place in book.explain_policy(key, site)
            ],
        }

    async def pause(self, key: QueueKey) -> bool:
        """Stop a queue."""
        self._worker.scheduler.pause(key, self._worker.clock.now())
        self._worker.dispatcher.kick()
        return True

    async def resume(self, key: QueueKey) -> bool:
        """End its pause."""
        self._worker.scheduler.resume(key, self._worker.clock.now())
        self._worker.dispatcher.kick()
        return True

    async def retry(self, key: QueueKey) -> int:
        """All of it is due now."""
        worker = self._worker
        now = worker.clock.now()
        due = 0
        for spool in worker.spools.values():
            due += await wrap_future(spool.make_due(Filter(domain=key.domain, vmta=key.vmta), now))
        worker.scheduler.retry(key, worker.clock.now())
        worker.dispatcher.kick()
        return due

    async def messages(self, which: Filter, limit: int) -> list[Row]:
        """Queued recipients that match, up to `limit` of each spool."""
        return await self._messages.listed(which, limit)

    async def count(self, which: Filter) -> int:
        """How many recipients match."""
        return await self._messages.count(which)

    async def hold(self, which: Filter, reason: str) -> int:
        """Stop queued recipients; how many."""
        return await self._messages.hold(which, reason)

    async def release(self, which: Filter) -> int:
        """Let held recipients go on; how many."""
        return await self._messages.release(which)

    async def delete(self, which: Filter) -> int:
        """Remove queued recipients; how many."""
        return await self._messages.delete(which)

    async def retry_messages(self, which: Filter) -> int:
        """Try recipients now; how many."""
        return await self._messages.retry(which)

    async def export_page(self, which: Filter, place: tuple[int, int]) -> Page:
        """The next messages that match."""
        return await self._archive.export_page(self._messages.placed(which), place)

    async def export_part(self, spool: int, message: int, offset: int) -> bytes | None:
        """The next bytes of a message."""
        return await self._archive.export_part(spool, message, offset)

    async def imported(self, ids: list[str]) -> list[str]:
        """Those of these messages that are here, or were."""
        return await self._archive.imported(ids)

    async def import_messages(self, parcels: list[Parcel]) -> list[Taken]:
        """Take these messages."""
        return await self._archive.import_messages(parcels)

    async def trace_begin(self, queues: list[tuple[str, str]]) -> int:
        """Listen to these queues' connections."""
        dispatcher = self._worker.dispatcher
        return dispatcher.tracer.begin(queues, dispatcher.sessions())

    async def trace_read(self, number: int) -> tuple[list[Row], int] | None:
        """What was said since the last time."""
        return self._worker.dispatcher.tracer.read(number)

    async def trace_end(self, number: int) -> None:
        """Nobody listens any more."""
        self._worker.dispatcher.tracer.end(number)

    async def reroute(self, which: Filter, to: str, dry_run: bool) -> int:
        """Move queued recipients to this virtual MTA or pool; how many were, or would be."""
        order, which = Rerouting(self._worker, to), self._messages.placed(which)
        return await (order.count(which) if dry_run else order.run(which))

    async def vmtas(self) -> list[Row]:
        """The virtual MTAs: state, what is queued for each, connections, rate."""
        counts: dict[str, tuple[int, int]] = {}
        for spool in self._worker.spools.values():
            found = await wrap_future(spool.call(Queries.vmta_counts))
            for name, (recipients, queues) in found.items():
                before = counts.get(name, (0, 0))
                counts[name] = (before[0] + recipients, before[1] + queues)
        return self._worker.vmtas.rows(counts)

    async def look_at_vmtas(self) -> bool:
        """The operator has changed something about them."""
        self._worker.vmtas.decide()
        return True

    async def explain_queue(self, key: QueueKey) -> list[Row]:
        """Every reason the queue waits for."""
        worker = self._worker
        stored = None
        for spool in worker.spools.values():
            stored = await wrap_future(spool.queue_state(key)) or stored
        now, domain = worker.clock.now(), key.domain
        waits = worker.scheduler.explain(key, now, stored, worker.site_of(domain))
        return [_wait_row(str(key), each) for each in waits]

    async def explain_message(self, number: int, spool: str = "") -> list[Row]:
        """Every reason any recipient of the message waits for; `spool`: how its spool's UUID begins, "" any."""
        worker = self._worker
        now = worker.clock.now()
        rows: list[Row] = []
        which = Filter(message=number, spool=spool)
        for each in worker.spools.values():
            for listed in await wrap_future(each.list_messages(which, ENTRIES_OF_A_MESSAGE)):
                entry = listed.entry
                name = f"{format_message_id(each.uuid, number)} to {entry.address}"
                if listed.held:
                    what = f"held: {listed.hold_reason}"
                    rows.append({"what": what, "of": name, "until": None, "place": ""})
                elif not entry.attempts and entry.message.release_at > now:
                    text = "scheduled: its sender set a time before which it is not sent"
                    rows.append({"what": text, "of": name, "until": entry.due, "place": ""})
                elif entry.due > now:
                    last = f"; last answer: {listed.reply}" if listed.reply else ""
                    text = f"next attempt is number {entry.attempts + 1}{last}"
                    site = worker.scheduler.site(entry.key)
                    place = worker.settings.book.policy(entry.key, site).places.get("retry", "")
                    row = {"what": text, "of": name, "until": entry.due, "place": str(place)}
                    rows.append(row)
                rows.extend({**row, "of": name} for row in await self.explain_queue(entry.key))
        return rows

    async def resolve(self, key: QueueKey) -> Row:
        """The route of a domain, now."""
        async with asyncio.timeout(30):
            route = await self._worker.find_route(key)
        if isinstance(route, Deferred | Failed):
            kind = "fails" if isinstance(route, Failed) else "cannot be resolved now"
            return {"domain": key.domain, "vmta": key.vmta, "site": "", kind: str(route.reply)}
        return {
            "domain": key.domain,
            "vmta": key.vmta,
            "site": route.site,
            "candidates": [asdict(each) for each in route.candidates],
        }


def _wait_row(of: str, wait: Wait) -> Row:
    return {
        "what": wait.what + (f" ({wait.detail})" if wait.detail else ""),
        "of": of,
        "until": wait.until or None,
        "place": "" if wait.place is None else str(wait.place),
    }
