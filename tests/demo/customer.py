"""The customer's side of the demo: a product built for this vendor, its daemon outside lab mode, and the operator who asks it.

A root of trust that is named in configuration opens Development licences only, and this demo keeps it so: the product is a copy
of the packages in a folder of its own, with the demo vendor's root in the place of `licensing/root.json`, which is what a
release build does. Nothing that is shipped can be talked into believing another root.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mta.control.client import ControlClient
from mta.control.protocol import ControlError
from tests.demo.vendor import CommandFailed
from tests.support.daemon import free_port

START_S = 20.0
STOP_S = 40.0
COMMAND_S = 30.0
SLUICE = (sys.executable, "-m", "mta")

CONFIG = """\
# Written by the demo of licences.
[server]
hostname = "mta.customer.example"
spool_dir = "spool"
control_socket = "control.sock"
min_free = "64M"

[[listener]]
address = "127.0.0.1:{port}"
relay_from = ["127.0.0.0/8"]

[dns]
servers = ["127.0.0.1:9"]

# Everything goes to one host on loopback; under a licence that counts like any other delivery.
[default]
hosts = ["{host}"]
idle_timeout = "2s"

[accounting.demo]
path = "acct.csv"
records = ["d", "b", "t", "tq"]

[license]
dir = "license.d"
state_dir = "license"
ca_file = "{ca_file}"
node_label = "demo"
notify_email = ["{operator}"]
"""


def build_product(place: Path, root: Path) -> Path:
    """The packages as they are here, with this root built in; the folder for PYTHONPATH."""
    for name in ("mta", "licensing"):
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        package = Path(spec.origin).parent
        shutil.copytree(package, place / name)
        for compiled in package.parent.glob("*__mypyc.*"):  # what a wheel's modules share
            shutil.copy(compiled, place)
    shutil.copyfile(root, place / "licensing" / "root.json")
    return place


class Customer:
    """One server and its operator. `close` ends the daemon's process."""

    def __init__(
        self, place: Path, product: Path, *, host: str, ca_file: Path, operator: str
    ) -> None:
        place.mkdir()
        self.place = place
        self.port = free_port()
        self._product = product
        self._daemon: subprocess.Popen[bytes] | None = None
        text = CONFIG.format(port=self.port, host=host, ca_file=ca_file, operator=operator)
        (place / "sluice.toml").write_text(text)

    @property
    def pid(self) -> int:
        """Of the daemon."""
        assert self._daemon is not None
        return self._daemon.pid

    @property
    def log(self) -> str:
        """What the daemon has said."""
        return (self.place / "server.log").read_text(errors="replace")

    def start(self) -> None:
        """Start the daemon; returns when it answers. Raises CommandFailed."""
        with (self.place / "server.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [*SLUICE, "run", "--config", "sluice.toml"],
                cwd=self.place,
                env=self._environment(self._product),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._daemon.poll() is None:
            try:
                self.ask("status")
                return
            except ControlError:
                time.sleep(0.05)
        raise CommandFailed(f"the server did not start: {self.log}")

    def ask(self, verb: str, **arguments: Any) -> Any:
        """What the control socket answers. Raises ControlError."""
        with ControlClient(self.place / "control.sock", 30.0) as client:
            return client.call(verb, **arguments)

    def sluice(self, *words: str) -> str:
        """A command of `sluice`, as the operator types it; what it said, whatever its exit code."""
        return self._run(self._product, words, "control.sock")[1]

    def install_elsewhere(self, file: Path) -> tuple[int, str]:
        """`sluice license install` of the product as it is here, on a machine of its own: exit code, and what it said."""
        spec = find_spec("licensing")
        assert spec is not None and spec.origin is not None
        elsewhere = self.place / "elsewhere"
        elsewhere.mkdir()
        text = (self.place / "sluice.toml").read_text()
        (elsewhere / "sluice.toml").write_text(text)
        words = ("license", "install", str(file), "--config", str(elsewhere / "sluice.toml"))
        return self._run(Path(spec.origin).parents[1], words, "")

    def close(self) -> int:
        """SIGTERM, and wait; the exit code."""
        if self._daemon is None:
            return 0
        if self._daemon.poll() is None:
            self._daemon.send_signal(signal.SIGTERM)
        try:
            return self._daemon.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            return self._daemon.wait()

    def _run(self, product: Path, words: tuple[str, ...], control: str) -> tuple[int, str]:
        where = {"SLUICE_SOCKET": control} if control else {}
        done = subprocess.run(
            [*SLUICE, *words],
            cwd=self.place,
            env={**self._environment(product), **where, "COLUMNS": "110"},
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    def _environment(self, product: Path) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(product)}
