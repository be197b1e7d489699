"""Volume leases on this server: what may be taken, what is asked for, and the credit when nobody answers."""

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from licensing.books import Books
from licensing.lease import Allowance, DailyAllowance, HourRate, Need
from licensing.model.license import LeaseTerms, VolumeLimit
from licensing.model.usage import Lease, Pool

NOW = 1_795_000_000.0
HOUR, DAY = 3_600.0, 86_400.0
LIMIT = VolumeLimit(
    emails=10_000,
    period="month",
    anchor=date(2026, 12, 1),
    grace_emails_pct=2,
    lease=LeaseTerms(min=100),
)


def a_lease(name: str, emails: int, *, fence: int = 1, until: float = NOW + DAY) -> Lease:
    return Lease(id=name, fence=fence, period="2026-11", emails=emails, use_until=int(until))


def a_pool(share: int = 500, period: str = "2026-11") -> Pool:
    return Pool(period=period, quota=10_000, used=0, reserved=0, nodes=4, share=share)


def an_allowance(*leases: Lease, pool: Pool | None = None) -> tuple[Allowance, Books]:
    books = Books(contact_at=NOW)
    allowance = Allowance(books, LIMIT, 14 * DAY)
    allowance.settle((), leases, pool or a_pool(), NOW)
    return allowance, books


def test_before_the_first_lease_one_start_block_may_be_used() -> None:
    books = Books()
    allowance = Allowance(books, LIMIT, 14 * DAY)
    allowance.advance(NOW)
    assert allowance.take(150) == 100
    assert allowance.take(1) == 0
    books.cum += 60
    allowance.count(60, NOW)
    allowance.refund(40)
    assert allowance.free == 40


def test_the_start_block_of_a_small_volume_is_no_more_than_the_volume() -> None:
    small = VolumeLimit(emails=30, period="month", anchor=date(2026, 12, 1))
    allowance = Allowance(Books(), small, 14 * DAY)
    allowance.advance(NOW)
    assert allowance.take(1_000) == 30


def test_taking_is_bounded_by_what_the_leases_hold() -> None:
    allowance, _ = an_allowance(a_lease("ls1", 10))
    assert [allowance.take(4) for _ in range(4)] == [4, 4, 2, 0]


def test_the_oldest_lease_is_drained_first() -> None:
    allowance, books = an_allowance(a_lease("ls2", 10, fence=2), a_lease("ls1", 10, fence=1))
    allowance.take(15)
    allowance.count(15, NOW)
    assert [(lease.id, lease.used) for lease in books.leases] == [("ls1", 10), ("ls2", 5)]


def test_a_refund_can_be_taken_again_and_never_twice() -> None:
    allowance, _ = an_allowance(a_lease("ls1", 10))
    allowance.take(10)
    allowance.refund(3)
    assert allowance.take(10) == 3
    allowance.refund(100)
    assert allowance.free == 10


def test_a_lease_ends_at_its_time() -> None:
    allowance, _ = an_allowance(a_lease("ls1", 10, until=NOW + 60))
    assert allowance.left_until == NOW + 60
    allowance.advance(NOW + 60)
    assert allowance.take(1) == 0


def test_deliveries_found_in_the_journal_after_a_crash_use_the_lease() -> None:
    allowance, _ = an_allowance(a_lease("ls1", 10))
    allowance.count(7, NOW)
    assert allowance.free == 3 and allowance.taken == 0


def test_nothing_is_granted_while_blocked() -> None:
    allowance, _ = an_allowance(a_lease("ls1", 10))
    allowance.block(True, NOW)
    assert allowance.take(1) == 0
    allowance.count(4, NOW)
    allowance.block(False, NOW)
    assert allowance.take(10) == 6


def test_more_is_wanted_below_half_and_at_once_below_a_tenth() -> None:
    allowance, _ = an_allowance(a_lease("ls1", 100))
    assert allowance.need(NOW) is Need.NONE
    allowance.take(51)
    assert allowance.need(NOW) is Need.SOFT
    allowance.take(40)
    assert allowance.need(NOW) is Need.URGENT


def test_what_is_wanted_is_the_horizon_at_the_rate_of_the_last_hour() -> None:
    allowance, _ = an_allowance(a_lease("ls1", 100))
    allowance.take(60)
    allowance.count(60, NOW)
    want = allowance.want(NOW)
    assert want is not None
    assert want.rate_1h == 60
    assert want.emails == 60 * 24 - 40


def test_a_lease_used_up_and_told_is_let_go_and_one_that_moved_on_is_kept() -> None:
    allowance, books = an_allowance(a_lease("ls1", 10), a_lease("ls2", 10, fence=2))
    allowance.count(10, NOW)
    told = allowance.uses()
    allowance.count(3, NOW)
    allowance.settle(told, (a_lease("ls3", 10, fence=3),), a_pool(), NOW)
    assert [lease.id for lease in books.leases] == ["ls2", "ls3"]
    assert books.leases[0].used == 3


def test_a_lease_told_to_be_over_does_not_come_back_by_the_same_acknowledgement() -> None:
    allowance, books = an_allowance(a_lease("ls1", 10))
    allowance.count(10, NOW)
    allowance.settle(allowance.uses(), (a_lease("ls1", 10),), a_pool(), NOW)
    assert books.leases == []


def test_a_lease_of_a_past_period_is_given_back() -> None:
    allowance, books = an_allowance(a_lease("ls1", 10))
    allowance.settle(allowance.uses(), (), a_pool(period="2026-12"), NOW)
    assert books.leases == []


def test_credit_begins_an_hour_after_the_last_answer_and_ends_after_fourteen_days() -> None:
    allowance, _ = an_allowance(a_lease("ls1", 10))
    allowance.take(10)
    allowance.count(10, NOW)
    allowance.advance(NOW + HOUR - 1)
    assert allowance.free == 0 and not allowance.is_on_credit
    allowance.advance(NOW + HOUR)
    # The share, and 2 % of the quota divided by four servers.
    assert allowance.free == 500 + 50 and allowance.is_on_credit
    assert allowance.left_until == NOW + 14 * DAY
    allowance.advance(NOW + 14 * DAY + 1)
    assert allowance.free == 0


def test_credit_is_used_once_over_a_restart() -> None:
    allowance, books = an_allowance()
    allowance.advance(NOW + HOUR)
    assert allowance.take(1_000) == 550
    allowance.count(550, NOW + HOUR)
    again = Allowance(books.copy(), LIMIT, 14 * DAY)
    again.advance(NOW + 2 * HOUR)
    assert again.take(1) == 0
    assert books.credit_used == {"2026-11": 550}


def test_credit_that_was_told_is_part_of_the_pool_and_the_next_outage_has_its_own() -> None:
    allowance, books = an_allowance()
    allowance.advance(NOW + HOUR)
    allowance.take(550)
    allowance.count(300, NOW + HOUR)
    told = allowance.uses()
    allowance.count(250, NOW + HOUR)
    # The vendor is back: 300 stand in the report, 250 came after it.
    books.contact_at = NOW + 2 * HOUR
    allowance.settle(told, (), a_pool(share=400), NOW + 2 * HOUR)
    assert books.credit_used == {"2026-11": 250}
    assert allowance.free == 0
    allowance.advance(NOW + 3 * HOUR)
    assert allowance.free == 400 + 50 - 250
    allowance.settle(allowance.uses(), (), a_pool(share=400), NOW + 3 * HOUR)
    assert books.credit_used == {}


def test_a_forecast_says_when_the_pool_is_used_up() -> None:
    allowance, _ = an_allowance(a_lease("ls1", 1_000))
    assert allowance.forecast(NOW) is None
    allowance.count(100, NOW)
    assert allowance.forecast(NOW) == NOW + 10_000 / 400 * HOUR


def test_the_rate_forgets_after_an_hour() -> None:
    rate = HourRate()
    rate.add(10, NOW)
    rate.add(5, NOW + 1_800)
    assert rate.per_hour(NOW + 1_800) == 15
    assert rate.per_hour(NOW + HOUR + 60) == 5
    assert rate.per_hour(NOW + 2 * HOUR) == 0


def test_a_development_licence_holds_until_the_next_day() -> None:
    books = Books()
    allowance = DailyAllowance(books, 10)
    allowance.advance("2026-11-18")
    assert allowance.take(11) == 10
    books.days["2026-11-18"] = 10
    allowance.count(10)
    allowance.advance("2026-11-18")
    assert allowance.take(1) == 0
    allowance.advance("2026-11-19")
    assert allowance.take(11) == 10


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "refund", "count", "advance"]), st.integers(0, 40)),
        max_size=60,
    )
)
def test_whatever_happens_what_is_taken_and_used_never_exceeds_the_leases(
    steps: list[tuple[str, int]],
) -> None:
    allowance, books = an_allowance(a_lease("ls1", 50), a_lease("ls2", 30, fence=2))
    under_way = 0
    for step, n in steps:
        if step == "take":
            under_way += allowance.take(n)
        elif step == "refund":
            n = min(n, under_way)
            allowance.refund(n)
            under_way -= n
        elif step == "count":
            n = min(n, under_way)
            allowance.count(n, NOW)
            under_way -= n
        else:
            allowance.advance(NOW)
        used = sum(lease.used for lease in books.leases)
        assert used + under_way + allowance.free == 80
        assert allowance.free >= 0 and not books.credit_used
