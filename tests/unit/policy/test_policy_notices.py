"""Who is told: never a null sender, never of a notice, only of what was handed in, never against NOTIFY, never without end."""

from ipaddress import ip_network
from typing import Any

import pytest

from mta.model.envelope import NOTICE, Entry, Message, QueueKey
from mta.model.units import Rate
from mta.policy.notices import (
    DELAY_TOLD_AFTER_S,
    MAX_SENDERS,
    NoticeBook,
    NoticeLimit,
    wants_delay,
    wants_failure,
    wants_success,
)
from mta.policy.rules import ServerRules, SourceRules


def an_entry(*, sender: str = "a@example.com", kind: str = "smtp", notify: str = "") -> Entry:
    message = Message(0, 1, sender, 10, 0.0, "default", source_kind=kind)
    return Entry(message, QueueKey("example.net", "default"), "b@example.net", notify=notify)


def a_book(*sources: SourceRules, **server: Any) -> NoticeBook:
    return NoticeBook(ServerRules("mta.example.com", "spool", **server), sources)


@pytest.mark.parametrize(
    ("notify", "failure", "success", "delay"),
    [
        ("", True, False, False),
        ("FAILURE", True, False, False),
        ("SUCCESS,FAILURE", True, True, False),
        ("NEVER", False, False, False),
        ("SUCCESS", False, True, False),
        ("DELAY", False, False, True),
        ("SUCCESS,DELAY", False, True, True),
    ],
)
def test_notify_is_obeyed(notify: str, failure: bool, success: bool, delay: bool) -> None:
    entry = an_entry(notify=notify)
    assert wants_failure(entry) is failure
    assert wants_success(entry, "PIPELINING,SIZE") is success
    assert wants_delay(entry, is_told_unasked=False) is delay
    assert wants_delay(entry, is_told_unasked=True) is (delay or not notify)


def test_a_host_that_offers_dsn_tells_of_success_itself() -> None:
    entry = an_entry(notify="SUCCESS")
    assert not wants_success(entry, "PIPELINING,DSN,SIZE")
    assert wants_success(entry, "PIPELINING,XDSN")
    assert wants_success(entry, "")


@pytest.mark.parametrize("changes", [{"sender": ""}, {"kind": NOTICE}, {"kind": "bounce"}])
def test_nobody_is_told_of_mail_without_sender_of_a_notice_or_of_what_no_client_handed_in(
    changes: dict[str, str],
) -> None:
    entry = an_entry(notify="SUCCESS,FAILURE,DELAY", **changes)
    assert not wants_failure(entry)
    assert not wants_success(entry, "")
    assert not wants_delay(entry, is_told_unasked=True)


def test_the_first_source_that_fits_says_who_is_told() -> None:
    book = a_book(
        SourceRules("crm", networks=(ip_network("10.1.0.0/16"),), users=("crm",), notices="never"),
        SourceRules("shop", senders=("*@Shop.example",), notices="to:ops@x.example"),
        SourceRules("lan", networks=(ip_network("10.0.0.0/8"),), notice_language="de"),
        notices="send",
    )
    assert book.rule("a@b.example", "crm", "10.1.2.3").is_never
    assert not book.rule("a@b.example", "crm", "10.2.2.3").is_never
    assert not book.rule("a@b.example", "", "10.1.2.3").is_never
    shop = book.rule("me@SHOP.example", "crm", "192.0.2.1")
    assert shop.address("me@shop.example") == "ops@x.example"
    lan = book.rule("a@b.example", "", "::ffff:10.9.9.9")
    assert (lan.notices, lan.language) == ("send", "de")
    assert lan.address("a@b.example") == "a@b.example"
    assert book.rule("a@b.example", "", "no address") == book.rule("a@b.example", "", "2001:db8::1")


def test_dsn_is_offered_where_any_sender_is_told() -> None:
    assert not a_book().offers_dsn
    assert a_book().is_never
    assert a_book(notices="send").offers_dsn
    elsewhere = a_book(notices="to:ops@x.example")
    assert not elsewhere.offers_dsn
    assert not elsewhere.is_never
    one = a_book(SourceRules("a", users=("a",), notices="send"))
    assert one.offers_dsn
    assert not one.is_never


def test_who_asks_is_told_of_delays_and_others_where_it_is_configured() -> None:
    assert a_book().delay_told_after_s == DELAY_TOLD_AFTER_S
    assert not a_book().is_delay_told_unasked
    configured = a_book(delay_notice_after=60.0)
    assert configured.delay_told_after_s == 60.0
    assert configured.is_delay_told_unasked


def test_an_address_gets_its_share_and_then_none_until_the_interval_is_over() -> None:
    limit, rate = NoticeLimit(), Rate(2, 60.0)
    assert limit.free_at("a", rate, 99.0) == 99.0
    assert [limit.may_tell("a", rate, 100.0 + n) for n in range(4)] == [True, True, False, False]
    assert limit.free_at("a", rate, 104.0) == 160.0
    assert limit.may_tell("b", rate, 104.0)
    assert limit.may_tell("a", rate, 160.0)


def test_without_a_rate_there_is_no_limit() -> None:
    limit = NoticeLimit()
    assert all(limit.may_tell("a", None, 0.0) for _ in range(10_000))
    assert limit.free_at("a", None, 5.0) == 5.0


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    limit, rate = NoticeLimit(), Rate(1, 60.0)
    for number in range(MAX_SENDERS + 500):
        limit.may_tell(f"s{number}", rate, 0.0)
    assert len(limit._counts) == MAX_SENDERS
    assert not limit.may_tell(f"s{MAX_SENDERS}", rate, 1.0)
    assert limit.may_tell("s1", rate, 1.0)
