"""The vendor's side of the demo: `sluice-license`, command by command, in a folder of its own, and its licence server.

Each command is run as a person would type it, by the command line's own code; the server is a process. The keys are made for
this run and thrown away with the folder.
"""

import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

from typer.testing import CliRunner

from licensing.vendor.cli import app
from mta.lab.certificate import make_certificate
from tests.support.daemon import free_port

PEOPLE = ("anna", "bela", "cleo")  # who keep the root keys; two of them sign
ROLES = {"issuing": "license-signing", "online": "server-online", "revoking": "revocation"}
START_S = 20.0
SLUICE_LICENSE = (sys.executable, "-m", "licensing.vendor.cli")


class CommandFailed(Exception):
    """A command ended with another status than it should have; the text is what it said."""


class Vendor:
    """Issues licences and answers nodes. `close` ends the server's process."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.url = ""
        self._admin = ""
        self._server: subprocess.Popen[bytes] | None = None
        place.mkdir()

    # -- keys and licences ----------------------------------------------------------------------------

    def hold_ceremony(self) -> Path:
        """Three root keys, a root that two of them signed, a key for each role; the root as a release builds it in."""
        for name in PEOPLE:
            self.run("key", "new", name, "--at", str(self._stick(name).parent), "--unprotected")
        publics = [word for name in PEOPLE for word in ("--key", str(self._stick(name, "pub")))]
        self.run("root", "init", *publics, "--threshold", "2")
        for name in PEOPLE[:2]:
            self.run("root", "sign", "1", "--key", str(self._stick(name)))
        signers = [word for name in PEOPLE[:2] for word in ("--root-key", str(self._stick(name)))]
        for name, role in ROLES.items():
            self.run("key", "new", name, "--unprotected")
            self.run("key", "delegate", name, "--role", role, *signers)
        root = self.place / "root.json"
        self.run("root", "export", "-o", str(root))
        return root

    def issue(self, emails: int) -> tuple[str, Path]:
        """A Volume licence of so many Emails for its term; its id and its file."""
        path = self.place / "order.lic"
        today = datetime.now(UTC)
        said = self.run(
            *("issue", "--kind", "volume", "--licensee", "Example SA", "--order", "OF-1"),
            *("--from", f"{today - timedelta(days=1):%Y-%m-%d}"),
            *("--to", f"{today + timedelta(days=365):%Y-%m-%d}"),
            *("--emails", str(emails), "--period", "term", "--endpoint", self.url),
            *("-o", str(path)),
        )
        found = re.search(r"L[0-9A-Z]{26}", said)
        if found is None:
            raise CommandFailed(f"issue named no licence: {said}")
        return found[0], path

    def upgrade(self, license_id: str, emails: int) -> Path:
        """The next revision, with so many Emails; its file."""
        path = self.place / "upgrade.lic"
        self.run("upgrade", license_id, "--emails", str(emails), "-o", str(path))
        return path

    def run(self, *words: str) -> str:
        """One command of `sluice-license`; what it said. Raises CommandFailed."""
        where = {
            "SLUICE_LICENSE_FOLDER": str(self.place / "folder"),
            "SLUICE_LICENSE_SERVER": self._admin,
            "SLUICE_LICENSE_CERT": str(self.place / "jane.pem"),
            "SLUICE_LICENSE_CERT_KEY": str(self.place / "jane.key"),
            "SLUICE_LICENSE_CA": str(self.place / "tls.pem"),
        }
        done = CliRunner().invoke(app, words, env=where)
        if done.exit_code != 0:
            raise CommandFailed(f"sluice-license {words[0]}: {done.output}")
        return done.output

    def _stick(self, name: str, half: str = "pem") -> Path:
        return self.place / "sticks" / name / f"{name}.{half}"

    # -- the server -----------------------------------------------------------------------------------

    def serve(self) -> Path:
        """Start `sluice-license serve` with TLS on loopback; the certificate to believe. Raises CommandFailed."""
        for name, host in (("tls", "localhost"), ("jane", "jane")):
            certificate, private = make_certificate(host)
            (self.place / f"{name}.pem").write_bytes(certificate)
            (self.place / f"{name}.key").write_bytes(private)
        port, admin_port = free_port(), free_port()
        self.url, self._admin = f"https://localhost:{port}", f"https://localhost:{admin_port}"
        folder = self.place / "folder"
        with (self.place / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *SLUICE_LICENSE,
                    *("serve", "--db", "books.db", "--root", "root.json"),
                    *("--key", str(folder / "keys/online.pem")),
                    *("--delegation", str(folder / "delegations/online.json")),
                    *("--tls-cert", "tls.pem", "--tls-key", "tls.key", "--admin-ca", "jane.pem"),
                    *("--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin_port}"),
                ],
                cwd=self.place,
                env=os.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_ready()
        return self.place / "tls.pem"

    def _wait_until_ready(self) -> None:
        believes = ssl.create_default_context(cafile=str(self.place / "tls.pem"))
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", context=believes, timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        raise CommandFailed(f"no licence server: {(self.place / 'server.log').read_text()}")

    def close(self) -> None:
        """SIGTERM, and wait."""
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGTERM)
            try:
                self._server.wait(START_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
