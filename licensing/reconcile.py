"""The ledger held against the accounting files: are there as many Emails as deliveries on record (C11)? Pure.

Days are the ledger's: UTC of the trusted clock when a delivery was counted, which may be a moment after it was recorded. So a
difference between two neighbouring days that cancels out is midnight, and the sum is what tells.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

NOTICE = "notice"  # the source of what the daemon itself tells a sender: no Email (C11)
DELIVERED = "d"  # the record of one recipient accepted by a remote host


def count_deliveries(lines: Iterable[str]) -> Counter[str]:
    """UTC day → `d` records of an accounting file. Raises ValueError when it is none, or tells no time."""
    rows = csv.DictReader(lines)
    missing = {"type", "timeLogged"} - set(rows.fieldnames or ())
    if missing:
        raise ValueError(f"no accounting file: it has no column {' and no '.join(sorted(missing))}")
    # ISO 8601 in UTC: the day is its first ten characters.
    return Counter(
        row["timeLogged"][:10]
        for row in rows
        if row["type"] == DELIVERED and row.get("srcType") != NOTICE
    )


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
