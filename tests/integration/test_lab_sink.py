"""The counting sink: any cut of the stream gives the same counts, and what it acknowledged is in its dump."""

import asyncio
import json
import random
import signal
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from mta.lab.sink import SinkProtocol, Tally, port_of, start_sink

BODIES = [
    b"",
    b"x\r\n",
    b"Message-ID: <1@a>\r\n\r\n..\r\n",
    b"a" * 5000 + b"\r\n",
    b"\r\n\r\n..x\r\n",
    b"a\n.\r\nb\r\n",
]


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True


def a_dialogue() -> bytes:
    mails = b"".join(
        b"MAIL FROM:<s%d@a>\r\nRCPT TO:<r@b>\r\nRCPT TO:<q@b>\r\nDATA\r\n%b.\r\n" % (n, body)
        for n, body in enumerate(BODIES)
    )
    return b"EHLO c\r\n" + mails + b"QUIT\r\n"


def play(pieces: list[bytes], dump: str = "") -> tuple[Tally, Wire]:
    tally, wire = Tally(dump), Wire()
    protocol = SinkProtocol(tally)
    protocol.connection_made(wire)
    for piece in pieces:
        protocol.data_received(piece)
    tally.close()
    return tally, wire


def cut(data: bytes, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    edges = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.randrange(200)))})
    return [data[a:b] for a, b in pairwise(edges)]


def test_however_the_stream_is_cut_the_counts_and_replies_are_the_same(tmp_path: Path) -> None:
    data = a_dialogue()
    bytewise = [data[n : n + 1] for n in range(len(data))]
    seen = set()
    for number, pieces in enumerate([[data], bytewise, *(cut(data, seed) for seed in range(40))]):
        for dump in ("", str(tmp_path / f"dump{number}")):
            tally, wire = play(pieces, dump)
            text = Path(dump).read_bytes() if dump else b""
            seen.add(
                (tally.messages, tally.recipients, tally.bytes, wire.written, wire.closed, text)
            )
    assert len({entry[:5] for entry in seen}) == 1
    assert len({entry[5] for entry in seen} - {b""}) == 1
    messages, recipients, size, *_ = seen.pop()
    assert (messages, recipients) == (len(BODIES), 2 * len(BODIES))
    assert size == sum(map(len, BODIES))


def test_everything_in_one_segment_is_answered_in_one_write() -> None:
    class Counting(Wire):
        writes = 0

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.writes += 1

    wire = Counting()
    protocol = SinkProtocol(Tally())
    protocol.connection_made(wire)
    wire.writes = 0
    protocol.data_received(a_dialogue().removesuffix(b"QUIT\r\n"))
    assert wire.writes == 1


def test_the_dump_names_sender_recipient_message_id_and_size(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    body = b"Subject: x\r\nMessage-ID:\r\n <a.b@c>\r\n\r\nhello\r\n"
    play([b"MAIL FROM:<>\r\nRCPT TO:<r@b>\r\nDATA\r\n" + body + b".\r\n"], str(dump))
    assert dump.read_text() == f"<> r@b <a.b@c> {len(body)}\n"


async def test_simultaneous_connections_are_counted() -> None:
    tally = Tally()
    server = await start_sink(tally)
    port = port_of(server)
    writers = []
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writers.append(writer)
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    assert (tally.connections, tally.peak) == (5, 5)
    server.close()


@pytest.mark.parametrize("delay", ["0", "5"])
async def test_the_command_says_when_it_is_ready_and_what_it_saw(
    tmp_path: Path, delay: str
) -> None:
    dump, stats = tmp_path / "dump", tmp_path / "stats"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mta.lab.sink", "--port", "0", "--dump", str(dump),
        "--delay-ms", delay, "--stats", str(stats), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    ready = (await process.stdout.readline()).decode()
    assert ready.startswith("ready 127.0.0.1:")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(ready.rpartition(":")[2]))
    writer.write(b"EHLO c\r\nMAIL FROM:<s@a>\r\nRCPT TO:<r@b>\r\nDATA\r\nx\r\n.\r\n")
    async with asyncio.timeout(10):
        await reader.readuntil(b"250 2.0.0 taken\r\n")
    assert dump.read_text() == "s@a r@b - 3\n"
    writer.close()
    await writer.wait_closed()
    process.send_signal(signal.SIGTERM)
    counts = json.loads(await process.stdout.readline())
    assert await process.wait() == 0
    assert (counts["messages"], counts["recipients"], counts["bytes"]) == (1, 1, 3)
    assert json.loads(stats.read_text())["messages"] == 1
