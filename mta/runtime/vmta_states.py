"""What the operator said of virtual MTAs – paused, drained – kept over restarts: `vmtas.json` in the spool's directory.

One file for the whole server, because a virtual MTA is one for all workers: the supervisor writes it whole (`mta.io.files`),
every worker reads it when it starts and again when it changes. So a worker that was started later, or missed being told, does as
the others do. A name that is not in the configuration stays in it: put back, it is as it was.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import structlog

from mta.config.load import Settings
from mta.io.files import DISK, Disk, write_atomically

logger = structlog.get_logger()

FILE = "vmtas.json"


class VmtaState(StrEnum):
    """What the operator wants of a virtual MTA."""

    RUNNING = "running"
    PAUSED = "paused"  # nothing goes out from it
    DRAINED = "drained"  # what it has goes out, pools give it no more


class _File(msgspec.Struct, forbid_unknown_fields=True):
    states: dict[str, VmtaState] = {}
    by: dict[str, str] = {}  # the users who wanted it so


class VmtaStates:
    """The file, as last read. Blocks: it is small, and read only when it changed."""

    def __init__(self, spool_dir: Path, disk: Disk = DISK) -> None:
        self.path = spool_dir / FILE
        self._disk = disk
        self._states: dict[str, VmtaState] = {}
        self._by: dict[str, str] = {}
        self._seen: tuple[int, int, int] | None = None

    def of(self, name: str) -> VmtaState:
        """The state of a virtual MTA."""
        return self._states.get(name, VmtaState.RUNNING)

    def by(self, name: str) -> str:
        """The user who wanted it so; "" if that is not known."""
        return self._by.get(name, "")

    def read(self) -> None:
        """Look whether the file changed. One that cannot be read changes nothing, and is told in the log."""
        try:
            found = os.stat(self.path)
            mark = (found.st_mtime_ns, found.st_ino, found.st_size)
            if mark == self._seen:
                return
            self._seen = mark
            file = msgspec.json.decode(self.path.read_bytes(), type=_File)
            self._states, self._by = file.states, file.by
        except FileNotFoundError:
            self._seen, self._states, self._by = None, {}, {}
        except (OSError, msgspec.DecodeError) as error:
            text = "which virtual MTAs are paused or drained cannot be read; all stay as they are"
            logger.error(text, file=str(self.path), reason=str(error))

    def put(self, name: str, state: VmtaState, by: str = "") -> None:
        """From now on, on disk. Raises OSError; then nothing changed."""
        self.read()
        states = {**self._states, name: state}
        users = {**self._by, name: by}
        if state is VmtaState.RUNNING:
            del states[name], users[name]
        write_atomically(self.path, msgspec.json.encode(_File(states, users)), disk=self._disk)
        self._states, self._by = states, users
        self._seen = None


def describe_vmtas(settings: Settings) -> list[dict[str, Any]]:
    """The virtual MTAs of a configuration as the operator sees them."""
    return [
        {
            "vmta": rules.name,
            "addresses": [*rules.source_v4, *rules.source_v6],
            "ehlo_name": rules.ehlo_name or settings.server.hostname,
            "total_connections": rules.total_connections,
            "total_message_rate": str(rules.total_message_rate)
            if rules.total_message_rate
            else None,
            "pools": [
                pool.name
                for pool in settings.pools.values()
                if any(name == rules.name for name, _ in pool.members)
            ],
        }
        for rules in settings.vmtas.values()
    ]
