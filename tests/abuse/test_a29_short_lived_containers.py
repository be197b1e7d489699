"""A29: a hundred containers live a minute each on one pool and are killed without a word."""

import random

from licensing.server.pool import EXPIRY_MARGIN_S
from licensing.server.seats import CONTAINER_LAPSE_S
from tests.support.licence_office import Office, Twin, a_volume
from tests.support.vendor import Vendor

QUOTA = 60_000
CONTAINERS = 100
MINUTES = 8


def test_a29_leases_come_back_by_themselves_and_no_seat_leaks() -> None:
    vendor = Vendor()
    lease = {"min": 100, "horizon_s": 60, "reclaim": "on_expiry"}
    plain = a_volume(vendor, QUOTA)
    assert plain.limits.volume is not None
    terms = type(plain.limits.volume.lease)(**lease)
    license = a_volume(vendor, QUOTA, lease=terms)
    office, chance = Office(license, vendor=vendor), random.Random(29)
    sha256, name = office.sha256(license.license_id), license.license_id
    sent = unheard = 0
    for _ in range(MINUTES):
        for _ in range(CONTAINERS):
            node = Twin(license, sha256)
            assert node.activate(office, server_class="container").status == 200
            node.report(office, want=100)
            sent += node.deliver(chance.randrange(100), office.now)
            if chance.random() < 0.5:
                node.report(office)
            unheard += node.disk.cum - node.disk.acked
        office.now += 60
        office.sweep()
    # Σ used ≤ quota + what was sent from leases whose end nobody reported.
    assert office.total(name) == sent - unheard
    assert sent <= QUOTA + unheard
    # Nobody is left waiting for dead containers: all of the rest can be leased again.
    office.now += CONTAINER_LAPSE_S + EXPIRY_MARGIN_S + 60
    office.sweep()
    assert office.store.seated(name, 10_000) == []
    assert office.store.account(name).nodes == 0
    last = Twin(license, sha256)
    last.activate(office, server_class="container")
    last.report(office, want=100)
    pool = office.store.pool(name, "2026-12")
    assert pool.reserved == last.left > 0
    assert pool.used == office.total(name)


def test_a29_a_container_that_comes_back_late_is_counted_all_the_same() -> None:
    vendor = Vendor()
    plain = a_volume(vendor, QUOTA)
    assert plain.limits.volume is not None
    terms = type(plain.limits.volume.lease)(min=100, horizon_s=60, reclaim="on_expiry")
    license = a_volume(vendor, QUOTA, lease=terms)
    office = Office(license, vendor=vendor)
    late, other = (Twin(license, office.sha256(license.license_id)) for _ in range(2))
    for node in (late, other):
        node.activate(office, server_class="container")
    late.report(office, want=100)
    late.deliver(80, office.now)
    office.now += 60 + EXPIRY_MARGIN_S + 1
    other.report(office, want=100)  # takes back what is overdue
    assert office.store.pool(license.license_id, "2026-12").reserved == other.left
    late.report(office)
    assert office.total(license.license_id) == 80
    assert office.store.pool(license.license_id, "2026-12").reserved == other.left
