"""The author's domain, from what people and attackers write into From."""

import pytest

from mta.mime.author import author_domain


@pytest.mark.parametrize(
    "value",
    [
        "a@example.com",
        " a@EXAMPLE.com ",
        "a@example.com.",
        "<a@example.com>",
        "Joe Doe <a@example.com>",
        'Joe "the boss" Doe <a@example.com>',
        '"Doe, Joe" <a@example.com>',
        '"a@evil.example" <a@example.com>',
        '"<a@evil.example>" <a@example.com>',
        r'"quote \" <a@evil.example>" <a@example.com>',
        '"a@b"@example.com',
        '"a@evil.example, b" <"x@y"@example.com>',
        "a@evil.example <a@example.com>",
        "(a@evil.example) a@example.com",
        "(nested (a@evil.example) <b@evil.example>) <a@example.com>",
        r"(\) a@evil.example) a@example.com",
        "a@example.com (Joe <b@evil.example>)",
        "a@(comment)example.com",
        "a@example . com",
        "Joe <@relay.example,@other.example:a@example.com>",
        "a@example.com, b@evil.example",
        "Joe <a@example.com>, b@evil.example",
        ", a@example.com",
        "Friends: a@example.com, b@evil.example;",
        "Joe\r\n <a@example.com>",
        "=?utf-8?q?J=C3=B6?= <a@example.com>",
        "Jö <a@example.com>",
        "a+b=c@example.com",
    ],
)
def test_the_domain_of_the_first_mailbox_is_found(value: str) -> None:
    assert author_domain(value.encode()) == "example.com"


def test_a_domain_in_unicode_becomes_an_a_label() -> None:
    assert author_domain("jö@bücher.example".encode()) == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Joe Doe",
        b"undisclosed: ;",
        b"@example.com",
        b"<@example.com>",
        b"a@",
        b"a@[192.0.2.1]",
        b"a@[IPv6:2001:db8::1]",
        b"a@b@example.com",
        b"a@exa mple.com",
        b"a@.example.com",
        b"a@example..com",
        b"<a@example.com",
        b"a@example.com>",
        b'"open <a@example.com>',
        b"(open <a@example.com>",
        b'"open \\',
        b"\\",
        b"a@\xff\xfe.example",
        b"a@" + b"x" * 64 + b".example",
        b"a@" + b"x." * 200 + b"example",
        b"a@b\x00.example",
        b"Joe, Doe <a@example.com>",
    ],
)
def test_where_the_author_is_not_clear_no_domain_is_guessed(value: bytes) -> None:
    assert author_domain(value) == ""


@pytest.mark.parametrize(
    "unit",
    [
        b"<",
        b"(",
        b'"',
        b"()",
        b"\\",
        b"a@",
        b" ",
        b"<@a,",
        b",;:",
        b'"\\',
        b"a@b.",
        b"\r\n ",
        b"\xc3\xa9",
    ],
)
def test_hostile_values_of_a_quarter_megabyte_are_only_read_once(unit: bytes) -> None:
    # No clock here: quadratic time would run into the test's own deadline a hundred times over.
    for _ in range(20):
        author_domain(unit * (250_000 // len(unit)))
        author_domain(b"a@" + unit * (250_000 // len(unit)) + b"x.example")
