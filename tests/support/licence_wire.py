"""The real licence server on loopback, over TLS, in this process; and the requests of nodes and of the vendor's people."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from licensing.envelope import MEDIA_TYPE, Envelope, encode_envelope
from licensing.model.license import License
from licensing.server.answers import Answer
from licensing.server.app import Limiters
from licensing.server.book import Known, verify_license
from licensing.server.rows import LicenseRow
from licensing.server.serve import Running, ServeOptions, serving, tls_context
from mta.lab.certificate import make_certificate
from tests.support.licence_office import BEGAN, a_signer
from tests.support.vendor import Vendor


class WallClock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = float(BEGAN)

    def __call__(self) -> float:
        return self.now


@dataclass
class Wire:
    """A running server and a client that believes its certificate."""

    server: Running
    clock: WallClock
    client: aiohttp.ClientSession
    vendor: Vendor

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.port}"

    async def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> Answer:
        """One request, and all of its answer."""
        async with self.client.request(
            method, self.url + path, data=body, headers=headers
        ) as response:
            retry = response.headers.get("Retry-After")
            said = await response.read()
            is_envelope = response.content_type == MEDIA_TYPE
            wait = int(retry) if retry else None
            return Answer(response.status, said, is_envelope, wait)

    async def send(self, path: str, envelope: Envelope) -> Answer:
        """POST an envelope."""
        return await self.ask("POST", path, encode_envelope(envelope))

    async def learn(self, license: License) -> Known:
        """Import a licence behind the admin face's back."""
        known = verify_license(self.vendor.sign_license(license), self.vendor.trust)
        row = LicenseRow(
            license.license_id,
            license.revision,
            known.sha256,
            encode_envelope(known.envelope),
            int(self.clock()),
        )
        await self.server.committer.run(lambda store: store.put_license(row))
        self.server.desk.book.add(known)
        return known

    async def total(self, license: License) -> int:
        """The billing figure of a licence."""
        rows = await self.server.committer.run(
            lambda store: store.usage(license.license_id, "", "9999", 10_000)
        )
        return sum(row.emails for row in rows)


@asynccontextmanager
async def a_wire(
    folder: Path,
    vendor: Vendor,
    *,
    limiters: Limiters | None = None,
    recover: bool = False,
    clock: WallClock | None = None,
) -> AsyncIterator[Wire]:
    """A server over `folder`, which may hold the books of an earlier one."""
    certificate, key = make_certificate("localhost")
    (folder / "tls.pem").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)
    options = ServeOptions(
        database=folder / "books.db",
        listen=("127.0.0.1", 0),
        tls=tls_context(folder / "tls.pem", folder / "tls.key"),
        recover=recover,
    )
    clock = clock or WallClock()
    believes = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    timeout = aiohttp.ClientTimeout(total=20)
    async with serving(
        options, a_signer(vendor), vendor.trust, now=clock, limiters=limiters
    ) as server:
        connector = aiohttp.TCPConnector(ssl=believes)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
            yield Wire(server, clock, client, vendor)
