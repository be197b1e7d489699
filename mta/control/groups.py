"""Tables by domain, site or job over several workers.

Each worker tells its first `MAX_GROUPS`; up to so many the sums are exact, beyond it the answer says what they may lack.
"""

from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]

KINDS = ("domain", "site", "job")
MAX_GROUPS = 10_000  # of a worker: 1 MB, and 10 ms to merge

ORDERS: dict[str, Callable[[Row], Any]] = {
    "recipients": lambda row: (-row["recipients"], row["name"]),
    "bytes": lambda row: (-row["size_bytes"], row["name"]),
    "oldest": lambda row: (row["oldest_at"] or float("inf"), row["name"]),
    "name": lambda row: row["name"],
}


def merge_groups(rows: Sequence[Row]) -> list[Row]:
    """Rows of one name become one: numbers are added, the oldest counts. `queues` may count one twice."""
    merged: dict[str, Row] = {}
    for row in rows:
        first = merged.get(row["name"])
        if first is None:
            merged[row["name"]] = dict(row)
            continue
        for name in ("recipients", "held", "size_bytes", "queues"):
            first[name] += row[name]
        times = [at for at in (first["oldest_at"], row["oldest_at"]) if at]
        first["oldest_at"] = min(times, default=0)
    return list(merged.values())
