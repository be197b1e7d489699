"""A9: the answer is lost, and the node tries fifty times."""

from pathlib import Path

from licensing.server.app import Limiters
from licensing.server.rates import Rate, RateTable
from tests.support.licence_office import Twin, a_volume
from tests.support.licence_wire import a_wire
from tests.support.vendor import Vendor


async def test_a9_fifty_retries_have_one_effect_and_one_answer(tmp_path: Path) -> None:
    vendor = Vendor()
    license = a_volume(vendor, 100_000)
    patient = Limiters(node=RateTable(Rate(1_000, 1_000)))
    async with a_wire(tmp_path, vendor, limiters=patient) as wire:
        known = await wire.learn(license)
        node = Twin(license, known.sha256)
        answer = await wire.send("/v1/activations", node.request(int(wire.clock())))
        node.take_activation(answer.body)
        node.deliver_anyway(900, int(wire.clock()))
        report = node.write(int(wire.clock()), want=1_000)
        answers = []
        for _ in range(50):
            answers.append(await wire.send("/v1/reports", report))
            wire.clock.now += 1
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        assert await wire.total(license) == 900
        leases = await wire.server.committer.run(
            lambda store: store.open_leases(node.disk.activation_id)
        )
        assert len(leases) == 1
