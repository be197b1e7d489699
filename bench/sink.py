"""Where the mail ends: Postfix's `smtp-sink`, our own `bench.uvsink`, and a sink that keeps messages to be looked at."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.load import ROOT
from bench.processes import POLL_S, Child, RunFailed, free_port, last_words

BACKLOG = 1024
STALL_S = 30.0  # a message that was deferred would come minutes later: not in this run
MAX_SESSIONS = 4096
MESSAGES, RECIPIENTS, REFUSED = "mesg", "rcpt", "refused"


def parse_count(output: bytes, what: str = MESSAGES) -> int:
    """The last count of `what` a sink wrote (smtp-sink -c: `sess=1 quit=0 mesg=7\\r`…)."""
    counts = re.findall(rb"\b%s=(\d+)(?=\s)" % what.encode(), output)
    return int(counts[-1]) if counts else 0


@dataclass(frozen=True, slots=True)
class Manner:
    """How bench.uvsink answers; where smtp-sink will do there is no Manner."""

    delay_s: float = 0.0  # before each write
    refuse_first: bool = False  # every message is refused once
    quick_ack: bool = False  # no delayed ACK


class Sink:
    """One receiving server in a process of its own; its running count goes to a file.

    That is smtp-sink, or bench.uvsink where a manner is asked for or smtp-sink is not installed. The count
    costs nothing measurable: 20,000 messages of 4 KB from smtp-source took 1.34 s with it and 1.36 s without.
    """

    def __init__(self, directory: Path, manner: Manner | None = None) -> None:
        self.port = free_port()
        self._log = directory / "sink.count"
        if manner is None and not has_smtp_sink():
            manner = Manner()
        command = _smtp_sink(self.port) if manner is None else _uvsink(self.port, manner)
        self._child = Child("the sink", command, self._log, env={"PYTHONPATH": str(ROOT)})
        try:
            self._wait_until_open()
        except BaseException:
            self._child.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.stop()

    @property
    def child(self) -> Child:
        """The process, for its CPU time."""
        return self._child

    def count(self, what: str = MESSAGES) -> int:
        """Messages whose final dot was answered so far; of uvsink, recipients and refusals too."""
        with self._log.open("rb") as output:
            output.seek(max(0, os.fstat(output.fileno()).st_size - 256))
            return parse_count(output.read(), what)

    def summary(self) -> dict[str, Any]:
        """End uvsink; what it says last."""
        self._child.stop()
        answer: dict[str, Any] = json.loads(last_words(self._log, 1))
        return answer

    def wait_for(
        self, count: int, deadline: float, watch: Sequence[Child] = (), what: str = MESSAGES
    ) -> float:
        """Wait for `count` messages; the monotonic time they were all there (± POLL_S).

        RunFailed at the deadline, when nothing comes for STALL_S seconds, or when one of `watch` has ended.
        """
        arrived, moved_at = self.count(what), time.monotonic()
        while arrived < count:
            now = time.monotonic()
            if now > deadline or now - moved_at > STALL_S:
                raise RunFailed(f"{arrived} of {count} at the sink, and no more came")
            for child in (self._child, *watch):
                child.require_alive()
            time.sleep(POLL_S)
            before, arrived = arrived, self.count(what)
            if arrived > before:
                moved_at = time.monotonic()
        return time.monotonic()

    def _wait_until_open(self) -> None:
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            self._child.require_alive()
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
            time.sleep(POLL_S)
        raise RunFailed(f"the sink did not open its port: {last_words(self._log)}")


class Samples:
    """A receiving server that keeps every message, so that signatures can be verified."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
        self._listener.close()

    def message(self, deadline_s: float) -> bytes:
        """The next message as received, dots unstuffed; RunFailed when none came in time."""
        try:
            return self._messages.get(timeout=deadline_s)
        except queue.Empty:
            words = "the message sent for a look at its signature did not arrive"
            raise RunFailed(words) from None

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def _receive(self, connection: socket.socket) -> None:
        connection.settimeout(60.0)
        with suppress(OSError), connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 look ESMTP\r\n")
            for line in lines:
                verb = line[:4].upper()
                if verb == b"DATA":
                    connection.sendall(b"354 go\r\n")
                    body = []
                    while (line := lines.readline()) not in (b".\r\n", b""):
                        body.append(line[1:] if line.startswith(b".") else line)
                    self._messages.put(b"".join(body))
                    connection.sendall(b"250 2.0.0 kept\r\n")
                elif verb == b"QUIT":
                    connection.sendall(b"221 bye\r\n")
                    return
                else:
                    greeting = b"250-look\r\n250 8BITMIME\r\n"
                    connection.sendall(greeting if verb == b"EHLO" else b"250 ok\r\n")


def has_smtp_sink() -> bool:
    """Whether Postfix's sink is installed; bench.uvsink stands in for it."""
    return shutil.which("smtp-sink") is not None


def _smtp_sink(port: int) -> list[str]:
    # smtp-sink refuses to stay root, and cannot change user otherwise.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    address = f"127.0.0.1:{port}"
    return ["smtp-sink", *user, "-4", "-c", "-m", str(MAX_SESSIONS), address, str(BACKLOG)]


def _uvsink(port: int, manner: Manner) -> list[str]:
    command = [sys.executable, "-m", "bench.uvsink", str(port), "--delay", str(manner.delay_s)]
    command += ["--quick-ack"] if manner.quick_ack else []
    return [*command, *(["--refuse-first"] if manner.refuse_first else [])]
