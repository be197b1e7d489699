"""The rule for a report: every way in which one can be the next, the same, or from a state that was copied or set back."""

from datetime import date
from typing import Any

import msgspec
import pytest

from licensing.errors import LicenseError
from licensing.model.usage import Acked, UsageReport
from licensing.server.reports import (
    Apply,
    Conflict,
    Offer,
    Repeat,
    is_ahead,
    judge,
    next_offer,
    next_report,
    spread,
)
from licensing.server.rows import EpochRow

STATE = EpochRow("A1", 3, 10, 500, "t_now", "", "sha-of-10", opened_at=0, reported_at=0)


def a_report(**changes: Any) -> UsageReport:
    plain = UsageReport(
        license_id="L1",
        revision=1,
        activation_id="A1",
        node_id="n",
        epoch=3,
        seq=11,
        token="t_now",
        cum=520,
        days={},
        leases=(),
        want=None,
        role="primary",
        seats=1,
        conn_peak=0,
        prev="0" * 64,
        head="0" * 64,
        fp_match="3/3",
        boot="0" * 32,
        wall=0,
        version="1",
    )
    return msgspec.structs.replace(plain, **changes)


def judged(sha256: str = "sha-of-11", offer: Offer | None = None, **changes: Any) -> Any:
    return judge(
        a_report(**changes), sha256, state=STATE, answered=STATE.answered_sha256, offer=offer
    )


def test_the_next_report_counts_what_is_new() -> None:
    assert judged() == Apply(20)


def test_a_number_may_be_left_out_for_counts_are_cumulative() -> None:
    assert judged(seq=15, cum=600) == Apply(100)


def test_the_very_bytes_that_were_answered_are_answered_again_whatever_they_say() -> None:
    assert judged("sha-of-10", epoch=1, seq=1, token="old") == Repeat()


def test_a_heartbeat_counts_nothing_and_takes_nothing_back() -> None:
    assert judged(cum=None, days=None) == Apply(0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epoch": 2}, "REWIND"),
        ({"epoch": 4}, "EPOCH"),
        ({"seq": 10}, "FORK"),
        ({"seq": 9}, "REWIND"),
        ({"token": "t_before"}, "REWIND"),
        ({"cum": 499}, "REWIND"),
    ],
)
def test_a_report_of_another_past_is_a_conflict(changes: dict[str, Any], reason: str) -> None:
    verdict = judged(**changes)
    assert isinstance(verdict, Conflict)
    assert verdict.reason == reason


def test_a_granted_epoch_is_opened_with_its_token_and_only_with_it() -> None:
    offer = Offer(4, "t_granted")
    assert judged(offer=offer, epoch=4, seq=1, token="t_granted", cum=7) == Apply(7, True)
    assert judged(offer=offer, epoch=4, seq=1, token="t_guess").reason == "EPOCH"
    assert judged(offer=offer, epoch=5, seq=1, token="t_granted").reason == "EPOCH"


def test_a_grant_does_not_close_the_epoch_that_goes_on() -> None:
    assert judged(offer=Offer(4, "t_granted")) == Apply(20)


def test_the_same_offer_is_made_until_it_is_taken_or_too_low() -> None:
    first = next_offer(2, STATE, None, "t_1")
    assert first == Offer(4, "t_1")
    assert next_offer(3, STATE, first, "t_2") == first
    assert next_offer(9, STATE, first, "t_2") == Offer(10, "t_2")


def test_our_own_word_is_ahead_of_us_only_if_it_says_more() -> None:
    def shown(epoch: int, seq: int) -> Acked:
        return Acked(epoch=epoch, seq=seq, cum=0, head="0" * 64)

    assert is_ahead(shown(3, 11), STATE)
    assert is_ahead(shown(4, 1), STATE)
    assert not is_ahead(shown(3, 10), STATE)
    assert not is_ahead(shown(2, 99), STATE)


TODAY = date(2026, 12, 2)


def test_what_is_new_falls_on_the_days_that_grew() -> None:
    days = {"2026-12-01": 30, "2026-12-02": 5}
    assert spread(days, {"2026-12-01": 20}, 15, TODAY) == {"2026-12-01": 10, "2026-12-02": 5}


def test_what_no_day_explains_falls_on_today_and_the_sum_is_always_right() -> None:
    assert spread({}, {}, 9, TODAY) == {"2026-12-02": 9}
    assert sum(spread({"2026-11-30": 100}, {}, 9, TODAY).values()) == 9


def test_next_months_quota_cannot_be_used_by_naming_a_day_that_is_to_come() -> None:
    assert spread({"2027-01-15": 50}, {}, 50, TODAY) == {"2026-12-02": 50}


def test_tomorrow_is_a_clock_that_is_a_little_fast() -> None:
    assert spread({"2026-12-03": 50}, {}, 50, TODAY) == {"2026-12-03": 50}


def test_what_is_no_date_is_refused() -> None:
    with pytest.raises(LicenseError, match="2026-13-01 is not a date"):
        spread({"2026-13-01": 1}, {}, 1, TODAY)


def test_nodes_that_report_at_once_report_apart_the_next_time() -> None:
    nodes = [f"node{n:022}" for n in range(200)]
    waits = [next_report(60, node, now=1_000.0) for node in nodes]
    assert min(waits) >= 30
    assert max(waits) <= 90
    assert len(set(waits)) > 40


def test_a_node_keeps_its_place_in_the_interval() -> None:
    now = 1_000.0
    first = now + next_report(60, "k5q2", now)
    second = first + next_report(60, "k5q2", first)
    assert 58 <= second - first <= 62


def test_a_server_that_is_slow_asks_for_fewer_reports_but_one_a_day_at_least() -> None:
    assert next_report(60, "k5q2", 0.0, slowdown=5.0) >= 150
    assert next_report(86_400, "k5q2", 0.0, slowdown=5.0) <= 86_400
