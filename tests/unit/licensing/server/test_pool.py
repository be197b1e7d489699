"""Pools: periods, the size of a lease, what a report does to one."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from licensing.model.license import LeaseTerms, VolumeLimit
from licensing.model.usage import Want
from licensing.server.pool import (
    Period,
    after_report,
    block_size,
    ceiling,
    period_at,
    share,
    use_until,
)
from licensing.server.rows import LeaseRow, PoolRow


def terms(emails: int = 1_000_000, **changes: Any) -> VolumeLimit:
    values: dict[str, Any] = {"period": "month", "anchor": date(2026, 12, 1)}
    return VolumeLimit(emails=emails, **(values | changes))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("period", "anchor", "day", "name", "ends"),
    [
        ("month", "2026-12-01", "2026-12-31", "2026-12", "2027-01-01"),
        ("month", "2026-12-01", "2027-01-01", "2027-01", "2027-02-01"),
        ("month", "2026-12-15", "2026-12-14", "2026-11", "2026-12-15"),
        ("month", "2026-12-15", "2027-01-14", "2026-12", "2027-01-15"),
        ("month", "2026-01-31", "2026-02-27", "2026-01", "2026-02-28"),
        ("month", "2026-01-31", "2026-02-28", "2026-02", "2026-03-31"),
        ("month", "2026-01-31", "2026-04-30", "2026-04", "2026-05-31"),
        ("year", "2026-12-01", "2027-11-30", "2026", "2027-12-01"),
        ("year", "2026-12-01", "2027-12-01", "2027", "2028-12-01"),
        ("year", "2024-02-29", "2025-02-28", "2025", "2026-02-28"),
    ],
)
def test_a_day_belongs_to_one_period(
    period: str, anchor: str, day: str, name: str, ends: str
) -> None:
    limit = terms(period=period, anchor=date.fromisoformat(anchor))
    assert period_at(limit, date.fromisoformat(day)) == Period(name, at(ends))


def test_a_term_has_one_period_without_an_end() -> None:
    assert period_at(terms(period="term"), date(2030, 1, 1)) == Period("term", None)


def test_overage_counts_only_where_the_order_form_has_it() -> None:
    assert ceiling(terms(1_000, overage_pct=10)) == 1_000
    assert ceiling(terms(1_000, overage_pct=10, on_exhausted="overage")) == 1_100


def block(
    pool: PoolRow, want: int, nodes: int = 1, held: int = 0, rate: int = 0, **changes: Any
) -> int:
    return block_size(terms(**changes), pool, Want(emails=want, rate_1h=rate), nodes, held)


def test_a_lease_is_what_is_asked_or_a_days_traffic_in_round_figures() -> None:
    pool = PoolRow("L", "p")
    assert block(pool, 5_050) == 5_000
    assert block(pool, 1) == 1_000  # lease.min
    assert block(pool, 1_000, rate=1_000) == 24_000


def test_nobody_gets_more_than_half_of_its_part_of_what_is_left() -> None:
    assert block(PoolRow("L", "p", used=600_000, reserved=200_000), 10**9, nodes=10) == 10_000


def test_leases_shrink_to_single_emails_and_the_last_one_is_given() -> None:
    pool, sizes = PoolRow("L", "p"), []
    while size := block(pool, 1_000, nodes=3, emails=10_000):
        sizes.append(size)
        pool = PoolRow("L", "p", used=pool.used + size)
    assert sum(sizes) == 10_000
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


def test_a_node_has_two_open_leases_at_most() -> None:
    assert block(PoolRow("L", "p"), 1_000, held=1) == 1_000
    assert block(PoolRow("L", "p"), 1_000, held=2) == 0


def test_nothing_is_cut_that_was_not_asked_for() -> None:
    assert block(PoolRow("L", "p"), 0, rate=1_000) == 0


def test_all_shares_together_are_never_more_than_what_is_free() -> None:
    pool = PoolRow("L", "p", used=100, reserved=50)
    assert share(terms(1_000), pool, 7) * 7 <= 850
    assert share(terms(100), pool, 7) == 0


LEASE = LeaseRow("ls_1", "L", "A", 1, 1, "2026-12", 100, 10, use_until=1_000)


def test_a_lease_stays_open_while_something_is_left_and_its_time_is_not_over() -> None:
    after = after_report(LEASE, 60, 500)
    assert (after.state, after.used, after.rest) == ("open", 60, 40)


def test_a_lease_is_closed_when_it_is_used_up_or_over() -> None:
    assert after_report(LEASE, 100, 500).state == "closed"
    over = after_report(LEASE, 60, 1_000)
    assert (over.state, over.used, over.rest) == ("closed", 60, 0)


def test_use_never_goes_back_and_never_beyond_the_lease() -> None:
    assert after_report(LEASE, 5, 500).used == 10
    assert after_report(LEASE, 500, 500).used == 100


def test_a_lease_never_outlives_its_period_or_its_licence() -> None:
    period = Period("p", 5_000)
    assert use_until(LeaseTerms(), period, 1_000, max_silence_s=2_000, end=9_000) == 3_000
    assert use_until(LeaseTerms(), period, 1_000, max_silence_s=99_000, end=9_000) == 5_000
    assert use_until(LeaseTerms(), period, 1_000, max_silence_s=99_000, end=4_000) == 4_000
    ending = LeaseTerms(reclaim="on_expiry", horizon_s=60)
    assert use_until(ending, period, 1_000, max_silence_s=2_000, end=9_000) == 1_060
