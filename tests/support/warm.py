"""A warm Python: what `sluice run` imports is imported once in a test run, and `python -m MODULE …` is a fork of that.

A start by the command line costs half a second of CPU for imports alone, and tests start servers by the hundred. What is forked
has one thread, no loop and no open file: the process that the command would be once it has read its modules.

As a script this is the side that forks; it ends with its test process, whose end of the socket then closes.
"""

import atexit
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MAX_REQUEST = 1 << 20  # an environment is a few KB


class Forked:
    """`python -m MODULE WORDS`, with what tests use of a `subprocess.Popen`."""

    def __init__(
        self, module: str, words: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path
    ) -> None:
        """Start it; `log` gets what it says. Raises OSError."""
        self.returncode: int | None = None
        wish = {"module": module, "words": words, "cwd": str(cwd), "env": {**env}, "log": str(log)}
        asked = json.dumps(wish).encode()
        self._told, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with given:
            socket.send_fds(_warmed(), [asked], [given.fileno()])
        self.pid = int(self._told.recv(64))

    def poll(self) -> int | None:
        """Its exit code once it has ended; minus the signal that ended it."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        if (code := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired("python", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """To it alone; nothing once it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self.returncode = int(self._told.recv(64))
            except (TimeoutError, BlockingIOError):
                return None
            self._told.close()
        return self.returncode


def is_here() -> bool:
    """Whether a fork would stand where its caller does: a thread in a network of its own takes only its children there."""
    return all(
        os.readlink(f"/proc/thread-self/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
        for kind in ("net", "mnt")
    )


_warm: socket.socket | None = None


def _warmed() -> socket.socket:
    """The way to the process that forks, started when it is needed first."""
    global _warm
    if _warm is None:
        _warm, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _warm.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_REQUEST)
        with theirs:
            # -P: the modules beside this file must not stand before Python's own. The tree is that of the tests, which may be a
            # compiled one, whatever is installed.
            process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        atexit.register(process.wait, 10.0)
        atexit.register(_warm.close)
    return _warm


# -- the side that forks ------------------------------------------------------------------------------


def fork_as_asked(asked: socket.socket) -> dict[str, Any] | None:
    """Fork until the test process is gone: then None. In each child: what it is to be."""
    waiting = selectors.DefaultSelector()
    waiting.register(asked, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is asked:
                data, ends, _, _ = socket.recv_fds(asked, MAX_REQUEST, 1)
                if not data:
                    return None
                teller = socket.socket(fileno=ends[0])
                if (pid := os.fork()) == 0:
                    # Now: an object that closes its descriptor later would close one of the new process.
                    waiting.close()
                    asked.close()
                    teller.close()
                    return dict(json.loads(data))
                teller.send(b"%d" % pid)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, teller))
            else:
                pid, teller = key.data
                _, status = os.waitpid(pid, 0)
                waiting.unregister(key.fileobj)
                os.close(key.fd)
                with suppress(OSError):  # nobody waits for it any more
                    teller.send(b"%d" % os.waitstatus_to_exitcode(status))
                teller.close()


def become(asked: dict[str, Any]) -> None:
    """What a new process has: descriptors, folder, environment, words."""
    with open(asked["log"], "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["", *asked["words"]]  # run_module puts the module's file in front
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    import mta.cli.app
    import mta.runtime.supervisor  # noqa: F401

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the tests, which end this one
    found = fork_as_asked(socket.socket(fileno=int(sys.argv[1])))
    if found is not None:
        become(found)
