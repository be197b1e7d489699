"""What an operator can ask about virtual MTAs: list, pause, resume, drain; and moving queued mail from one to another.

A state is on disk before it is answered, and workers that do not answer in time act on it all the same
(`mta.runtime.vmta_states`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches

import msgspec

from mta.control.arguments import ChangeArgs, make_filter, queue_key
from mta.control.asker import ASKER
from mta.control.asking import ask_all
from mta.control.faces import Row, VmtaFace, WorkerFace
from mta.control.protocol import ControlError
from mta.control.registry import NoArguments, Registry
from mta.spool.words import Filter

LOOK_S = 1.0
MASS_S = 120.0
SLACK_S = 5.0
_SUMS = ("recipients", "queues", "connections", "delivered", "delivered_last_minute")


class VmtaArgs(msgspec.Struct, forbid_unknown_fields=True):
    """The name of a virtual MTA."""

    vmta: str


class RerouteArgs(ChangeArgs, forbid_unknown_fields=True):
    """`to`: a virtual MTA or pool. `queue`: domain/vmta."""

    to: str = ""
    queue: str = ""


class VmtaVerbs:
    """Verbs of virtual MTAs. `workers` is looked at anew for each."""

    def __init__(
        self,
        server: VmtaFace,
        workers: Sequence[WorkerFace],
        *,
        look_s: float = LOOK_S,
        mass_s: float = MASS_S,
    ) -> None:
        self._server = server
        self._workers = workers
        self._look_s = look_s
        self._mass_s = mass_s

    def register(self, registry: Registry) -> None:
        """Teach all of them."""
        add = registry.add
        add("vmtas", NoArguments, self.vmtas, help="virtual MTAs: state, queued mail, rates")
        add("vmta.pause", VmtaArgs, self.pause, help="stop a virtual MTA", changes=True)
        add("vmta.resume", VmtaArgs, self.resume, help="end a pause or drain", changes=True)
        add("vmta.drain", VmtaArgs, self.drain, help="deliver what it has, no more", changes=True)
        add(
            "messages.reroute",
            RerouteArgs,
            self.reroute,
            help="move queued mail to another virtual MTA",
            changes=True,
            deadline_s=self._mass_s + SLACK_S,
        )

    async def vmtas(self, args: NoArguments) -> Row:
        """All virtual MTAs, those of the configuration first, then those that are gone and have mail."""
        answers = await ask_all(
            self._workers, lambda worker: worker.vmtas(), deadline_s=self._look_s
        )
        told = _merge(row for rows in answers.all for row in rows)
        rows = []
        for configured in self._server.vmta_rows():
            unknown = dict.fromkeys(_SUMS, 0) | {"state": "unknown", "reason": "no worker answers"}
            rows.append({**configured, **(told.pop(configured["vmta"], unknown))})
        rows += [{**_NOT_CONFIGURED, **row} for row in told.values()]
        return {"vmtas": rows, "silent": answers.silent}

    async def pause(self, args: VmtaArgs) -> Row:
        """Nothing goes out from it until it is resumed; pools pass it over."""
        return await self._put(args.vmta, "paused")

    async def resume(self, args: VmtaArgs) -> Row:
        """In service again."""
        return await self._put(args.vmta, "running")

    async def drain(self, args: VmtaArgs) -> Row:
        """Pools give it no more; what it has goes out."""
        return await self._put(args.vmta, "drained")

    async def _put(self, text: str, state: str) -> Row:
        name = text.strip().lower()
        pools = self._server.pool_names()
        names = [row["vmta"] for row in self._server.vmta_rows()]
        if name in pools:
            raise ControlError(f"{name} is a pool", "name the virtual MTAs in it: sluice vmtas")
        if name not in names:
            raise ControlError(f"there is no virtual MTA {text!r}", _hint(name, names))
        try:
            await self._server.put_vmta_state(name, state, ASKER.get())
        except OSError as error:
            raise ControlError(
                f"this cannot be kept on disk, so nothing was changed: {error}",
                "make room in the spool's directory, and say it again",
            ) from None
        answers = await ask_all(
            self._workers, lambda worker: worker.look_at_vmtas(), deadline_s=self._look_s
        )
        return {"vmta": name, "state": state, "silent": answers.silent}

    async def reroute(self, args: RerouteArgs) -> Row:
        """Move queued recipients that match to another virtual MTA or pool. What is being delivered stays."""
        to = args.to.strip().lower()
        names = [row["vmta"] for row in self._server.vmta_rows()] + self._server.pool_names()
        if to not in names:
            raise ControlError(f"there is no virtual MTA or pool {args.to!r}", _hint(to, names))
        which = _filter(args)
        if which == Filter() and not args.all:
            raise ControlError("that would move all mail", "narrow it down, or say --all")
        answers = await ask_all(
            self._workers,
            lambda worker: worker.reroute(which, to, args.dry_run),
            deadline_s=self._mass_s,
        )
        moved = "would_move" if args.dry_run else "moved"
        return {"to": to, moved: sum(answers.all), "silent": answers.silent}


_NOT_CONFIGURED: Row = {
    "vmta": "",
    "addresses": [],
    "ehlo_name": "",
    "total_connections": None,
    "total_message_rate": None,
    "pools": [],
}


def _filter(args: RerouteArgs) -> Filter:
    which = make_filter(args)
    if not args.queue:
        return which
    key = queue_key(args.queue)
    if (args.domain or key.domain) != key.domain or (args.vmta or key.vmta) != key.vmta:
        raise ControlError(
            f"the queue {key} is of another domain or virtual MTA than the others named",
            "name the queue, or domain and virtual MTA",
        )
    return replace(which, domain=key.domain, vmta=key.vmta)


def _merge(rows: Iterable[Row]) -> dict[str, Row]:
    """One row a virtual MTA: sums, and the first worker's word that is not `running`."""
    merged: dict[str, Row] = {}
    for row in rows:
        first = merged.setdefault(row["vmta"], row)
        if first is not row:
            speaks = row if first["state"] == "running" else first
            sums = {name: first[name] + row[name] for name in _SUMS}
            merged[row["vmta"]] = {**speaks, **sums}
    return merged


def _hint(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
