"""A2: a whole machine is cloned, with key and state; both report."""

from licensing.model import Kind, UsageAck
from tests.support.licence_office import Office, Twin, a_volume, grant_of, opened
from tests.support.vendor import Vendor


def cloned() -> tuple[Office, Twin, Twin]:
    vendor = Vendor()
    license = a_volume(vendor, 100_000)
    office = Office(license, vendor=vendor)
    node = Twin(license, office.sha256(license.license_id))
    node.activate(office)
    node.report(office, want=1_000)
    node.deliver(100, office.now)
    node.report(office)
    return office, node, node.clone()


def test_a2_the_second_of_two_twins_to_report_gets_a_rewind_and_a_finding() -> None:
    office, node, twin = cloned()
    for each, emails in ((node, 10), (twin, 20)):
        each.deliver(emails, office.now)
        office.now += 60
    assert node.report(office).status == 200
    answer = office.report(twin.write(office.now), twin.key.id)
    grant = grant_of(answer)
    # Both have sent a report with the same number: that is a fork.
    assert (grant.reason, grant.new_epoch, grant.closed.cum) == ("FORK", 2, 110)
    assert office.codes() == ["FORK"]


def test_a2_the_second_swap_within_a_day_is_a_clone_and_both_twins_are_told() -> None:
    office, node, twin = cloned()
    node.report(office)
    office.now += 60
    assert twin.report(office).status == 409  # granted epoch 2
    assert twin.report(office).status == 200  # opens it: the first swap
    assert "CLONE" not in office.codes()
    office.now += 3_600
    node.report(office)  # refused in its turn, granted epoch 3
    answer = node.report(office)  # opens it: the second swap
    assert "CLONE" in office.codes()
    notices = opened(answer.body, UsageAck).notices
    assert [each.level for each in notices] == ["error"]
    assert "identity of its own" in notices[0].text


def test_a2_what_both_twins_sent_is_counted() -> None:
    office, node, twin = cloned()
    node.deliver(10, office.now)
    twin.deliver(20, office.now)
    node.report(office)
    twin.report(office)
    twin.report(office)
    node.report(office)
    node.report(office)
    assert office.total(node.license.license_id) == 100 + 10 + 20


def test_a2_one_restored_machine_is_no_clone_and_its_finding_clears_after_seven_days() -> None:
    office, node, before = cloned()
    node.deliver(10, office.now)
    node.report(office)
    node.disk = before.disk  # the snapshot
    node.report(office)
    office.now += 60
    assert node.report(office).status == 200
    assert len(office.codes()) == 1
    office.now += 7 * 86_400 + 1
    office.sweep()
    assert office.codes() == []


def test_a2_the_twin_of_a_server_kind_is_seen_by_its_heartbeat() -> None:
    vendor = Vendor()
    license = vendor.license(Kind.ENTERPRISE_SERVER)
    office = Office(license, vendor=vendor)
    node = Twin(license, office.sha256(license.license_id))
    node.activate(office)
    node.report(office)
    twin = node.clone()
    office.now += 86_400
    assert node.report(office).status == 200
    office.now += 60
    assert twin.report(office).status == 409
    assert office.codes() == ["FORK"]
