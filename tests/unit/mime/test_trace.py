"""The fields we add: Received, Date and Message-ID."""

import pytest

from mta.mime.headers import HeaderIndex, find_field
from mta.mime.trace import count_received, date_field, format_date, message_id, received_field

WALL = 1_795_419_660.9


def received(
    helo: str = "client.example",
    ip: str = "192.0.2.1",
    recipient: str = "",
    protocol: str = "ESMTP",
) -> bytes:
    return received_field(
        helo=helo,
        ip=ip,
        hostname="mta.example.com",
        protocol=protocol,
        token="ab12-1f",
        wall=WALL,
        recipient=recipient,
    )


def test_a_date_is_in_utc_and_in_english() -> None:
    assert format_date(WALL) == b"Mon, 23 Nov 2026 07:41:00 +0000"
    assert format_date(0) == b"Thu, 1 Jan 1970 00:00:00 +0000"
    assert date_field(WALL) == b"Date: Mon, 23 Nov 2026 07:41:00 +0000\r\n"


def test_a_message_id_is_made_of_token_and_host() -> None:
    assert message_id("mta.example.com", "ab12-1f") == b"Message-ID: <ab12-1f@mta.example.com>\r\n"


@pytest.mark.parametrize(("host", "token"), [("h", "a b"), ("h>", "a"), ("", "a"), ("h", "a\r\n")])
def test_a_message_id_of_other_text_is_refused(host: str, token: str) -> None:
    with pytest.raises(ValueError, match="no message id"):
        message_id(host, token)


def test_received_names_the_peer_us_the_protocol_the_id_and_the_time() -> None:
    assert find_field(received(protocol="ESMTPS"), b"received") == (
        b"from client.example ([192.0.2.1]) by mta.example.com\twith ESMTPS id ab12-1f;"
        b"\tMon, 23 Nov 2026 07:41:00 +0000"
    )


def test_received_names_the_recipient_it_is_given() -> None:
    assert b"\tfor <me@example.net>; Mon," in received(recipient="me@example.net")
    assert "for <mé@example.net>;".encode() in received(recipient="mé@example.net")


@pytest.mark.parametrize("recipient", ["a\r\nb", "a>b", "a b@c", "a(b@c", "a\ud800@b", "x" * 600])
def test_received_leaves_out_a_recipient_that_does_not_fit(recipient: str) -> None:
    assert received(recipient=recipient) == received()


@pytest.mark.parametrize(
    ("ip", "literal"),
    [
        ("2001:db8::1", b"([IPv6:2001:db8::1])"),
        ("::ffff:192.0.2.1", b"([192.0.2.1])"),
        ("192.0.2.1", b"([192.0.2.1])"),
    ],
)
def test_received_writes_each_kind_of_address_as_its_literal(ip: str, literal: bytes) -> None:
    assert literal in received(ip=ip)


@pytest.mark.parametrize("helo", ["", "a b", "a(b", "a\r\nX: y", "ä", "a" * 256, "a;b"])
def test_received_replaces_an_ehlo_name_that_is_none(helo: str) -> None:
    assert received(helo=helo).startswith(b"Received: from unknown ([192.0.2.1])")


def test_received_is_one_field_with_bearable_lines_even_for_the_longest_names() -> None:
    whole = received(helo="a" * 255, ip="2001:db8::1", recipient="x" * 64 + "@" + "y" * 255)
    index = HeaderIndex(whole)
    assert index.broken_at == -1
    assert index.spans(b"received") == [(0, 9, len(whole))]
    assert max(map(len, whole.split(b"\r\n"))) < 998


def test_received_refuses_an_id_or_protocol_that_is_no_word() -> None:
    with pytest.raises(ValueError, match="protocol"):
        received(protocol="ES MTP")
    with pytest.raises(ValueError, match="id"):
        received_field(helo="a", ip="::1", hostname="b", protocol="SMTP", token="a\r\n", wall=0)


def test_hops_are_counted() -> None:
    block = received() * 3 + b"X-Received: no\r\nReceived-SPF: no\r\n"
    assert count_received(block) == 3
    assert count_received(HeaderIndex(block)) == 3
