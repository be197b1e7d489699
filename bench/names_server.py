"""The DNS answerer of bench.names as a process of a run."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.load import ROOT
from bench.processes import POLL_S, Child, RunFailed


class Names:
    """It answers on `port` from the `with` on."""

    def __init__(self, directory: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "bench.names", str(self.port)]
        self._log = directory / "names.log"
        self._child = Child("bench.names", command, self._log, env={"PYTHONPATH": str(ROOT)})

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 10.0
        while "answering" not in self._log.read_text():
            if time.monotonic() > deadline:
                self._child.stop()
                raise RunFailed("bench.names does not answer")
            time.sleep(POLL_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.stop()
