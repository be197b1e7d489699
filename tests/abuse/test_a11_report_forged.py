"""A11: another customer's node, or nobody at all, speaks for a node."""

from pathlib import Path

from licensing.envelope import Envelope, encode_envelope
from licensing.server.app import Limiters
from licensing.server.rates import Rate, RateTable
from tests.support.licence_office import Twin, a_volume
from tests.support.licence_wire import Wire, a_wire
from tests.support.vendor import Vendor


async def two_customers(wire: Wire) -> tuple[Twin, Twin]:
    nodes = []
    for _ in range(2):
        license = a_volume(wire.vendor, 100_000)
        known = await wire.learn(license)
        node = Twin(license, known.sha256)
        answer = await wire.send("/v1/activations", node.request(int(wire.clock())))
        node.take_activation(answer.body)
        nodes.append(node)
    return nodes[0], nodes[1]


async def test_a11_a_report_for_anothers_activation_is_refused_and_the_sixth_is_not_heard(
    tmp_path: Path,
) -> None:
    hasty = Limiters(node=RateTable(Rate(1_000, 1_000)))
    async with a_wire(tmp_path, Vendor(), limiters=hasty) as wire:
        victim, thief = await two_customers(wire)
        thief.disk.activation_id = victim.disk.activation_id
        thief.license, thief.disk.token = victim.license, victim.disk.token
        statuses = []
        for _ in range(7):
            thief.disk.outbox = None
            thief.deliver_anyway(1, int(wire.clock()))
            statuses.append((await wire.send("/v1/reports", thief.write(int(wire.clock())))).status)
        assert statuses == [401] * 5 + [429] * 2
        assert await wire.total(victim.license) == 0
        wire.clock.now += 60
        assert (await wire.send("/v1/reports", victim.write(int(wire.clock())))).status == 200


async def test_a11_a_report_signed_by_nobody_we_know_is_401_and_costs_no_look_at_the_books(
    tmp_path: Path,
) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        victim, _ = await two_customers(wire)
        stranger = Twin(victim.license, victim.sha256)
        stranger.disk = victim.disk
        before = wire.server.committer.commits
        refused = await wire.send("/v1/reports", stranger.write(int(wire.clock())))
        assert (refused.status, wire.server.committer.commits) == (401, before)


async def test_a11_a_changed_byte_under_the_name_of_a_known_key_is_401(tmp_path: Path) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        victim, thief = await two_customers(wire)
        genuine = victim.write(int(wire.clock()))
        forged = Envelope(
            payload_type=genuine.payload_type,
            payload=thief.write(int(wire.clock())).payload,
            signatures=genuine.signatures,
        )
        answer = await wire.ask("POST", "/v1/reports", encode_envelope(forged))
        assert answer.status == 401
