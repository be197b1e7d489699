"""Domains, sites and jobs: what is queued for each, and the operator's orders – pause, resume, limit – for a time or for good.

An order holds for mail to come as well, over restarts of workers and of the server; `explain` names it with its end.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from mta.control.arguments import MAX_QUEUES, shown
from mta.control.asker import ASKER
from mta.control.asking import Times, ask_all
from mta.control.faces import OrdersFace, Row, WorkerFace
from mta.control.groups import KINDS, MAX_GROUPS, ORDERS, merge_groups
from mta.control.protocol import ControlError
from mta.control.registry import NoArguments, Registry
from mta.policy.orders import DRAIN, LIMITS, PAUSE, SCOPES, Order, ending_of, make_order

MAX_FOR_S = 3650 * 86_400.0
ORDER_S = 45.0  # all workers take new settings


class GroupsArgs(msgspec.Struct, forbid_unknown_fields=True):
    """`sort`: recipients, bytes, oldest or name. `match`: part of the name."""

    sort: str = "recipients"
    limit: int = 20
    match: str = ""


class PauseArgs(msgspec.Struct, forbid_unknown_fields=True):
    """`for_s`: how long; 0: until it is resumed. `reason`: what `explain` says."""

    name: str
    for_s: float = 0.0
    reason: str = ""


class LimitArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Limits as a configuration writes them; at least one. `for_s`: how long; 0: until `unlimit`."""

    name: str
    max_connections: str = ""
    connection_rate: str = ""
    message_rate: str = ""
    for_s: float = 0.0


class NameArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Of a domain, site, job or queue."""

    name: str


class OrderVerbs:
    """All of them."""

    def __init__(
        self,
        server: OrdersFace,
        workers: Sequence[WorkerFace],
        times: Times | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._workers = workers
        self._times = times or Times()
        self._now = now

    def register(self, registry: Registry) -> None:
        """Teach them."""
        registry.add("orders", NoArguments, self.orders, help="the operator's orders in force")
        for kind in KINDS:
            registry.add(
                f"{kind}s", GroupsArgs, _of(self.groups, kind), help=f"what is queued, by {kind}"
            )
        for scope in SCOPES:
            self._add(registry, scope, "drain", PauseArgs, self.drain, "take no more for it")
            if scope == "queue":  # its pause is its own row's
                self._add(registry, scope, "undrain", NameArgs, self.resume, "take mail again")
            else:
                self._add(registry, scope, "pause", PauseArgs, self.pause, "stop it")
                self._add(registry, scope, "resume", NameArgs, self.resume, "go on with it")
            if scope != "job":
                self._add(registry, scope, "limit", LimitArgs, self.limit, "limit it, for a time")
                self._add(registry, scope, "unlimit", NameArgs, self.unlimit, "as configured")

    @staticmethod
    def _add(
        registry: Registry, scope: str, verb: str, args: Any, run: Callable[..., Any], text: str
    ) -> None:
        name = f"{scope}.{verb}"
        registry.add(name, args, _of(run, scope), help=text, changes=True, deadline_s=ORDER_S)

    async def groups(self, kind: str, args: GroupsArgs) -> Row:
        """The first by recipients, bytes, age or name, with the orders for each; those paused with nothing queued, too."""
        if args.sort not in ORDERS:
            raise ControlError(f"cannot sort by {args.sort}", f"sort by: {', '.join(ORDERS)}")
        limit = shown(args.limit, MAX_QUEUES)
        answers = await ask_all(
            self._workers,
            lambda each: each.groups(kind=kind, sort=args.sort, match=args.match),
            deadline_s=self._times.look_s,
        )
        orders = [each for each in self._server.orders() if each.scope == kind]
        empty = [_empty(each.name) for each in orders if args.match in each.name]
        rows = merge_groups([*(row for rows in answers.all for row in rows), *empty])
        rows.sort(key=ORDERS[args.sort])
        for row in rows[:limit]:
            row["orders"] = [_row(each) for each in orders if each.name == row["name"]]
        return {
            f"{kind}s": rows[:limit],
            "total": len(rows),
            "total_is_exact": all(len(each) < MAX_GROUPS for each in answers.all)
            and not answers.silent,
            "silent": answers.silent,
        }

    async def orders(self, args: NoArguments) -> Row:
        """All in force, with their ends."""
        return {"orders": [_row(each) for each in self._server.orders()]}

    async def pause(self, scope: str, args: PauseArgs) -> Row:
        """Nothing new begins for it; what is in a transaction finishes."""
        return await self._give(scope, args.name, {PAUSE: args.reason}, args.for_s)

    async def drain(self, scope: str, args: PauseArgs) -> Row:
        """What is queued goes out; more is refused with 451."""
        return await self._give(scope, args.name, {DRAIN: args.reason}, args.for_s)

    async def limit(self, scope: str, args: LimitArgs) -> Row:
        """These limits stand above the configuration's."""
        given = {name: getattr(args, name) for name in LIMITS if getattr(args, name)}
        if not given:
            raise ControlError("which limit?", f"give one of: {', '.join(LIMITS)}")
        return await self._give(scope, args.name, given, args.for_s)

    async def resume(self, scope: str, args: NameArgs) -> Row:
        """The end of a pause and of a drain."""
        return await self._recall(scope, args.name, (PAUSE, DRAIN))

    async def unlimit(self, scope: str, args: NameArgs) -> Row:
        """The configuration's limits hold again."""
        return await self._recall(scope, args.name, LIMITS)

    async def _give(self, scope: str, name: str, values: dict[str, str], for_s: float) -> Row:
        if not 0 <= for_s <= MAX_FOR_S:
            raise ControlError("an order lasts up to 10 years", "without an end it needs no time")
        until = self._now() + for_s if for_s else None
        try:
            orders = [
                replace(
                    make_order(scope, name, what, text, until),
                    by=ASKER.get(),
                    given_at=self._now(),
                )
                for what, text in values.items()
            ]
            await self._server.give_orders(orders)
        except (ValueError, OSError) as error:
            raise ControlError(f"not done: {error}", "nothing has changed") from error
        return {"orders": [_row(each) for each in orders]}

    async def _recall(self, scope: str, name: str, settings: Sequence[str]) -> Row:
        setting = settings[0]
        try:
            order = make_order(scope, name, setting, "1" if setting in LIMITS else "", None)
            subjects = [(scope, order.name, each) for each in settings]
            recalled = await self._server.recall_orders(subjects)
        except (ValueError, OSError) as error:
            raise ControlError(f"not done: {error}", "nothing has changed") from error
        return {"name": order.name, "recalled": recalled}


def _of(run: Callable[..., Any], kind: str) -> Callable[[Any], Any]:
    """The verb of one kind."""
    return lambda args: run(kind, args)


def _row(order: Order) -> Row:
    return {
        "scope": order.scope,
        "name": order.name,
        "setting": order.setting,
        "value": order.value,
        "until": order.until,
        "by": order.by,
        "given_at": order.given_at or None,
        "command": ending_of(order),
    }


def _empty(name: str) -> Row:
    return {
        "name": name,
        "recipients": 0,
        "held": 0,
        "size_bytes": 0,
        "oldest_at": 0.0,
        "queues": 0,
    }
