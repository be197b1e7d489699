"""What an operator can ask of a running server: one function a verb, over a list of workers.

Workers are asked side by side. To look has a second in all, to change has longer; a worker that does not answer in time, or
whose process has just ended, is named in the answer (`silent`), and the others' answers stand. Totals are added here, so a worker
never knows of another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from mta.control.arguments import (
    MAX_QUEUES,
    ExplainArgs,
    QueueArgs,
    QueuesArgs,
    ResolveArgs,
    ShutdownArgs,
    domain_name,
    queue_key,
    shown,
)
from mta.control.asking import SLACK_S, Times, ask_all
from mta.control.faces import ConfigurationFace, Row, ServerFace, WorkerFace
from mta.control.message_verbs import not_queued, not_there
from mta.control.protocol import ControlError
from mta.control.registry import NoArguments, Registry
from mta.control.tables import ORDERS, merge_queues, merge_waits, read_table
from mta.follow.refused import KINDS, Question
from mta.follow.refused import MAX_ROWS as MAX_REFUSED
from mta.follow.refused import ORDERS as REFUSED_ORDERS
from mta.model.envelope import QueueKey, is_message_id, parse_message_id
from mta.model.errors import ConfigError, SpoolError

__all__ = ["ServerFace", "Verbs", "WorkerFace"]

EXPLAINED_QUEUES = 20  # of a domain; more are nothing to read
RESOLVE_DEADLINE_S = 30.0  # DNS servers that do not answer take their time

T = TypeVar("T")


class Verbs:
    """All verbs of a server. `workers` is looked at anew for each."""

    def __init__(
        self,
        server: ServerFace,
        configuration: ConfigurationFace,
        workers: Sequence[WorkerFace],
        times: Times | None = None,
    ) -> None:
        self._server = server
        self._configuration = configuration
        self._workers = workers
        self._times = times or Times()

    def register(self, registry: Registry) -> None:
        """Teach all of them."""
        add = registry.add
        mass_s = self._times.mass_verb_s
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
        add("explain", ExplainArgs, self.explain, help="why it waits, until when, set where")
        add(
            "resolve",
            ResolveArgs,
            self.resolve,
            help="where a domain's mail goes",
            deadline_s=RESOLVE_DEADLINE_S + SLACK_S,
        )
        add("bounces", Question, self.bounces, help="what is refused, how often, in which words")
        add("config.running", NoArguments, self.config_running, help="the configuration that runs")
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
            deadline_s=self._times.look_s,
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
            raise not_there(f"there is no queue {key}", "sluice queues lists them", silent)
        return {**merge_queues(found)[0], "silent": silent}

    async def explain(self, args: ExplainArgs) -> Row:
        """Every reason a queue or a message waits for."""
        what = args.what.strip()
        if is_message_id(what):
            spool, number = parse_message_id(what)
            answers, silent = await self._look(lambda worker: worker.explain_message(number, spool))
            if not any(answers):
                raise not_queued(what, silent)
        else:
            keys, unheard = await self._queues_of(what)
            answers, silent = await self._look(lambda worker: _explain_all(worker, keys))
            silent = sorted({*silent, *unheard})
        waits = merge_waits([row for rows in answers for row in rows])
        return {"what": what, "waits": waits, "silent": silent}

    async def _queues_of(self, what: str) -> tuple[list[QueueKey], list[int]]:
        """The queue that is meant, or, where no virtual MTA is named, all of the domain's; and who did not say."""
        key = queue_key(what)
        if "/" in what:
            return [key], []
        begin = f"{key.domain}/"
        answers, silent = await self._look(lambda each: each.queue_names(begin, EXPLAINED_QUEUES))
        names = {name for names in answers for name in names if name.startswith(begin)}
        return [queue_key(name) for name in sorted(names)[:EXPLAINED_QUEUES]] or [key], silent

    async def resolve(self, args: ResolveArgs) -> Row:
        """A domain's route, as the first worker finds it that answers.

        Each of them would find the same, so only one is asked; another whenever those asked so far have not answered within
        the time for looking.
        """
        key = QueueKey(domain_name(args.domain), args.vmta)
        asked: set[asyncio.Task[Row]] = set()
        left = list(self._workers)
        try:
            async with asyncio.timeout(RESOLVE_DEADLINE_S):
                while left or asked:
                    if left:
                        asked.add(asyncio.ensure_future(left.pop(0).resolve(key)))
                    wait_s = self._times.look_s if left else None
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

    async def bounces(self, question: Question) -> Row:
        """Refusals by what is asked, a line over the span for each, and the most frequent replies."""
        for value, known in ((question.by, KINDS), (question.sort, tuple(REFUSED_ORDERS))):
            if value not in known:
                raise ControlError(f"cannot show {value!r}", f"known are: {', '.join(known)}")
        question.limit = shown(question.limit, MAX_REFUSED)
        try:
            return await self._server.refused(question)
        except SpoolError as error:
            raise ControlError(str(error), "sluice status tells how its follower is") from None

    async def config_running(self, args: NoArguments) -> Row:
        """Section → key → value as TOML, as `config show` has it."""
        return {"sections": self._configuration.configuration()}

    # -- changing -------------------------------------------------------------------------------

    async def queue_pause(self, args: QueueArgs) -> Row:
        """Stop a queue until it is resumed; it survives a restart."""
        key = queue_key(args.queue)
        answers, silent = await self._ask(lambda worker: worker.pause(key), self._times.change_s)
        if answers and not any(answers):
            text = f"there is no virtual MTA {key.vmta}, and no queue {key}"
            raise ControlError(text, "a queue is named domain/vmta; sluice vmtas lists them")
        return {"queue": str(key), "paused": True, "silent": silent}

    async def queue_resume(self, args: QueueArgs) -> Row:
        """End a pause."""
        key = queue_key(args.queue)
        answers, silent = await self._ask(lambda worker: worker.resume(key), self._times.change_s)
        return {"queue": str(key), "paused": False, "was_paused": any(answers), "silent": silent}

    async def queue_retry(self, args: QueueArgs) -> Row:
        """Make everything in the queue due now, and end its backoff."""
        key = queue_key(args.queue)
        answers, silent = await self._ask(lambda worker: worker.retry(key), self._times.mass_s)
        return {"queue": str(key), "due": sum(answers), "silent": silent}

    async def reload(self, args: NoArguments) -> Row:
        """Read the configuration again; a bad one changes nothing."""
        try:
            return {"reloaded": True, "notes": await self._configuration.reload()}
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
        return await self._ask(question, self._times.look_s)

    async def _ask(
        self, question: Callable[[WorkerFace], Awaitable[T]], deadline_s: float
    ) -> tuple[list[T], list[int]]:
        """The workers' answers, and the numbers of those that did not answer in time."""
        answers = await ask_all(self._workers, question, deadline_s=deadline_s)
        return answers.all, answers.silent


async def _explain_all(worker: WorkerFace, keys: Sequence[QueueKey]) -> list[Row]:
    return [row for key in keys for row in await worker.explain_queue(key)]


def _add_up(workers: list[Row]) -> Row:
    """The sum of every number in the workers' `totals`, and the worst of their lags."""
    totals: Row = {}
    for worker in workers:
        for name, value in worker["totals"].items():
            totals[name] = totals.get(name, 0) + value
    lag = max((worker["loop_lag_p99_ms"] for worker in workers), default=0.0)
    return {"totals": totals, "loop_lag_p99_ms": lag}
