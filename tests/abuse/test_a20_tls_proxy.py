"""A20: a proxy that breaks TLS open with a private CA. With `ca_file` it works; what it changes is not believed."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from licensing.guard import Delivered
from licensing.model.license import Kind
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()
NAME = "license.vendor.example"  # resolves nowhere: only the proxy knows what it means


class Interceptor:
    """A CONNECT proxy that presents a certificate of its own CA, and passes on what it read to the real server."""

    def __init__(self, folder: Path, port: int) -> None:
        self.ca_file = folder / "ca.pem"
        self._context = _certificates(folder, self.ca_file)
        self._port = port
        self.connects: list[str] = []
        self.change: Callable[[bytes], bytes] = lambda answer: answer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.connects.append(head.split(b"\r\n")[0].decode())
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await writer.start_tls(self._context)
            request = await _read_message(reader)
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
            inner_writer.write(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = await inner_reader.read()
            inner_writer.close()
            writer.write(self.change(answer))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ),
        0,
    )
    return head + await reader.readexactly(length)


def _certificates(folder: Path, ca_file: Path) -> ssl.SSLContext:
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the customer's own CA")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    ca = (
        _builder(ca_name, ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    cert = (
        _builder(name, ca_name, key)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    ca_file.write_bytes(ca.public_bytes(Encoding.PEM))
    pem = folder / "proxy.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + cert.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


@pytest.fixture
def time() -> MachineTime:
    return MachineTime()


@pytest.fixture
async def server(time: MachineTime) -> AsyncIterator[LicenceServer]:
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        yield server


async def test_a20_through_the_proxy_with_its_ca_reports_are_acknowledged(
    tmp_path: Path, time: MachineTime, server: LicenceServer
) -> None:
    proxy = Interceptor(tmp_path, server.port)
    async with proxy.running() as url:
        guard = a_guard(
            tmp_path, VENDOR, time, endpoint=f"https://{NAME}", proxy=url, ca_file=proxy.ca_file
        )
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        guard.take(10)
        await guard.delivered([Delivered("spool", 0, 10, 10)])
        await passes(guard, time, 61)
        assert proxy.connects[0] == f"CONNECT {NAME}:443 HTTP/1.1"
        assert server.total == 10
        # It changes one byte of a signed answer: a signature error, no change, tried again.
        proxy.change = lambda answer: answer.replace(b'"payload":"ey', b'"payload":"eY', 1)
        await guard.delivered([Delivered("spool", 10, 12, 2)])
        await passes(guard, time, 61)
        status = await guard.status()
        assert "not believed" in status["report"]["failure"] and status["report"]["under_way"]
        assert (await guard.usage())["acknowledged"] == 10
        assert guard.entitlement.deliver
        proxy.change = lambda answer: answer
        await passes(guard, time, 901)
        assert (await guard.usage())["acknowledged"] == 12 and server.total == 12
        await guard.stop()


async def test_a20_without_its_ca_the_proxy_is_not_talked_to(
    tmp_path: Path, time: MachineTime, server: LicenceServer
) -> None:
    proxy = Interceptor(tmp_path, server.port)
    async with proxy.running() as url:
        guard = a_guard(tmp_path, VENDOR, time, endpoint=f"https://{NAME}", proxy=url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        await guard.talk()
        assert server.requests == []
        assert "certificate" in (await guard.status())["report"]["failure"].lower()
        await guard.stop()
