"""What one worker answers to the operator when it lives in another process: `WorkerFront` over its link.

The supervisor's verbs give each question a deadline; a worker that does not answer, or is just being started again, is named in
the answer. The deadline here is only the last resort.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from mta.control.archive import Page, Parcel, Taken
from mta.metrics.catalogue import Snapshot
from mta.model.envelope import QueueKey
from mta.runtime.child import Child
from mta.spool.words import Filter

Row = dict[str, Any]
LAST_RESORT_S = 300.0


class RemoteFront:
    """The operator's view of one worker, from afar. Raises ConnectionError while it does not run."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @property
    def number(self) -> int:
        return self._child.number

    async def send_letter(self, recipient: str, subject: str, text: str) -> str:
        """See `WorkerFront.send_letter`."""
        words = {"recipient": recipient, "subject": subject, "text": text}
        answer: str = await self._ask("send_letter", **words)
        return answer

    async def status(self) -> Row:
        """See `WorkerFront.status`."""
        answer: Row = await self._ask("status")
        return answer

    async def metrics(self) -> Snapshot:
        """See `WorkerFront.metrics`."""
        answer: Snapshot = await self._ask("metrics")
        return answer

    async def queues(self, *, sort: str, limit: int, match: str) -> tuple[int, list[Row]]:
        """See `WorkerFront.queues`."""
        total, rows = await self._ask("queues", sort=sort, limit=limit, match=match)
        return total, rows

    async def queues_named(self, keys: Sequence[QueueKey]) -> list[Row]:
        """See `WorkerFront.queues_named`."""
        answer: list[Row] = await self._ask("queues_named", keys=list(keys))
        return answer

    async def queue_names(self, match: str, limit: int) -> list[str]:
        """See `WorkerFront.queue_names`."""
        answer: list[str] = await self._ask("queue_names", match=match, limit=limit)
        return answer

    async def groups(self, *, kind: str, sort: str, match: str) -> list[Row]:
        """See `WorkerFront.groups`."""
        answer: list[Row] = await self._ask("groups", kind=kind, sort=sort, match=match)
        return answer

    async def count(self, which: Filter) -> int:
        """See `WorkerFront.count`."""
        answer: int = await self._ask("count", which=which)
        return answer

    async def queue(self, key: QueueKey) -> Row | None:
        """See `WorkerFront.queue`."""
        answer: Row | None = await self._ask("queue", key=key)
        return answer

    async def pause(self, key: QueueKey) -> bool:
        """See `WorkerFront.pause`."""
        answer: bool = await self._ask("pause", key=key)
        return answer

    async def resume(self, key: QueueKey) -> bool:
        """See `WorkerFront.resume`."""
        answer: bool = await self._ask("resume", key=key)
        return answer

    async def retry(self, key: QueueKey) -> int:
        """See `WorkerFront.retry`."""
        answer: int = await self._ask("retry", key=key)
        return answer

    async def messages(self, which: Filter, limit: int) -> list[Row]:
        """See `WorkerFront.messages`."""
        answer: list[Row] = await self._ask("messages", which=which, limit=limit)
        return answer

    async def hold(self, which: Filter, reason: str) -> int:
        """See `WorkerFront.hold`."""
        answer: int = await self._ask("hold", which=which, reason=reason)
        return answer

    async def release(self, which: Filter) -> int:
        """See `WorkerFront.release`."""
        answer: int = await self._ask("release", which=which)
        return answer

    async def retry_messages(self, which: Filter) -> int:
        """See `WorkerFront.retry_messages`."""
        answer: int = await self._ask("retry_messages", which=which)
        return answer

    async def delete(self, which: Filter) -> int:
        """See `WorkerFront.delete`."""
        answer: int = await self._ask("delete", which=which)
        return answer

    async def reroute(self, which: Filter, to: str, dry_run: bool) -> int:
        """See `WorkerFront.reroute`."""
        answer: int = await self._ask("reroute", which=which, to=to, dry_run=dry_run)
        return answer

    async def vmtas(self) -> list[Row]:
        """See `WorkerFront.vmtas`."""
        answer: list[Row] = await self._ask("vmtas")
        return answer

    async def look_at_vmtas(self) -> bool:
        """See `WorkerFront.look_at_vmtas`."""
        answer: bool = await self._ask("look_at_vmtas")
        return answer

    async def export_page(self, which: Filter, place: tuple[int, int]) -> Page:
        """See `WorkerFront.export_page`."""
        return msgspec.convert(await self._ask("export_page", which=which, place=place), Page)

    async def export_part(self, spool: int, message: int, offset: int) -> bytes | None:
        """See `WorkerFront.export_part`."""
        answer: bytes | None = await self._ask(
            "export_part", spool=spool, message=message, offset=offset
        )
        return answer

    async def imported(self, ids: list[str]) -> list[str]:
        """See `WorkerFront.imported`."""
        answer: list[str] = await self._ask("imported", ids=ids)
        return answer

    async def import_messages(self, parcels: list[Parcel]) -> list[Taken]:
        """See `WorkerFront.import_messages`."""
        return msgspec.convert(await self._ask("import_messages", parcels=parcels), list[Taken])

    async def trace_begin(self, queues: list[tuple[str, str]]) -> int:
        """See `WorkerFront.trace_begin`."""
        answer: int = await self._ask("trace_begin", queues=queues)
        return answer

    async def trace_read(self, number: int) -> tuple[list[Row], int] | None:
        """See `WorkerFront.trace_read`."""
        answer: tuple[list[Row], int] | None = await self._ask("trace_read", number=number)
        return answer

    async def trace_end(self, number: int) -> None:
        """See `WorkerFront.trace_end`."""
        await self._ask("trace_end", number=number)

    async def explain_queue(self, key: QueueKey) -> list[Row]:
        """See `WorkerFront.explain_queue`."""
        answer: list[Row] = await self._ask("explain_queue", key=key)
        return answer

    async def explain_message(self, number: int, spool: str = "") -> list[Row]:
        """See `WorkerFront.explain_message`."""
        answer: list[Row] = await self._ask("explain_message", number=number, spool=spool)
        return answer

    async def resolve(self, key: QueueKey) -> Row:
        """See `WorkerFront.resolve`."""
        answer: Row = await self._ask("resolve", key=key)
        return answer

    async def _ask(self, method: str, **arguments: Any) -> Any:
        return await self._child.asker.ask(method, LAST_RESORT_S, **arguments)
