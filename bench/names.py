"""A cheap DNS answerer in a process of its own: every domain has one MX, and every MX is this machine. RFC 1035.

`d7.example MX` is `10 mx.d7.example`, and any name that begins with `mx.` has the address 127.0.0.1. Everything
else has no data (with an SOA, RFC 2308, so that it is remembered). UDP only, answers are built from the
question's bytes. `python -m bench.names PORT`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import cast

import uvloop

A, SOA, MX = 1, 6, 15
IN = 1
TTL_S = 3600
HEADER_BYTES = 12
_ANSWER = 0x8580  # QR, AA, RD, RA; NOERROR
_TO_QUESTION = b"\xc0\x0c"  # RFC 1035 §4.1.4: a pointer to the name at offset 12
_ROOT_SOA = b"\x00\x00" + struct.pack(">5I", 1, 3600, 600, 86400, 60)
_RECEIVE_BUFFER = 4 << 20  # a burst of questions must not be lost


def answer(query: bytes) -> bytes:
    """The answer to one query with one question; b"" to what is none."""
    end = query.find(b"\x00", HEADER_BYTES) + 1
    if end < HEADER_BYTES + 1 or len(query) < end + 4:
        return b""
    kind, _ = struct.unpack(">HH", query[end : end + 4])
    record = authority = b""
    if kind == MX:
        record = _record(MX, struct.pack(">H", 10) + b"\x02mx" + _TO_QUESTION)
    elif kind == A and query[HEADER_BYTES : HEADER_BYTES + 3].lower() == b"\x02mx":
        record = _record(A, b"\x7f\x00\x00\x01")
    else:
        authority = b"\x00" + struct.pack(">HHIH", SOA, IN, TTL_S, len(_ROOT_SOA)) + _ROOT_SOA
    counts = struct.pack(">4H", 1, bool(record), bool(authority), 0)
    flags = struct.pack(">H", _ANSWER)
    return query[:2] + flags + counts + query[HEADER_BYTES : end + 4] + record + authority


def _record(kind: int, data: bytes) -> bytes:
    return _TO_QUESTION + struct.pack(">HHIH", kind, IN, TTL_S, len(data)) + data


class Answerer(asyncio.DatagramProtocol):
    """One answer for each datagram."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if reply := answer(data):
            self._transport.sendto(reply, addr)


async def serve(port: int) -> None:
    """Answer until the process is ended."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        door.bind(("127.0.0.1", port))
        await asyncio.get_running_loop().create_datagram_endpoint(Answerer, sock=door)
        print("answering", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
