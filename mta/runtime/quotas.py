"""The file that keeps the governor's hour and day counts over a restart: `quotas.json` in the spool's directory.

One file for the whole server, because the counts are over all workers. It is replaced whole and synced (`mta.io.files`), in a
thread, and only when something changed. Losing it costs a count, never mail: a file that is missing, torn or of another shape
is an empty one, and a disk that takes no more is told once in the log. Between two saves a crash forgets what was counted.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from mta.io.files import DISK, Disk, write_atomically

logger = structlog.get_logger()

FILE = "quotas.json"
SAVE_DEADLINE_S = 5.0  # a disk that hangs must not hold up who saves; the next save finds it


class _Counts(msgspec.Struct, forbid_unknown_fields=True):
    """What `Governor.snapshot` gives: (key, window in seconds, number of the window, count)."""

    quotas: list[tuple[str, float, int, int]] = []


class QuotaFile:
    """The counts on disk. `read` once at the start, `save` every few seconds and at the end; one loop."""

    def __init__(
        self, spool_dir: Path, disk: Disk = DISK, *, deadline_s: float = SAVE_DEADLINE_S
    ) -> None:
        self.path = spool_dir / FILE
        self._disk = disk
        self._deadline_s = deadline_s
        self._written = b""
        self._writing: asyncio.Future[None] | None = None
        self._is_in_trouble = False

    def read(self) -> dict[str, Any]:
        """What `Governor.restore` takes; {} if there is none that can be read. Blocks; for the start."""
        try:
            data = self.path.read_bytes()
            counts = msgspec.json.decode(data, type=_Counts)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            logger.warning(
                "the counts of running hours and days cannot be read and begin at zero",
                file=str(self.path),
                reason=str(error),
            )
            return {}
        self._written = data
        return {"quotas": [list(each) for each in counts.quotas]}

    async def save(self, snapshot: Mapping[str, Any]) -> bool:
        """Have `Governor.snapshot()` on disk; False if it is not there within the deadline. Never raises."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing], timeout=self._deadline_s)
            if not self._writing.done():
                return False  # two writers would share one temporary name
        data = msgspec.json.encode(snapshot)
        if data == self._written:
            return True
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, self._write, data)
        await asyncio.wait([self._writing], timeout=self._deadline_s)
        return self._writing.done() and self._written == data

    def _write(self, data: bytes) -> None:
        """In the thread."""
        try:
            write_atomically(self.path, data, disk=self._disk)
        except OSError as error:
            if not self._is_in_trouble:
                self._is_in_trouble = True
                logger.warning(
                    "the counts of running hours and days cannot be saved; a restart would forget them",
                    file=str(self.path),
                    reason=str(error),
                )
            return
        self._written = data
        if self._is_in_trouble:
            self._is_in_trouble = False
            logger.info("the counts of running hours and days are saved again")
