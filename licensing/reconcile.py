"""The ledger held against the accounting files: are there as many Emails as deliveries on record (C11)? Pure.

Days are the ledger's: UTC of the trusted clock when a delivery was counted, which may be a moment after it was recorded. So a
difference between two neighbouring days that cancels out is midnight, and the sum is what tells.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

NOTICE = "notice"  # the source of what the daemon itself tells a sender: no Email (C11)
DELIVERED = "d"  # the record of one recipient accepted by a remote host
_NEEDED = ("type", "timeLogged")


def count_deliveries(lines: Iterable[str]) -> Counter[str]:
    """UTC day → `d` records of an accounting file, CSV or JSON lines. Raises ValueError when it is none, or tells no time."""
    # ISO 8601 in UTC: the day is its first ten characters.
    return Counter(
        at[:10]
        for kind, at, source in _read_records(iter(lines))
        if kind == DELIVERED and source != NOTICE
    )


def _read_records(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """`type`, `timeLogged` and, where it is told, `srcType` of each record."""
    first = next(lines, "")
    if first.startswith("{"):
        yield from map(_read_object, chain([first], lines))
        return
    rows = csv.DictReader(chain([first], lines))
    _require({*(rows.fieldnames or ())})
    yield from ((row["type"], row["timeLogged"], row.get("srcType") or "") for row in rows)


def _read_object(line: str) -> tuple[str, str, str]:
    record = json.loads(line)  # its error is a ValueError
    if not isinstance(record, dict):
        raise ValueError("no accounting file: a line is no object")
    _require(record.keys())
    return str(record["type"]), str(record["timeLogged"]), str(record.get("srcType", ""))


def _require(found: Iterable[str]) -> None:
    known = {*found}
    missing = [name for name in _NEEDED if name not in known]
    if missing:
        raise ValueError(f"no accounting file: it has no column {' and no '.join(missing)}")


def compare(counted: Mapping[str, int], recorded: Mapping[str, int]) -> dict[str, Any]:
    """Day by day and in all; a difference above 0 is an Email counted that no record shows."""
    days = {
        day: {"counted": counted.get(day, 0), "recorded": recorded.get(day, 0)}
        for day in sorted({*counted, *recorded})
    }
    totals = sum(counted.values()), sum(recorded.values())
    return {
        "days": days,
        "counted": totals[0],
        "recorded": totals[1],
        "difference": totals[0] - totals[1],
    }
