"""What an operator asks of the statistics, and the answer: read by a connection of its own, beside the follower that writes."""

import time
from pathlib import Path
from typing import Any

import apsw
import msgspec

from mta.bounce.classify import SUCCESS
from mta.follow.tally import HOUR_S, OTHERS
from mta.model.errors import SpoolError

KINDS = ("domain", "site", "category", "job", "vmta", "verdict")
ORDERS = {"refused": "refused desc", "attempts": "attempts desc", "name": "name"}
MAX_ROWS = 1000
REPLIES = 10
POINTS = 24  # of the line over the span
BUSY_TIMEOUT_MS = 2000

Row = dict[str, Any]
_NOTHING: Row = {
    "name": "all",
    **dict.fromkeys(("attempts", "refused", "bounced", "deferred", "expired", "queues"), 0),
}


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """Refusals of the last `since_s` seconds, in rows by `by`; filters that are "" let all through."""

    by: str = "category"
    since_s: float = 86_400.0
    domain: str = ""
    site: str = ""
    category: str = ""
    job: str = ""
    vmta: str = ""
    verdict: str = ""
    sort: str = "refused"
    limit: int = 20


def read_refused(path: Path, question: Question, wall: float | None = None) -> Row:
    """The answer; `path`: the statistics. Raises SpoolError. Blocks: not on the loop."""
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error as error:
        raise SpoolError(f"there are no statistics yet: {error}") from error
    try:
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        db.execute("begin")  # one state for all that is read
        return _Answer(db, question, time.time() if wall is None else wall).whole()
    except apsw.Error as error:
        raise SpoolError(f"the statistics cannot be read: {error}") from error
    finally:
        db.close()


class _Answer:
    def __init__(self, db: apsw.Connection, question: Question, wall: float) -> None:
        self._db = db
        self._question = question
        last = int(wall) // HOUR_S
        hours = max(1, min(30 * 24, round(question.since_s / HOUR_S)))
        self._first = last - hours + 1
        self._step = -(-hours // POINTS)  # hours a point
        self._points = -(-hours // self._step)
        # Who is spoken of, and of which refusals: attempts are counted of all that the first let through.
        self._values: dict[str, Any] = {"first": self._first, "success": SUCCESS}
        self._who = self._filter(("domain", "site", "job", "vmta"))
        self._what = self._filter(("category", "verdict")) + " and category != :success"

    def _filter(self, names: tuple[str, ...]) -> str:
        parts = ["1"]
        for name in names:
            value = getattr(self._question, name)
            if value:
                self._values[name] = value
                parts.append(f"{name} = :{name}")
        return " and ".join(parts)

    def whole(self) -> Row:
        by = self._question.by
        (total,) = self._rows("'all' as name", "name", limit=1) or (dict(_NOTHING),)
        rows = self._rows(f"{by} as name", "name", limit=self._question.limit)
        if by in ("category", "verdict"):  # of all attempts, for a delivery has neither
            for row in rows:
                row["attempts"] = total["attempts"]
        for row in (*rows, total):
            row["share"] = round(row["refused"] / row["attempts"], 4) if row["attempts"] else 0.0
        self._draw(rows)
        return {
            "by": by,
            "since": self._first * HOUR_S,
            "hours_a_point": self._step,
            "total": total,
            "rows": rows,
            "replies": self._replies(),
            "unnamed": self._unnamed(),
        }

    def _rows(self, name: str, group: str, *, limit: int) -> list[Row]:
        refused = f"(case when {self._what} then {{}} else 0 end)"
        sums = ", ".join(
            f"sum({refused.format(each)}) as {each}"
            for each in ("bounced", "deferred", "expired", "queues")
        )
        return self._read(
            f"select {name}, sum(delivered + bounced + deferred) as attempts,"
            f" sum({refused.format('bounced + deferred')}) as refused, {sums}"
            f" from counts where hour >= :first and {self._who} group by {group}"
            f" having refused + expired + queues > 0 or {int(name.startswith(chr(39)))}"
            f" order by {ORDERS[self._question.sort]}, name limit {limit}"
        )

    def _draw(self, rows: list[Row]) -> None:
        """Refusals over the span, in each row, the oldest first."""
        by = self._question.by
        lines: dict[str, list[int]] = {row["name"]: [0] * self._points for row in rows}
        for found in self._read(
            f"select {by} as name, (hour - :first) / {self._step} as point,"
            f" sum(bounced + deferred + expired + queues) as count from counts"
            f" where hour >= :first and {self._who} and {self._what} group by name, point"
        ):
            if found["name"] in lines and found["point"] < self._points:
                lines[found["name"]][found["point"]] = found["count"]
        for row in rows:
            row["line"] = lines[row["name"]]

    def _replies(self) -> list[Row]:
        return self._read(
            "select reply, category, verdict, sum(bounced + deferred + expired + queues) as count"
            f" from counts where hour >= :first and {self._who} and {self._what}"
            " group by reply, category, verdict having count > 0"
            f" order by count desc, reply limit {REPLIES}"
        )

    def _unnamed(self) -> int:
        """Refusals whose name gave way to more frequent ones, so that a filter does not find them."""
        question = self._question
        asked = [name for name in ("domain", "site", "job", "vmta") if getattr(question, name)]
        if not asked:
            return 0
        others = " or ".join(f"{name} = '{OTHERS}'" for name in asked)
        (row,) = self._read(
            "select coalesce(sum(bounced + deferred + expired + queues), 0) as count"
            f" from counts where hour >= :first and ({others}) and {self._what}"
        )
        return int(row["count"])

    def _read(self, statement: str) -> list[Row]:
        cursor = self._db.execute(statement, self._values)
        return [
            dict(zip([name for name, _ in cursor.getdescription()], row, strict=True))
            for row in cursor
        ]
