"""`trace`: the live SMTP dialogue of a domain's, a queue's or a message's connections, over all workers, while somebody listens.

Bounded three ways: time, lines, and what a worker keeps until it is read. A worker that starts anew meanwhile is watched again.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec

from mta.control.asking import Times, ask_all
from mta.control.faces import Row, WorkerFace
from mta.control.message_verbs import not_queued
from mta.control.protocol import ControlError
from mta.control.registry import Registry
from mta.model.envelope import is_message_id, parse_message_id, parse_queue_key
from mta.spool.words import Filter

READ_S = 0.2  # how often workers are asked
QUIET_S = 5.0  # so often something is sent, to notice that nobody listens any more
MAX_S = 3600.0
MAX_LINES = 100_000
RECIPIENTS = 1000  # of a message whose queues are watched

Queues = list[tuple[str, str]]


class TraceArgs(msgspec.Struct, forbid_unknown_fields=True):
    """`what`: a domain, domain/vmta, or a message's id: the connections of its queues. `for_s`, `limit`: when it ends."""

    what: str
    for_s: float = 60.0
    limit: int = 10_000


class TraceVerb:
    """The one verb."""

    def __init__(self, workers: Sequence[WorkerFace], times: Times | None = None) -> None:
        self._workers = workers
        self._times = times or Times()

    def register(self, registry: Registry) -> None:
        """Teach it."""
        registry.add(
            "trace",
            TraceArgs,
            self.trace,
            help="the live SMTP dialogue",
            changes=True,  # it shows addresses: the log says who asked
            deadline_s=MAX_S + 60.0,
            items_per_line=1,
        )

    async def trace(self, args: TraceArgs) -> AsyncIterator[Row]:
        """Rows of lines as they are said: worker, connection, queue, peer, side (`>` ours, `<` the host's, `*` neither), text."""
        if not 0 < args.for_s <= MAX_S:
            raise ControlError(f"a trace lasts at most {MAX_S:g} s, and more than none")
        if not 0 < args.limit <= MAX_LINES:
            raise ControlError(f"a trace has at most {MAX_LINES} lines")
        queues = await self._queues(args.what.strip())
        loop = asyncio.get_running_loop()
        until, told_at, left = loop.time() + args.for_s, loop.time(), args.limit
        watches: dict[int, int] = {}
        try:
            while loop.time() < until and left > 0:
                row = await self._read(queues, watches)
                row["lines"] = row["lines"][:left]
                left -= len(row["lines"])
                if row["lines"] or row["dropped"] or loop.time() - told_at > QUIET_S:
                    told_at = loop.time()
                    yield row
                await asyncio.sleep(READ_S)
        finally:
            await ask_all(
                self._workers,
                lambda each: each.trace_end(watches.get(each.number, 0)),
                deadline_s=self._times.look_s,
            )

    async def _queues(self, what: str) -> Queues:
        if not is_message_id(what):
            try:
                key = parse_queue_key(what, "")
            except ValueError as error:
                raise ControlError(str(error)) from None
            return [(key.domain, key.vmta)]
        spool, number = parse_message_id(what)
        which = Filter(message=number, spool=spool)
        answers = await ask_all(
            self._workers,
            lambda each: each.messages(which, RECIPIENTS),
            deadline_s=self._times.look_s,
        )
        names = {row["queue"] for rows in answers.all for row in rows}
        if not names:
            raise not_queued(what, answers.silent)
        return [(domain, vmta) for domain, _, vmta in (name.partition("/") for name in names)]

    async def _read(self, queues: Queues, watches: dict[int, int]) -> Row:
        """What every worker has heard since the last time."""

        async def read(worker: WorkerFace) -> tuple[list[Row], int]:
            found = await worker.trace_read(watches.get(worker.number, 0))
            if found is None:  # it is new, or started anew
                watches[worker.number] = await worker.trace_begin(queues)
                if not watches[worker.number]:
                    raise ControlError("too many traces run already", "end one of them")
                return [], 0
            return found

        answers = await ask_all(self._workers, read, deadline_s=self._times.look_s)
        lines = [
            {**line, "worker": number}
            for number, (found, _) in answers.by_worker.items()
            for line in found
        ]
        lines.sort(key=lambda line: line["at"])
        dropped = sum(lost for _, lost in answers.all)
        return {"lines": lines, "dropped": dropped, "silent": answers.silent}
