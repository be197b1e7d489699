"""A1: a licence file is copied to a second server; the licence has one seat."""

from pathlib import Path

import msgspec

from licensing.model.bodies import Refusal
from licensing.model.license import Kind
from tests.support.licence_office import Twin
from tests.support.licence_wire import a_wire
from tests.support.vendor import Vendor


async def test_a1_the_second_server_is_refused_with_the_list_of_seats(tmp_path: Path) -> None:
    vendor = Vendor()
    license = vendor.license(Kind.ENTERPRISE_SERVER)
    async with a_wire(tmp_path, vendor) as wire:
        known = await wire.learn(license)
        first, second = Twin(license, known.sha256, "mta1"), Twin(license, known.sha256, "mta2")
        now = int(wire.clock())
        given = await wire.send("/v1/activations", first.request(now))
        first.take_activation(given.body)
        refused = await wire.send("/v1/activations", second.request(now))
        said = msgspec.json.decode(refused.body, type=Refusal)
        assert (given.status, refused.status, said.error) == (200, 403, "SEAT_LIMIT")
        assert [(seat.label, seat.server_class) for seat in said.seats] == [("mta1", "vm")]
        assert said.seats[0].last_seen == now
        assert "sluice license deactivate" in said.text
        # The first node is unaffected.
        assert (await wire.send("/v1/reports", first.write(now))).status == 200
