"""Times that senders name for the delivery of their mail."""

import pytest

from mta.model.reply import Reply
from mta.policy.admission import NO_HOLD, TOO_FAR_AHEAD, Admission
from mta.policy.rules import ListenerRules
from mta.policy.schedule import parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1798131600", 1_798_131_600.0),
        (" 1798131600 ", 1_798_131_600.0),
        ("2026-12-24T17:00:00Z", 1_798_131_600.0),
        ("2026-12-24T18:00:00+01:00", 1_798_131_600.0),
        ("2026-12-24t18:00:00.500+01:00", 1_798_131_600.5),
        ("2026-12-24 17:00:00z", 1_798_131_600.0),
    ],
)
def test_a_time_is_read_in_both_forms(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2026-12-24",
        "2026-12-24T17:00:00",
        "2026-13-24T17:00:00Z",
        "-5",
        "1e9",
        "٣٤٥",
        "9" * 13,
        "2026-12-24T17:00:00Z" + "0" * 50,
        "20261224T170000Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


@pytest.mark.parametrize(
    ("max_hold", "wanted", "answer"),
    [
        (100.0, 0.0, 0.0),
        (100.0, 999.0, 0.0),
        (100.0, 1050.0, 1050.0),
        (100.0, 1100.5, TOO_FAR_AHEAD),
        (0.0, 1001.0, NO_HOLD),
        (0.0, 900.0, 0.0),
    ],
)
def test_a_listener_lets_mail_wait_no_longer_than_it_says(
    max_hold: float, wanted: float, answer: float | Reply
) -> None:
    admission = Admission(ListenerRules("127.0.0.1:25", max_hold=max_hold), ())
    assert admission.release_at(wanted, 1000.0) == answer
