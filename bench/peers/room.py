"""A room of its own for a peer whose paths are compiled in: a private mount namespace (mount_namespaces(7)).

The peer's unpacked packages lie over /usr and /var, its configuration and users over /etc, an empty /run over the
system's; its spool is a directory of the run, on the measured disk. Nothing outside the namespace
changes, and all of it is gone with the last process in it. Needs root and `unshare`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PEERS = (
    Path(__file__).resolve().parents[2] / "build" / "peers"
)  # where bench/install-peers puts them
_FIRST_ID = 64_301  # of the peers' users; free in Debian's ranges, and real in the namespace only
_EMPTY_PASSWORD = "x"


@dataclass(frozen=True, slots=True)
class Room:
    """What a peer sees: `peer` names its packages, `etc` are files of /etc, `spools` are mounted from the run."""

    directory: Path
    peer: str
    etc: Mapping[str, str]
    users: Sequence[str] = ()
    spools: Sequence[str] = ()  # absolute paths, each a directory of the run
    _ids: dict[str, int] = field(default_factory=dict)

    def build(self) -> None:
        """Lay out the directories that `command` mounts; once, before the first start."""
        for path in ("etc", "var", "run"):
            (self.directory / "room" / path).mkdir(parents=True)
        for number, user in enumerate(self.users):
            self._ids[user] = _FIRST_ID + number
        room = self.directory / "room"
        for name, text in {**self.etc, **self._accounts()}.items():
            (room / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
            (room / "etc" / name).write_text(text)
        for spool in self.spools:
            (room / spool.lstrip("/")).mkdir(parents=True, exist_ok=True)  # the mount point
            self.spool(spool).mkdir(parents=True)

    def spool(self, path: str) -> Path:
        """The directory of the run that the peer sees as `path`."""
        return self.directory / path.strip("/").replace("/", "-")

    def own(self, path: Path, user: str, mode: int) -> None:
        """Give `path` to one of the peer's users."""
        os.chown(path, self._ids[user], self._ids[user])
        path.chmod(mode)

    def command(self, *program: str) -> list[str]:
        """The command that runs `program` in the room; its PID stays that of the command."""
        room = self.directory / "room"
        steps = [
            _overlay(PEERS / self.peer / "usr", "/usr"),
            _overlay(room / "var", "/var"),
            *(f"mount --bind {shlex.quote(str(self.spool(at)))} {at}" for at in self.spools),
            f"mount --bind {shlex.quote(str(room / 'run'))} /run",
            _overlay(room / "etc", "/etc"),
            f"exec {shlex.join(program)}",
        ]
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(steps)]

    def _accounts(self) -> dict[str, str]:
        passwd = Path("/etc/passwd").read_text()
        group = Path("/etc/group").read_text()
        for user, number in self._ids.items():
            passwd += f"{user}:{_EMPTY_PASSWORD}:{number}:{number}::/nonexistent:/bin/false\n"
            group += f"{user}:{_EMPTY_PASSWORD}:{number}:\n"
        return {"passwd": passwd, "group": group}


def missing_from_room(peer: str, program: str) -> str:
    """Why `peer` cannot be started in a room; "" when it can."""
    if os.geteuid() != 0:
        return "a mount namespace must be made as root"
    if not (PEERS / peer / "usr" / "sbin" / program).exists():
        return "not installed: run bench/install-peers"
    return "" if shutil.which("unshare") else "not installed: unshare"


@cache
def forbidden() -> str:
    """Why this system lets nobody make a room, root or not; "" when it does. A container often may not mount."""
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        _overlay(Path("/etc"), "/usr"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no mount namespace here: {error}"
    return f"no mount namespace here: {done.stderr.strip()}" if done.returncode else ""


def _overlay(above: Path, target: str) -> str:
    # Read-only: without an upper directory nothing can be written through it.
    return f"mount -t overlay overlay -o {shlex.quote(f'lowerdir={above}:{target}')} {target}"
