"""A2: a whole machine is cloned, with key and state; both report."""

from typing import Any

from licensing.model.license import Kind
from licensing.model.usage import UsageAck
from licensing.server.answers import Answer
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
    twin.report(office)
    answer = twin.report(office)
    assert ids(answer) == ["clone"], "one of the two goes on as who it is"
    assert "identity of its own" in opened(answer.body, UsageAck).notices[0].text


def heard(office: Office, twin: Twin, **facts: Any) -> Answer:
    """What comes of a report; one that was answered with a new epoch opens it."""
    answer = twin.report(office, **facts)
    return twin.report(office, **facts) if answer.status == 409 else answer


def ids(answer: Answer) -> list[str]:
    return [each.id.partition(":")[0] for each in opened(answer.body, UsageAck).notices]


def test_a2_only_one_of_two_volume_twins_is_told_to_begin_anew_and_again_if_it_does_not() -> None:
    office, node, twin = cloned()
    told = []
    for _ in range(4):
        for name, each in (("node", node), ("twin", twin)):
            office.now += 60
            answer = heard(office, each)
            told += [name] if "rekey" in ids(answer) else []
    assert set(told) == {"node"} and len(told) > 1


def test_a2_the_twin_whose_machine_is_less_like_the_first_one_is_told() -> None:
    office, node, twin = cloned()
    told = []
    for _ in range(4):
        for name, each, match in (("node", node, "3/3"), ("twin", twin, "2/3")):
            office.now += 60
            answer = heard(office, each, fp_match=match)
            told += [name] if "rekey" in ids(answer) else []
    assert set(told) == {"twin"}


def test_a2_once_the_copy_is_a_node_of_its_own_all_findings_clear_after_seven_days() -> None:
    office, node, twin = cloned()
    while True:
        office.now += 60
        node, twin = twin, node
        answer = node.report(office)
        if answer.status == 200 and "rekey" in ids(answer):
            break
    assert "REKEY" in office.codes()
    for _ in range(9):  # the other one alone
        office.now += 86_400
        if twin.report(office).status == 409:
            assert twin.report(office).status == 200
    office.sweep()
    office.sweep()
    assert office.codes() == []


def test_a2_a_copied_server_is_told_when_the_days_of_cure_are_over_and_then_has_no_seat() -> None:
    vendor = Vendor()
    license = vendor.license(Kind.ENTERPRISE_SERVER)
    office = Office(license, vendor=vendor)
    node = Twin(license, office.sha256(license.license_id))
    node.activate(office)
    node.report(office)
    twin, told, began = node.clone(), [], office.now
    for day in range(40):
        for name, each, match in (("node", node, "5/5"), ("twin", twin, "3/5")):
            office.now = began + day * 86_400 + (3_600 if name == "twin" else 0)
            answer = heard(office, each, fp_match=match)
            if "rekey" in ids(answer):
                told.append((name, day))
            if day > 25:
                assert "clone" not in ids(answer)  # whoever keeps its seat is not blamed any more
    first = told[0][1]
    assert 15 < first <= 24, "fifteen days without Saturdays and Sundays"
    assert {name for name, _ in told} == {"twin"}
    anew = Twin(license, office.sha256(license.license_id))
    refused = anew.activate(office)
    assert (refused.status, refused.code) == (403, "SEAT_LIMIT")
    assert node.report(office).is_envelope


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
