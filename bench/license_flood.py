"""The licence server under floods: does it cut off who floods it cheaply, and do good nodes get their answers in time?

    python -m bench.license_flood [--nodes 1670] [--seconds 10]

As `bench.license_server`, at the steady rate from many addresses, once alone and then beside each flood. A flood is a process
of its own that asks from three other addresses as fast as it is answered: reports with signatures of nobody, activations of
licences that were never sold (each signed, which is the costly thing to look at), and connections with a TLS handshake and
nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import uvloop

from bench.license_server import (
    STEADY_RATE,
    WANTED,
    Round,
    _a_license,
    _connect,
    a_server,
    go_round,
    prepare,
)
from licensing.envelope import encode_envelope
from tests.support.licence_office import Twin
from tests.support.vendor import Vendor

FLOODS = ("signatures", "activations", "handshakes")
ADDRESSES = 3
CONNECTIONS = 30
TRY_AGAIN_S = (
    0.01  # who is turned away comes back at once, but the machine must not be the flood's alone
)


# -- the flood, a process of its own ------------------------------------------------------------------


def _request(flood: str) -> bytes:
    now = int(time.time())
    stranger = Twin(_a_license(Vendor(), now), "0" * 64)
    envelope = stranger.request(now) if flood == "activations" else stranger.write(now)
    path = "activations" if flood == "activations" else "reports"
    body = encode_envelope(envelope)
    return (
        b"POST /v1/%b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/vnd.dsse+json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
    )


async def _flood(flood: str, port: int) -> None:
    believes = ssl.create_default_context()
    believes.check_hostname, believes.verify_mode = False, ssl.CERT_NONE
    request, done = _request(flood), {"asked": 0, "tried": 0}

    async def one(number: int) -> None:
        source = f"127.0.9.{1 + number % ADDRESSES}"
        while True:
            done["tried"] += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(10):
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", port, ssl=believes, local_addr=(source, 0)
                    )
                try:
                    while flood != "handshakes":
                        writer.write(request)
                        head = await reader.readuntil(b"\r\n\r\n")
                        length = head.lower().partition(b"content-length:")[2].split()[0]
                        await reader.readexactly(int(length))
                        done["asked"] += 1
                finally:
                    writer.close()
            await asyncio.sleep(TRY_AGAIN_S)

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    tasks = [asyncio.create_task(one(number)) for number in range(CONNECTIONS)]
    await stop.wait()
    print(f"{done['tried']} {done['asked']}", flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def a_flood(flood: str, port: int) -> Iterator[psutil.Popen]:
    """It runs; ended at the end."""
    command = [sys.executable, "-m", "bench.license_flood", "--flood", flood, "--port", str(port)]
    process = psutil.Popen(command, stdout=-1, cwd=Path(__file__).parents[1])
    time.sleep(2.0)  # until it is at work
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        tried, asked = process.communicate(timeout=20)[0].split()
        print(f"    it tried {int(tried):,} connections and got {int(asked):,} answers")


# -- the good nodes -----------------------------------------------------------------------------------


def _show(what: str, found: Round) -> None:
    print(
        f"{what:12} good nodes p50 {found.percentile(0.5):.1f} ms, p99 {found.percentile(0.99):.1f} ms;"
        f" server CPU {found.cpu / found.seconds * 100:.0f} % of a core"
    )


async def measure(folder: Path, nodes: int, seconds: float) -> bool:
    """Print the figures; whether p99 is as wanted beside each flood."""
    twins = prepare(folder, nodes)
    few = twins[: max(1, int(STEADY_RATE * seconds))]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    is_good = True
    with a_server(folder, port) as process:
        connections = await _connect(folder, port)
        await go_round(connections, twins, process, None)  # every node gets its lease
        print(f"{STEADY_RATE:.0f} reports/s, {os.cpu_count()} cores with generator and flood")
        _show("alone", await go_round(connections, few, process, STEADY_RATE))
        for flood in FLOODS:
            # A node may report once in ten seconds, and five times at once: its rate is part of what is measured.
            await asyncio.sleep(20)
            with a_flood(flood, port):
                found = await go_round(connections, few, process, STEADY_RATE)
            _show(flood, found)
            is_good &= found.percentile(0.99) < WANTED["p99_ms"]
    return is_good


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1_670)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each steady rate")
    parser.add_argument("--flood", choices=FLOODS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.flood:
        asyncio.run(_flood(asked.flood, asked.port))
        return
    with (
        tempfile.TemporaryDirectory(prefix="sluice-license-flood-") as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        is_good = runner.run(measure(Path(name), asked.nodes, asked.seconds))
    raise SystemExit(0 if is_good else 1)


if __name__ == "__main__":
    main()
