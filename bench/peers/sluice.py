"""Sluice itself: `sluice run --config FILE`, accounting on, and its control socket.

The words of the control socket and of `status --json` that this bench relies on stand here and
nowhere else.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.peers import DEAD_DOMAIN, Setup
from bench.processes import Child, RunFailed, free_port, wait_for_banner
from bench.signature import CHECK_DOMAIN, DOMAIN, SELECTOR

LOOP_LAG = "loop_lag_p99_ms"  # in the answer to `status`, at any depth
QUEUED = "recipients"  # in the answer to `queues`, one number a queue
START_S = 30.0
_PROGRAM = Path(sys.executable).parent / "sluice"


class RunningSluice:
    """A daemon that greets, with the means to ask it."""

    cpu_is_whole = True

    def __init__(self, port: int, child: Child, setup: Setup) -> None:
        self._port = port
        self._child = child
        self._directory = setup.directory

    @property
    def port(self) -> int:
        return self._port

    @property
    def children(self) -> Sequence[Child]:
        return [self._child]

    def loop_lag_p99_ms(self) -> float | None:
        try:
            return find_number(self.ask("status"), LOOP_LAG)
        except (OSError, ValueError):
            return None

    def recorded(self) -> int:
        """Delivery records in the accounting files; the follower may be a moment behind."""
        files = self._directory.glob("acct*")  # the current one and those it was renamed to
        return sum(count_deliveries(file.read_bytes()) for file in files)

    @property
    def spool(self) -> Path:
        """The directory of its spool."""
        return self._directory / "spool"

    def ask(self, verb: str, timeout_s: float = 30.0) -> Any:
        """One request over the control socket, one JSON line back. OSError, ValueError."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(timeout_s)
            control.connect(str(self._directory / "control.sock"))
            control.sendall(json.dumps({"verb": verb}).encode() + b"\n")
            with control.makefile("rb") as lines:
                return json.loads(lines.readline())

    def command_seconds(self, *words: str) -> float:
        """Seconds of one whole `sluice WORDS --json` command; RunFailed at a bad status."""
        config = self._directory / "sluice.toml"
        started = time.monotonic()
        answer = subprocess.run(
            [str(_PROGRAM), *words, "--json", "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=60.0,
            check=False,
        )
        if answer.returncode:
            raise RunFailed(f"sluice {' '.join(words)}: {answer.stderr.strip()[-300:]}")
        return time.monotonic() - started


class Sluice:
    """The contestant this bench is for."""

    @property
    def name(self) -> str:
        return "sluice"

    @property
    def settings(self) -> str:
        return "accounting d and b, spool synced before each 250"

    def missing(self) -> str:
        return "" if os.access(_PROGRAM, os.X_OK) else f"not installed: {_PROGRAM}"

    def version(self) -> str:
        with suppress(OSError, subprocess.SubprocessError):
            command = [str(_PROGRAM), "--version"]
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=20.0, check=True
            )
            return answer.stdout.strip() or "Sluice"
        return "Sluice (does not say its version)"

    @contextmanager
    def start(self, setup: Setup) -> Iterator[RunningSluice]:
        port = free_port()
        config = setup.directory / "sluice.toml"
        config.write_text(format_config(setup, port))
        (setup.directory / "spool").mkdir(exist_ok=True)  # it is there at a restart
        command = [str(_PROGRAM), "run", "--config", str(config)]
        with Child("sluice", command, setup.directory / "sluice.log") as child:
            wait_for_banner(port, child, START_S)
            yield RunningSluice(port, child, setup)


def refuses_workers(directory: Path, workers: int) -> str:
    """Why this Sluice would not run with so many workers; "" when it would."""
    config = directory / "workers.toml"
    config.write_text(format_config(Setup(directory, 25, workers=workers), 2525))
    command = [str(_PROGRAM), "config", "check", "--config", str(config)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
    words = " ".join((answer.stdout + answer.stderr).split())
    return words[-200:] if answer.returncode else ""


def format_config(setup: Setup, port: int) -> str:
    """The configuration of a run, as TOML."""
    tables: list[tuple[str, Mapping[str, object]]] = []
    server: dict[str, object] = {
        "hostname": "sluice.bench.example",
        "spool_dir": str(setup.directory / "spool"),
        "workers": setup.workers,
        "control_socket": str(setup.directory / "control.sock"),
        "lab": True,
    }
    if setup.total_connections is not None:
        server["total_connections"] = setup.total_connections
    default: dict[str, object] = {"max_connections": setup.connections}
    if setup.dns_port is None:
        default["hosts"] = [f"127.0.0.1:{setup.sink_port}"]
    else:
        default["port"] = setup.sink_port
    if setup.retry_s is not None:
        default["retry"] = [f"{setup.retry_s}s"]
    tables += [("[server]", server), ("[default]", default)]
    tables.append(("[[listener]]", {"address": f"127.0.0.1:{port}", "relay_from": ["127.0.0.0/8"]}))
    if setup.dns_port is not None:
        tables.append(("[dns]", {"servers": [f"127.0.0.1:{setup.dns_port}"]}))
    for domain, to in ((CHECK_DOMAIN, setup.check_port), (DEAD_DOMAIN, setup.dead_port)):
        if to is not None:
            tables.append((f'[domain."{domain}"]', {"hosts": [f"127.0.0.1:{to}"]}))
    if setup.key is not None:
        key = {"domain": DOMAIN, "selector": SELECTOR, "key_file": str(setup.key.path)}
        tables.append(("[[dkim]]", key))
    accounting = {"path": str(setup.directory / "acct.csv"), "records": ["d", "b"]}
    tables.append(("[accounting.main]", accounting))
    return "\n".join(f"{head}\n{_format_values(values)}" for head, values in tables)


def find_number(answer: object, key: str) -> float | None:
    """The largest number under `key` anywhere in a JSON answer; None without one."""
    return max(_numbers(answer, key), default=None)


def find_sum(answer: object, key: str) -> float | None:
    """The sum of the numbers under `key` anywhere in a JSON answer; None without one."""
    found = list(_numbers(answer, key))
    return sum(found) if found else None


def count_deliveries(accounting: bytes) -> int:
    """The records of type d in an accounting file (`d` is its first column)."""
    return accounting.count(b"\nd,") + accounting.startswith(b"d,")


def _format_values(values: Mapping[str, object]) -> str:
    # TOML's strings, numbers, booleans and lists of strings are JSON's.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def _numbers(answer: object, key: str) -> Iterator[float]:
    if isinstance(answer, dict):
        value = answer.get(key)
        if isinstance(value, int | float):
            yield float(value)
    inner = (
        answer.values() if isinstance(answer, dict) else answer if isinstance(answer, list) else ()
    )
    for part in inner:
        yield from _numbers(part, key)
