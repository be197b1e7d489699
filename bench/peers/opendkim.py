"""OpenDKIM as a signing milter on a Unix socket of its own, without the system's configuration."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.processes import POLL_S, Child, RunFailed, last_words
from bench.signature import DOMAIN, SELECTOR, SigningKey

CONFIG = """\
Mode s
Domain {domain}
Selector {selector}
KeyFile {key}
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
OversignHeaders From
Socket local:{directory}/opendkim.sock
UMask 000
InternalHosts 127.0.0.0/8
RequireSafeKeys no
Syslog no
AutoRestart no
"""


class OpenDkim:
    """A running opendkim; its socket is `opendkim.sock` in its directory."""

    def __init__(self, directory: Path, key: SigningKey) -> None:
        config = directory / "opendkim.conf"
        config.write_text(
            CONFIG.format(domain=DOMAIN, selector=SELECTOR, key=key.path, directory=directory)
        )
        self._log = directory / "opendkim.log"
        self._socket = directory / "opendkim.sock"
        self.child = Child("opendkim", ["opendkim", "-f", "-x", str(config)], self._log)
        try:
            self._wait_until_open()
        except BaseException:
            self.child.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.child.stop()

    def _wait_until_open(self) -> None:
        deadline = time.monotonic() + 10.0
        while not self._socket.exists():
            self.child.require_alive()
            if time.monotonic() > deadline:
                raise RunFailed(f"opendkim opened no socket: {last_words(self._log)}")
            time.sleep(POLL_S)


def opendkim_version() -> str:
    """The first line of `opendkim -V`."""
    answer = subprocess.run(["opendkim", "-V"], capture_output=True, text=True, check=False)
    return (answer.stdout or answer.stderr).partition("\n")[0].replace("opendkim: ", "").strip()
