"""A34: one seat is passed around among five servers."""

from licensing.model.license import Kind
from licensing.server.answers import Answer
from tests.support.licence_office import DAY_S, Office, Twin
from tests.support.vendor import Vendor


def carousel() -> tuple[Office, list[Twin]]:
    vendor = Vendor()
    license = vendor.license(Kind.STANDARD_SERVER)
    office = Office(license, vendor=vendor)
    sha256 = office.sha256(license.license_id)
    return office, [Twin(license, sha256, f"mta{n}") for n in range(5)]


def turn(office: Office, nodes: list[Twin], number: int) -> Answer:
    """The seat goes to the next server."""
    office.now += 3_600
    if number:
        last = nodes[(number - 1) % 5]
        office.deactivate(last.farewell(office.now), last.key.id)
    return nodes[number % 5].activate(office)


def test_a34_the_eleventh_move_in_thirty_days_is_refused() -> None:
    office, nodes = carousel()
    answers = [turn(office, nodes, number) for number in range(12)]
    assert [answer.status for answer in answers] == [200] * 11 + [429]  # the first is no move
    assert answers[-1].code == "SEAT_MOVES"
    assert answers[-1].retry_after_s == 86_400
    assert office.codes() == ["SEAT_MOVES"]


def test_a34_the_vendor_may_allow_more_and_so_does_time() -> None:
    office, nodes = carousel()
    for number in range(11):
        turn(office, nodes, number)
    office.now += 30 * DAY_S
    assert turn(office, nodes, 11).status == 200

    office, nodes = carousel()
    for number in range(12):
        turn(office, nodes, number)
    office.store.forget_moves(nodes[0].license.license_id)  # what clearing the finding does
    assert nodes[1].activate(office).status == 200


def test_a34_activating_the_same_server_again_is_no_move() -> None:
    office, nodes = carousel()
    for _ in range(30):
        office.now += 3_600
        assert nodes[0].activate(office).status == 200
    assert office.store.moves_since(nodes[0].license.license_id, 0) == 0
