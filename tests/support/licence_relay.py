"""The real licence server behind TLS that writes down every byte its clients say, before it goes on."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from licensing.envelope import encode_envelope
from licensing.model.license import License
from licensing.server.book import verify_license
from licensing.server.rows import LicenseRow
from licensing.server.serve import Running, ServeOptions, serving
from mta.lab.certificate import make_certificate
from tests.support.licence_office import a_signer
from tests.support.vendor import Vendor

CHUNK = 65_536


class Relay:
    """Listens with TLS on loopback; `heard` is what clients said, decrypted, by connection."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.heard: list[bytearray] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def all_heard(self) -> bytes:
        """Everything, one connection after the other."""
        return b"\n".join(map(bytes, self.heard))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: both ways until one side is done."""
        kept = bytearray()
        self.heard.append(kept)
        there, back = await asyncio.open_connection("127.0.0.1", self.server.port)

        async def forth() -> None:
            while data := await reader.read(CHUNK):
                kept.extend(data)
                back.write(data)
            back.close()

        async def answer() -> None:
            while data := await there.read(CHUNK):
                writer.write(data)
            writer.close()

        tasks = [asyncio.create_task(forth()), asyncio.create_task(answer())]
        self._tasks.update(tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.difference_update(tasks)
        for each in (writer, back):
            each.close()
            with suppress(OSError, ssl.SSLError):
                await each.wait_closed()

    async def stop(self) -> None:
        """End what is still open."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def a_recorded_vendor(
    folder: Path, vendor: Vendor, *licenses: License
) -> AsyncIterator[Relay]:
    """The server with these licences, and the relay before it; its certificate is `relay.pem` in the folder."""
    certificate, key = make_certificate("localhost")
    (folder / "relay.pem").write_bytes(certificate)
    (folder / "relay.key").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "relay.pem", folder / "relay.key")
    options = ServeOptions(folder / "server.db", ("127.0.0.1", 0), None)
    async with serving(options, a_signer(vendor), vendor.trust) as server:
        for license in licenses:
            known = verify_license(vendor.sign_license(license), vendor.trust)
            row = LicenseRow(
                license.license_id,
                license.revision,
                known.sha256,
                encode_envelope(known.envelope),
                int(license.issued_at.timestamp()),
            )
            await server.committer.run(lambda store, row=row: store.put_license(row))
            server.desk.book.add(known)
        relay = Relay(server)
        door = await asyncio.start_server(relay.serve, "127.0.0.1", 0, ssl=context)
        relay.port = door.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            door.close()
            await relay.stop()
