"""A fast SMTP sink that counts: `python -m mta.lab.sink --port 2600 --dump FILE`.

For benchmarks and crash tests. A raw asyncio.Protocol, aware of pipelining: all replies to what came in one segment leave in
one write, also when MAIL stands straight after the dot. With `--dump` one line a recipient (`sender recipient message-id
size`) is in the file before the dot is answered, so that no acknowledged message is missing from it. It checks little.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import cast

import uvloop

MAX_LINE = 4096
STATS_EVERY_S = 0.5
_EHLO = (
    b"250-sink.lab.example\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n"
    b"250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
)
_MESSAGE_ID = re.compile(
    rb"^message-id:[ \t]*(?:\r\n[ \t]+)?([^\r\n]*)", re.IGNORECASE | re.MULTILINE
)


class Tally:
    """What a sink has seen, and where it writes it down."""

    def __init__(self, dump: str = "", delay_s: float = 0.0) -> None:
        self.messages = 0
        self.recipients = 0
        self.bytes = 0
        self.connections = 0
        self.open_now = 0
        self.peak = 0
        self.delay_s = delay_s
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.dump = os.open(dump, flags, 0o644) if dump else -1

    def close(self) -> None:
        """Close the dump."""
        if self.dump >= 0:
            os.close(self.dump)
            self.dump = -1

    def as_json(self) -> str:
        """All counts on one line."""
        names = ("messages", "recipients", "bytes", "connections", "open_now", "peak")
        return json.dumps({name: getattr(self, name) for name in names})


class SinkProtocol(asyncio.Protocol):
    """One connection: takes everything."""

    __slots__ = (
        "_buffer",
        "_in_data",
        "_lines",
        "_pieces",
        "_rcpts",
        "_sender",
        "_size",
        "_tail",
        "_tally",
        "_transport",
    )

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._buffer = b""
        self._in_data = False
        self._tail = b""  # the last four bytes of the body so far
        self._pieces: list[bytes] = []  # of the body, for the dump
        self._size = 0
        self._sender = b""
        self._rcpts: list[bytes] = []
        self._lines: list[bytes] = []  # for the dump, written once a segment

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derives from nothing
        tally = self._tally
        tally.connections += 1
        tally.open_now += 1
        tally.peak = max(tally.peak, tally.open_now)
        self._write(b"220 sink.lab.example ESMTP\r\n")

    def connection_lost(self, error: Exception | None) -> None:
        self._tally.open_now -= 1

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        out: list[bytes] = []
        at = 0
        while at < len(data):
            next_at = self._take_body(data, at, out) if self._in_data else self._obey(data, at, out)
            if next_at < 0:
                break
            at = next_at
        if self._lines:
            os.write(self._tally.dump, b"".join(self._lines))
            self._lines.clear()
        if out:
            self._write(b"".join(out))

    def _obey(self, data: bytes, at: int, out: list[bytes]) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            self._buffer = data[at:]
            if len(self._buffer) > MAX_LINE:
                self._transport.abort()
            return -1
        verb = data[at : at + 4].upper()
        if verb == b"RCPT":
            self._rcpts.append(data[data.find(b"<", at, end) + 1 : data.rfind(b">", at, end)])
            out.append(b"250 2.1.5 OK\r\n")
        elif verb == b"MAIL":
            self._sender = data[data.find(b"<", at, end) + 1 : data.find(b">", at, end)]
            self._rcpts = []
            out.append(b"250 2.1.0 OK\r\n")
        elif verb == b"DATA":
            self._start_data(out)
            return end + 2
        elif verb == b"EHLO":
            out.append(_EHLO)
        elif verb == b"QUIT":
            out.append(b"221 2.0.0 bye\r\n")
            self._write(b"".join(out))
            out.clear()
            self._transport.close()
        else:
            out.append(b"250 2.0.0 OK\r\n")
        return end + 2

    def _start_data(self, out: list[bytes]) -> None:
        if not self._rcpts:
            out.append(b"554 5.5.1 no valid recipients\r\n")
            return
        self._in_data = True
        self._tail = b"\r\n"  # so that a dot on the first line is found, too
        self._size = 0
        out.append(b"354 go on\r\n")

    def _take_body(self, data: bytes, at: int, out: list[bytes]) -> int:
        """Take body bytes from `at`; the index after the dot's line, or -1 when there is more to come."""
        window = self._tail + data[at:]  # CRLF.CRLF may be cut anywhere
        end = window.find(b"\r\n.\r\n")
        if end < 0:
            self._size += len(data) - at
            if self._tally.dump >= 0:
                self._pieces.append(data[at:])
            self._tail = window[-4:]
            return -1
        taken = end + 5 - len(self._tail)
        self._size += taken - 3
        if self._tally.dump >= 0:
            self._pieces.append(data[at : at + taken])
        self._finish(out)
        return at + taken

    def _finish(self, out: list[bytes]) -> None:
        tally = self._tally
        tally.messages += 1
        tally.recipients += len(self._rcpts)
        tally.bytes += self._size
        if tally.dump >= 0:
            found = _MESSAGE_ID.search(b"".join(self._pieces))
            message_id = found.group(1).strip().replace(b" ", b"") if found else b""
            self._lines += [
                b"%b %b %b %d\n" % (self._sender or b"<>", rcpt, message_id or b"-", self._size)
                for rcpt in self._rcpts
            ]
            self._pieces = []
        self._in_data = False
        out.append(b"250 2.0.0 taken\r\n")

    def _write(self, data: bytes) -> None:
        if self._tally.delay_s:
            loop = asyncio.get_running_loop()
            loop.call_later(self._tally.delay_s, self._write_late, data)
        else:
            self._transport.write(data)

    def _write_late(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


async def start_sink(tally: Tally, host: str = "127.0.0.1", port: int = 0) -> asyncio.Server:
    """Listen; port 0: the kernel chooses."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: SinkProtocol(tally), host, port, backlog=4096)


def port_of(server: asyncio.Server) -> int:
    """The port a sink listens on."""
    return int(server.sockets[0].getsockname()[1])


async def _run(arguments: argparse.Namespace) -> None:
    tally = Tally(arguments.dump, arguments.delay_ms / 1000)
    server = await start_sink(tally, arguments.host, arguments.port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(f"ready {arguments.host}:{port_of(server)}", flush=True)  # noqa: T201 - its caller waits for this line
    stats = Path(arguments.stats) if arguments.stats else None
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), STATS_EVERY_S if stats else None)
        if stats is not None:
            _write_stats(stats, tally)
    server.close()
    tally.close()
    print(tally.as_json(), flush=True)  # noqa: T201 - its caller reads this line


def _write_stats(path: Path, tally: Tally) -> None:
    """Replace the file as a whole, so that nobody reads half a line."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(tally.as_json() + "\n")
    fresh.replace(path)


def main(words: list[str] | None = None) -> None:
    """The command line; SIGTERM ends it and prints the counts as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m mta.lab.sink", description="counting SMTP sink"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: the kernel chooses")
    parser.add_argument("--dump", default="", help="append `sender recipient message-id size` here")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="before every write")
    parser.add_argument("--stats", default="", help="keep the counts as JSON in this file")
    uvloop.run(_run(parser.parse_args(words)))


if __name__ == "__main__":
    main(sys.argv[1:])
