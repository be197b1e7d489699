"""Seats: who has one, who gets one, when it is free again."""

from licensing.model.license import Kind
from licensing.server.seats import SEEN_EVERY_S, activation_id
from tests.support.licence_office import BEGAN, DAY_S, Office, Twin, a_volume
from tests.support.vendor import Vendor


def an_office(kind: Kind = Kind.ENTERPRISE_SERVER, quantity: int = 1) -> tuple[Office, Twin, Twin]:
    vendor = Vendor()
    license = vendor.license(kind, quantity=quantity)
    office = Office(license, vendor=vendor)
    sha256 = office.sha256(license.license_id)
    return office, Twin(license, sha256, "first"), Twin(license, sha256, "second")


def test_the_same_key_gets_the_same_activation_and_no_second_seat() -> None:
    office, node, _ = an_office()
    first = node.activate(office)
    office.now += 60
    again = node.activate(office)
    assert (first.status, again.status) == (200, 200)
    assert len(office.store.seated(node.license.license_id, 10)) == 1
    assert office.store.account(node.license.license_id).taken == 1


def test_an_activation_has_the_form_of_an_id_and_depends_on_licence_and_node() -> None:
    name = activation_id("L1", "n1")
    assert len(name) == 27
    assert name[0] == "A"
    assert not set(name[1:]) & set("ILOU")
    assert len({name, activation_id("L2", "n1"), activation_id("L1", "n2")}) == 3


def test_a_licence_nobody_imported_is_refused() -> None:
    office, node, _ = an_office()
    node.sha256 = "0" * 64
    assert (node.activate(office).status, node.activate(office).code) == (403, "UNKNOWN_LICENSE")


def test_an_ended_licence_gives_no_seat() -> None:
    office, node, _ = an_office()
    office.now = int(node.license.terminate_at.timestamp())
    assert node.activate(office).code == "EXPIRED"


def test_a_class_the_licence_does_not_allow_gets_no_seat() -> None:
    office, node, _ = an_office()
    assert node.activate(office, server_class="backup").code == "SERVER_CLASS"


def test_a_deactivated_seat_is_free_for_another() -> None:
    office, first, second = an_office()
    first.activate(office)
    assert second.activate(office).code == "SEAT_LIMIT"
    assert office.deactivate(first.farewell(office.now), first.key.id).status == 200
    assert second.activate(office).status == 200


def test_a_replayed_deactivation_does_not_free_the_seat_again() -> None:
    office, node, _ = an_office()
    node.activate(office)
    office.now += 60
    farewell = node.farewell(office.now)
    assert office.deactivate(farewell, node.key.id).status == 200
    assert office.deactivate(farewell, node.key.id).status == 200  # asking twice is one effect
    office.now += 60
    node.activate(office)
    assert office.deactivate(farewell, node.key.id).status == 409
    assert len(office.store.seated(node.license.license_id, 10)) == 1


def test_a_replayed_activation_does_not_take_the_seat_again() -> None:
    office, node, _ = an_office()
    request = node.request(office.now)
    node.take_activation(office.activate(request).body)
    assert office.activate(request).status == 200  # the answer was lost
    office.now += 60
    office.deactivate(node.farewell(office.now), node.key.id)
    assert office.activate(request).code == "STALE"


def test_nobody_can_free_the_seat_of_another() -> None:
    office, first, second = an_office(quantity=2)
    first.activate(office)
    second.activate(office)
    assert office.deactivate(first.farewell(office.now), second.key.id).status == 401


def test_a_seat_lapses_seven_days_after_its_certificate() -> None:
    office, node, _ = an_office()
    node.activate(office)
    node.report(office)  # a heartbeat: from now on it must be heard of
    office.now += 42 * DAY_S
    assert office.sweep() == 0
    office.now += 60
    assert office.sweep() == 1


def test_without_a_heartbeat_a_seat_lasts_to_the_end_of_the_term() -> None:
    office, node, _ = an_office()
    node.activate(office)
    office.now += 300 * DAY_S
    assert office.sweep() == 0


def test_a_container_that_beat_is_gone_after_little_more_than_an_hour_and_its_seat_is_given_at_once() -> (
    None
):
    office, node, other = an_office()
    node.activate(office, server_class="container")
    node.report(office)
    office.now += 3_600 + SEEN_EVERY_S
    assert other.activate(office).code == "SEAT_LIMIT"
    office.now += 1
    assert other.activate(office).status == 200


def test_a_server_that_lost_its_seat_is_told_when_it_reports() -> None:
    office, node, _ = an_office()
    node.activate(office)
    node.report(office)
    office.now += 43 * DAY_S
    office.sweep()
    assert node.report(office).code == "SEAT_RELEASED"


def test_a_volume_node_that_was_given_up_is_counted_when_it_comes_back() -> None:
    vendor = Vendor()
    license = a_volume(vendor, 10_000, period="term")
    office = Office(license, vendor=vendor)
    node = Twin(license, office.sha256(license.license_id))
    node.activate(office)
    node.report(office, want=1_000)
    node.deliver(400, office.now)
    office.now = BEGAN + 43 * DAY_S
    assert office.sweep() == 1
    assert office.store.account(license.license_id).nodes == 0
    assert node.report(office).status == 200
    assert office.total(license.license_id) == 400
    assert office.store.account(license.license_id).nodes == 1


def test_a_volume_node_that_activates_again_after_a_long_silence_is_one_node() -> None:
    vendor = Vendor()
    license = a_volume(vendor, 10_000, period="term")
    office = Office(license, vendor=vendor)
    node = Twin(license, office.sha256(license.license_id))
    node.activate(office)
    office.now += 60 * DAY_S  # lapsed, and not swept yet
    assert node.activate(office).status == 200
    account = office.store.account(license.license_id)
    assert (account.nodes, account.taken) == (1, 1)


def test_a_server_that_wants_more_seats_gets_them_if_they_are_there() -> None:
    office, node, other = an_office(quantity=3)
    node.activate(office)
    office.now += 60
    assert node.activate(office, seats=2).status == 200
    account = office.store.account(node.license.license_id)
    assert (account.nodes, account.taken) == (1, 2)
    assert other.activate(office, seats=2).code == "SEAT_LIMIT"
    assert other.activate(office).status == 200


def test_a_final_report_frees_seat_and_leases() -> None:
    vendor = Vendor()
    license = a_volume(vendor, 10_000)
    office = Office(license, vendor=vendor)
    node = Twin(license, office.sha256(license.license_id))
    node.activate(office)
    node.report(office, want=1_000)
    node.deliver(10, office.now)
    node.report(office, final=True)
    assert office.store.seated(license.license_id, 10) == []
    assert office.store.pool(license.license_id, "2026-12").reserved == 0
    assert office.store.pool(license.license_id, "2026-12").used == 10
