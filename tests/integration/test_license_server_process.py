"""The licence server as a process: what it answered survives `kill -9`, SIGTERM ends it in order, wrong settings are exit 78."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from licensing.envelope import encode_envelope, format_armour
from licensing.server.answers import Answer
from mta.lab.certificate import make_certificate
from tests.support.daemon import free_port
from tests.support.licence_office import BEGAN, Twin, a_volume
from tests.support.vendor import Vendor

START_S = 30.0
COMMAND = [sys.executable, "-m", "licensing.server.cli"]


def furnish(folder: Path, vendor: Vendor) -> None:
    """All files the server asks for."""
    (folder / "root.json").write_bytes(vendor.root_bytes)
    (folder / "delegation").write_bytes(encode_envelope(vendor.delegations["server-online"]))
    key = folder / "online.pem"
    key.touch(mode=0o600)
    key.write_bytes(
        vendor.keys["server-online"].private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    for name, host in (("tls", "localhost"), ("jane", "jane")):
        certificate, private = make_certificate(host)
        (folder / f"{name}.pem").write_bytes(certificate)
        (folder / f"{name}.key").write_bytes(private)


def serve(port: int, admin_port: int) -> list[str]:
    return [
        *COMMAND,
        *("serve", "--db", "books.db", "--key", "online.pem", "--delegation", "delegation"),
        *("--root", "root.json", "--tls-cert", "tls.pem", "--tls-key", "tls.key"),
        *("--listen", f"127.0.0.1:{port}"),
        *("--admin-listen", f"127.0.0.1:{admin_port}", "--admin-ca", "jane.pem"),
    ]


@asynccontextmanager
async def a_process(
    folder: Path, port: int, admin_port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The server, told by systemd's protocol that it is ready; killed at the end if it still runs."""
    ready = asyncio.get_running_loop().create_future()

    class Notified(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, address: object) -> None:
            if data == b"READY=1" and not ready.done():
                ready.set_result(None)

    place = folder / "notify"
    place.unlink(missing_ok=True)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Notified, local_addr=str(place), family=socket.AF_UNIX
    )
    process = await asyncio.create_subprocess_exec(
        *serve(port, admin_port),
        cwd=folder,
        env={
            **os.environ,
            "NOTIFY_SOCKET": str(place),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
    )
    try:
        await asyncio.wait_for(ready, START_S)
        yield process
    finally:
        transport.close()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def send(folder: Path, port: int, path: str, body: bytes) -> Answer:
    believes = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    url = f"https://localhost:{port}{path}"
    async with (
        aiohttp.ClientSession() as client,
        client.post(url, data=body, ssl=believes) as response,
    ):
        return Answer(response.status, await response.read())


def ask_admin(folder: Path, admin_port: int, *words: str) -> str:
    """One of the vendor's commands."""
    where = {
        "SLUICE_LICENSE_SERVER": f"https://localhost:{admin_port}",
        "SLUICE_LICENSE_CERT": str(folder / "jane.pem"),
        "SLUICE_LICENSE_CERT_KEY": str(folder / "jane.key"),
        "SLUICE_LICENSE_CA": str(folder / "tls.pem"),
    }
    done = subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, **where, "COLUMNS": "250"},
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_what_was_answered_survives_a_kill_and_the_vendor_sees_it(tmp_path: Path) -> None:
    vendor = Vendor()
    furnish(tmp_path, vendor)
    today = datetime.now(UTC)  # the process reads the real clock
    license = msgspec.structs.replace(
        a_volume(vendor, 100_000),
        not_before=today - timedelta(days=1),
        expires_at=today + timedelta(days=300),
        terminate_at=today + timedelta(days=330),
    )
    signed = vendor.sign_license(license)
    (tmp_path / "order.lic").write_text(format_armour(signed))
    node = Twin(license, signed.payload_sha256(), "mta1")
    port, admin_port = free_port(), free_port()
    async with a_process(tmp_path, port, admin_port) as process:
        await asyncio.to_thread(
            ask_admin, tmp_path, admin_port, "import", str(tmp_path / "order.lic")
        )
        answer = await send(tmp_path, port, "/v1/activations", encode_envelope(node.request(BEGAN)))
        node.take_activation(answer.body)
        node.deliver_anyway(321, BEGAN)
        report = encode_envelope(node.write(BEGAN))
        first = await send(tmp_path, port, "/v1/reports", report)
        assert first.status == 200
        process.kill()
        await process.wait()
    async with a_process(tmp_path, port, admin_port) as process:
        again = await send(tmp_path, port, "/v1/reports", report)
        assert again == first
        name = license.license_id
        said = await asyncio.to_thread(ask_admin, tmp_path, admin_port, "usage", "--license", name)
        assert "321" in said
        nodes = await asyncio.to_thread(ask_admin, tmp_path, admin_port, "node", "list")
        assert "mta1" in nodes
        assert node.disk.activation_id in nodes
        (tmp_path / "revoked").write_text(format_armour(vendor.revocations(7)))
        said = await asyncio.to_thread(
            ask_admin, tmp_path, admin_port, "import", str(tmp_path / "revoked")
        )
        assert '"number": 7' in said
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), START_S) == 0


def test_a_wrong_setting_is_said_and_is_exit_78(tmp_path: Path) -> None:
    vendor = Vendor()
    furnish(tmp_path, vendor)
    (tmp_path / "delegation").write_bytes(encode_envelope(vendor.delegations["license-signing"]))
    done = subprocess.run(
        serve(0, 0), cwd=tmp_path, capture_output=True, text=True, timeout=START_S, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 78
    assert "the delegation is for another key" in done.stderr.replace("\n", " ")
