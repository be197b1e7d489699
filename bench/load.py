"""Mail poured in: by `smtp-source` where it can make it, by `bench.source` where it cannot."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import Child, RunFailed, last_words

SENDER = "sender@bench.example"
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Load:
    """So many messages of one size over so many connections; `recipient` as in bench.recipients."""

    count: int
    size_bytes: int
    connections: int = 50
    recipient: str = "user@dest.example"
    reuse: bool = True  # False: connect, one message, quit
    own_source: bool = False  # bench.source, which the fields below need
    recipients_each: int = 1
    domains: int = 0
    per_domain: int = 0  # messages for each; then `domains` follows from the count
    zipf: bool = False
    per_second: float = 0.0  # 0: as fast as it goes


@dataclass(frozen=True, slots=True)
class Poured:
    """What the source says: seconds until its last 250, and the latency of the final dots where it takes it."""

    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    accept_ms: Mapping[str, float] = field(default_factory=dict)


def pour(load: Load, port: int, directory: Path, deadline_s: float) -> Poured:
    """Send `load` to a local port with the source it needs, or the one there is. RunFailed."""
    if load.own_source or not has_smtp_source():
        if not load.reuse:
            raise RunFailed("a connection for each message needs smtp-source (Debian: postfix)")
        answer = pour_pattern(load, port, directory, deadline_s)
        took = answer["seconds"], answer["p50_ms"], answer["p99_ms"]
        return Poured(*took, accept_ms=answer["accept_ms"])
    return Poured(_pour_plain(load, port, directory, deadline_s))


def pour_pattern(load: Load, port: int, directory: Path, deadline_s: float) -> dict[str, Any]:
    """Send `load` with bench.source; its answer. RunFailed."""
    command = [sys.executable, "-m", "bench.source", *pattern_words(load, port)]
    log = directory / f"source-{time.monotonic_ns()}.log"
    with Child("bench.source", command, log, env={"PYTHONPATH": str(ROOT)}) as child:
        child.wait(deadline_s)
    answer: dict[str, Any] = json.loads(last_words(log, 1))
    return answer


def has_smtp_source() -> bool:
    """Whether Postfix's load generator is installed; bench.source stands in for it."""
    return shutil.which("smtp-source") is not None


def pattern_words(load: Load, port: int) -> list[str]:
    """The command line of bench.source for `load`."""
    numbers = {
        "-m": load.count,
        "-s": load.connections,
        "-l": load.size_bytes,
        "-r": load.recipients_each,
        "--domains": load.count // load.per_domain if load.per_domain else load.domains,
        "--per-second": load.per_second,
    }
    words = [f"127.0.0.1:{port}", "-f", SENDER, "-t", load.recipient]
    for option, number in numbers.items():
        words += [option, str(number)]
    return [*words, *(["--zipf"] if load.zipf else [])]


def _pour_plain(load: Load, port: int, directory: Path, deadline_s: float) -> float:
    connections = str(min(load.connections, load.count))
    command = ["smtp-source", "-4", *(["-d"] if load.reuse else []), "-s", connections]
    command += ["-m", str(load.count), "-l", str(load.size_bytes)]
    command += ["-f", SENDER, "-t", load.recipient, f"127.0.0.1:{port}"]
    started = time.monotonic()
    with Child("smtp-source", command, directory / "source.log") as child:
        child.wait(deadline_s)
        return time.monotonic() - started
