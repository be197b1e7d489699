"""Mail poured in: by `smtp-source -d` where it can make it, by `bench.source` where it cannot."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Child, last_words

SENDER = "sender@bench.example"


@dataclass(frozen=True, slots=True)
class Load:
    """So many messages of one size over so many connections."""

    count: int
    size_bytes: int
    connections: int = 50
    recipient: str = "user@dest.example"


def pour(load: Load, port: int, directory: Path, deadline_s: float) -> float:
    """Send `load` to a local port with smtp-source; seconds until its last 250. RunFailed."""
    command = [
        *(
            "smtp-source",
            "-4",
            "-d",
            "-s",
            str(min(load.connections, load.count)),
            "-m",
            str(load.count),
        ),
        *("-l", str(load.size_bytes), "-f", SENDER, "-t", load.recipient, f"127.0.0.1:{port}"),
    ]
    started = time.monotonic()
    with Child("smtp-source", command, directory / "source.log") as child:
        child.wait(deadline_s)
        return time.monotonic() - started


def pour_pattern(load: Load, port: int, directory: Path, deadline_s: float) -> dict[str, float]:
    """Send `load` with bench.source, `{n}` in the recipient counting up; its answer. RunFailed."""
    command = [
        *(sys.executable, "-m", "bench.source", f"127.0.0.1:{port}", "-m", str(load.count)),
        *(
            "-s",
            str(load.connections),
            "-l",
            str(load.size_bytes),
            "-f",
            SENDER,
            "-t",
            load.recipient,
        ),
    ]
    log = directory / f"source-{time.monotonic_ns()}.log"
    root = str(Path(__file__).resolve().parent.parent)
    with Child("bench.source", command, log, env={"PYTHONPATH": root}) as child:
        child.wait(deadline_s)
    answer: dict[str, float] = json.loads(last_words(log, 1))
    return answer
