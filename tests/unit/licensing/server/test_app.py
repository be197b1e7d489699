"""The face for nodes: what is refused before anything costly, what is told to whom."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from licensing.envelope import decode_envelope, encode_envelope
from licensing.model.activation import LicenseQuery
from licensing.model.bodies import BatchAnswers, Refusal
from licensing.model.fields import LICENSE, LICENSE_QUERY, USAGE_ACK, USAGE_REPORT
from licensing.model.license import Kind
from licensing.model.trust import Revocation, Revocations
from licensing.model.usage import UsageAck
from licensing.server.app import MAX_BODY
from licensing.server.serve import listening
from tests.support.licence_office import Twin, a_volume, opened, renewed
from tests.support.licence_wire import Wire, a_wire
from tests.support.vendor import Vendor


async def a_node(wire: Wire) -> Twin:
    license = a_volume(wire.vendor, 100_000)
    node = Twin(license, (await wire.learn(license)).sha256)
    answer = await wire.send("/v1/activations", node.request(int(wire.clock())))
    node.take_activation(answer.body)
    return node


async def test_an_ack_is_signed_by_the_online_key_and_answers_this_report(tmp_path: Path) -> None:
    vendor = Vendor()
    async with a_wire(tmp_path, vendor) as wire:
        node = await a_node(wire)
        report = node.write(int(wire.clock()), want=1_000)
        answer = await wire.send("/v1/reports", report)
        believed = vendor.trust.open(decode_envelope(answer.body), USAGE_ACK)
        ack = msgspec.json.decode(believed.payload, type=UsageAck)
        assert believed.key_id == vendor.key_id("server-online")
        assert ack.in_reply_to == report.payload_sha256()
        assert ack.activation_id == node.disk.activation_id
        assert [lease.emails for lease in ack.leases] == [1_000]
        assert ack.pool is not None
        assert (ack.pool.reserved, ack.pool.nodes, ack.pool.share) == (1_000, 1, 99_000)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"nonsense", 400),
        (b'{"payloadType":"x","payloadType":"y"}', 400),
        (b"[" * 10_000, 400),
        (b" " * (MAX_BODY + 1), 413),
    ],
)
async def test_what_is_no_envelope_is_refused_with_a_text(
    tmp_path: Path, body: bytes, status: int
) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        answer = await wire.ask("POST", "/v1/reports", body)
        assert answer.status == status
        assert msgspec.json.decode(answer.body, type=Refusal).text


async def test_a_field_that_is_not_in_the_schema_is_refused(tmp_path: Path) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        node = await a_node(wire)
        fields = json.loads(node.write(int(wire.clock())).payload_bytes())
        fields["hostname"] = "mta1.example"
        signed = node.key.sign(USAGE_REPORT, json.dumps(fields).encode())
        answer = await wire.send("/v1/reports", signed)
        assert answer.status == 400
        assert b"hostname" in answer.body


async def test_days_that_are_more_than_the_count_are_refused_and_nothing_is_counted(
    tmp_path: Path,
) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        node = await a_node(wire)
        report = node.write(int(wire.clock()), days={"2026-12-01": 5}, cum=4)
        assert (await wire.send("/v1/reports", report)).status == 400
        assert await wire.total(node.license) == 0


async def test_a_node_that_reports_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        node = await a_node(wire)
        statuses = [
            (await wire.send("/v1/reports", node.write(int(wire.clock())))).status for _ in range(4)
        ]
        late = await wire.send("/v1/reports", node.write(int(wire.clock())))
        assert statuses == [200] * 4  # and the activation: a burst of five
        assert (late.status, late.retry_after_s) == (429, 11)
        wire.clock.now += 11
        assert (await wire.send("/v1/reports", node.write(int(wire.clock())))).status == 200


async def test_an_address_that_asks_too_much_is_refused_before_its_request_is_read(
    tmp_path: Path,
) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        statuses = [(await wire.ask("GET", "/v1/revocations")).status for _ in range(205)]
        assert statuses[:200] == [404] * 200
        assert statuses[200:] == [429] * 5


async def test_a_batch_answers_each_report_as_if_it_had_come_alone(tmp_path: Path) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        one, other = await a_node(wire), await a_node(wire)
        stranger = Twin(one.license, one.sha256)
        one.deliver_anyway(3, int(wire.clock()))
        reports = [node.write(int(wire.clock())) for node in (one, stranger, other)]
        body = json.dumps({"reports": [json.loads(encode_envelope(each)) for each in reports]})
        answer = await wire.ask("POST", "/v1/reports:batch", body.encode())
        answers = msgspec.json.decode(answer.body, type=BatchAnswers).answers
        assert [each.status for each in answers] == [200, 401, 200]
        assert [each.envelope is not None for each in answers] == [True, False, True]
        assert answers[1].refusal is not None
        assert answers[1].refusal.error == "UNKNOWN_NODE"
        assert await wire.total(one.license) == 3


async def test_a_renewal_goes_to_the_node_with_its_next_ack_and_can_be_fetched(
    tmp_path: Path,
) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        node = await a_node(wire)
        renewal = await wire.learn(renewed(node.license))
        answer = await wire.send("/v1/reports", node.write(int(wire.clock())))
        assert opened(answer.body, UsageAck).license == renewal.envelope

        def query(license_id: str) -> str:
            asked = LicenseQuery(
                license_id=license_id,
                activation_id=node.disk.activation_id,
                node_id=node.key.id,
                wall=0,
            )
            signed = node.key.sign(LICENSE_QUERY, msgspec.json.encode(asked))
            return "DSSE " + base64.b64encode(encode_envelope(signed)).decode()

        name = node.license.license_id
        path = f"/v1/licenses/{name}/current"
        found = await wire.ask("GET", path, Authorization=query(name))
        assert wire.vendor.trust.open(decode_envelope(found.body), LICENSE).sha256 == renewal.sha256
        assert (await wire.ask("GET", path)).status == 400
        other = await a_node(wire)
        elsewhere = other.license.license_id
        refused = await wire.ask(
            "GET", f"/v1/licenses/{elsewhere}/current", Authorization=query(elsewhere)
        )
        assert refused.status == 401


async def test_a_revoked_licence_is_told_and_gets_no_seat_and_no_lease(tmp_path: Path) -> None:
    vendor = Vendor()
    async with a_wire(tmp_path, vendor) as wire:
        node = await a_node(wire)
        effective = datetime.fromtimestamp(wire.clock() + 3_600, UTC)
        listed = vendor.revocations(
            1,
            Revocation(
                license_id=node.license.license_id, effective_at=effective, reason="termination"
            ),
        )
        book = wire.server.desk.book
        book.revoke(listed, msgspec.json.decode(listed.payload_bytes(), type=Revocations))
        before = await wire.send("/v1/reports", node.write(int(wire.clock()), want=1_000))
        assert opened(before.body, UsageAck).revocations == listed
        assert opened(before.body, UsageAck).leases  # not in force yet (C2)
        node.take(before)
        wire.clock.now += 3_600
        node.deliver(10, int(wire.clock()))
        after = await wire.send("/v1/reports", node.write(int(wire.clock()), want=5_000))
        assert after.status == 200  # what was used is counted all the same
        assert len(opened(after.body, UsageAck).leases) == 1  # only the old one
        other = Twin(node.license, node.sha256)
        refused = await wire.send("/v1/activations", other.request(int(wire.clock())))
        assert msgspec.json.decode(refused.body, type=Refusal).error == "REVOKED"
        assert decode_envelope((await wire.ask("GET", "/v1/revocations")).body) == listed


async def test_the_pages_for_machines_answer(tmp_path: Path) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        node = await a_node(wire)
        await wire.send("/v1/reports", node.write(int(wire.clock())))
        assert (await wire.ask("GET", "/healthz")).status == 200
        assert (await wire.ask("GET", "/readyz")).status == 200
        page = (await wire.ask("GET", "/metrics")).body.decode()
        assert 'sluice_license_server_requests_total{status="200",what="report"} 1.0' in page
        root = decode_envelope((await wire.ask("GET", "/v1/trust/1.root.json")).body)
        assert root.payload == wire.vendor.roots[0].payload
        assert (await wire.ask("GET", "/v1/trust/2.root.json")).status == 404
        assert (await wire.ask("GET", "/v1/trust/x.root.json")).status == 404


async def test_a_server_whose_delegation_ended_is_not_ready(tmp_path: Path) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        wire.clock.now += 6 * 365 * 86_400
        assert (await wire.ask("GET", "/readyz")).status == 503


async def test_notices_name_licence_period_figures_and_remedy(tmp_path: Path) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        node = await a_node(wire)
        seen = []
        for emails in (79_000, 2_000, 10_000, 9_000):
            node.deliver_anyway(emails, int(wire.clock()))
            answer = await wire.send("/v1/reports", node.write(int(wire.clock())))
            seen.append([notice.id for notice in opened(answer.body, UsageAck).notices])
            text = "".join(notice.text for notice in opened(answer.body, UsageAck).notices)
            node.take(answer)
            wire.clock.now += 60
        assert seen == [[], ["vol80:2026-12"], ["vol90:2026-12"], ["vol100:2026-12"]]
        assert node.license.license_id in text
        assert "100000 of 100000 Emails of 2026-12" in text
        assert "ask your vendor" in text


async def test_a_server_kind_gets_a_seat_until_the_end_of_its_term(tmp_path: Path) -> None:
    vendor = Vendor()
    async with a_wire(tmp_path, vendor) as wire:
        license = vendor.license(Kind.ENTERPRISE_SERVER)
        node = Twin(license, (await wire.learn(license)).sha256)
        answer = await wire.send("/v1/activations", node.request(int(wire.clock())))
        given = node.take_activation(answer.body)
        assert given.valid_until == int(license.terminate_at.timestamp())


async def test_the_log_of_a_request_that_failed_names_no_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(_: web.Request) -> web.Response:
        raise ValueError("a bug of ours")

    app = web.Application()
    app.router.add_get("/", broken)
    async with (
        listening(app, ("127.0.0.1", 0), None) as port,
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{port}/") as response,
    ):
        assert response.status == 500
    assert "Error handling request" in caplog.text
    assert "a bug of ours" in caplog.text
    assert "127.0.0.1" not in caplog.text
