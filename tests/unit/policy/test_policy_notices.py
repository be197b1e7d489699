"""Who is told of a failure: never a null sender, never a notice, never against NOTIFY, and nobody without end."""

import pytest

from mta.model.envelope import NOTICE, Entry, Message, QueueKey
from mta.model.units import Rate
from mta.policy.notices import MAX_SENDERS, NoticeLimit, wants_notice


def an_entry(*, sender: str = "a@example.com", kind: str = "smtp", notify: str = "") -> Entry:
    message = Message(0, 1, sender, 10, 0.0, "default", source_kind=kind)
    return Entry(message, QueueKey("example.net", "default"), "b@example.net", notify=notify)


@pytest.mark.parametrize(
    ("notify", "wants"),
    [
        ("", True),
        ("FAILURE", True),
        ("SUCCESS,FAILURE", True),
        ("NEVER", False),
        ("SUCCESS", False),
        ("DELAY", False),
        ("SUCCESS,DELAY", False),
    ],
)
def test_notify_is_obeyed(notify: str, wants: bool) -> None:
    assert wants_notice(an_entry(notify=notify)) is wants


def test_nobody_is_told_of_mail_without_sender_or_of_a_notice() -> None:
    assert not wants_notice(an_entry(sender=""))
    assert not wants_notice(an_entry(kind=NOTICE))


def test_a_sender_gets_its_share_and_then_none_until_the_interval_is_over() -> None:
    limit, rate = NoticeLimit(), Rate(2, 60.0)
    assert [limit.may_tell("a", rate, 100.0 + n) for n in range(4)] == [True, True, False, False]
    assert limit.may_tell("b", rate, 104.0)
    assert limit.may_tell("a", rate, 160.0)


def test_without_a_rate_there_is_no_limit() -> None:
    limit = NoticeLimit()
    assert all(limit.may_tell("a", None, 0.0) for _ in range(10_000))


def test_what_is_remembered_of_senders_is_bounded() -> None:
    limit, rate = NoticeLimit(), Rate(1, 60.0)
    for number in range(MAX_SENDERS + 500):
        limit.may_tell(f"s{number}", rate, 0.0)
    assert len(limit._counts) == MAX_SENDERS
    assert not limit.may_tell(f"s{MAX_SENDERS}", rate, 1.0)
    assert limit.may_tell("s1", rate, 1.0)
