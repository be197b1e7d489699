"""Workers and a server as the control verbs see them, in memory: the contract of `WorkerFace`, with queues of a test."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mta.control.archive import Page, Parcel, Taken
from mta.follow.refused import Question
from mta.model.envelope import QueueKey
from mta.model.errors import SpoolError
from mta.policy.orders import Order
from mta.spool.words import Filter

Row = dict[str, Any]


def a_queue(name: str, recipients: int = 1, **values: Any) -> Row:
    """A row of the table of queues; what is not named is zero or empty."""
    domain, _, vmta = name.partition("/")
    vmta = vmta or "default"
    row: Row = {
        "queue": f"{domain}/{vmta}",
        "domain": domain,
        "vmta": vmta,
        "recipients": recipients,
        "held": 0,
        "size_bytes": recipients * 1000,
        "oldest_at": 1000.0,
        "due": 2000.0,
        "next_at": 0.0,
        "attempts": 0,
        "mode": "normal",
        "reason": "",
        "paused": False,
        "site": domain,
        "ready": 0,
        "in_flight": 0,
        "connections": 0,
    }
    return row | values


@dataclass
class Face:
    """A worker that answers from memory."""

    number: int
    table: list[Row] = field(default_factory=list)
    listed: list[Row] = field(default_factory=list)
    numbers: Row = field(default_factory=dict)
    totals: Row = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    vmta_rows: list[Row] = field(default_factory=list)

    async def _answer(self, what: str) -> None:
        self.asked.append(what)

    async def status(self) -> Row:
        await self._answer("status")
        return {
            "number": self.number,
            "totals": {"delivered": 1, **self.totals},
            "loop_lag_p99_ms": float(self.number),
            "intake": "open",
        }

    async def metrics(self) -> Row:
        await self._answer("metrics")
        return self.numbers

    async def queues(self, *, sort: str, limit: int, match: str) -> tuple[int, list[Row]]:
        await self._answer(f"queues {sort} {limit} {match}")
        found = [row for row in self.table if match in row["queue"]]
        found.sort(key=_SORTS[sort])
        return len(found), [dict(row) for row in found[:limit]]

    async def queues_named(self, keys: Sequence[QueueKey]) -> list[Row]:
        await self._answer(f"queues_named {len(keys)}")
        names = {str(key) for key in keys}
        return [dict(row) for row in self.table if row["queue"] in names]

    async def queue_names(self, match: str, limit: int) -> list[str]:
        await self._answer(f"queue_names {limit}")
        return [row["queue"] for row in self.table if match in row["queue"]][:limit]

    async def count(self, which: Filter) -> int:
        await self._answer("count")
        return len([row for row in self.listed if which.message in (0, row["message"])])

    async def queue(self, key: QueueKey) -> Row | None:
        await self._answer(f"queue {key}")
        row = next((row for row in self.table if row["queue"] == str(key)), None)
        return None if row is None else {**row, "waits": [], "policy": []}

    async def pause(self, key: QueueKey) -> bool:
        await self._answer(f"pause {key}")
        return True

    async def resume(self, key: QueueKey) -> bool:
        await self._answer(f"resume {key}")
        return True

    async def retry(self, key: QueueKey) -> int:
        await self._answer(f"retry {key}")
        return self.number + 1

    async def messages(self, which: Filter, limit: int) -> list[Row]:
        await self._answer(f"messages {limit}")
        return [row for row in self.listed if not which.message or row["message"] == which.message][
            :limit
        ]

    async def delete(self, which: Filter) -> int:
        await self._answer("delete")
        return len(self.listed)

    async def groups(self, *, kind: str, sort: str, match: str) -> list[Row]:
        await self._answer(f"groups {kind} {sort} {match}")
        rows = []
        for row in self.table:
            names = ("recipients", "held", "size_bytes", "oldest_at")
            of = {name: row[name] for name in names}
            rows.append({"name": row["domain"], "queues": 1, **of})
        return rows

    async def export_page(self, which: Filter, place: tuple[int, int]) -> Page:
        await self._answer("export page")
        return Page(0, [], None)

    async def export_part(self, spool: int, message: int, offset: int) -> bytes | None:
        await self._answer("export part")
        return None

    async def imported(self, ids: list[str]) -> list[str]:
        await self._answer("imported")
        return []

    async def import_messages(self, parcels: list[Parcel]) -> list[Taken]:
        await self._answer("import")
        return [Taken(each.id) for each in parcels]

    async def reroute(self, which: Filter, to: str, dry_run: bool) -> int:
        await self._answer(f"reroute {which.domain}/{which.vmta} to {to}{' dry' * dry_run}")
        return self.number + 1

    async def vmtas(self) -> list[Row]:
        await self._answer("vmtas")
        return [dict(row) for row in self.vmta_rows]

    async def look_at_vmtas(self) -> bool:
        await self._answer("look at vmtas")
        return True

    async def hold(self, which: Filter, reason: str) -> int:
        await self._answer(f"hold {reason}")
        return len([row for row in self.listed if not row.get("held")])

    async def release(self, which: Filter) -> int:
        await self._answer("release")
        return len([row for row in self.listed if row.get("held")])

    async def retry_messages(self, which: Filter) -> int:
        await self._answer("retry messages")
        return len(self.listed)

    async def trace_begin(self, queues: list[tuple[str, str]]) -> int:
        await self._answer(f"trace {queues}")
        return 1

    async def trace_read(self, number: int) -> tuple[list[Row], int] | None:
        await self._answer(f"trace read {number}")
        return ([{"at": 1.0, "text": "hello"}], 0) if number else None

    async def trace_end(self, number: int) -> None:
        await self._answer(f"trace end {number}")

    async def explain_queue(self, key: QueueKey) -> list[Row]:
        await self._answer(f"explain {key}")
        row = {"what": f"worker {self.number}", "of": str(key), "until": None}
        return [{**row, "place": "", "command": ""}]

    async def explain_message(self, number: int, spool: str = "") -> list[Row]:
        await self._answer(f"explain {number}")
        return []

    async def resolve(self, key: QueueKey) -> Row:
        await self._answer(f"resolve {key}")
        return {"domain": key.domain, "vmta": key.vmta, "site": f"by worker {self.number}"}


class SilentFace(Face):
    """A worker that never answers."""

    async def _answer(self, what: str) -> None:
        await super()._answer(what)
        await asyncio.Event().wait()


class GoneFace(Face):
    """A worker whose process has just died."""

    async def _answer(self, what: str) -> None:
        await super()._answer(what)
        raise ConnectionError("the process ended")


class FaultyFace(Face):
    """A worker with a bug."""

    async def _answer(self, what: str) -> None:
        await super()._answer(what)
        raise KeyError("a fault of ours")


class ServerFake:
    """The server as a whole."""

    def __init__(self) -> None:
        self._orders: dict[tuple[str, str, str], Order] = {}

    def configuration(self) -> dict[str, dict[str, str]]:
        return {"server": {"hostname": '"a.example"'}}

    def orders(self) -> list[Order]:
        return list(self._orders.values())

    async def give_orders(self, orders: Sequence[Order]) -> None:
        self._orders.update({each.subject: each for each in orders})

    async def recall_orders(self, subjects: Sequence[tuple[str, str, str]]) -> int:
        return sum(self._orders.pop(each, None) is not None for each in subjects)

    async def status(self) -> Row:
        followers = [
            {"name": "accounting.main", "waiting": 3, "trouble": "", "lag_s": 0.0},
            {"name": "accounting.other", "waiting": 0, "trouble": "no room", "lag_s": 9.0},
        ]
        return {"version": "1.2.3", "uptime_s": 9.0, "followers": followers}

    async def reload(self) -> list[str]:
        return []

    async def rotate(self) -> dict[str, str]:
        return {}

    async def refused(self, question: Question) -> Row:
        raise SpoolError("there are no statistics yet")

    def shutdown(self, *, drain: bool) -> None:
        pass


_SORTS: dict[str, Any] = {
    "recipients": lambda row: (-row["recipients"], row["queue"]),
    "oldest": lambda row: (row["oldest_at"] or float("inf"), row["queue"]),
    "domain": lambda row: (row["domain"], row["vmta"]),
    "bytes": lambda row: (-row["size_bytes"], row["queue"]),
    "due": lambda row: (row["due"] is None, row["due"] or 0.0, row["queue"]),
}
