"""Logging in: the examples of the RFCs, and hosts that ask odd things."""

import base64

import pytest

from mta.smtp.sasl import Login, choose_mechanism


def test_plain_says_it_all_at_once() -> None:
    """RFC 4616 §4."""
    login = Login("PLAIN", "tim", "tanstaaftanstaaf")
    assert login.first() == "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm"
    with pytest.raises(ValueError, match="more than PLAIN"):
        login.answer("")


def test_cram_md5_answers_the_challenge_of_the_rfc() -> None:
    """RFC 2195 §2."""
    login = Login("CRAM-MD5", "tim", "tanstaaftanstaaf")
    assert login.first() == "AUTH CRAM-MD5"
    answer = login.answer("PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
    assert answer == "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
    with pytest.raises(ValueError, match="more than CRAM-MD5"):
        login.answer("PDE4OTYu")


def test_login_says_the_name_then_the_password_whatever_it_is_asked() -> None:
    login = Login("LOGIN", "jürgen", "geheim")
    assert login.first() == "AUTH LOGIN"
    assert base64.b64decode(login.answer("VXNlcm5hbWU6")) == "jürgen".encode()
    assert base64.b64decode(login.answer("UGFzc3dvcmQ6")) == b"geheim"
    with pytest.raises(ValueError, match="more than LOGIN"):
        login.answer("T1RQOg==")


@pytest.mark.parametrize("challenge", ["no base64!", "A" * 5000, "AAA"])
def test_a_challenge_that_is_none_is_refused(challenge: str) -> None:
    with pytest.raises(ValueError, match="challenge"):
        Login("CRAM-MD5", "a", "b").answer(challenge)


@pytest.mark.parametrize(
    ("offered", "in_tls", "chosen"),
    [
        ("LOGIN PLAIN CRAM-MD5", True, "PLAIN"),
        ("login cram-md5", True, "LOGIN"),
        ("LOGIN PLAIN CRAM-MD5", False, "CRAM-MD5"),
        ("GSSAPI XOAUTH2", True, ""),
        ("", False, ""),
    ],
)
def test_the_best_mechanism_we_know_is_chosen(offered: str, in_tls: bool, chosen: str) -> None:
    assert choose_mechanism(offered, in_tls=in_tls) == chosen
