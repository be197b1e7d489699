"""A27: the licence server is restored from an old backup; nodes show it its own word."""

import shutil
from pathlib import Path

import msgspec

from licensing.envelope import Envelope, decode_envelope
from licensing.model.bodies import Presented
from licensing.server.serve import FENCE_JUMP
from tests.support.licence_office import Office, Twin, a_volume, grant_of
from tests.support.licence_wire import WallClock, Wire, a_wire
from tests.support.vendor import Vendor


async def report(wire: Wire, node: Twin, want: int = 0) -> Envelope:
    answer = await wire.send("/v1/reports", node.write(int(wire.clock()), want))
    assert answer.status == 200, answer.body
    node.take(answer)
    wire.clock.now += 60
    return decode_envelope(answer.body)


async def test_a27_nodes_show_signed_answers_and_no_total_changes(tmp_path: Path) -> None:
    vendor, clock = Vendor(), WallClock()
    license = a_volume(vendor, 100_000)
    node = Twin(license, "")
    async with a_wire(tmp_path, vendor, clock=clock) as wire:
        node.sha256 = (await wire.learn(license)).sha256
        answer = await wire.send("/v1/activations", node.request(int(clock())))
        node.take_activation(answer.body)
        await report(wire, node, want=1_000)
    shutil.copy(tmp_path / "books.db", tmp_path / "backup.db")
    async with a_wire(tmp_path, vendor, clock=clock) as wire:
        for _ in range(3):
            node.deliver(500, int(clock()))
            last = await report(wire, node, want=1_000)
        fence = max(each.fence for each in node.disk.leases.values())
        total = await wire.total(license)
    shutil.copy(tmp_path / "backup.db", tmp_path / "books.db")

    async with a_wire(tmp_path, vendor, clock=clock, recover=True) as wire:
        node.deliver(50, int(clock()))
        behind = node.write(int(clock()), want=1_000)
        refused = await wire.send("/v1/reports", behind)
        assert (
            grant_of(refused).closed.seq < node.disk.seq - 1
        )  # it says less than the node was told
        clock.now += 60
        shown = msgspec.json.encode(Presented(report=behind, last_ack=last))
        answer = await wire.ask("POST", "/v1/reports", shown)
        assert answer.status == 200, answer.body
        node.take(answer)
        assert await wire.total(license) == total + 50 == node.disk.cum
        # What is leased from now on can be told from what was leased after the backup: fences jump.
        node.deliver(10_000, int(clock()))
        clock.now += 60
        await report(wire, node, want=1_000)
        assert max(each.fence for each in node.disk.leases.values()) > fence + FENCE_JUMP // 2
        clock.now += 60
        await report(wire, node)  # and it goes on as before
        assert await wire.total(license) == node.disk.cum


def restored() -> tuple[Office, Twin, Office]:
    """An office, a node that has reported there, and the office after a restore that lost all but the licence."""
    vendor = Vendor()
    license = a_volume(vendor, 100_000)
    office = Office(license, vendor=vendor)
    node = Twin(license, office.sha256(license.license_id))
    node.activate(office)
    node.report(office, want=1_000)
    node.deliver(300, office.now)
    office.now += 60
    node.report(office, want=1_000)
    again = Office(vendor=vendor)
    again.book.add(office.book.all()[0])
    again.now = office.now + 60
    return office, node, again


def test_a27_a_node_whose_activation_was_lost_gets_the_same_one_and_is_fast_forwarded() -> None:
    office, node, again = restored()
    assert node.disk.last_ack is not None
    before = node.clone()
    node.activate(again)
    assert node.disk.activation_id == before.disk.activation_id
    node.disk.epoch, node.disk.token = before.disk.epoch, before.disk.token
    answer = again.report(node.write(again.now), node.key.id, shown=before.disk.last_ack)
    assert answer.status == 200
    assert again.total(node.license.license_id) == office.total(node.license.license_id) == 300
    # The leases the node still holds are in the books again.
    pool = again.store.pool(node.license.license_id, "2026-12")
    assert pool.reserved == node.left


def test_a27_an_answer_that_was_given_to_another_node_moves_nothing() -> None:
    office, node, again = restored()
    other = Twin(node.license, node.sha256)
    other.activate(again)
    other.disk.epoch, other.disk.seq, other.disk.token = 1, node.disk.seq, node.disk.token
    answer = again.report(other.write(again.now), other.key.id, shown=node.disk.last_ack)
    assert answer.status == 409
    assert again.total(node.license.license_id) == 0
    assert office.total(node.license.license_id) == 300
