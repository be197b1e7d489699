"""The table of queues over several workers: the first N of the sum, although each worker knows only its own first ones.

A queue may be eleventh in every worker and first in the sum. So each is asked for more than N (`depth`), and what one listed and
another did not is asked for by name. What nobody listed cannot have more than the sum of the last rows of all lists; is the Nth
row no smaller, the table is right (Fagin's threshold). If not, each is asked once more, deeper. Behind that stands a bound, for
flat tables – 100,000 queues of one recipient – would otherwise be read whole: then the answer says how much a queue may have that
is not shown. A first version merged the workers' first N: with two workers it lost a queue of 200 behind twenty of 101.

By age, due time and name the least of all workers counts, and the first N of the whole are among the first N of each: those need
their numbers completed, no more. All of it together stays within one deadline.
"""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mta.control.asking import ask_all
from mta.control.faces import QueueSource, Row
from mta.model.envelope import QueueKey

MIN_DEPTH = 100
MAX_DEPTH = 1000  # times eight workers: what the loop that merges them can bear
MAX_NAMED = 2000
MAX_NAMES = 20_000  # names of a worker that are compared to tell how many queues there are in all
# Of the deadline: the rest is for asking by name. A worker that has not listed by then is silent.
FIRST_SHARE = 0.6
DEEPER_S = 0.3  # with less time left it is not worth to begin

ORDERS: dict[str, Callable[[Row], Any]] = {
    "recipients": lambda row: (-row["recipients"], row["queue"]),
    "oldest": lambda row: (row["oldest_at"] or float("inf"), row["queue"]),
    "domain": lambda row: (row["domain"], row["vmta"]),
    "bytes": lambda row: (-row["size_bytes"], row["queue"]),
    "due": lambda row: (row["due"] is None, row["due"] or 0.0, row["queue"]),
}
_SUMMED = {"recipients": "recipients", "bytes": "size_bytes"}  # orders whose key is a sum
_ADDED = ("recipients", "held", "size_bytes", "ready", "in_flight", "connections")


@dataclass(slots=True)
class Table:
    """The first rows in an order.

    `missing`: so much of what is sorted by a queue may have that is not shown; 0: none has more than the last row.
    """

    rows: list[Row] = field(default_factory=list)
    total: int = 0
    is_total_exact: bool = True
    missing: int = 0
    silent: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _List:
    """What one worker has told."""

    rows: dict[str, Row]
    total: int
    last: int  # no queue that it did not list has more; 0: it listed all

    @property
    def is_whole(self) -> bool:
        return self.last == 0


async def read_table(
    sources: Sequence[QueueSource], *, sort: str, limit: int, match: str, deadline_s: float
) -> Table:
    """The first `limit` queues whose name holds `match`, in one of `ORDERS`, within `deadline_s` in all."""
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline_s
    depth = limit if len(sources) == 1 else max(2 * limit, MIN_DEPTH)
    share = deadline_s if len(sources) == 1 else deadline_s * FIRST_SHARE
    table = Table()
    lists = await _list(sources, sort, depth, match, share)
    silent = {each.number for each in sources} - lists.keys()
    table.total, table.is_total_exact = await _total(
        sources, lists, match, (until - loop.time()) / 2
    )
    while True:
        named = _candidates(lists, sort, limit)
        silent |= await _complete(sources, lists, named.names, until - loop.time())
        table.rows = _merged(lists, sort)[:limit]
        table.missing = _missing(lists, table.rows, sort, limit, named.left_out)
        left_s = until - loop.time()
        if not table.missing or depth >= MAX_DEPTH or left_s < DEEPER_S:
            break
        depth = MAX_DEPTH
        asked = [each for each in sources if each.number not in silent]
        # Who is too slow for the deeper look keeps what it said before.
        lists |= await _list(asked, sort, depth, match, left_s * FIRST_SHARE)
    table.silent = [each.number for each in sources if each.number in silent]
    table.total = max(table.total, len(table.rows))
    return table


async def _list(
    sources: Sequence[QueueSource], sort: str, depth: int, match: str, within_s: float
) -> dict[int, _List]:
    answers = await ask_all(
        sources,
        lambda each: each.queues(sort=sort, limit=depth, match=match),
        deadline_s=within_s,
    )
    column = _SUMMED.get(sort, "")
    lists = {}
    for number, (total, rows) in answers.by_worker.items():
        last = 0
        if len(rows) >= depth:
            # By age, due time and name nothing is summed: that there is more is all that counts.
            last = max(1, rows[-1][column]) if column else 1
        lists[number] = _List({row["queue"]: row for row in rows}, total, last)
    return lists


async def _complete(
    sources: Sequence[QueueSource],
    lists: dict[int, _List],
    names: Sequence[str],
    within_s: float,
) -> set[int]:
    """Ask those that listed only a part for these queues where they did not list them; who did not answer."""
    if len(lists) < 2:
        return set()
    lacking = {
        number: [name for name in names if name not in each.rows]
        for number, each in lists.items()
        if not each.is_whole
    }
    asked = [each for each in sources if lacking.get(each.number)]
    answers = await ask_all(
        asked,
        lambda each: each.queues_named([_key(name) for name in lacking[each.number]]),
        deadline_s=max(within_s, 0.0),
    )
    for number, rows in answers.by_worker.items():
        lists[number].rows.update((row["queue"], row) for row in rows)
    return set(answers.silent)


class _Named(NamedTuple):
    """The queues that may be among the first, the likeliest first; those left out may have up to `left_out`."""

    names: list[str]
    left_out: int = 0


def _candidates(lists: dict[int, _List], sort: str, limit: int) -> _Named:
    merged = _merged(lists, sort)
    column = _SUMMED.get(sort)
    if column is None or len(merged) <= limit:
        return _Named([row["queue"] for row in merged[:limit]])
    sure = heapq.nlargest(limit, (row[column] for row in merged))[-1]
    may = []
    for row in merged:
        unseen = sum(each.last for each in lists.values() if row["queue"] not in each.rows)
        if row[column] + unseen >= sure:
            may.append((row[column] + unseen, row["queue"]))
    may.sort(reverse=True)
    left_out = may[MAX_NAMED][0] if len(may) > MAX_NAMED else 0
    return _Named([name for _, name in may[:MAX_NAMED]], left_out)


def _missing(lists: dict[int, _List], rows: list[Row], sort: str, limit: int, left_out: int) -> int:
    """How much a queue may have that nobody listed or was left out, where that is more than the last row shown has."""
    column = _SUMMED.get(sort)
    unlisted = max(left_out, sum(each.last for each in lists.values()))
    if column is None or len(lists) < 2 or not unlisted:
        return 0
    if len(rows) == limit and rows[-1][column] >= unlisted:
        return 0
    return unlisted


async def _total(
    sources: Sequence[QueueSource], lists: dict[int, _List], match: str, within_s: float
) -> tuple[int, bool]:
    """How many different queues there are in all; False: at least so many."""
    if len(lists) < 2:
        return max((each.total for each in lists.values()), default=0), True
    least = max(each.total for each in lists.values())
    parts = {number: each.total for number, each in lists.items() if not each.is_whole}
    if any(total > MAX_NAMES for total in parts.values()):
        return least, False
    names = {name for each in lists.values() for name in each.rows}
    answers = await ask_all(
        [each for each in sources if each.number in parts],
        lambda each: each.queue_names(match, MAX_NAMES),
        deadline_s=max(within_s, 0.0),
    )
    for told in answers.by_worker.values():
        names.update(told)
    return max(least, len(names)), not answers.silent


def _key(name: str) -> QueueKey:
    # Not `parse_queue_key`: that is for what people write, and knows one case only.
    domain, _, vmta = name.partition("/")
    return QueueKey(domain, vmta)


def _merged(lists: dict[int, _List], sort: str) -> list[Row]:
    rows = merge_queues([row for each in lists.values() for row in each.rows.values()])
    return sorted(rows, key=ORDERS[sort])


def merge_queues(rows: Sequence[Row]) -> list[Row]:
    """Rows of one queue from several workers become one: counts are added, the oldest and the first due count, and the state is
    that of the worker where it waits longest."""
    merged: dict[str, Row] = {}
    for row in rows:
        first = merged.setdefault(row["queue"], row)
        if first is not row:
            merged[row["queue"]] = _merge_two(first, row)
    return list(merged.values())


def _merge_two(first: Row, other: Row) -> Row:
    row = dict(max(first, other, key=lambda each: each["next_at"] or 0.0))
    row.update({name: first[name] + other[name] for name in _ADDED})
    row["oldest_at"] = min((at for at in (first["oldest_at"], other["oldest_at"]) if at), default=0)
    row["due"] = min((at for at in (first["due"], other["due"]) if at is not None), default=None)
    row["paused"] = first["paused"] or other["paused"]
    row["site"] = first["site"] or other["site"]
    if "waits" in row:
        row["waits"] = merge_waits([*first["waits"], *other["waits"]])
    return row


def merge_waits(waits: Sequence[Row]) -> list[Row]:
    """Reasons that several workers give are told once, until the latest time; None is longer than any."""
    merged: dict[tuple[str, str, str], Row] = {}
    for wait in waits:
        name = (wait["what"], wait["of"], wait["place"])
        first = merged.setdefault(name, wait)
        if first["until"] is not None and (wait["until"] or float("inf")) > first["until"]:
            merged[name] = wait
    return list(merged.values())
