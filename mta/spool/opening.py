"""Everything between the file and the first operation: what the last owner left, and what it had in flight.

Runs once, in the spool's thread. After a kill the in-flight file says which entries may have been delivered; after a power cut
it says nothing, so everything that was due may have been – that is one stored mark, not a million rows rewritten.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import apsw

from mta.spool.inflight import Inflight, Interrupted, read_inflight
from mta.spool.rows import IMPORTED, as_json, fetch
from mta.spool.words import Start
from mta.spool.writer import highest_id

# After a crash numbers go on far beyond any that may have been given out and not committed: a log never shows one twice.
SKIP_AFTER_CRASH = 1_000_000
MAX_CRASHES = 3
POISON = "poison: it was in flight at each of the last crashes"
_CUT = struct.Struct("<qd")


@dataclass(slots=True)
class Found:
    """What stands in a spool when it is opened."""

    meta: dict[str, bytes]
    inflight: Inflight
    start: Start
    cut: tuple[
        int, float
    ]  # up to which (number, due) an entry may have been in flight when the power went
    last_message: int
    last_entry: int


def look_back(
    connection: apsw.Connection,
    path: Path,
    *,
    created: bool,
    boot: bytes,
    now: float,
    max_crashes: int,
) -> Found:
    """Mark what the last owner had in flight, and begin a new in-flight file at `path`. Raises OSError and apsw.Error."""
    meta: dict[str, bytes] = dict(
        fetch(connection, "SELECT name, value FROM meta WHERE name NOT GLOB ? || '*'", (IMPORTED,))
    )
    before = read_inflight(path, meta["uuid"], boot)
    if before is None and created:
        before = Interrupted(clean=True, same_boot=True, numbers=[])
    start = Start(created=created, clean=before is not None and before.clean)
    message, entry = highest_id(connection, "message"), highest_id(connection, "recipient")
    with connection:
        if before is not None and before.numbers:
            _mark_interrupted(connection, before, start, max_crashes)
        if before is None or not (before.clean or before.same_boot):
            start.power_cut = True
            meta["cut"] = _CUT.pack(entry, now)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('cut', ?)", (meta["cut"],))
    if not start.clean:
        message += SKIP_AFTER_CRASH
        entry += SKIP_AFTER_CRASH
    number, due = _CUT.unpack(meta.get("cut", bytes(_CUT.size)))
    inflight = Inflight(path, meta["uuid"], boot)
    return Found(meta, inflight, start, (number, due), message, entry)


def _mark_interrupted(
    connection: apsw.Connection, before: Interrupted, start: Start, max_crashes: int
) -> None:
    numbers = as_json(before.numbers)
    # Closed in order with sessions still running: they may repeat, but nothing crashed.
    crashed = 0 if before.clean else 1
    connection.execute(
        "UPDATE recipient SET may_repeat = 1, crashes = crashes + ?2"
        " WHERE id IN (SELECT value FROM json_each(?1))",
        (numbers, crashed),
    )
    start.repeated = connection.changes()
    start.poison = [
        row[0]
        for row in fetch(
            connection,
            "UPDATE recipient SET held = 1, hold_reason = ?2"
            " WHERE held = 0 AND crashes >= ?3 AND id IN (SELECT value FROM json_each(?1))"
            " RETURNING id",
            (numbers, POISON, max_crashes),
        )
    ]
