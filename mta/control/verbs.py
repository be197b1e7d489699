"""What an operator can ask of a running server: one function a verb, over a list of workers.

Workers are asked side by side. To look has a second in all, to change has longer; a worker that does not answer in time, or
whose process has just ended, is named in the answer (`silent`), and the others' answers stand. Totals are added here, so a worker
never knows of another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from mta.control.arguments import (
    MAX_MESSAGES,
    MAX_QUEUES,
    DeleteArgs,
    ExplainArgs,
    FilterArgs,
    QueueArgs,
    QueuesArgs,
    ResolveArgs,
    ShutdownArgs,
    make_filter,
    queue_key,
    shown,
)
from mta.control.asking import ask_all
from mta.control.faces import Row, ServerFace, WorkerFace
from mta.control.protocol import ControlError
from mta.control.registry import NoArguments, Registry
from mta.control.tables import ORDERS, merge_queues, merge_waits, read_table
from mta.model.envelope import QueueKey, is_message_id, parse_message_id
from mta.model.errors import ConfigError
from mta.spool.words import Filter

__all__ = ["ServerFace", "Verbs", "WorkerFace"]

WORKER_DEADLINE_S = 1.0  # to look
CHANGE_DEADLINE_S = 5.0  # to change one thing
MASS_DEADLINE_S = 120.0  # to change, or count, as much as there is
RESOLVE_DEADLINE_S = 30.0  # DNS servers that do not answer take their time
SLACK_S = (
    5.0  # a verb may take so much longer than its workers: it must be able to say who is silent
)

T = TypeVar("T")


class Verbs:
    """All verbs of a server. `workers` is looked at anew for each."""

    def __init__(
        self,
        server: ServerFace,
        workers: Sequence[WorkerFace],
        *,
        look_s: float = WORKER_DEADLINE_S,
        change_s: float = CHANGE_DEADLINE_S,
        mass_s: float = MASS_DEADLINE_S,
    ) -> None:
        self._server = server
        self._workers = workers
        self._look_s = look_s
        self._change_s = change_s
        self._mass_s = mass_s

    def register(self, registry: Registry) -> None:
        """Teach all of them."""
        add = registry.add
        mass_s = self._mass_s + SLACK_S
        add("status", NoArguments, self.status, help="rates, totals, connections, disk, lag")
        add("queues", QueuesArgs, self.queues, help="the queues, largest first")
        add("queue.show", QueueArgs, self.queue_show, help="one queue: state, waits, policy")
        add("queue.pause", QueueArgs, self.queue_pause, help="stop a queue", changes=True)
        add("queue.resume", QueueArgs, self.queue_resume, help="go on with it", changes=True)
        add(
            "queue.retry",
            QueueArgs,
            self.queue_retry,
            help="try all of it now",
            changes=True,
            deadline_s=mass_s,
        )
        add("messages.list", FilterArgs, self.messages_list, help="queued recipients")
        add("messages.show", FilterArgs, self.messages_show, help="one message, all recipients")
        add(
            "messages.delete",
            DeleteArgs,
            self.messages_delete,
            help="remove queued recipients",
            changes=True,
            deadline_s=mass_s,
        )
        add("explain", ExplainArgs, self.explain, help="why it waits, until when, set where")
        add(
            "resolve",
            ResolveArgs,
            self.resolve,
            help="where a domain's mail goes",
            deadline_s=RESOLVE_DEADLINE_S + SLACK_S,
        )
        add("reload", NoArguments, self.reload, help="read the configuration again", changes=True)
        add("rotate", NoArguments, self.rotate, help="begin new accounting files", changes=True)
        add("shutdown", ShutdownArgs, self.shutdown, help="stop the server", changes=True)

    # -- looking --------------------------------------------------------------------------------

    async def status(self, args: NoArguments) -> Row:
        """The server, the sums over its workers, and each worker that answered."""
        workers, silent = await self._look(lambda worker: worker.status())
        server = await self._server.status()
        return {**server, **_add_up(workers), "workers": workers, "silent": silent}

    async def queues(self, args: QueuesArgs) -> Row:
        """The first queues over all workers; one that several hold is one row.

        `total`: how many there are, at least where `total_is_exact` is false. `missing`: 0, or how much of what is sorted by a
        queue that is not shown may have.
        """
        if args.sort not in ORDERS:
            raise ControlError(f"cannot sort by {args.sort}", f"sort by: {', '.join(ORDERS)}")
        table = await read_table(
            self._workers,
            sort=args.sort,
            limit=shown(args.limit, MAX_QUEUES),
            match=args.match,
            deadline_s=self._look_s,
        )
        return {
            "total": table.total,
            "total_is_exact": table.is_total_exact and not table.silent,
            "queues": table.rows,
            "missing": table.missing,
            "silent": table.silent,
        }

    async def queue_show(self, args: QueueArgs) -> Row:
        """One queue, with every reason it waits for and its policy."""
        key = queue_key(args.queue)
        answers, silent = await self._look(lambda worker: worker.queue(key))
        found = [row for row in answers if row is not None]
        if not found:
            raise _not_there(f"there is no queue {key}", "sluice queues lists them", silent)
        return {**merge_queues(found)[0], "silent": silent}

    async def messages_list(self, args: FilterArgs) -> Row:
        """Queued recipients that match, oldest first."""
        which, limit = make_filter(args), shown(args.limit, MAX_MESSAGES)
        answers, silent = await self._look(lambda worker: worker.messages(which, limit))
        rows = [row for rows in answers for row in rows]
        rows.sort(key=lambda row: (row["received_at"], row["message"], row["id"], row["recipient"]))
        return {"recipients": rows[:limit], "silent": silent}

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
            answers, silent = await self._look(lambda worker: worker.explain_message(number, spool))
            if not any(answers):
                raise _not_queued(what, silent)
        else:
            key = queue_key(what)
            answers, silent = await self._look(lambda worker: worker.explain_queue(key))
        waits = merge_waits([row for rows in answers for row in rows])
        return {"what": what, "waits": waits, "silent": silent}

    async def resolve(self, args: ResolveArgs) -> Row:
        """A domain's route, as the first worker finds it that answers.

        Each of them would find the same, so only one is asked; another whenever those asked so far have not answered within
        the time for looking.
        """
        key = QueueKey(args.domain.strip().lower().rstrip("."), args.vmta)
        asked: set[asyncio.Task[Row]] = set()
        left = list(self._workers)
        try:
            async with asyncio.timeout(RESOLVE_DEADLINE_S):
                while left or asked:
                    if left:
                        asked.add(asyncio.ensure_future(left.pop(0).resolve(key)))
                    wait_s = self._look_s if left else None
                    done, asked = await asyncio.wait(
                        asked, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        if not isinstance(task.exception(), TimeoutError | ConnectionError):
                            return task.result()
        except TimeoutError:
            pass
        finally:
            for task in asked:
                task.cancel()
        raise ControlError("no worker answers", "sluice status shows which do")

    # -- changing -------------------------------------------------------------------------------

    async def queue_pause(self, args: QueueArgs) -> Row:
        """Stop a queue until it is resumed; it survives a restart."""
        key = queue_key(args.queue)
        _, silent = await self._ask(lambda worker: worker.pause(key), self._change_s)
        return {"queue": str(key), "paused": True, "silent": silent}

    async def queue_resume(self, args: QueueArgs) -> Row:
        """End a pause."""
        key = queue_key(args.queue)
        answers, silent = await self._ask(lambda worker: worker.resume(key), self._change_s)
        return {"queue": str(key), "paused": False, "was_paused": any(answers), "silent": silent}

    async def queue_retry(self, args: QueueArgs) -> Row:
        """Make everything in the queue due now, and end its backoff."""
        key = queue_key(args.queue)
        answers, silent = await self._ask(lambda worker: worker.retry(key), self._mass_s)
        return {"queue": str(key), "due": sum(answers), "silent": silent}

    async def messages_delete(self, args: DeleteArgs) -> Row:
        """Remove queued recipients; each leaves a bounce record marked `administrator`."""
        which = make_filter(args)
        if which == Filter() and not args.all:
            raise ControlError("that would delete all mail", "narrow it down, or say --all")
        if which.message and not which.spool:
            which = await self._the_one(which)
        if args.dry_run:
            counted, silent = await self._ask(lambda worker: worker.count(which), self._mass_s)
            return {"would_delete": sum(counted), "silent": silent}
        deleted, silent = await self._ask(lambda worker: worker.delete(which), self._mass_s)
        return {"deleted": sum(deleted), "silent": silent}

    async def _the_one(self, which: Filter) -> Filter:
        """The filter with the spool of the one message that has this number.

        Raises ControlError where several spools have one: to delete all of them would be a guess.
        """
        number = Filter(
            message=which.message
        )  # whatever else is said: a number that is no name is no name
        answers, silent = await self._look(lambda worker: worker.messages(number, 1))
        ids = {row["id"] for rows in answers for row in rows}
        if len(ids) > 1:
            text = f"{len(ids)} messages have the number {which.message}: {', '.join(sorted(ids))}"
            raise ControlError(text, "name the one that is meant by its id")
        if silent and not ids:
            raise _not_queued(str(which.message), silent)
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

    async def _look(
        self, question: Callable[[WorkerFace], Awaitable[T]]
    ) -> tuple[list[T], list[int]]:
        return await self._ask(question, self._look_s)

    async def _ask(
        self, question: Callable[[WorkerFace], Awaitable[T]], deadline_s: float
    ) -> tuple[list[T], list[int]]:
        """The workers' answers, and the numbers of those that did not answer in time."""
        answers = await ask_all(self._workers, question, deadline_s=deadline_s)
        return answers.all, answers.silent


def _not_there(text: str, hint: str, silent: list[int]) -> ControlError:
    """Nobody has it – as far as those know that answered."""
    if not silent:
        return ControlError(text, hint)
    names = ", ".join(map(str, silent))
    return ControlError(f"{text} in the workers that answered", f"{names} did not; ask again")


def _not_queued(message: str, silent: list[int]) -> ControlError:
    hint = "it was delivered, bounced or deleted: the accounting file says which"
    return _not_there(f"message {message} is not queued", hint, silent)


def _add_up(workers: list[Row]) -> Row:
    """The sum of every number in the workers' `totals`, and the worst of their lags."""
    totals: Row = {}
    for worker in workers:
        for name, value in worker["totals"].items():
            totals[name] = totals.get(name, 0) + value
    lag = max((worker["loop_lag_p99_ms"] for worker in workers), default=0.0)
    return {"totals": totals, "loop_lag_p99_ms": lag}
