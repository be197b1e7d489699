"""A reply taken apart: what is a word in it, and what is only somebody's name."""

import pytest

from mta.bounce.words import link_words, name_of, status_of, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("User unknown", ["user", "unknown"]),
        ("No, thank-you; 2nd", ["no", "thank", "you", "2nd"]),
        ("<blocked@spam.example>: refused", ["refused", "@"]),
        ("reply:<a@b.example>denied", ["reply", "denied", "@"]),
        ("a@b.example...unknown", ["unknown", "@"]),
        ("two <a@b.example> <c@d.example>", ["two", "@"]),
        ("<mx.unknown.example> refused", ["refused"]),
        ("blocked by zen.spamhaus.org", ["blocked", "by", "spamhaus.org", "zen.spamhaus.org"]),
        ("denied.Please try", ["denied", "please", "try"]),
        ("192.0.2.1 refused", ["192", "0", "2", "1", "refused"]),
        ("see https://spam.example.com/unknown?user=1 now", ["see", "now", "example.com", "spam.example.com"]),
        ("Empfänger größer", ["empfanger", "grosser"]),
        ("Empf\\xe4nger", ["empfanger"]),
        ("EmpfÃ¤nger", ["empfanger"]),
        ("nieistniejący użytkownik łódź", ["nieistniejacy", "uzytkownik", "lodz"]),
        ("邮箱 full", ["邮", "箱", "full"]),
        ("사용자 없음", ["사용자", "없음"]),
        ("", []),
    ],
)  # fmt: skip
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_the_words_of_a_link_are_what_it_leads_to() -> None:
    text = "see https://spam.example/mailbox-full and http://b.example"
    assert link_words(text) == ["mailbox", "full"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("4.2.2 full", "4.2.2"),
        ("sorry (#5.1.1)", "5.1.1"),
        ("5.1.1.1 is an address", ""),
        ("version 5.1.1", ""),
        ("6.1.1", ""),
        ("", ""),
    ],
)
def test_a_status_where_none_should_be(text: str, status: str) -> None:
    assert status_of(text) == status


def test_a_rule_names_a_host_or_any_address() -> None:
    assert name_of("Spamhaus.org") == "spamhaus.org"
    assert name_of("@") == "@"
    assert name_of("user unknown") == name_of("spam") == ""
