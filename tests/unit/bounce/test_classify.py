"""Reply → category: by enhanced status first, by code where it says nothing."""

import pytest

from mta.bounce.classify import CATEGORIES, OTHER, SUCCESS, classify
from mta.model.reply import Reply, a_reply

BY_STATUS = {
    "content-related": ["5.3.3", "5.6.0", "5.6.3", "5.7.7"],
    "quota-issues": ["5.2.2", "4.2.2"],
    "invalid-sender": ["5.1.7", "5.1.8"],
    "inactive-mailbox": ["5.2.1"],
    "bad-mailbox": ["5.1.1", "5.1.3", "5.1.4", "5.1.6", "5.2.0"],
    "bad-domain": ["5.1.2", "5.1.10"],
    "policy-related": ["5.5.3", "5.7.0", "5.7.1", "5.7.2", "5.7.26", "4.7.28"],
    "protocol-errors": ["5.5.0", "5.5.1", "5.5.2", "5.5.4"],
    "routing-errors": ["4.4.3", "5.4.4", "5.4.6"],
    "bad-configuration": ["5.3.5"],
    "bad-connection": ["4.4.2"],
    "no-answer-from-host": ["4.4.1"],
    "message-expired": ["5.4.7"],
    "other": ["5.0.0", "5.3.0", "5.2.4", "5.1.5", "4.9.9"],
}


@pytest.mark.parametrize(
    ("status", "category"), [(s, category) for category, all_ in BY_STATUS.items() for s in all_]
)
def test_the_enhanced_status_decides(status: str, category: str) -> None:
    code = 550 if status.startswith("5") else 450
    assert classify(a_reply(code, status, "blocked as spam"), "example.net", False) == category
    assert classify(a_reply(code, status, ""), "example.net", True) == category


@pytest.mark.parametrize(
    ("code", "category"),
    [
        (501, "protocol-errors"),
        (552, "quota-issues"),
        (556, "bad-domain"),
        (550, OTHER),
        (421, OTHER),
    ],
)
@pytest.mark.parametrize("status", ["", "5.0.0"])
def test_the_code_decides_where_the_status_says_nothing(
    code: int, status: str, category: str
) -> None:
    assert classify(a_reply(code, status, ""), "example.net", False) == category


def test_the_status_stands_above_the_code() -> None:
    assert classify(a_reply(552, "5.7.1", "refused"), "example.net", False) == "policy-related"


def test_a_positive_reply_is_a_success() -> None:
    assert classify(a_reply(250, "2.1.1", "ok"), "example.net", False) == SUCCESS


@pytest.mark.parametrize("enhanced", ["", "5", "5.", "garbage", "5.1", "5.1.1.1"])
@pytest.mark.parametrize("code", [0, 199, 450, 550, 999])
def test_any_reply_has_one_of_the_seventeen_names(code: int, enhanced: str) -> None:
    assert classify(Reply(code, enhanced, ()), "", False) in CATEGORIES


def test_there_are_seventeen_names() -> None:
    assert len(set(CATEGORIES)) == 17
