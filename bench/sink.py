"""Where the mail ends: Postfix's `smtp-sink`, and a sink that keeps one message to be looked at."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.processes import POLL_S, Child, RunFailed, free_port, last_words

BACKLOG = 1024
STALL_S = 30.0  # a message that was deferred would come minutes later: not in this run
MAX_SESSIONS = 1024
_MESSAGES = re.compile(rb"mesg=(\d+)")


def parse_count(output: bytes) -> int:
    """Messages received, from the end of what `smtp-sink -c` wrote: `sess=1 quit=0 mesg=7\\r`…"""
    counts = _MESSAGES.findall(output)
    return int(counts[-1]) if counts else 0


class Sink:
    """One smtp-sink; its running count goes to a file, which costs it nothing measurable.

    20,000 messages of 4 KB from smtp-source took 1.34 s with the count and 1.36 s without.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._log = directory / "sink.count"
        # smtp-sink refuses to stay root, and cannot change user otherwise.
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        address = f"127.0.0.1:{self.port}"
        sessions = str(MAX_SESSIONS)
        command = ["smtp-sink", *user, "-4", "-c", "-m", sessions, address, str(BACKLOG)]
        self._child = Child("smtp-sink", command, self._log)
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

    def count(self) -> int:
        """Messages whose final dot was answered so far."""
        with self._log.open("rb") as output:
            output.seek(max(0, os.fstat(output.fileno()).st_size - 256))
            return parse_count(output.read())

    def wait_for(self, count: int, deadline: float, watch: Sequence[Child] = ()) -> float:
        """Wait for `count` messages; the monotonic time they were all there (± POLL_S).

        RunFailed at the deadline, when nothing comes for STALL_S seconds, or when one of `watch` has ended.
        """
        arrived, moved_at = self.count(), time.monotonic()
        while arrived < count:
            now = time.monotonic()
            if now > deadline or now - moved_at > STALL_S:
                raise RunFailed(f"{arrived} of {count} messages at the sink, and no more came")
            for child in (self._child, *watch):
                child.require_alive()
            time.sleep(POLL_S)
            before, arrived = arrived, self.count()
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
        raise RunFailed(f"smtp-sink did not open its port: {last_words(self._log)}")


class OneMessage:
    """A receiving server for one message, which it keeps; so that a signature can be verified."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(30.0)
        self.port = int(self._listener.getsockname()[1])
        self._data = b""
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    def message(self, deadline_s: float) -> bytes:
        """The message as received, dots unstuffed; RunFailed when none came in time."""
        self._thread.join(deadline_s)
        if not self._data:
            raise RunFailed("the message sent for a look at its signature did not arrive")
        return self._data

    def _receive(self) -> None:
        with suppress(OSError):
            connection, _ = self._listener.accept()
            connection.settimeout(30.0)
            with connection, connection.makefile("rb") as lines:
                connection.sendall(b"220 look ESMTP\r\n")
                for line in lines:
                    verb = line[:4].upper()
                    if verb == b"DATA":
                        connection.sendall(b"354 go\r\n")
                        body = []
                        while (line := lines.readline()) not in (b".\r\n", b""):
                            body.append(line[1:] if line.startswith(b".") else line)
                        self._data = b"".join(body)
                        connection.sendall(b"250 2.0.0 kept\r\n")
                        return
                    connection.sendall(
                        b"250-look\r\n250 8BITMIME\r\n" if verb == b"EHLO" else b"250 ok\r\n"
                    )
