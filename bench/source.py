"""A load generator for what `smtp-source` cannot make: many domains, many recipients, a pace, and percentiles.

It holds its connections open, pipelines (a body, its dot and the next message's commands stand in
one write, RFC 2920) and stops at the first reply it did not expect. With a pace, messages fall due
at fixed times whether or not a connection is free (an open loop), and each carries the time it
fell due, so waiting for a connection counts. `python -m bench.source HOST:PORT …` prints one JSON line. It is
calibrated against smtp-source, both straight to the sink, in every report: where it is slower, it
is the limit, not the peer.
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
from typing import Any, cast

import uvloop

from bench.recipients import domain_numbers, name_recipients
from bench.results import percentile, percentiles_ms

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
STAMP = b"X-Bench-Stamp: "  # then the time it fell due, seconds of the machine's monotonic clock
_TICK_S = 0.001  # of the pace


@dataclass(frozen=True, slots=True)
class Work:
    """What to send; `recipient` as in bench.recipients."""

    host: str
    port: int
    count: int
    connections: int
    size_bytes: int
    sender: str
    recipient: str
    recipients_each: int = 1
    domains: int = 0
    zipf: bool = False
    per_second: float = 0.0  # 0: as fast as it goes


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
        self._domains = domain_numbers(work.domains, zipf=work.zipf)
        self._open = 0
        self._body = b"\r\n" + a_body(work.size_bytes) + b".\r\n"
        self._idle: deque[Connection] = deque()
        self._stamp_s = 0.0

    def next_message(self) -> tuple[list[str], bytes] | None:
        """The commands and the data of the next message; None when all are handed out."""
        number = next(self._numbers, None)
        if number is None:
            return None
        sender = self.work.sender
        names = name_recipients(
            self.work.recipient, number, next(self._domains), self.work.recipients_each
        )
        commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{name}>" for name in names), "DATA"]
        header = (
            f"From: <{sender}>\r\nTo: <{names[0]}>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
            f"Message-Id: <{number}.bench@{sender.rpartition('@')[2]}>\r\nSubject: {number}\r\n"
        ).encode()
        if self.work.per_second:
            header += STAMP + f"{self._stamp_s:.6f}\r\n".encode()
        return commands, header + self._body

    def rest(self, connection: Connection) -> None:
        """A paced connection has nothing to do until something falls due."""
        self._idle.append(connection)

    async def keep_pace(self) -> None:
        """Hand out each message as it falls due, the latest when a connection comes free."""
        started = time.monotonic()
        for number in range(self.work.count):
            due = started + number / self.work.per_second
            while time.monotonic() < due or not self._idle:
                if self.done.done():
                    return
                await asyncio.sleep(_TICK_S)
            self._stamp_s = due
            self._idle.popleft().go_on()
        while self._open and not self.done.done():
            while self._idle:
                self._idle.popleft().go_on()  # which says QUIT
            await asyncio.sleep(_TICK_S)

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
        self._paced = source.work.per_second > 0
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

    def go_on(self) -> None:
        """Begin the next message, or quit."""
        self._send_next(b"")

    def _answered(self, step: int) -> None:
        if step == GREETING:
            self._send(b"EHLO source.bench.example\r\n", EHLO)
        elif step == EHLO:
            self._free(b"")
        elif step == DATA:
            self._dot_at = time.perf_counter()
            self._awaiting.append(DOT)
            if self._paced:
                self._transport.write(self._data)
            else:
                self._send_next(self._data)
        elif step == DOT:
            self._source.latencies_s.append(time.perf_counter() - self._dot_at)
            if self._paced:
                self._free(b"")
        elif step == QUIT:
            self._quit = True
            self._transport.close()

    def _free(self, before: bytes) -> None:
        if self._paced:
            self._source.rest(self)
        else:
            self._send_next(before)

    def _send_next(self, before: bytes) -> None:
        """Write `before` and the commands of the next message, or QUIT when there is none."""
        message = self._source.next_message()
        if message is None:
            self._send(before + b"QUIT\r\n", QUIT)
            return
        commands, self._data = message
        text = "".join(f"{command}\r\n" for command in commands).encode()
        self._send(before + text, MAIL, *[RCPT] * (len(commands) - 2), DATA)

    def _send(self, data: bytes, *steps: int) -> None:
        self._awaiting.extend(steps)
        self._transport.write(data)


async def send(work: Work) -> dict[str, Any]:
    """Send it all; seconds, messages and the latency of the final dot in milliseconds."""
    loop = asyncio.get_running_loop()
    source = Source(work)
    started = time.perf_counter()
    for _ in range(min(work.connections, work.count)):
        await loop.create_connection(lambda: Connection(source), work.host, work.port)
    pace = asyncio.create_task(source.keep_pace()) if work.per_second else None
    await source.done
    if pace is not None:
        await pace
    latencies = sorted(source.latencies_s)
    return {
        "messages": len(latencies),
        "seconds": time.perf_counter() - started,
        "p50_ms": percentile(latencies, 50) * 1e3,
        "p99_ms": percentile(latencies, 99) * 1e3,
        "max_ms": latencies[-1] * 1e3,
        "accept_ms": percentiles_ms(latencies),
    }


def parse_arguments(arguments: Sequence[str] | None) -> Work:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.source", description="SMTP load")
    parser.add_argument("server", help="HOST:PORT")
    parser.add_argument("-m", "--count", type=int, default=1)
    parser.add_argument("-s", "--connections", type=int, default=1)
    parser.add_argument("-l", "--size", type=int, default=4096, help="bytes of body")
    parser.add_argument("-f", "--sender", default="sender@bench.example")
    parser.add_argument(
        "-t", "--recipient", default="user@d{n}.example", help="{n} message, {d} domain, {r} place"
    )
    parser.add_argument("-r", "--recipients", type=int, default=1, help="of each message")
    parser.add_argument("--domains", type=int, default=0, help="{d} counts up to it, in turn")
    parser.add_argument("--zipf", action="store_true", help="{d} is Zipf-distributed")
    parser.add_argument("--per-second", type=float, default=0.0, help="the pace")
    options = parser.parse_args(arguments)
    host, _, port = options.server.rpartition(":")
    return Work(
        host,
        int(port),
        options.count,
        options.connections,
        options.size,
        options.sender,
        options.recipient,
        recipients_each=options.recipients,
        domains=options.domains,
        zipf=options.zipf,
        per_second=options.per_second,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, send, print one JSON line; 1 when a reply was not expected."""
    work = parse_arguments(arguments)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(send(work))))
    except OSError as error:
        print(f"source: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
