"""A real Sluice in a process of its own: what tests start, talk to, kill and start again.

The server is `sluice run` on a configuration written for the test, in a directory of the test, on ports of the kernel's choice.
Every wait has a deadline; `stop` and `kill` end only the process started here, by its id.
"""

import csv
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from mta.cli.answers import check_answer
from mta.control.client import ControlClient
from mta.control.protocol import ControlError
from tests.support import warm

START_TIMEOUT_S = 60.0  # a start takes one second; beside a compiler and other tests up to twenty
STOP_TIMEOUT_S = 40.0

CONFIG = """\
[server]
hostname = "mta.test.example"
spool_dir = "{disk}/spool"
control_socket = "control.sock"
lab = {lab}
min_free = "{min_free}"
{server}

[[listener]]
address = "127.0.0.1:{port}"
relay_from = ["127.0.0.0/8"]
{listener}

[default]
{default}

[accounting.main]
path = "{disk}/acct.csv"
records = ["d", "b", "t", "tq"]

{more}
"""


# Below what the kernel gives to clients: a port given away by it would be taken by somebody's outgoing connection before the
# server listens. A part for each process of a test run, in turn: no port twice.
_PORTS = itertools.cycle(range(12_000 + os.getpid() % 100 * 200, 12_200 + os.getpid() % 100 * 200))


def free_port() -> int:
    """A port nobody listens on now, and that this process was not given lately."""
    for port in itertools.islice(_PORTS, 200):
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all ports of this process are taken")


class Daemon:
    """One server: `start`, `ask` its control socket, `stop` or `kill`; its files stay in `place`."""

    def __init__(
        self,
        place: Path,
        *,
        default: str,
        server: str = "",
        listener: str = "",
        more: str = "",
        environment: Mapping[str, str] | None = None,
        disk: Path | None = None,
        min_free: str = "16M",
        lab: bool = True,
        command: Sequence[str] = (sys.executable, "-m", "mta"),
    ) -> None:
        """The texts are lines of TOML for the sections of that name; `default` says where mail goes (`hosts` …).

        `disk`: where spool and accounting lie, if not in `place`. `command`: what is `sluice` here; a module of
        Python's is forked from a warm one.
        """
        self.place = place
        self.disk = disk or place
        self.command = list(command)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | warm.Forked | None = None
        self._environment = {**os.environ, **(environment or {})}
        self.config = place / "sluice.toml"
        self.config.write_text(
            CONFIG.format(
                server=server,
                port=self.port,
                listener=listener,
                default=default,
                more=more,
                disk=self.disk,
                min_free=min_free,
                lab=str(lab).lower(),
            )
        )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_up(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        """Everything it has said so far."""
        return (self.place / "server.log").read_text(errors="replace")

    def start(self, *, wait: bool = True) -> None:
        """Start it; returns once the control socket answers. One that does not come up is ended."""
        with (self.place / "server.log").open("ab") as log:
            self.process = self._open(log)
        if wait:
            try:
                self.wait_until_up()
            except BaseException:
                self.kill()
                raise

    def _open(self, log: BinaryIO) -> subprocess.Popen[bytes] | warm.Forked:
        words = ["run", "--config", str(self.config)]
        match self.command:
            case [sys.executable, "-m", module, *before] if warm.is_here():
                words = [*before, *words]
                path = self.place / "server.log"
                return warm.Forked(module, words, cwd=self.place, env=self._environment, log=path)
        return subprocess.Popen(
            [*self.command, *words],
            cwd=self.place,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def wait_until_up(self) -> None:
        """Wait for the control socket. Raises AssertionError with the log if it does not come."""
        assert self.process is not None
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.ask("status")
                return
            except ControlError:
                time.sleep(0.05)
        raise AssertionError(f"the server did not start:\n{self.log}")

    def ask(self, verb: str, **args: Any) -> Any:
        """A verb's answer. Raises ControlError."""
        with ControlClient(self.place / "control.sock", 30.0) as client:
            answer = client.call(verb, **args)
        # What a test asks behind the command's back has the command's shape, too.
        if verb in ("explain", "queues", "queue.show", "vmtas", "messages.list", "orders"):
            check_answer(verb.replace(".", " "), answer)
        return answer

    def totals(self) -> dict[str, Any]:
        """The sums of `status`."""
        answer: dict[str, Any] = self.ask("status")["totals"]
        return answer

    def wait_for(self, *, timeout_s: float = 30.0, **wanted: int) -> dict[str, Any]:
        """Wait until totals have at least these values; the totals. Raises AssertionError with both."""
        until = time.monotonic() + timeout_s
        while True:
            totals = self.totals()
            if all(totals[name] >= value for name, value in wanted.items()):
                return totals
            if time.monotonic() > until:
                found = {name: totals[name] for name in wanted}
                raise AssertionError(f"waited for {wanted}, found {found}\n{self.log[-4000:]}")
            time.sleep(0.05)

    def records(self) -> list[dict[str, str]]:
        """All accounting records, after a rotation has brought the file up to date."""
        self.ask("rotate")
        return self.records_on_disk()

    def records_on_disk(self) -> list[dict[str, str]]:
        """The accounting records in the files as they are, oldest file first."""
        found: list[dict[str, str]] = []
        for path in [*sorted(self.disk.glob("acct-*.csv")), self.disk / "acct.csv"]:
            if path.exists():
                with path.open(newline="", encoding="utf-8") as file:
                    found.extend(csv.DictReader(file))
        return found

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"it did not stop within {STOP_TIMEOUT_S} s:\n{self.log}"
            ) from None

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def wait_for_exit(self, timeout_s: float = 20.0) -> int:
        """Its exit code once it ends by itself."""
        assert self.process is not None
        return self.process.wait(timeout_s)


@contextmanager
def ended(daemon: Daemon) -> Iterator[Daemon]:
    """No server outlives its test."""
    try:
        yield daemon
    finally:
        if daemon.is_up:
            daemon.kill()


@contextmanager
def serving(daemon: Daemon, *, faults_meant: bool = False) -> Iterator[Daemon]:
    """It is started. If it still runs at the end it had no fault of its own, and stops as it is told.

    `faults_meant`: the test makes something throw, so its log tells of faults.
    """
    with ended(daemon):
        daemon.start()
        yield daemon
        if daemon.is_up:
            assert daemon.totals()["bugs"] == 0, daemon.log[-4000:]
            assert daemon.stop() == 0, daemon.log[-4000:]
        if not faults_meant:
            log = daemon.log
            assert "Traceback" not in log, log[-4000:]
            assert "a fault of ours" not in log, log[-4000:]


@contextmanager
def running(place: Path, **settings: Any) -> Iterator[Daemon]:
    """A server of these settings, started and ended as `serving` does."""
    with serving(Daemon(place, **settings)) as daemon:
        yield daemon
