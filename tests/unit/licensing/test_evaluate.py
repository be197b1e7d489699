"""Each row and each transition of the table of states, to the second, for the kinds it holds for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.calendar import business_days_after
from licensing.entitlement import LAB, UNLICENSED, Entitlement, Injection, State
from licensing.evaluate import evaluate
from licensing.facts import VENDOR_DECIDES_S, Facts, Finding, Held, VolumeUse
from licensing.model.license import Kind
from tests.support.license_facts import (
    BEGINS,
    EXPIRES,
    MIDDLE,
    SERVERS,
    TERMINATES,
    WITH_ENGINE,
    a_license,
    activated,
    held,
    the_facts,
)

HOUR = 3_600.0
DAY = 24 * HOUR
NOT_VOLUME = [kind for kind in WITH_ENGINE if kind is not Kind.VOLUME]

begins, expires = BEGINS.timestamp(), EXPIRES.timestamp()
ends = TERMINATES.timestamp() + 1  # the second of terminate_at is the last of the grace


def in_short(found: Entitlement) -> tuple[State, Injection, bool]:
    return found.state, found.injection, found.deliver


OPEN = (Injection.OPEN, True)
HELD = (Injection.UNTIL_FULL, False)
RUN_OFF = (Injection.REFUSED, True)
STOPPED = (Injection.REFUSED, False)


def codes(found: Entitlement) -> list[str]:
    return [each.code.partition(":")[0] for each in found.remarks]


# -- kinds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "connections", "is_metered"),
    [
        (Kind.ENTERPRISE_SERVER, None, False),
        (Kind.STANDARD_SERVER, 3, False),
        (Kind.VOLUME, None, True),
        (Kind.HOT_BACKUP, 3, False),
        (Kind.DEVELOPMENT, 2, True),
    ],
)
def test_a_good_licence_of_each_kind_gives_its_limits(
    kind: Kind, connections: int | None, is_metered: bool
) -> None:
    found = evaluate(the_facts(kind), MIDDLE)
    assert in_short(found) == (State.VALID, *OPEN)
    assert (found.max_connections, found.is_metered) == (connections, is_metered)
    assert (found.stamp is not None) == (kind is Kind.DEVELOPMENT)
    assert (found.remarks, found.reason, found.exit_code) == ((), "", 0)


def test_a_management_console_is_valid_and_has_no_engine() -> None:
    found = evaluate(the_facts(Kind.MANAGEMENT_CONSOLE), MIDDLE)
    assert in_short(found) == (State.VALID, *STOPPED)
    assert found.exit_code == 0
    assert "no mail engine" in found.reason


def test_a_development_licence_stamps_and_names_its_recipients_in_lower_case() -> None:
    stamp = evaluate(the_facts(Kind.DEVELOPMENT), MIDDLE).stamp
    assert stamp is not None
    assert stamp.header == "X-Sluice-License: development"
    assert stamp.recipients == ("@example.test", "dev@example.net")
    assert (stamp.banner, stamp.loopback) == ("DEVELOPMENT", True)


@pytest.mark.parametrize(("quantity", "seats", "connections"), [(1, 1, 3), (4, 4, 12), (4, 2, 6)])
def test_standard_gives_three_connections_for_each_seat_bound_here(
    quantity: int, seats: int, connections: int
) -> None:
    terms = a_license(Kind.STANDARD_SERVER, quantity=quantity)
    standing = held(terms, activation=activated(terms, seats=seats))
    assert evaluate(the_facts(standing), MIDDLE).max_connections == connections


def test_several_server_licences_add_up() -> None:
    one = a_license(Kind.STANDARD_SERVER)
    two = a_license(Kind.STANDARD_SERVER, number=2, quantity=2)
    unlimited = a_license(Kind.ENTERPRISE_SERVER, number=3)
    assert evaluate(the_facts(one, two), MIDDLE).max_connections == 9
    assert evaluate(the_facts(one, two, unlimited), MIDDLE).max_connections is None


def test_a_licence_that_has_ended_takes_nothing_from_one_that_is_good() -> None:
    good = a_license(Kind.STANDARD_SERVER)
    ended = a_license(
        Kind.STANDARD_SERVER,
        number=2,
        expires_at=BEGINS + timedelta(days=1),
        terminate_at=BEGINS + timedelta(days=1),
    )
    found = evaluate(the_facts(good, ended), MIDDLE)
    assert in_short(found) == (State.VALID, *OPEN)
    assert found.max_connections == 3
    assert codes(found) == ["expired"]
    assert found.exit_code == 1


def test_the_same_licence_in_trouble_names_the_state_as_long_as_it_counts() -> None:
    good = a_license(Kind.STANDARD_SERVER)
    in_grace = a_license(
        Kind.STANDARD_SERVER,
        number=2,
        expires_at=datetime.fromtimestamp(MIDDLE, UTC) - timedelta(days=1),
    )
    found = evaluate(the_facts(good, in_grace), MIDDLE)
    assert (found.state, found.max_connections) == (State.GRACE, 6)


def test_one_in_run_off_gives_no_connections_beside_one_that_is_good() -> None:
    a_minute_ago = datetime.fromtimestamp(MIDDLE - 60, UTC)
    ended = a_license(
        Kind.STANDARD_SERVER, number=2, expires_at=a_minute_ago, terminate_at=a_minute_ago
    )
    alone = evaluate(the_facts(ended), MIDDLE)
    assert (alone.state, alone.deliver, alone.max_connections) == (State.EXPIRED, True, 3)
    both = evaluate(the_facts(a_license(Kind.STANDARD_SERVER), ended), MIDDLE)
    assert (both.state, both.max_connections) == (State.VALID, 3)


def test_a_run_off_goes_on_beside_a_licence_whose_term_has_not_begun() -> None:
    ended = a_license(Kind.STANDARD_SERVER)
    later = a_license(
        Kind.STANDARD_SERVER, number=2, not_before=TERMINATES + timedelta(days=20),
        expires_at=TERMINATES + timedelta(days=90), terminate_at=TERMINATES + timedelta(days=90),
    )  # fmt: skip
    assert in_short(evaluate(the_facts(ended, later), ends)) == (State.EXPIRED, *RUN_OFF)
    after = evaluate(the_facts(ended, later), ends + 72 * HOUR)
    assert in_short(after) == (State.PENDING, *HELD)
    assert after.exit_code == 3


def test_no_more_seats_count_than_were_bought() -> None:
    terms = a_license(Kind.STANDARD_SERVER, quantity=2)
    standing = held(terms, activation=activated(terms, seats=9))
    assert evaluate(the_facts(standing), MIDDLE).max_connections == 6


def test_nothing_is_stamped_where_a_production_licence_counts_too() -> None:
    production = a_license(Kind.STANDARD_SERVER, number=2)
    assert evaluate(the_facts(Kind.DEVELOPMENT, production), MIDDLE).stamp is None


# -- unlicensed, lab, pending -------------------------------------------------------------------------


def test_without_a_licence_nothing_is_taken_or_delivered() -> None:
    assert evaluate(Facts(), MIDDLE) == UNLICENSED
    assert UNLICENSED.exit_code == 5


def test_a_file_that_was_changed_is_named_where_no_licence_is_left() -> None:
    found = evaluate(Facts(findings=(Finding("license_altered", MIDDLE, "year.lic"),)), MIDDLE)
    assert in_short(found) == (State.UNLICENSED, *STOPPED)
    assert "year.lic" in found.reason
    assert "install the original again" in found.reason


def test_lab_mode_needs_no_licence() -> None:
    assert evaluate(Facts(is_lab=True), MIDDLE) == LAB


@pytest.mark.parametrize("kind", NOT_VOLUME)
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0.0, (State.PENDING, *OPEN)),
        (72 * HOUR - 1, (State.PENDING, *OPEN)),
        (72 * HOUR, (State.UNLICENSED, *STOPPED)),
    ],
)
def test_not_activated_works_for_72_hours(
    kind: Kind, after: float, expected: tuple[State, Injection, bool]
) -> None:
    standing = held(a_license(kind), activation=None, first_seen=MIDDLE)
    assert in_short(evaluate(the_facts(standing), MIDDLE + after)) == expected


@pytest.mark.parametrize(
    ("left", "after", "expected"),
    [
        (1_000, 0.0, (State.PENDING, *OPEN)),
        (0, 0.0, (State.OVER_LIMIT, *HELD)),  # the start block is used up
        (1_000, 72 * HOUR - 1, (State.PENDING, *OPEN)),
        (1_000, 72 * HOUR, (State.UNLICENSED, *STOPPED)),
    ],
)
def test_volume_that_is_not_activated_has_its_start_block(
    left: int, after: float, expected: tuple[State, Injection, bool]
) -> None:
    standing = held(a_license(Kind.VOLUME), activation=None, first_seen=MIDDLE)
    facts = the_facts(standing, volume=VolumeUse("2027-03", 1_000_000, 0, left))
    assert in_short(evaluate(facts, MIDDLE + after)) == expected


def test_a_refused_activation_says_what_the_vendor_said() -> None:
    standing = held(
        a_license(Kind.STANDARD_SERVER),
        activation=None,
        first_seen=MIDDLE,
        refusal="SEAT_LIMIT: 1 of 1 seats is taken by mx0",
    )
    assert "taken by mx0" in evaluate(the_facts(standing), MIDDLE).reason
    assert "taken by mx0" in evaluate(the_facts(standing), MIDDLE + 5 * DAY).reason


def test_what_is_bound_to_no_node_needs_no_activation() -> None:
    terms = a_license(Kind.DEVELOPMENT)
    free = msgspec.structs.replace(
        terms, binding=msgspec.structs.replace(terms.binding, mode="none")
    )
    standing = held(free, activation=None)
    assert evaluate(the_facts(standing), MIDDLE).state is State.VALID


@pytest.mark.parametrize("kind", [Kind.VOLUME, *NOT_VOLUME])
def test_an_activation_that_ran_out_stops_volume_only(kind: Kind) -> None:
    terms = a_license(kind)
    standing = held(terms, activation=activated(terms, at=MIDDLE, valid_until=int(MIDDLE) + 60))
    before, after = (evaluate(the_facts(standing), MIDDLE + s) for s in (59, 60))
    assert before.state is State.VALID
    if kind is Kind.VOLUME:
        assert in_short(after) == (State.UNLICENSED, *STOPPED)
    else:
        assert in_short(after) == (State.GRACE, *OPEN)
        assert after.deadline is None


# -- the term -----------------------------------------------------------------------------------------

TERM = [
    (begins - 1, (State.PENDING, *HELD)),
    (begins, (State.VALID, *OPEN)),
    (expires - 1, (State.VALID, *OPEN)),
    (expires, (State.GRACE, *OPEN)),
    (ends - 1, (State.GRACE, *OPEN)),
    (ends, (State.EXPIRED, *RUN_OFF)),
    (ends + 72 * HOUR - 1, (State.EXPIRED, *RUN_OFF)),
    (ends + 72 * HOUR, (State.EXPIRED, *STOPPED)),
    (ends + 3_650 * DAY, (State.EXPIRED, *STOPPED)),
]


@pytest.mark.parametrize("kind", WITH_ENGINE)
@pytest.mark.parametrize(("at", "expected"), TERM)
def test_the_term_of_each_kind_to_the_second(
    kind: Kind, at: float, expected: tuple[State, Injection, bool]
) -> None:
    terms = a_license(kind)
    standing = held(terms, activation=activated(terms, valid_until=int(ends + 10_000 * DAY)))
    assert in_short(evaluate(the_facts(standing, last_contact=at), at)) == expected


def test_a_contract_without_grace_ends_at_its_expiry() -> None:
    terms = a_license(Kind.ENTERPRISE_SERVER, terminate_at=EXPIRES)
    assert evaluate(the_facts(terms), expires - 1).state is State.VALID
    assert in_short(evaluate(the_facts(terms), expires)) == (State.EXPIRED, *RUN_OFF)


def test_in_run_off_the_limits_of_the_kind_still_hold() -> None:
    assert evaluate(the_facts(Kind.STANDARD_SERVER), ends).max_connections == 3
    used_up = the_facts(Kind.VOLUME, last_contact=ends, volume=VolumeUse("2027-12", 10, 10, 0))
    found = evaluate(used_up, ends)
    assert in_short(found) == (State.EXPIRED, *STOPPED)
    assert found.is_metered


def test_the_end_says_the_duty_of_the_terms() -> None:
    reason = evaluate(the_facts(Kind.ENTERPRISE_SERVER), ends).reason
    assert "8.11" in reason
    assert "sluice license install" in reason


def test_a_renewal_installed_early_takes_over_without_a_gap() -> None:
    now = a_license(Kind.STANDARD_SERVER, terminate_at=EXPIRES)
    then = msgspec.structs.replace(
        now,
        revision=2,
        quantity=2,
        not_before=EXPIRES,
        expires_at=EXPIRES + timedelta(days=365),
        terminate_at=EXPIRES + timedelta(days=365),
    )
    renewed = held(then, activation=activated(then, at=begins))
    facts = the_facts(now, renewed, last_contact=expires - 1)
    before, after = evaluate(facts, expires - 1), evaluate(facts, expires)
    assert (before.state, before.max_connections, before.remarks) == (State.VALID, 3, ())
    assert before.until == expires
    assert (after.state, after.max_connections) == (State.VALID, 6)


def test_a_renewal_that_leaves_a_gap_does_not_silence_the_notices() -> None:
    now = a_license(Kind.STANDARD_SERVER)
    then = msgspec.structs.replace(
        now,
        revision=2,
        not_before=EXPIRES + timedelta(seconds=1),
        expires_at=EXPIRES + timedelta(days=365),
        terminate_at=EXPIRES + timedelta(days=365),
    )
    facts = the_facts(now, then, last_contact=expires - DAY)
    assert codes(evaluate(facts, expires - DAY)) == ["expiry_1"]
    assert evaluate(facts, expires).state is State.GRACE
    assert evaluate(facts, expires + 1).state is State.VALID


def test_a_licence_installed_early_has_its_72_hours_from_its_begin_on() -> None:
    standing = held(a_license(Kind.STANDARD_SERVER), activation=None, first_seen=begins - 100 * DAY)
    assert evaluate(the_facts(standing), begins + 72 * HOUR - 1).state is State.PENDING
    assert evaluate(the_facts(standing), begins + 72 * HOUR).state is State.UNLICENSED


@pytest.mark.parametrize(
    ("before_expiry", "code", "exit_code"),
    [
        (60 * DAY + 1, "", 0),
        (60 * DAY, "expiry_60", 0),
        (30 * DAY + 1, "expiry_60", 0),
        (30 * DAY, "expiry_30", 1),
        (14 * DAY, "expiry_14", 1),
        (7 * DAY, "expiry_7", 1),
        (3 * DAY, "expiry_3", 1),
        (1 * DAY + 1, "expiry_3", 1),
        (1 * DAY, "expiry_1", 1),
        (1, "expiry_1", 1),
    ],
)
def test_a_coming_expiry_is_told_and_flagged_from_30_days_on(
    before_expiry: float, code: str, exit_code: int
) -> None:
    at = expires - before_expiry
    found = evaluate(the_facts(Kind.ENTERPRISE_SERVER, last_contact=at), at)
    assert found.state is State.VALID
    assert codes(found) == ([code] if code else [])
    assert found.exit_code == exit_code


# -- revocation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_ENGINE)
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (-1.0, (State.VALID, *OPEN)),
        (0.0, (State.REVOKED, *RUN_OFF)),
        (24 * HOUR - 1, (State.REVOKED, *RUN_OFF)),
        (24 * HOUR, (State.REVOKED, *STOPPED)),
    ],
)
def test_a_revocation_is_in_force_at_its_second_and_not_before(
    kind: Kind, after: float, expected: tuple[State, Injection, bool]
) -> None:
    standing = held(a_license(kind), revoked_at=MIDDLE, revoked_because="termination")
    found = evaluate(the_facts(standing), MIDDLE + after)
    assert in_short(found) == expected
    assert any("termination" in each.text for each in found.remarks)


# -- silence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("silent", "expected", "code"),
    [
        (24 * HOUR - 1, (State.VALID, *OPEN), []),
        (24 * HOUR, (State.VALID, *OPEN), ["silence"]),
        (72 * HOUR - 1, (State.VALID, *OPEN), ["silence"]),
        (72 * HOUR, (State.GRACE, *OPEN), ["silence_grace"]),
        (14 * DAY - 1, (State.GRACE, *OPEN), ["silence_grace"]),
        (14 * DAY, (State.OVER_LIMIT, *HELD), ["silence_held"]),
    ],
)
def test_a_silent_volume_licence_is_told_borne_and_held(
    silent: float, expected: tuple[State, Injection, bool], code: list[str]
) -> None:
    found = evaluate(the_facts(Kind.VOLUME), MIDDLE + silent)
    assert in_short(found) == expected
    assert codes(found) == code


@pytest.mark.parametrize("kind", NOT_VOLUME)
def test_no_other_kind_ever_stops_for_silence(kind: Kind) -> None:
    for days in (2, 14, 100, 200):
        found = evaluate(the_facts(kind), MIDDLE + days * DAY)
        assert in_short(found) == (State.VALID, *OPEN)
        assert codes(found) == ["silence"]
    quiet = evaluate(the_facts(kind, reports=False), MIDDLE + 100 * DAY)
    assert codes(quiet) == []


def test_contact_ends_the_hold_at_once() -> None:
    late = MIDDLE + 15 * DAY
    assert evaluate(the_facts(Kind.VOLUME), late).state is State.OVER_LIMIT
    assert evaluate(the_facts(Kind.VOLUME, last_contact=late), late).state is State.VALID


def test_a_node_that_never_reported_is_silent_since_its_activation() -> None:
    terms = a_license(Kind.VOLUME)
    standing = held(terms, activation=activated(terms, at=MIDDLE))
    facts = the_facts(standing, last_contact=None)
    assert evaluate(facts, MIDDLE + 72 * HOUR - 1).state is State.VALID
    assert evaluate(facts, MIDDLE + 72 * HOUR).state is State.GRACE


def test_an_activation_is_contact_too() -> None:
    terms = a_license(Kind.VOLUME)
    standing = held(terms, activation=activated(terms, at=MIDDLE + 15 * DAY))
    assert evaluate(the_facts(standing), MIDDLE + 15 * DAY).state is State.VALID


# -- the limits ---------------------------------------------------------------------------------------


def test_volume_with_nothing_left_is_held_until_there_is_something() -> None:
    use = VolumeUse("2027-03", 1_000_000, 1_000_000, 0)
    found = evaluate(the_facts(Kind.VOLUME, volume=use), MIDDLE)
    assert in_short(found) == (State.OVER_LIMIT, *HELD)
    assert found.exit_code == 3
    assert "all 1,000,000 Emails of the period 2027-03" in found.reason
    upgraded = replace(use, quota=2_000_000, left=1)
    assert evaluate(the_facts(Kind.VOLUME, volume=upgraded), MIDDLE).state is State.VALID
    for waits in (None, replace(use, used=999_999)):
        found = evaluate(the_facts(Kind.VOLUME, volume=waits), MIDDLE)
        assert in_short(found) == (State.OVER_LIMIT, *HELD)
        assert "asked for more" in found.reason


def test_counting_emails_is_no_news_between_two_thresholds() -> None:
    def at(used: int) -> Entitlement:
        use = VolumeUse("2027-03", 1_000_000, used, 1_000_000 - used)
        return evaluate(the_facts(Kind.VOLUME, volume=use), MIDDLE)

    assert at(1) == at(799_999)
    assert at(800_000) == at(899_999)


def test_what_is_left_ends_with_its_lease() -> None:
    use = VolumeUse("2027-03", 1_000_000, 1_000, 500, left_until=MIDDLE + 60)
    facts = the_facts(Kind.VOLUME, volume=use)
    assert evaluate(facts, MIDDLE).until == MIDDLE + 60
    assert evaluate(facts, MIDDLE + 59).state is State.VALID
    assert in_short(evaluate(facts, MIDDLE + 60)) == (State.OVER_LIMIT, *HELD)


@pytest.mark.parametrize(
    ("used", "code"),
    [
        (799_999, []),
        (800_000, ["volume_80"]),
        (900_000, ["volume_90"]),
        (949_999, ["volume_90"]),
        (950_000, ["volume_95"]),
        (1_000_000, ["volume_100"]),
        (1_100_000, ["volume_100"]),
    ],
)
def test_the_thresholds_of_a_volume(used: int, code: list[str]) -> None:
    use = VolumeUse("2027-03", 1_000_000, used, 10)
    found = evaluate(the_facts(Kind.VOLUME, volume=use), MIDDLE)
    assert (found.state, codes(found)) == (State.VALID, code)


def test_a_development_licence_has_a_thousand_a_day() -> None:
    def at(used: int, when: float) -> Entitlement:
        return evaluate(the_facts(Kind.DEVELOPMENT, dev_day="2027-03-01", dev_used=used), when)

    midnight = datetime(2027, 3, 2, tzinfo=UTC).timestamp()
    assert at(999, MIDDLE).state is State.VALID
    found = at(1_000, MIDDLE)
    assert in_short(found) == (State.OVER_LIMIT, *HELD)
    assert found.until == found.deadline == midnight
    assert in_short(at(1_000, midnight - 1)) == (State.OVER_LIMIT, *HELD)
    assert in_short(at(1_000, midnight)) == (State.VALID, *OPEN)


# -- roles --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["primary", "standby"])
def test_a_hot_backup_that_is_not_active_delivers_nothing(role: str) -> None:
    found = evaluate(the_facts(Kind.HOT_BACKUP, role=role), MIDDLE)
    assert in_short(found) == (State.STANDBY, Injection.STANDBY, False)


def test_an_active_backup_has_the_limit_of_the_server_it_stands_in_for() -> None:
    assert evaluate(the_facts(Kind.HOT_BACKUP, pair_connections=12), MIDDLE).max_connections == 12
    unlimited = evaluate(the_facts(Kind.HOT_BACKUP, pair_connections=None), MIDDLE)
    assert unlimited.max_connections is None


@pytest.mark.parametrize("kind", WITH_ENGINE)
def test_a_fenced_server_keeps_what_it_has(kind: Kind) -> None:
    found = evaluate(the_facts(kind, role="fenced"), MIDDLE)
    assert in_short(found) == (State.FENCED, *HELD)
    strict = evaluate(the_facts(kind, role="fenced", fenced_accepts=False), MIDDLE)
    assert in_short(strict) == (State.FENCED, Injection.STANDBY, False)


def test_a_fenced_server_delivers_nothing_in_run_off_either() -> None:
    found = evaluate(the_facts(Kind.ENTERPRISE_SERVER, role="fenced"), ends)
    assert in_short(found) == (State.EXPIRED, *STOPPED)


# -- findings -----------------------------------------------------------------------------------------

CURED_BY = datetime(2027, 3, 23, tzinfo=UTC).timestamp()  # 15 business days after Monday, 1 March


def with_finding(kind: Kind, code: str, when: float, **changes: Any) -> Entitlement:
    found = Finding(code, MIDDLE)
    return evaluate(the_facts(kind, findings=(found,), last_contact=when, **changes), when)


@pytest.mark.parametrize("kind", WITH_ENGINE)
@pytest.mark.parametrize("code", ["fp_mismatch", "ledger_missing", "ledger_chain", "rewind"])
def test_a_broken_integrity_is_borne_for_72_hours(kind: Kind, code: str) -> None:
    assert in_short(with_finding(kind, code, MIDDLE)) == (State.GRACE, *OPEN)
    last = with_finding(kind, code, MIDDLE + 72 * HOUR - 1)
    assert in_short(last) == (State.GRACE, *OPEN)
    assert last.deadline == last.until == MIDDLE + 72 * HOUR
    assert with_finding(kind, code, MIDDLE + 72 * HOUR).state is State.TAMPERED


@pytest.mark.parametrize("kind", WITH_ENGINE)
@pytest.mark.parametrize(
    ("code", "longer"), [("clone", VENDOR_DECIDES_S), ("dual_active", 0), ("over_use", 0)]
)
def test_a_finding_of_the_vendor_is_borne_for_the_days_of_cure(
    kind: Kind, code: str, longer: float
) -> None:
    assert in_short(with_finding(kind, code, CURED_BY + longer - 1)) == (State.GRACE, *OPEN)
    assert with_finding(kind, code, CURED_BY + longer).state is State.TAMPERED


@pytest.mark.parametrize("kind", NOT_VOLUME)
def test_a_tampered_server_goes_on_and_is_throttled_after_the_days_of_cure(kind: Kind) -> None:
    for code in ("license_altered", "ledger_chain"):
        full = evaluate(the_facts(kind), MIDDLE).max_connections
        before = with_finding(kind, code, CURED_BY - 1)
        assert in_short(before) == (State.TAMPERED, *OPEN)
        assert before.max_connections == full
        after = with_finding(kind, code, CURED_BY)
        assert in_short(after) == (State.TAMPERED, *OPEN)
        assert after.max_connections == 1


def test_tampered_volume_delivers_what_was_granted_and_no_more() -> None:
    found = with_finding(Kind.VOLUME, "license_altered", MIDDLE)
    assert in_short(found) == (State.TAMPERED, Injection.UNTIL_FULL, True)
    assert found.is_metered
    used_up = VolumeUse("2027-03", 1_000_000, 1_000, 0)
    empty = with_finding(Kind.VOLUME, "license_altered", MIDDLE, volume=used_up)
    assert in_short(empty) == (State.TAMPERED, *HELD)


@pytest.mark.parametrize("kind", WITH_ENGINE)
def test_a_ledger_that_cannot_be_written_is_a_notice_for_15_minutes(kind: Kind) -> None:
    assert with_finding(kind, "ledger_unwritable", MIDDLE + 15 * 60 - 1).state is State.VALID
    assert with_finding(kind, "ledger_unwritable", MIDDLE + 15 * 60).state is State.GRACE


@pytest.mark.parametrize("code", ["clock_step", "fp_drift", "spool_vanished", "manifest"])
def test_other_findings_are_notices(code: str) -> None:
    found = with_finding(Kind.ENTERPRISE_SERVER, code, MIDDLE)
    assert (found.state, found.exit_code) == (State.VALID, 1)


@pytest.mark.parametrize(
    ("since", "days", "ends_at"),
    [
        (datetime(2027, 3, 1, 12, tzinfo=UTC), 1, datetime(2027, 3, 3, tzinfo=UTC)),
        (datetime(2027, 3, 5, 23, 59, tzinfo=UTC), 1, datetime(2027, 3, 9, tzinfo=UTC)),  # Friday
        (datetime(2027, 3, 6, tzinfo=UTC), 1, datetime(2027, 3, 9, tzinfo=UTC)),  # Saturday
        (datetime(2027, 3, 7, tzinfo=UTC), 5, datetime(2027, 3, 13, tzinfo=UTC)),  # Sunday
        (datetime(2027, 3, 1, tzinfo=UTC), 15, datetime(2027, 3, 23, tzinfo=UTC)),
        (datetime(2027, 3, 1, 8, tzinfo=UTC), 0, datetime(2027, 3, 2, tzinfo=UTC)),
    ],
)
def test_business_days_leave_out_saturdays_and_sundays(
    since: datetime, days: int, ends_at: datetime
) -> None:
    assert business_days_after(since.timestamp(), days) == ends_at.timestamp()


# -- all of it ----------------------------------------------------------------------------------------


def test_the_worst_names_the_state_and_the_strictest_holds() -> None:
    facts = the_facts(
        held(a_license(Kind.VOLUME), revoked_at=MIDDLE, revoked_because="termination"),
        volume=VolumeUse("2027-03", 1_000_000, 1_000_000, 0),
        findings=(Finding("clone", MIDDLE),),
    )
    found = evaluate(facts, MIDDLE)
    assert in_short(found) == (State.REVOKED, *STOPPED)
    assert codes(found) == ["revoked", "used_up", "clone", "volume_100"]


def test_of_two_troubles_that_are_borne_the_nearer_deadline_is_shown() -> None:
    findings = (Finding("clone", MIDDLE), Finding("rewind", MIDDLE), Finding("over_use", MIDDLE))
    found = evaluate(the_facts(Kind.ENTERPRISE_SERVER, findings=findings), MIDDLE)
    assert (found.state, found.deadline) == (State.GRACE, MIDDLE + 72 * HOUR)
    assert "older than what was reported" in found.reason


def test_every_remark_names_the_licence_the_node_and_a_remedy() -> None:
    facts = the_facts(
        held(a_license(Kind.VOLUME), revoked_at=expires + 9 * DAY, revoked_because="x"),
        findings=(Finding("clone", MIDDLE), Finding("fp_mismatch", MIDDLE)),
    )
    remarks = [
        each for days in range(0, 400, 3) for each in evaluate(facts, MIDDLE + days * DAY).remarks
    ]
    assert len({each.code for each in remarks}) > 8
    for each in remarks:
        assert "L00000000000000000000000001" in each.text
        assert "mx1" in each.text


SECONDS = st.floats(-400 * DAY, 500 * DAY).map(lambda each: MIDDLE + each)
FINDINGS = st.builds(
    Finding,
    st.sampled_from(["clone", "ledger_chain", "ledger_unwritable", "license_altered", "fp_drift"]),
    SECONDS,
)


USES = st.builds(
    VolumeUse,
    period=st.just("p"),
    quota=st.just(100),
    used=st.integers(0, 120),
    left=st.integers(0, 3),
    left_until=st.none() | SECONDS,
)
COMPANIES = [[kind] for kind in Kind] + [SERVERS, [Kind.STANDARD_SERVER] * 2]


@st.composite
def some_held(draw: st.DrawFn, kind: Kind, number: int) -> list[Held]:
    """A licence in any trouble, perhaps with a renewal."""
    terms = a_license(kind, number=number, quantity=draw(st.integers(1, 3)))
    activation = draw(st.none() | st.just(activated(terms, valid_until=int(draw(SECONDS)))))
    standing = held(
        terms,
        activation=activation,
        revoked_at=draw(st.none() | SECONDS),
        first_seen=draw(SECONDS),
    )
    ends = EXPIRES + timedelta(days=100)
    renewed = msgspec.structs.replace(
        terms, revision=2, not_before=EXPIRES, expires_at=ends, terminate_at=ends
    )
    return [standing, replace(standing, license=renewed)][: draw(st.integers(1, 2))]


@st.composite
def some_facts(draw: st.DrawFn) -> Facts:
    """Any facts that can be: one kind or two servers, in any trouble at any time."""
    kinds = draw(st.sampled_from(COMPANIES))
    standings = [draw(some_held(kind, number)) for number, kind in enumerate(kinds, 1)]
    return Facts(
        held=tuple(each for pair in standings for each in pair),
        last_contact=draw(st.none() | SECONDS),
        reports=draw(st.booleans()),
        volume=draw(st.none() | USES),
        findings=tuple(draw(st.lists(FINDINGS, max_size=2))),
        role=draw(st.sampled_from(["primary", "active", "standby", "fenced"])),
        dev_day="2027-03-01",
        dev_used=draw(st.sampled_from([0, 1_000])),
    )


@given(facts=some_facts(), now=SECONDS, part=st.floats(0, 1, exclude_max=True))
@settings(max_examples=300)
def test_nothing_changes_before_until(facts: Facts, now: float, part: float) -> None:
    found = evaluate(facts, now)
    if found.until is None:
        later = now + part * 10_000 * DAY
    else:
        assert found.until > now
        later = min(now + part * (found.until - now), found.until - 0.001)
    if later > now:
        assert evaluate(facts, later) == found


@given(facts=some_facts(), now=SECONDS)
@settings(max_examples=100)
def test_stepping_from_until_to_until_comes_to_an_end(facts: Facts, now: float) -> None:
    for _ in range(200):
        until = evaluate(facts, now).until
        if until is None:
            return
        assert until > now
        now = until
    raise AssertionError("a timer would be set for ever")
