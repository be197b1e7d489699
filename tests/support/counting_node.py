"""A node in a process of its own, to be killed: writes deliveries into a journal, has them counted, reports.

`python -m tests.support.counting_node FOLDER ENDPOINT BATCHES`. The journal is a SQLite file as durable as a spool. Prints a line
for each batch that was counted, so that whoever kills it knows that it is at work. The vendor's root lies in FOLDER/root.json.
"""

import asyncio
import random
import sys
import time
from pathlib import Path

import apsw

from licensing.clock import Reading
from licensing.guard import Delivered, Guard, GuardOptions, Surroundings
from licensing.trust import Trust
from tests.support.machine_time import MOMENT
from tests.support.node import MACHINE

BATCH = 5
SPOOL = "spool"


def read_clocks() -> Reading:
    """The test's fixed date, going on with this machine's seconds: the same in every process."""
    return Reading(MOMENT + time.monotonic(), time.monotonic(), "boot")


class Journal:
    """Events that survive a kill; every one is a delivery."""

    def __init__(self, path: Path) -> None:
        self._db = apsw.Connection(str(path))
        self._db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY)")

    def append(self, count: int) -> None:
        with self._db:
            self._db.executemany("INSERT INTO event VALUES (?)", [(None,)] * count)

    def end(self) -> int:
        """The last event; also how many there are, for none was ever taken away."""
        return next(self._db.execute("SELECT coalesce(max(id), 0) FROM event"))[0]

    def close(self) -> None:
        self._db.close()


def a_counting_guard(folder: Path, endpoint: str) -> Guard:
    """As the process has it."""
    return Guard(
        GuardOptions(
            license_dir=folder / "license.d", state_dir=folder / "state", endpoint=endpoint
        ),
        Surroundings(
            read_clocks=read_clocks,
            chance=random.Random(1),
            trust=Trust.load((folder / "root.json").read_bytes()),
            machine=MACHINE,
            flush_every=0,
        ),
    )


async def catch_up(guard: Guard, journal: Journal) -> None:
    """As the volume follower does: what stands behind the cursor counts."""
    since, end = (await guard.cursors()).get(SPOOL, 0), journal.end()
    await guard.delivered([Delivered(SPOOL, since, end, end - since)])


async def run(folder: Path, endpoint: str, batches: int) -> None:
    guard, journal = a_counting_guard(folder, endpoint), Journal(folder / "journal.db")
    await guard.open()
    await catch_up(guard, journal)
    for number in range(batches):
        journal.append(BATCH)
        await catch_up(guard, journal)
        if number % 4 == 3:
            await guard.report_now()
        print(number, flush=True)
    await guard.stop()
    journal.close()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
