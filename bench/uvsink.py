"""A receiving server for what `smtp-sink` cannot play: slow answers, refusals that end, and times of arrival.

Several commands that come together are answered in one write (RFC 2920), and it is this write that is
delayed. With `--quick-ack` every packet is acknowledged at once: a sender that leaves Nagle's
algorithm on and writes a message in pieces would otherwise wait 40 ms for the delayed ACK. With
`--refuse-first` every message is refused once and taken the second time, so exactly half of the
answers are 4xx: those with an even number at RCPT, the others at the final dot. The counts are
written to stdout as they move; on SIGTERM one JSON line follows. `python -m bench.uvsink PORT …`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import uvloop

from bench.results import percentiles_ms
from bench.source import STAMP

BACKLOG = 4096
REPORT_S = 0.01
_NUMBER = re.compile(rb"RCPT TO:<user(\d+)@", re.IGNORECASE)
_END = b"\r\n.\r\n"
_REFUSED = b"451 4.7.1 not this time\r\n"


@dataclass(slots=True)
class Tally:
    """What came: messages, their recipients, refused attempts, seconds from stamp to arrival."""

    messages: int = 0
    recipients: int = 0
    refused: int = 0

    def line(self) -> str:
        return f"mesg={self.messages} rcpt={self.recipients} refused={self.refused}"


class Receiver:
    """What all connections share."""

    def __init__(self, *, delay_s: float, refuse_first: bool, quick_ack: bool = False) -> None:
        self.delay_s = delay_s
        self.quick_ack = quick_ack
        self.refuse_first = refuse_first
        self.tally = Tally()
        self.transits_s: list[float] = []
        self._seen: set[int] = set()

    def refuses(self, number: int | None, *, at_rcpt: bool) -> bool:
        """Whether message `number` is refused at this step; asked again, it is not."""
        if not self.refuse_first or number is None or (number % 2 == 0) != at_rcpt:
            return False
        if number in self._seen:
            return False
        self._seen.add(number)
        self.tally.refused += 1
        return True

    def arrived(self, data: bytes, recipients: int) -> None:
        """A message is taken."""
        self.tally.messages += 1
        self.tally.recipients += recipients
        start = data.find(STAMP)
        if start >= 0:
            start += len(STAMP)
            stamped = float(data[start : data.index(b"\r", start)])
            self.transits_s.append(time.monotonic() - stamped)

    def summary(self) -> dict[str, object]:
        """Percentiles of the seconds from stamp to arrival, in milliseconds."""
        transit_ms = percentiles_ms(sorted(self.transits_s))
        return {"transit_ms": transit_ms, "counts": self.tally.line()}


class Session(asyncio.Protocol):
    """One connection: commands until DATA, then bytes until the dot."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._buffer = bytearray()
        self._in_data = False
        self._recipients = 0
        self._number: int | None = None
        self._replies = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._socket = transport.get_extra_info("socket") if self._receiver.quick_ack else None
        self._write(b"220 uvsink.bench.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        if self._socket is not None:  # tcp(7): the option does not last
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._buffer += data
        while self._take_data() if self._in_data else self._take_command():
            pass
        if self._replies:
            self._write(bytes(self._replies))
            self._replies.clear()

    def _take_data(self) -> bool:
        """Take a message whose dot is here; False when more must come."""
        end = self._buffer.find(_END)
        if end < 0:
            return False
        data = bytes(self._buffer[: end + 2])
        del self._buffer[: end + len(_END)]
        self._in_data = False
        if self._receiver.refuses(self._number, at_rcpt=False):
            self._replies += _REFUSED
        else:
            self._receiver.arrived(data, self._recipients)
            self._replies += b"250 2.0.0 Ok\r\n"
        return True

    def _take_command(self) -> bool:
        """Answer one command; False when none is whole."""
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self._replies += self._answer(line[:4].upper(), line)
        return True

    def _answer(self, verb: bytes, line: bytes) -> bytes:
        if verb == b"EHLO":
            return b"250-uvsink\r\n250-8BITMIME\r\n250 PIPELINING\r\n"
        if verb == b"MAIL":
            self._recipients, self._number = 0, None
        elif verb == b"RCPT":
            found = _NUMBER.match(line)
            self._number = int(found[1]) if found else None
            if self._receiver.refuses(self._number, at_rcpt=True):
                return _REFUSED
            self._recipients += 1
        elif verb == b"DATA":
            if not self._recipients:
                return b"554 5.5.1 no valid recipients\r\n"
            self._in_data = True
            return b"354 go\r\n"
        elif verb == b"QUIT":
            return b"221 2.0.0 bye\r\n"
        return b"250 2.0.0 Ok\r\n"

    def _write(self, data: bytes) -> None:
        if self._receiver.delay_s:
            loop = asyncio.get_running_loop()
            loop.call_later(self._receiver.delay_s, self._write_now, data)
        else:
            self._write_now(data)

    def _write_now(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)
            if data.endswith(b"221 2.0.0 bye\r\n"):
                self._transport.close()


async def serve(port: int, receiver: Receiver) -> None:
    """Listen until SIGTERM, writing the counts as they move."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    server = await loop.create_server(lambda: Session(receiver), sock=listener, backlog=BACKLOG)
    last = ""
    while not stop.is_set():
        line = receiver.tally.line()
        if line != last:
            print(line, flush=True)
            last = line
        await asyncio.sleep(REPORT_S)
    server.close()
    print(json.dumps(receiver.summary()), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.uvsink", description="SMTP sink")
    parser.add_argument("port", type=int)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each write")
    parser.add_argument("--refuse-first", action="store_true")
    parser.add_argument("--quick-ack", action="store_true")
    options = parser.parse_args(arguments)
    receiver = Receiver(
        delay_s=options.delay, refuse_first=options.refuse_first, quick_ack=options.quick_ack
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port, receiver))
    return 0


if __name__ == "__main__":
    sys.exit(main())
