"""The processes a run starts: begun, watched and ended here, and only these.

Every process is kept with its descendants as psutil objects, which carry the start time: a PID that
was given to somebody else in the meantime is never signalled. CPU and memory are read from /proc
for the whole tree.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

POLL_S = 0.02
TERMINATE_S = 15.0  # Postfix's master and a draining daemon get this long before SIGKILL
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


class RunFailed(Exception):
    """A run could not be measured; the text says why and is shown in the report."""


class Child:
    """One process of ours with all it forked; ended at the latest with the `with` block."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start `command`; its stdout and stderr are appended to the file `log`."""
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,  # Ctrl-C reaches the bench, which then ends them in order
            )
        self._seen: set[psutil.Process] = set()
        with suppress(psutil.NoSuchProcess):
            self._seen.add(psutil.Process(self._popen.pid))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The PID of the process started, root of its tree."""
        return self._popen.pid

    def tree(self) -> list[psutil.Process]:
        """The process and all its living descendants."""
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            alive = [root, *root.children(recursive=True)]
            self._seen.update(alive)
            return alive
        return []

    def require_alive(self) -> None:
        """Raise RunFailed with the end of its log when the process has ended."""
        status = self._popen.poll()
        if status is not None:
            raise RunFailed(f"{self.name} ended with status {status}: {last_words(self.log)}")

    def wait(self, deadline_s: float) -> None:
        """Wait for a good end; RunFailed at a bad status or after `deadline_s` seconds."""
        try:
            status = self._popen.wait(deadline_s)
        except subprocess.TimeoutExpired:
            words = last_words(self.log)
            raise RunFailed(f"{self.name} was not done after {deadline_s:.0f} s: {words}") from None
        if status:
            raise RunFailed(f"{self.name} ended with status {status}: {last_words(self.log)}")

    def stop(self) -> None:
        """SIGTERM to the root, wait, then SIGKILL to whatever of the tree is left."""
        self.tree()
        if self._popen.poll() is None:
            self._popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(TERMINATE_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole tree at once, as a crash would be."""
        self.tree()
        for process in self._seen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(list(self._seen), timeout=TERMINATE_S)
        self._popen.wait(TERMINATE_S)


def cpu_seconds(children: Iterable[Child]) -> float:
    """CPU seconds, user and system, of whole trees; the ended count through their parents."""
    total = 0.0
    for child in children:
        for process in child.tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


class Busy:
    """How much of all cores was in use since it was made: ours and everybody's."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def share(self) -> float:
        """From 0 to 1."""
        now = psutil.cpu_times()
        total = sum(now) - sum(self._before)
        idle = now.idle + now.iowait - self._before.idle - self._before.iowait
        return 1 - idle / total if total > 0 else 0.0


def parse_pss(smaps_rollup: bytes) -> int:
    """The proportional set size in bytes from the text of /proc/PID/smaps_rollup."""
    found = _PSS.search(smaps_rollup)
    return int(found[1]) * 1024 if found else 0


def pss_bytes(children: Iterable[Child]) -> int:
    """Memory of whole trees in bytes, shared pages divided among those who share them."""
    total = 0
    for child in children:
        for process in child.tree():
            with suppress(OSError):
                total += parse_pss(Path(f"/proc/{process.pid}/smaps_rollup").read_bytes())
    return total


def last_words(log: Path, lines: int = 4) -> str:
    """The last lines of a log, joined, for a report."""
    with suppress(OSError):
        text = log.read_text(errors="replace").strip().splitlines()[-lines:]
        return " / ".join(line.strip() for line in text) or "(no output)"
    return "(no log)"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_banner(port: int, child: Child, deadline_s: float) -> None:
    """Wait until 127.0.0.1:`port` greets with 220; RunFailed when `child` ends or time runs out."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        child.require_alive()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 2.0) as peer:
            peer.settimeout(2.0)
            if peer.recv(512).startswith(b"220"):
                peer.sendall(b"QUIT\r\n")
                peer.recv(512)
                return
        time.sleep(POLL_S)
    raise RunFailed(
        f"{child.name} did not greet within {deadline_s:.0f} s: {last_words(child.log)}"
    )
