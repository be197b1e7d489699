"""A10: a proxy loses, doubles, delays and reorders reports as it likes; when it is quiet again, both sides have one total."""

import asyncio
import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.server.app import Limiters
from licensing.server.rates import Rate, RateTable
from tests.support.licence_office import Office, Twin, a_volume
from tests.support.licence_wire import Wire, a_wire
from tests.support.vendor import Vendor

VENDOR = Vendor()

FATES = st.lists(
    st.tuples(
        st.sampled_from(["arrives", "request lost", "answer lost", "twice", "old one first"]),
        st.integers(0, 50),
        st.integers(0, 9),
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(fates=FATES)
def test_a10_whatever_the_proxy_does_the_totals_agree_in_the_end(
    fates: list[tuple[str, int, int]],
) -> None:
    license = a_volume(VENDOR, 1_000_000)
    office = Office(license, vendor=VENDOR)
    node = Twin(license, office.sha256(license.license_id))
    node.activate(office)
    seen = [node.write(office.now)]
    for fate, emails, which in fates:
        node.deliver_anyway(emails, office.now)
        office.now += 7
        report = node.write(office.now)
        seen.append(report)
        if fate == "request lost":
            continue
        if fate == "old one first":
            office.report(seen[which % len(seen)], node.key.id)
        answer = office.report(report, node.key.id)
        if fate == "twice":
            assert office.report(report, node.key.id).body == answer.body
        if fate != "answer lost":
            node.take(answer)
    node.report(office)  # what was in flight
    node.report(office)  # and what came since
    assert office.total(license.license_id) == sum(emails for _, emails, _ in fates)


async def test_a10_twenty_nodes_at_once_over_the_wire_lose_and_double_nothing(
    tmp_path: Path,
) -> None:
    wide = Rate(100_000, 100_000)
    limiters = Limiters(RateTable(wide), RateTable(wide), RateTable(wide))
    license = a_volume(VENDOR, 1_000_000)
    async with a_wire(tmp_path, VENDOR, limiters=limiters) as wire:
        known = await wire.learn(license)
        nodes = [Twin(license, known.sha256) for _ in range(20)]
        await asyncio.gather(*(_live(wire, node, random.Random(n)) for n, node in enumerate(nodes)))
        assert await wire.total(license) == sum(node.disk.cum for node in nodes)


async def _live(wire: Wire, node: Twin, chance: random.Random) -> None:
    answer = await wire.send("/v1/activations", node.request(int(wire.clock())))
    node.take_activation(answer.body)
    for _ in range(8):
        node.deliver_anyway(chance.randrange(100), int(wire.clock()))
        report = node.write(int(wire.clock()))
        answers = await asyncio.gather(
            *(wire.send("/v1/reports", report) for _ in range(chance.randrange(1, 4)))
        )
        if chance.random() < 0.7:
            node.take(answers[-1])
    for _ in range(2):
        node.take(await wire.send("/v1/reports", node.write(int(wire.clock()))))
