"""The vendor's face: only with a certificate of the vendor's authority, and every change stands in the audit log."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from licensing.envelope import encode_envelope, format_armour
from licensing.model.license import Kind
from licensing.server.answers import Answer
from licensing.server.roles import EVERYBODY, Roles
from licensing.server.serve import Running, ServeOptions, serving, tls_context
from mta.lab.certificate import make_certificate
from tests.support.licence_office import BEGAN, Twin, a_signer, a_volume
from tests.support.vendor import Vendor


class Person:
    """Somebody with a certificate, who asks the admin face."""

    def __init__(self, client: aiohttp.ClientSession, server: Running) -> None:
        self._client = client
        self._url = f"https://localhost:{server.admin_port}/admin/v1/"
        self.server = server

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        async with self._client.request(method, self._url + path, data=body) as response:
            return response.status, json.loads(await response.read())


def _write(folder: Path, name: str, common_name: str) -> tuple[Path, Path]:
    certificate, key = make_certificate(common_name)
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(certificate)
    paths[1].write_bytes(key)
    return paths


@asynccontextmanager
async def an_admin(
    folder: Path, vendor: Vendor, certificate: str = "jane", roles: Roles = EVERYBODY
) -> AsyncIterator[Person]:
    own = _write(folder, "tls", "localhost")
    jane = _write(folder, "jane", "jane")
    _write(folder, "stranger", "stranger")
    options = ServeOptions(
        database=folder / "books.db",
        listen=("127.0.0.1", 0),
        tls=None,
        admin_listen=("127.0.0.1", 0),
        admin_tls=tls_context(*own, client_ca=jane[0]),
        roles=roles,
    )
    context = ssl.create_default_context(cafile=str(own[0]))
    if certificate:
        context.load_cert_chain(folder / f"{certificate}.pem", folder / f"{certificate}.key")
    async with serving(options, a_signer(vendor), vendor.trust, now=lambda: BEGAN) as server:
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as client:
            yield Person(client, server)


async def a_node(person: Person, vendor: Vendor, emails: int = 100_000) -> Twin:
    """A node that has a lease of 1,000 and has used 100, by the public face."""
    license = a_volume(vendor, emails)
    status, said = await person.ask(
        "POST", "licenses", format_armour(vendor.sign_license(license)).encode()
    )
    assert status == 200
    node = Twin(license, said["sha256"], "mta1")
    url = f"http://127.0.0.1:{person.server.port}/v1/"
    async with aiohttp.ClientSession() as client:
        async with client.post(
            url + "activations", data=encode_envelope(node.request(BEGAN))
        ) as response:
            node.take_activation(await response.read())
        for _ in range(2):
            report = encode_envelope(node.write(BEGAN, want=0 if node.left else 1_000))
            async with client.post(url + "reports", data=report) as response:
                node.take(Answer(response.status, await response.read()))
            node.deliver(100, BEGAN)
        async with client.post(
            url + "reports", data=encode_envelope(node.write(BEGAN))
        ) as response:
            assert response.status == 200
    return node


@pytest.mark.parametrize("certificate", ["", "stranger"])
async def test_nobody_gets_in_without_a_certificate_of_the_vendors_authority(
    tmp_path: Path, certificate: str
) -> None:
    async with an_admin(tmp_path, Vendor(), certificate) as person:
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await person.ask("GET", "licenses")


async def test_a_licence_is_imported_once_and_only_if_the_vendor_signed_it(tmp_path: Path) -> None:
    vendor = Vendor()
    async with an_admin(tmp_path, vendor) as person:
        file = vendor.file(Kind.ENTERPRISE_SERVER)
        status, said = await person.ask("POST", "licenses", file)
        assert (status, said["revision"]) == (200, 1)
        status, listed = await person.ask("GET", "licenses")
        assert [each["license_id"] for each in listed] == [said["license_id"]]
        status, said = await person.ask("POST", "licenses", Vendor().file(Kind.ENTERPRISE_SERVER))
        assert (status, said["error"]) == (400, "signature")
        status, said = await person.ask("POST", "licenses", b"nonsense")
        assert status == 400


async def test_what_is_imported_is_there_after_a_restart(tmp_path: Path) -> None:
    vendor = Vendor()
    async with an_admin(tmp_path, vendor) as person:
        await person.ask("POST", "licenses", vendor.file(Kind.VOLUME))
    async with an_admin(tmp_path, vendor) as person:
        assert len((await person.ask("GET", "licenses"))[1]) == 1


async def test_nodes_leases_usage_and_what_is_reclaimed(tmp_path: Path) -> None:
    vendor = Vendor()
    async with an_admin(tmp_path, vendor) as person:
        node = await a_node(person, vendor)
        name = node.license.license_id
        _, nodes = await person.ask("GET", f"nodes?license={name}")
        assert [each["label"] for each in nodes] == ["mta1"]
        _, (lease,) = await person.ask("GET", f"leases?license={name}")
        assert (lease["emails"], lease["used"]) == (1_000, 200)
        _, usage = await person.ask("GET", f"usage?license={name}")
        assert (usage["emails"], usage["days"]) == (200, {"2026-12-01": 200})

        status, _ = await person.ask("POST", f"nodes/{node.disk.activation_id}/release")
        assert status == 200
        assert len((await person.ask("GET", f"leases?license={name}"))[1]) == 1  # stays reserved
        body = b'{"assume_used": true}'
        _, taken = await person.ask("POST", f"leases/{lease['id']}/reclaim", body)
        assert taken["emails"] == 800
        assert (await person.ask("POST", f"leases/{lease['id']}/reclaim", body))[0] == 404
        pool = await person.server.committer.run(lambda store: store.pool(name, "2026-12"))
        assert (pool.used, pool.reserved) == (1_000, 0)
        # The bill is what nodes have reported, not what was assumed.
        assert (await person.ask("GET", f"usage?license={name}"))[1]["emails"] == 200

        _, audit = await person.ask("GET", "audit")
        done = [json.loads(each["record"]) for each in audit["records"]]
        assert [each["what"] for each in done] == ["import", "activate", "release", "reclaim"]
        assert [each["actor"] for each in done] == ["jane", "server", "jane", "jane"]
        assert audit["first_break"] is None


async def test_a_finding_is_cleared_once_and_moves_are_allowed_again(tmp_path: Path) -> None:
    async with an_admin(tmp_path, Vendor()) as person:
        run = person.server.committer.run
        await run(lambda store: store.put_finding("L1", "", "SEAT_MOVES", "eleven moves", BEGAN))
        await run(lambda store: store.put_move("L1", BEGAN))
        _, (found,) = await person.ask("GET", "findings?license=L1")
        assert (await person.ask("POST", f"findings/{found['id']}/clear"))[0] == 200
        assert (await person.ask("POST", f"findings/{found['id']}/clear"))[0] == 404
        assert await run(lambda store: store.moves_since("L1", 0)) == 0


async def test_revocations_are_taken_only_with_a_rising_number(tmp_path: Path) -> None:
    vendor = Vendor()
    async with an_admin(tmp_path, vendor) as person:

        def listed(number: int) -> bytes:
            return format_armour(vendor.revocations(number)).encode()

        assert (await person.ask("POST", "revocations", listed(2)))[0] == 200
        status, said = await person.ask("POST", "revocations", listed(2))
        assert (status, said["error"]) == (400, "old")
        assert (await person.ask("POST", "revocations", listed(3)))[0] == 200


async def test_a_viewer_looks_and_changes_nothing(tmp_path: Path) -> None:
    vendor = Vendor()
    roles = Roles(viewers=frozenset({"jane"}))
    async with an_admin(tmp_path, vendor, roles=roles) as person:
        assert (await person.ask("GET", "licenses"))[0] == 200
        status, said = await person.ask("POST", "licenses", vendor.file(Kind.ENTERPRISE_SERVER))
        assert (status, said["error"]) == (403, "forbidden")
        assert (await person.ask("GET", "licenses"))[1] == []


async def test_whom_the_notices_go_to_is_set_and_audited(tmp_path: Path) -> None:
    vendor = Vendor()
    async with an_admin(tmp_path, vendor) as person:
        _, said = await person.ask("POST", "licenses", vendor.file(Kind.ENTERPRISE_SERVER))
        path = f"licenses/{said['license_id']}/contacts"
        for wrong in ("a b@c.example", "a@c.example\\r\\nBcc: x@y.example", "nobody", "a@b@c"):
            body = b'{"contacts": ["%s"]}' % wrong.encode()
            assert (await person.ask("POST", path, body))[0] == 400
        status, told = await person.ask("POST", path, b'{"contacts": ["bill@customer.example"]}')
        assert (status, told["contacts"]) == (200, ["bill@customer.example"])
        assert (await person.ask("GET", path))[1]["contacts"] == ["bill@customer.example"]
        assert (await person.ask("POST", "licenses/L0/contacts", b'{"contacts": []}'))[0] == 404
        assert (await person.ask("GET", "letters"))[1] == []
        records = (await person.ask("GET", "audit"))[1]["records"]
        assert "contacts" in records[-1]["record"] and "bill@" not in records[-1]["record"]
