"""A load generator for what `smtp-source` cannot make: many domains, and latency percentiles.

It holds its connections open, pipelines (a body, its dot and the next message's commands stand in
one write, RFC 2920) and stops at the first reply it did not expect. `python -m bench.source
HOST:PORT …` prints one JSON line. It is calibrated against smtp-source, both straight to the sink,
in every report: where it is slower, it is the limit, not the peer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import uvloop

from bench.results import percentile

GREETING, EHLO, MAIL, RCPT, DATA, DOT, QUIT = range(7)
_EXPECTED = {
    GREETING: b"220",
    EHLO: b"250",
    MAIL: b"250",
    RCPT: b"250",
    DATA: b"354",
    DOT: b"250",
    QUIT: b"221",
}
_LINE = b"X" * 78 + b"\r\n"


@dataclass(frozen=True, slots=True)
class Work:
    """What to send: `{n}` in the recipient becomes the number of the message."""

    host: str
    port: int
    count: int
    connections: int
    size_bytes: int
    sender: str
    recipient: str


def a_body(size_bytes: int) -> bytes:
    """A body of exactly `size_bytes` bytes in clean lines (at least the closing CRLF)."""
    whole, rest = divmod(max(size_bytes, 2), len(_LINE))
    if rest == 1:  # a line is at least its CRLF
        return _LINE * (whole - 1) + _LINE[:-3] + b"\r\n" + b"\r\n"
    return _LINE * whole + (b"X" * (rest - 2) + b"\r\n" if rest else b"")


class Source:
    """All connections together: hands out the message numbers and gathers the times."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.latencies_s: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self._numbers: Iterator[int] = iter(range(1, work.count + 1))
        self._open = 0
        self._body = b"\r\n" + a_body(work.size_bytes) + b".\r\n"

    def next_message(self) -> tuple[bytes, bytes] | None:
        """The commands and the data of the next message; None when all are handed out."""
        number = next(self._numbers, None)
        if number is None:
            return None
        sender, recipient = self.work.sender, self.work.recipient.replace("{n}", str(number))
        commands = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"
        header = (
            f"From: <{sender}>\r\nTo: <{recipient}>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
            f"Message-Id: <{number}.bench@{sender.rpartition('@')[2]}>\r\nSubject: {number}\r\n"
        )
        return commands.encode(), header.encode() + self._body

    def opened(self) -> None:
        """A connection is there."""
        self._open += 1

    def closed(self, error: str) -> None:
        """A connection is gone; without an error the last one ends the work."""
        self._open -= 1
        if self.done.done():
            return
        if error:
            self.done.set_exception(ConnectionError(error))
        elif not self._open:
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """One connection: replies are paired with the oldest step that awaits one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._awaiting: deque[int] = deque([GREETING])
        self._buffer = b""
        self._data = b""  # of the message whose commands have gone out
        self._dot_at = 0.0
        self._error = ""
        self._quit = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is not an instance of asyncio.Transport: no assert can narrow it.
        self._transport = cast(asyncio.Transport, transport)
        self._source.opened()

    def data_received(self, data: bytes) -> None:
        lines = (self._buffer + data).split(b"\r\n")
        self._buffer = lines.pop()
        for line in lines:
            if line[3:4] == b"-":
                continue
            step = self._awaiting.popleft() if self._awaiting else QUIT
            if not line.startswith(_EXPECTED[step]):
                self._error = self._error or f"unexpected reply: {line.decode(errors='replace')}"
                self._transport.close()
                return
            self._answered(step)

    def connection_lost(self, exc: Exception | None) -> None:
        error = self._error or ("" if self._quit else f"connection lost ({exc})")
        self._source.closed(error)

    def _answered(self, step: int) -> None:
        if step == GREETING:
            self._send(b"EHLO source.bench.example\r\n", EHLO)
        elif step == EHLO:
            self._send_next(b"")
        elif step == DATA:
            self._dot_at = time.perf_counter()
            self._awaiting.append(DOT)
            self._send_next(self._data)
        elif step == DOT:
            self._source.latencies_s.append(time.perf_counter() - self._dot_at)
        elif step == QUIT:
            self._quit = True
            self._transport.close()

    def _send_next(self, before: bytes) -> None:
        """Write `before` and the commands of the next message, or QUIT when there is none."""
        message = self._source.next_message()
        if message is None:
            self._send(before + b"QUIT\r\n", QUIT)
            return
        commands, self._data = message
        self._send(before + commands, MAIL, RCPT, DATA)

    def _send(self, data: bytes, *steps: int) -> None:
        self._awaiting.extend(steps)
        self._transport.write(data)


async def send(work: Work) -> dict[str, float]:
    """Send it all; seconds, messages and the latency of the final dot in milliseconds."""
    loop = asyncio.get_running_loop()
    source = Source(work)
    started = time.perf_counter()
    for _ in range(min(work.connections, work.count)):
        await loop.create_connection(lambda: Connection(source), work.host, work.port)
    await source.done
    latencies = sorted(source.latencies_s)
    return {
        "messages": len(latencies),
        "seconds": time.perf_counter() - started,
        "p50_ms": percentile(latencies, 50) * 1e3,
        "p99_ms": percentile(latencies, 99) * 1e3,
        "max_ms": latencies[-1] * 1e3,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, send, print one JSON line; 1 when a reply was not expected."""
    parser = argparse.ArgumentParser(prog="python -m bench.source", description="SMTP load")
    parser.add_argument("server", help="HOST:PORT")
    parser.add_argument("-m", "--count", type=int, default=1)
    parser.add_argument("-s", "--connections", type=int, default=1)
    parser.add_argument("-l", "--size", type=int, default=4096, help="bytes of body")
    parser.add_argument("-f", "--sender", default="sender@bench.example")
    parser.add_argument(
        "-t", "--recipient", default="user@d{n}.example", help="{n}: the message's number"
    )
    options = parser.parse_args(arguments)
    host, _, port = options.server.rpartition(":")
    work = Work(
        host,
        int(port),
        options.count,
        options.connections,
        options.size,
        options.sender,
        options.recipient,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(send(work))))
    except OSError as error:
        print(f"source: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
