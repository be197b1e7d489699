"""A30: fifty nodes run for the last thousand Emails."""

import asyncio
from pathlib import Path

from licensing.server.app import Limiters
from licensing.server.rates import Rate, RateTable
from tests.support.licence_office import Office, Twin, a_volume
from tests.support.licence_wire import Wire, a_wire
from tests.support.vendor import Vendor

LAST = 1_000
NODES = 50


def test_a30_blocks_shrink_and_exactly_the_quota_is_delivered() -> None:
    vendor = Vendor()
    license = a_volume(vendor, LAST)
    office = Office(license, vendor=vendor)
    nodes = [Twin(license, office.sha256(license.license_id)) for _ in range(NODES)]
    for node in nodes:
        node.activate(office)
    sent, sizes = 0, []
    for _ in range(40):
        for node in nodes:
            held = set(node.disk.leases)
            node.report(office, want=1_000)
            sizes += [each.emails for name, each in node.disk.leases.items() if name not in held]
            sent += node.deliver(100, office.now)
        office.now += 60
    assert sent == LAST
    assert sum(sizes) == LAST
    assert sizes == sorted(sizes, reverse=True)
    # Ten days later still nothing more, and nothing was taken back or given up.
    office.now += 10 * 86_400
    for node in nodes:
        node.report(office, want=1_000)
        assert node.deliver(100, office.now) == 0
    assert office.total(license.license_id) == LAST
    # The next period has Emails again.
    office.now += 31 * 86_400
    nodes[0].report(office, want=1_000)
    assert nodes[0].deliver(1, office.now) == 1


async def test_a30_at_the_same_time_over_the_wire_no_email_is_leased_twice(tmp_path: Path) -> None:
    vendor = Vendor()
    license = a_volume(vendor, LAST)
    wide = Rate(100_000, 100_000)
    limiters = Limiters(RateTable(wide), RateTable(wide), RateTable(wide))
    async with a_wire(tmp_path, vendor, limiters=limiters) as wire:
        known = await wire.learn(license)
        nodes = [Twin(license, known.sha256) for _ in range(NODES)]
        sent = await asyncio.gather(*(_race(wire, node) for node in nodes))
        pool = await wire.server.committer.run(
            lambda store: store.pool(license.license_id, "2026-12")
        )
        assert pool.used + pool.reserved <= LAST
        assert sum(sent) + pool.reserved == LAST == sum(sent) + sum(node.left for node in nodes)


async def _race(wire: Wire, node: Twin) -> int:
    now = int(wire.clock())
    answer = await wire.send("/v1/activations", node.request(now))
    node.take_activation(answer.body)
    sent = 0
    for _ in range(12):
        node.take(await wire.send("/v1/reports", node.write(now, want=1_000)))
        sent += node.deliver(100, now)
    node.take(await wire.send("/v1/reports", node.write(now)))
    return sent
