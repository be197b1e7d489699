"""The licence server under its nodes: reports a second, CPU a report, and how long an answer takes at the steady rate.

    python -m bench.license_server [--nodes 6000] [--seconds 30]

The server is the real one in a process of its own (`licensing.server.cli serve`: TLS, SQLite with synchronous=FULL); the nodes
are here. Each report is signed before the clock starts, from the answer to the one before, so that the generator only moves
bytes. Connections come from many loopback addresses: no limit of the server is lifted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import msgspec
import psutil
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.processes import RunFailed, last_words
from bench.report import format_verdict
from bench.results import Verdict, at_least, at_most
from licensing.envelope import decode_closed, encode_envelope
from licensing.model.activation import ActivationRequest
from licensing.model.license import License
from licensing.server.activating import SeatClerk
from licensing.server.answers import Answer
from licensing.server.book import Book, verify_license
from licensing.server.db_open import open_books
from licensing.server.db_sqlite import SqliteStore
from licensing.server.desk import Desk
from licensing.server.rows import LicenseRow
from mta.lab.certificate import make_certificate
from tests.support.licence_office import Twin, a_signer, a_volume
from tests.support.vendor import Vendor

STEADY_RATE = 167.0  # reports a second: 10,000 nodes, one a minute
NODES_PER_LICENSE = 100
CONNECTIONS = 96
SOURCES = 48  # loopback addresses: 100 requests a second are taken from each
START_DEADLINE_S = 30.0
ANSWER_DEADLINE_S = 30.0
EMAILS_A_REPORT = 3
WANTED = {"rate": 1_500.0, "cpu_ms": 0.6, "p99_ms": 50.0}


# -- before the clock starts --------------------------------------------------------------------------


def prepare(folder: Path, nodes: int) -> list[Twin]:
    """Keys, certificates and books with so many active nodes, as the server will find them."""
    vendor = Vendor()
    (folder / "root.json").write_bytes(vendor.root_bytes)
    (folder / "online.delegation").write_bytes(encode_envelope(vendor.delegations["server-online"]))
    key = folder / "online.pem"
    key.touch(mode=0o600)
    key.write_bytes(
        vendor.keys["server-online"].private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    certificate, private = make_certificate("localhost")
    (folder / "tls.pem").write_bytes(certificate)
    (folder / "tls.key").write_bytes(private)
    return _activate(folder / "books.db", vendor, nodes)


def _a_license(vendor: Vendor, now: float) -> License:
    today = datetime.fromtimestamp(now, UTC)
    return msgspec.structs.replace(
        a_volume(vendor, 10_000_000),
        issued_at=today - timedelta(days=2),
        not_before=today - timedelta(days=1),
        expires_at=today + timedelta(days=300),
        terminate_at=today + timedelta(days=330),
    )


def _activate(path: Path, vendor: Vendor, count: int) -> list[Twin]:
    store, book, now, nodes = SqliteStore(open_books(path)), Book(), int(time.time()), []
    clerk = SeatClerk(Desk(book, a_signer(vendor), vendor.trust))
    store.begin()
    for number in range(count):
        if number % NODES_PER_LICENSE == 0:
            license = _a_license(vendor, now)
            known = verify_license(vendor.sign_license(license), vendor.trust)
            book.add(known)
            row = LicenseRow(
                license.license_id, 1, known.sha256, encode_envelope(known.envelope), now
            )
            store.put_license(row)
        node = Twin(license, known.sha256)
        request = node.request(now)
        asked = decode_closed(request.payload_bytes(), ActivationRequest)
        raw = base64.b64decode(node.key.public)
        answer = clerk.activate(store, asked, request.payload_sha256(), raw, node.key.id, now)
        node.take_activation(answer.body)
        nodes.append(node)
    store.commit()
    store.close()
    return nodes


@contextmanager
def a_server(folder: Path, port: int) -> Iterator[psutil.Process]:
    """The server's process, until it is asked to end."""
    command = [sys.executable, "-m", "licensing.server.cli", "serve"]
    command += ["--db", "books.db", "--key", "online.pem", "--delegation", "online.delegation"]
    command += ["--root", "root.json", "--tls-cert", "tls.pem", "--tls-key", "tls.key"]
    command += ["--listen", f"127.0.0.1:{port}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    log = (folder / "server.log").open("wb")
    process = psutil.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        _await_port(process, port, folder / "server.log")
        yield process
    finally:
        process.terminate()
        process.wait(START_DEADLINE_S)
        log.close()


def _await_port(process: psutil.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RunFailed(f"the licence server did not start: {last_words(log)}")


# -- the generator ------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """One kept connection: a request goes out, its answer comes back, one at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._got = bytearray()
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own kind over TLS

    def data_received(self, data: bytes) -> None:
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._got[:end]).lower()
        at = head.index(b"content-length:") + 15
        length = int(head[at : (head.find(b"\r\n", at) + 1 or end + 1) - 1])
        if len(self._got) >= end + 4 + length and self._answer is not None:
            body = bytes(self._got[end + 4 : end + 4 + length])
            self._got.clear()
            self._answer.set_result(Answer(int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the server hung up"))

    async def ask(self, request: bytes) -> Answer:
        """Send it, and give back what is answered."""
        self._answer = asyncio.get_running_loop().create_future()
        assert self._transport is not None
        self._transport.write(request)
        return await asyncio.wait_for(self._answer, ANSWER_DEADLINE_S)


async def _connect(folder: Path, port: int) -> list[Connection]:
    loop = asyncio.get_running_loop()
    believes = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    made = []
    for number in range(CONNECTIONS):
        source = f"127.0.1.{1 + number % SOURCES}"
        _, connection = await loop.create_connection(
            Connection,
            "127.0.0.1",
            port,
            ssl=believes,
            server_hostname="localhost",
            local_addr=(source, 0),
        )
        made.append(connection)
    return made


def _requests(nodes: list[Twin]) -> list[bytes]:
    """The next report of each node, signed, as it goes over the wire."""
    now, made = int(time.time()), []
    for node in nodes:
        node.deliver(EMAILS_A_REPORT, now)
        body = encode_envelope(node.write(now, want=0 if node.left else 1_000))
        made.append(
            b"POST /v1/reports HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/vnd.dsse+json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
    return made


@dataclass
class Round:
    """One pass over the nodes."""

    seconds: float
    cpu: float
    delays: list[float]

    @property
    def rate(self) -> float:
        """Reports a second."""
        return len(self.delays) / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Of the server, a report."""
        return self.cpu * 1_000 / len(self.delays)

    def percentile(self, part: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.delays)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1_000


async def go_round(
    connections: list[Connection],
    nodes: list[Twin],
    process: psutil.Process,
    rate: float | None,
) -> Round:
    """Every node reports once: at this rate, each delay from when it was due; or as fast as answers come."""
    requests = _requests(nodes)
    waiting = iter(range(len(nodes)))
    answers: list[Answer | None] = [None] * len(nodes)
    delays: list[float] = []
    loop = asyncio.get_running_loop()
    cpu_before, began = _cpu(process), loop.time()

    async def drive(connection: Connection) -> None:
        for number in waiting:
            due = loop.time() if rate is None else began + number / rate
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            answers[number] = await connection.ask(requests[number])
            delays.append(loop.time() - due)

    await asyncio.gather(*map(drive, connections))
    took = Round(loop.time() - began, _cpu(process) - cpu_before, delays)
    for node, answer in zip(nodes, answers, strict=True):
        assert answer is not None
        if answer.status != 200:
            raise RunFailed(f"a report was refused: {answer.status} {answer.body!r}")
        node.take(answer)
    return took


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(folder: Path, nodes: list[Twin], seconds: float) -> tuple[Round, Round]:
    """A round as fast as the server can, and one at the steady rate. RunFailed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with a_server(folder, port) as process:
        connections = await _connect(folder, port)
        await go_round(connections, nodes, process, None)  # every node gets its lease
        fast = await go_round(connections, nodes, process, None)
        few = nodes[: max(1, int(STEADY_RATE * seconds))]
        steady = await go_round(connections, few, process, STEADY_RATE)
    return fast, steady


def judge(fast: Round, steady: Round) -> list[Verdict]:
    """What is asked of the two rounds."""
    calm = f"at {STEADY_RATE:.0f} reports/s"
    p99_ms = steady.percentile(0.99)
    return [
        at_least("reports, generator on the same cores", fast.rate, WANTED["rate"], "/s"),
        at_most("server CPU a report", fast.cpu_ms, WANTED["cpu_ms"], "ms"),
        at_most(f"{calm}: from due to answered, p99", p99_ms, WANTED["p99_ms"], "ms"),
    ]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=6_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the steady rate")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-license-bench-") as name:
        folder = Path(name)
        nodes = prepare(folder, asked.nodes)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            fast, steady = runner.run(measure(folder, nodes, asked.seconds))
    verdicts = judge(fast, steady)
    for verdict in verdicts:
        what, limit, measured, _ = format_verdict(verdict)
        print(f"{what}: {measured} (asked: {limit})")
    raise SystemExit(0 if all(verdict.passed for verdict in verdicts) else 1)


if __name__ == "__main__":
    main()
