"""Envelope addresses: what is taken, in which spelling, and what is refused with which words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.model.address import (
    NULL_SENDER,
    Address,
    HostPort,
    is_domain,
    normalise_domain,
    parse_address,
    parse_host_port,
)
from mta.model.errors import AddressError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("bob@example.com", Address("bob", "example.com")),
        ("Bob@EXAMPLE.Com", Address("Bob", "example.com")),
        ("user%ext.example@us.example", Address("user%ext.example", "us.example")),
        ("ext.example!user@us.example", Address("ext.example!user", "us.example")),
        ('"u@ext.example"@us.example', Address('"u@ext.example"', "us.example")),
        ('"a \\" b"@us.example', Address('"a \\" b"', "us.example")),
        ("a..b.@docomo.example", Address("a..b.", "docomo.example")),
        ("x@bücher.example", Address("x", "xn--bcher-kva.example")),
        ("x@foo_bar.example", Address("x", "foo_bar.example")),
        ("x@localhost", Address("x", "localhost")),
        ("u@[127.0.0.1]", Address("u", "[127.0.0.1]")),
        ("u@[ipv6:2001:DB8::1]", Address("u", "[IPv6:2001:db8::1]")),
    ],
)
def test_an_address_keeps_its_local_part_and_gets_one_spelling_of_its_domain(
    text: str, address: Address
) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing"),
        ("bob", "no domain"),
        ("@example.com", "source routes"),
        ("@relay.example,@b.example:u@d.example", "source routes"),
        ("bob@", "domain is missing"),
        ("bob@example.com.", "ends with a dot"),
        ("bob@example..com", "empty label"),
        ("bob@.example.com", "empty label"),
        ("bob@192.0.2.1", "looks like an IP address"),
        ("bob@-example.com", "no valid domain"),
        ("bob@exa mple.com", "no valid domain"),
        ("bob@example.com\r\nRCPT TO:<x@y>", "no domain|no valid"),
        ("bo b@example.com", "before the @"),
        ('"a\r\nRCPT TO:<x>"@d.example', "before the @"),
        ('"a\x00"@d.example', "before the @"),
        ("bücher@example.com", "before the @"),
        ("a@b@example.com", "before the @"),
        ("u@[127.0.0.1", "address literal"),
        ("u@[300.0.0.1]", "address literal"),
        ("u@[IPv6:::g]", "address literal"),
        ("x" * 65 + "@example.com", "64 bytes"),
        ("x@" + "a" * 64 + ".example", "no valid domain"),
        ("x@" + "a." * 130 + "example", "too long"),
        ("x@xn--\u00fc.\u0000", "internationalised"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        parse_address(text)


def test_the_null_sender_is_an_address_only_where_one_may_stand() -> None:
    assert parse_address("", null_allowed=True) == NULL_SENDER
    assert str(NULL_SENDER) == ""


def test_utf8_before_the_at_is_taken_only_when_asked_for() -> None:
    assert parse_address("bücher@example.com", utf8=True).local == "bücher"
    with pytest.raises(AddressError):
        parse_address("a\u0085b@example.com", utf8=True)  # a C1 control character
    with pytest.raises(AddressError):
        parse_address("a\ud800b@example.com", utf8=True)  # no character at all


def test_the_length_of_a_local_part_counts_bytes_not_characters() -> None:
    parse_address("ü" * 32 + "@example.com", utf8=True)
    with pytest.raises(AddressError, match="64 bytes"):
        parse_address("ü" * 33 + "@example.com", utf8=True)


def test_full_width_dots_and_letters_become_plain_ones() -> None:
    assert normalise_domain("ｇmail。com") == "gmail.com"


def test_a_long_international_domain_is_refused_before_it_is_converted() -> None:
    with pytest.raises(AddressError, match="too long"):
        normalise_domain("ü" * 100_000)


@given(st.text(max_size=80))
def test_whatever_the_text_a_parsed_address_has_no_control_byte_and_a_clean_domain(
    text: str,
) -> None:
    for candidate in (text, f"x@{text}", f"{text}@example.com"):
        try:
            address = parse_address(candidate, utf8=True)
        except AddressError:
            continue
        assert is_domain(address.domain) or address.is_literal
        assert not any(char < " " or "\x7f" <= char < "\xa0" for char in str(address))
        assert parse_address(str(address), utf8=True) == address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:2525", HostPort("127.0.0.1", 2525)),
        ("[2001:DB8::1]:25", HostPort("2001:db8::1", 25)),
        ("[2001:db8::1]", HostPort("2001:db8::1", 99)),
        ("2001:db8::1", HostPort("2001:db8::1", 99)),
        ("MX.Example.com", HostPort("mx.example.com", 99)),
        ("mx.example.com:0", HostPort("mx.example.com", 0)),
    ],
)
def test_a_host_with_or_without_port_is_read(text: str, found: HostPort) -> None:
    assert parse_host_port(text, default_port=99) == found
    assert parse_host_port(str(found)) == found


@pytest.mark.parametrize(
    "text", ["", ":25", "host:", "host:x", "host:65536", "host:-1", "[::1]25", "[::1", "[host]:25"]
)
def test_what_is_no_host_with_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_host_port(text, default_port=99)


def test_a_missing_port_is_told_with_an_example() -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:25"):
        parse_host_port("127.0.0.1")
