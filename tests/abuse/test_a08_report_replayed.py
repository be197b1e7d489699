"""A8: a captured report is replayed, a minute or a year later."""

from pathlib import Path

from tests.support.licence_office import DAY_S, Office, Twin, a_volume
from tests.support.licence_wire import a_wire
from tests.support.vendor import Vendor


async def test_a8_the_last_report_again_gets_the_same_bytes_and_an_older_one_a_409(
    tmp_path: Path,
) -> None:
    vendor = Vendor()
    license = a_volume(vendor, 100_000)
    async with a_wire(tmp_path, vendor) as wire:
        known = await wire.learn(license)
        node = Twin(license, known.sha256)
        answer = await wire.send("/v1/activations", node.request(int(wire.clock())))
        node.take_activation(answer.body)
        captured = []
        for emails in (5, 7):
            node.deliver_anyway(emails, int(wire.clock()))
            captured.append(node.write(int(wire.clock())))
            answer = await wire.send("/v1/reports", captured[-1])
            node.take(answer)
            wire.clock.now += 60
        again = await wire.send("/v1/reports", captured[1])
        older = await wire.send("/v1/reports", captured[0])
        assert (again.status, again.body) == (200, answer.body)
        assert older.status == 409
        assert await wire.total(license) == 12
        # And the honest node still gets the answer it may have missed.
        assert (await wire.send("/v1/reports", captured[1])).body == answer.body


def test_a8_a_year_later_nothing_has_changed() -> None:
    vendor = Vendor()
    license = a_volume(vendor, 100_000, period="term")
    office = Office(license, vendor=vendor)
    node = Twin(license, office.sha256(license.license_id))
    node.activate(office)
    node.deliver_anyway(5, office.now)
    captured = node.write(office.now)
    first = office.report(captured, node.key.id)
    office.now += 364 * DAY_S
    assert office.report(captured, node.key.id).body == first.body
    assert office.total(license.license_id) == 5
