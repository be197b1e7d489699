"""What an operator can ask of a running server: one function a verb, over a list of workers.

Workers are asked side by side and each has a deadline; one that does not answer is named in the answer (`silent`), and the
others' answers stand. Totals are added here, so a worker never knows of another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import msgspec

from mta.control.protocol import ControlError
from mta.control.registry import NoArguments, Registry
from mta.model.envelope import QueueKey, is_message_id, parse_message_id, parse_queue_key
from mta.model.errors import ConfigError
from mta.spool.words import Filter

WORKER_DEADLINE_S = 1.0
CHANGE_DEADLINE_S = 120.0

T = TypeVar("T")
Row = dict[str, Any]


class WorkerFace(Protocol):
    """What one worker answers. Plain values only: it may stand behind a socket."""

    @property
    def number(self) -> int: ...

    async def status(self) -> Row: ...

    async def metrics(self) -> Row:
        """Its numbers by name: a snapshot, as `mta.metrics.catalogue` describes it."""

    async def queues(self, *, sort: str, limit: int, match: str) -> tuple[int, list[Row]]:
        """How many queues match, and the first `limit` of them."""

    async def queue(self, key: QueueKey) -> Row | None:
        """One queue with its policy, or None."""

    async def pause(self, key: QueueKey) -> bool: ...

    async def resume(self, key: QueueKey) -> bool: ...

    async def retry(self, key: QueueKey) -> int:
        """Try now: how many entries became due."""

    async def messages(self, which: Filter, limit: int) -> list[Row]:
        """Recipients that match, oldest first: up to `limit` of each of its spools."""

    async def delete(self, which: Filter) -> int: ...

    async def explain_queue(self, key: QueueKey) -> list[Row]: ...

    async def explain_message(self, number: int, spool: str = "") -> list[Row]:
        """`spool`: how the UUID of its spool begins; "": any that it has."""

    async def resolve(self, key: QueueKey) -> Row: ...


class ServerFace(Protocol):
    """What the server as a whole answers."""

    async def status(self) -> Row: ...

    async def reload(self) -> list[str]:
        """What changed, in words. Raises ConfigError and changes nothing."""

    async def rotate(self) -> dict[str, str]:
        """Accounting set → the file that was finished."""

    def shutdown(self, *, drain: bool) -> None: ...


class QueuesArgs(msgspec.Struct, forbid_unknown_fields=True):
    """`sort`: recipients, bytes, oldest, due or domain. `match`: part of the queue's name."""

    sort: str = "recipients"
    limit: int = 20
    match: str = ""


class QueueArgs(msgspec.Struct, forbid_unknown_fields=True):
    """`queue`: domain/vmta, or domain alone for the virtual MTA named default."""

    queue: str


class FilterArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Which messages: all that is given must match. `message`: 1f2e3d4c-17, or 17 for that number in any spool."""

    domain: str = ""
    vmta: str = ""
    job: str | None = None
    sender: str | None = None
    recipient: str = ""
    message: int | str = ""
    older_than_s: float = 0.0
    held: bool | None = None
    limit: int = 100


class DeleteArgs(FilterArgs, forbid_unknown_fields=True):
    """`all`: must be said when nothing else narrows the choice. `dry_run`: only count."""

    all: bool = False
    dry_run: bool = False


class ExplainArgs(msgspec.Struct, forbid_unknown_fields=True):
    """A message's id or number, or a queue."""

    what: str


class ResolveArgs(msgspec.Struct, forbid_unknown_fields=True):
    """A domain and the virtual MTA that would send."""

    domain: str
    vmta: str = "default"


class ShutdownArgs(msgspec.Struct, forbid_unknown_fields=True):
    """`drain`: first deliver what is due, taking nothing new."""

    drain: bool = False


class Verbs:
    """All verbs of a server."""

    def __init__(self, server: ServerFace, workers: Sequence[WorkerFace]) -> None:
        self._server = server
        self._workers = workers

    def register(self, registry: Registry) -> None:
        """Teach all of them."""
        add = registry.add
        add("status", NoArguments, self.status, help="rates, totals, connections, disk, lag")
        add("queues", QueuesArgs, self.queues, help="the queues, largest first")
        add("queue.show", QueueArgs, self.queue_show, help="one queue: state, waits, policy")
        add("queue.pause", QueueArgs, self.queue_pause, help="stop a queue", changes=True)
        add("queue.resume", QueueArgs, self.queue_resume, help="go on with it", changes=True)
        add("queue.retry", QueueArgs, self.queue_retry, help="try all of it now", changes=True)
        add("messages.list", FilterArgs, self.messages_list, help="queued recipients")
        add("messages.show", FilterArgs, self.messages_show, help="one message, all recipients")
        add(
            "messages.delete",
            DeleteArgs,
            self.messages_delete,
            help="remove queued recipients",
            changes=True,
            deadline_s=CHANGE_DEADLINE_S,
        )
        add("explain", ExplainArgs, self.explain, help="why it waits, until when, set where")
        add("resolve", ResolveArgs, self.resolve, help="where a domain's mail goes")
        add("reload", NoArguments, self.reload, help="read the configuration again", changes=True)
        add("rotate", NoArguments, self.rotate, help="begin new accounting files", changes=True)
        add("shutdown", ShutdownArgs, self.shutdown, help="stop the server", changes=True)

    # -- looking --------------------------------------------------------------------------------

    async def status(self, args: NoArguments) -> Row:
        """The server, the sums over its workers, and each worker."""
        workers, silent = await self._ask(lambda worker: worker.status())
        return {
            **await self._server.status(),
            **_add_up(workers),
            "workers": workers,
            "silent": silent,
        }

    async def queues(self, args: QueuesArgs) -> Row:
        """The queues of all workers; one that several hold is one row."""
        if args.sort not in _ORDER:
            raise ControlError(f"cannot sort by {args.sort}", f"sort by: {', '.join(_ORDER)}")
        asked = self._ask(
            lambda worker: worker.queues(sort=args.sort, limit=args.limit, match=args.match)
        )
        answers, silent = await asked
        rows = _merge_queues([row for _, rows in answers for row in rows])
        rows.sort(key=_ORDER[args.sort])
        total = max((total for total, _ in answers), default=0)
        return {"total": max(total, len(rows)), "queues": rows[: args.limit], "silent": silent}

    async def queue_show(self, args: QueueArgs) -> Row:
        """One queue, with every reason it waits for and its policy."""
        key = _queue_key(args.queue)
        shown, silent = await self._ask(lambda worker: worker.queue(key))
        found = [row for row in shown if row is not None]
        if not found:
            raise ControlError(f"there is no queue {key}", "sluice queues lists them")
        return {**_merge_queues(found)[0], "silent": silent}

    async def messages_list(self, args: FilterArgs) -> Row:
        """Queued recipients that match, oldest first."""
        which = _filter(args)
        answers, silent = await self._ask(lambda worker: worker.messages(which, args.limit))
        rows = [row for rows in answers for row in rows]
        rows.sort(key=lambda row: (row["received_at"], row["message"], row["id"], row["recipient"]))
        return {"recipients": rows[: args.limit], "silent": silent}

    async def messages_show(self, args: FilterArgs) -> Row:
        """One message: its recipients, each with its state."""
        if not args.message:
            raise ControlError("which message?", "give its id, as `messages list` shows it")
        answer = await self.messages_list(args)
        if not answer["recipients"]:
            raise _not_queued(str(args.message), answer["silent"])
        return answer

    async def explain(self, args: ExplainArgs) -> Row:
        """Every reason a queue or a message waits for."""
        what = args.what.strip()
        if is_message_id(what):
            spool, number = parse_message_id(what)
            answers, silent = await self._ask(lambda worker: worker.explain_message(number, spool))
            if not any(answers):
                raise _not_queued(what, silent)
        else:
            key = _queue_key(what)
            answers, silent = await self._ask(lambda worker: worker.explain_queue(key))
        return {"what": what, "waits": [row for rows in answers for row in rows], "silent": silent}

    async def resolve(self, args: ResolveArgs) -> Row:
        """A domain's route as the first worker finds it now."""
        key = QueueKey(args.domain.strip().lower().rstrip("."), args.vmta)
        return await self._workers[0].resolve(key)

    # -- changing -------------------------------------------------------------------------------

    async def queue_pause(self, args: QueueArgs) -> Row:
        """Stop a queue until it is resumed; it survives a restart."""
        key = _queue_key(args.queue)
        _, silent = await self._ask(lambda worker: worker.pause(key))
        return {"queue": str(key), "paused": True, "silent": silent}

    async def queue_resume(self, args: QueueArgs) -> Row:
        """End a pause."""
        key = _queue_key(args.queue)
        answers, silent = await self._ask(lambda worker: worker.resume(key))
        return {"queue": str(key), "paused": False, "was_paused": any(answers), "silent": silent}

    async def queue_retry(self, args: QueueArgs) -> Row:
        """Make everything in the queue due now, and end its backoff."""
        key = _queue_key(args.queue)
        answers, silent = await self._ask(
            lambda worker: worker.retry(key), deadline_s=CHANGE_DEADLINE_S
        )
        return {"queue": str(key), "due": sum(answers), "silent": silent}

    async def messages_delete(self, args: DeleteArgs) -> Row:
        """Remove queued recipients; each leaves a bounce record marked `administrator`."""
        which = _filter(args)
        if which.message and not which.spool:
            which = await self._the_one(which)
        if which == Filter() and not args.all:
            raise ControlError("that would delete all mail", "narrow it down, or say --all")
        if args.dry_run:
            answers, silent = await self._ask(lambda worker: worker.messages(which, 1_000_000))
            return {"would_delete": sum(len(rows) for rows in answers), "silent": silent}
        deleted, silent = await self._ask(
            lambda worker: worker.delete(which), deadline_s=CHANGE_DEADLINE_S
        )
        return {"deleted": sum(deleted), "silent": silent}

    async def _the_one(self, which: Filter) -> Filter:
        """The filter with the spool of the one message that has this number.

        Raises ControlError where several spools have one: to delete all of them would be a guess.
        """
        answers, _ = await self._ask(lambda worker: worker.messages(which, 1))
        ids = {row["id"] for rows in answers for row in rows}
        if len(ids) > 1:
            text = f"{len(ids)} messages have the number {which.message}: {', '.join(sorted(ids))}"
            raise ControlError(text, "name the one that is meant by its id")
        return replace(which, spool=parse_message_id(ids.pop())[0]) if ids else which

    async def reload(self, args: NoArguments) -> Row:
        """Read the configuration again; a bad one changes nothing."""
        try:
            return {"reloaded": True, "notes": await self._server.reload()}
        except ConfigError as error:
            raise ControlError(
                "the configuration was not changed; it has mistakes:\n" + str(error),
                "sluice config check shows them without touching the server",
            ) from None

    async def rotate(self, args: NoArguments) -> Row:
        """Begin new accounting files."""
        return {"finished": await self._server.rotate()}

    async def shutdown(self, args: ShutdownArgs) -> Row:
        """Stop the server; what is queued stays in the spool."""
        self._server.shutdown(drain=args.drain)
        return {"stopping": True, "drain": args.drain}

    async def _ask(
        self,
        question: Callable[[WorkerFace], Awaitable[T]],
        deadline_s: float = WORKER_DEADLINE_S,
    ) -> tuple[list[T], list[int]]:
        """Every worker's answer, and the numbers of those that did not answer in time."""

        async def ask(worker: WorkerFace) -> T:
            async with asyncio.timeout(deadline_s):
                return await question(worker)

        answers = await asyncio.gather(
            *(ask(worker) for worker in self._workers), return_exceptions=True
        )
        good: list[T] = []
        silent: list[int] = []
        for worker, answer in zip(self._workers, answers, strict=True):
            if isinstance(answer, TimeoutError | ConnectionError):
                silent.append(worker.number)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                good.append(answer)
        return good, silent


_ORDER: dict[str, Callable[[Row], Any]] = {
    "recipients": lambda row: (-row["recipients"], row["queue"]),
    "oldest": lambda row: (row["oldest_at"] or float("inf"), row["queue"]),
    "domain": lambda row: row["queue"],
    "bytes": lambda row: (-row["size_bytes"], row["queue"]),
    "due": lambda row: (row["due"] is None, row["due"] or 0.0, row["queue"]),
}
_ADDED = ("recipients", "held", "size_bytes", "ready", "in_flight", "connections")


def _queue_key(text: str) -> QueueKey:
    try:
        return parse_queue_key(text)
    except ValueError as error:
        raise ControlError(str(error)) from None


def _not_queued(message: str, silent: list[int]) -> ControlError:
    """What to say of a message that nobody has."""
    if silent:
        names = ", ".join(map(str, silent))
        text = f"message {message} is not queued in the workers that answered"
        return ControlError(text, f"worker {names} did not answer; ask again")
    return ControlError(
        f"message {message} is not queued",
        "it was delivered, bounced or deleted: the accounting file says which",
    )


def _filter(args: FilterArgs) -> Filter:
    try:
        spool, message = parse_message_id(str(args.message)) if args.message else ("", 0)
    except ValueError as error:
        raise ControlError(str(error)) from None
    return Filter(
        spool=spool,
        domain=args.domain,
        vmta=args.vmta,
        job=args.job,
        sender=args.sender,
        recipient=args.recipient,
        message=message,
        older_than_s=args.older_than_s,
        held=args.held,
    )


def _add_up(workers: list[Row]) -> Row:
    """The sum of every number in the workers' `totals`, and the worst of their lags."""
    totals: Row = {}
    for worker in workers:
        for name, value in worker["totals"].items():
            totals[name] = totals.get(name, 0) + value
    lag = max((worker["loop_lag_p99_ms"] for worker in workers), default=0.0)
    return {"totals": totals, "loop_lag_p99_ms": lag}


def _merge_queues(rows: list[Row]) -> list[Row]:
    """Rows of one queue from several workers become one: counts added, the rest from the one that waits longest."""
    merged: dict[str, Row] = {}
    for row in rows:
        first = merged.setdefault(row["queue"], row)
        if first is not row:
            later = max(first, row, key=lambda each: each["next_at"] or 0.0)
            sums = {name: first[name] + row[name] for name in _ADDED}
            merged[row["queue"]] = {**later, **sums}
    return list(merged.values())
