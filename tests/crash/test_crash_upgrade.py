"""A restart for an upgrade, under load, with the socket held by the service manager: nobody is refused, nothing is lost.

The test plays systemd: it opens the socket, passes it with LISTEN_FDS, keeps it open, and starts the next server when the old one
has ended. A client that connects meanwhile waits in the backlog and is greeted within ten seconds.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.crash.load import SMALL, Ledger, Load
from tests.crash.verdict import a_sink, delivering_to, drain_and_release, judge, read_records
from tests.support.daemon import Daemon

GREETED_S = 10.0


class Held(Daemon):
    """A server started as systemd does it: the socket is descriptor 3."""

    sock: socket.socket

    def hold(self) -> None:
        """Open the socket that outlives every server."""
        self.sock = socket.create_server(("127.0.0.1", self.port), backlog=1024)

    def start(self, *, wait: bool = True) -> None:
        """See `Daemon.start`. LISTEN_PID must be the server's own: a shell takes the name and becomes it."""
        fd = self.sock.fileno()
        command = f'exec 3<&{fd}; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
        arguments = [sys.executable, "-m", "mta", "run", "--config", str(self.config)]
        with (self.place / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", command, "bash", *arguments],
                cwd=self.place,
                env=dict(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[fd],
            )
        if wait:
            self.wait_until_up()


class Knocking(threading.Thread):
    """Connects again and again, and notes how long each greeting took, or that there was none."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.waits: list[float] = []
        self.refused: list[str] = []
        self.is_over = False
        self._port = port

    def run(self) -> None:
        while not self.is_over:
            began = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", self._port), 15) as client:
                    greeting = client.recv(3)
                    if greeting in (b"220", b"421"):  # a server that is stopping says so
                        self.waits.append(time.monotonic() - began)
                    else:
                        self.refused.append(f"{greeting!r}")
            except OSError as error:
                self.refused.append(str(error))
            time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_client_is_refused_and_nothing_is_lost_or_repeated(tmp_path: Path, workers: int) -> None:
    ledger = Ledger()
    with a_sink(tmp_path, delay_ms=20) as sink:
        daemon = Held(tmp_path, default=delivering_to(sink.port), server=f"workers = {workers}")
        daemon.hold()
        try:
            daemon.start()
            knocking = Knocking(daemon.port)
            knocking.start()
            with Load(daemon.port, ledger, sizes=SMALL):
                for _ in range(3):
                    time.sleep(0.7)
                    assert daemon.stop() == 0
                    time.sleep(0.5)  # nobody accepts: clients wait in the backlog
                    daemon.start()
                time.sleep(0.5)
            knocking.is_over = True
            knocking.join(20)
            drain_and_release(daemon)
            assert daemon.stop() == 0
        finally:
            daemon.sock.close()
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.kill()
        verdict = judge(ledger, sink.dump, read_records(tmp_path))
        verdict.require()
        assert verdict.repeated == 0
        assert not knocking.refused, knocking.refused[:5]
        assert max(knocking.waits) < GREETED_S
        assert len(knocking.waits) > 20
