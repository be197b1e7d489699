"""The notice a sender gets: a report that programs read (RFC 6522, RFC 3464), whatever hosts and senders wrote."""

import email
import email.policy
from email.message import EmailMessage, Message
from typing import Any

import pytest

from mta.bounce.notice import MAX_TEXT, Returned, compose_notice
from mta.model.event import Attempt

CONTENT = b"Received: from here\r\nSubject: hello\r\nMessage-ID: <1@a.example>\r\n\r\nbody\r\n"


def a_failure(**changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "kind": "b",
        "at": 1_795_000_060.0,
        "message": 7,
        "entry": 9,
        "sender": "news@example.com",
        "recipient": "bob@example.net",
        "orcpt": "",
        "domain": "example.net",
        "vmta": "default",
        "job": "",
        "envid": "",
        "size": 100,
        "queued_at": 1_795_000_000.0,
        "first_attempt": 1_795_000_001.0,
        "attempts": 1,
        "code": 550,
        "enhanced": "5.1.1",
        "text": "no such user",
        "local": False,
        "category": "bad-mailbox",
        "source_kind": "smtp",
        "source_name": "",
        "source_feeder_ip": "",
        "user": "",
        "remote_name": "mx.example.net",
    }
    return Attempt(**{**values, **changes})


def a_notice(
    *failures: Attempt, content: bytes = CONTENT, whole: bool = True, ret: str = ""
) -> bytes:
    returned = Returned(content, whole, ret)
    return compose_notice(
        failures or (a_failure(),),
        returned,
        hostname="mta.example.com",
        token="T1",
        wall=1_795_000_100.0,
    )


def parts_of(notice: bytes) -> list[Message]:
    parsed = email.message_from_bytes(notice)
    assert not parsed.defects
    found = parsed.get_payload()
    assert isinstance(found, list)
    return found


def blocks_of(notice: bytes) -> list[Message]:
    found = parts_of(notice)[1].get_payload()
    assert isinstance(found, list)
    return found


def test_a_notice_is_a_report_with_three_parts_that_no_robot_answers() -> None:
    parsed = email.message_from_bytes(a_notice(), policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed["To"] == "news@example.com"
    kinds = [part.get_content_type() for part in parts_of(a_notice())]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]


def test_programs_read_who_failed_why_and_what_the_sender_called_it() -> None:
    of_message, of_recipient = blocks_of(
        a_notice(a_failure(envid="camp+2B1", orcpt="rfc822;Bob+2Bx@old.example"))
    )
    assert of_message["Reporting-MTA"] == "dns; mta.example.com"
    assert of_message["Original-Envelope-Id"] == "camp+1"
    assert of_message["Arrival-Date"] == "Wed, 18 Nov 2026 11:06:40 +0000"
    assert of_recipient["Original-Recipient"] == "rfc822; Bob+x@old.example"
    assert of_recipient["Final-Recipient"] == "rfc822; bob@example.net"
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"] == "5.1.1"
    assert of_recipient["Remote-MTA"] == "dns; mx.example.net"
    assert of_recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"


def test_what_we_said_ourselves_is_not_passed_off_as_smtp() -> None:
    expired = a_failure(
        code=451, enhanced="4.4.7", text="not delivered within 4d12h", local=True, remote_name=""
    )
    (_, block) = blocks_of(a_notice(expired))
    assert block["Status"] == "4.4.7"
    assert block["Diagnostic-Code"] == "x-sluice; 451 4.4.7 not delivered within 4d12h"
    assert "Remote-MTA" not in block


def test_every_recipient_of_the_message_stands_in_one_notice() -> None:
    failures = [a_failure(entry=n, recipient=f"r{n}@example.net") for n in range(250)]
    notice = a_notice(*failures)
    assert [block["Final-Recipient"] for block in blocks_of(notice)[1:]] == [
        f"rfc822; r{n}@example.net" for n in range(250)
    ]
    assert b"Not delivered: 250 recipients" in notice


@pytest.mark.parametrize(
    ("text", "recipient"),
    [
        ("evil\r\nBcc: <all@example.org>\r\n\r\nx", "bob@example.net"),
        ("\x1b[31mred\u202e", "bob@example.net"),
        ("x" * 50_000, "bob@example.net"),
        ("unbekannt: j\xfcrgen", "j\xfcrgen@example.net"),
    ],
)
def test_what_hosts_and_senders_wrote_never_breaks_out_of_its_line(
    text: str, recipient: str
) -> None:
    notice = a_notice(a_failure(text=text, recipient=recipient))
    assert notice.isascii()
    assert all(len(line) <= 998 for line in notice.split(b"\r\n"))
    assert b"\n" not in notice.replace(b"\r\n", b"")
    parsed = email.message_from_bytes(notice)
    assert parsed["Bcc"] is None
    (_, block) = blocks_of(notice)
    assert block["Bcc"] is None
    assert len(block["Diagnostic-Code"]) < MAX_TEXT + 100


def test_an_address_in_utf8_is_written_as_rfc_6533_says() -> None:
    (_, block) = blocks_of(a_notice(a_failure(recipient="j\xfcrgen@example.net")))
    assert block["Final-Recipient"] == "utf-8; j\\x{FC}rgen@example.net"


def test_the_whole_message_comes_back_only_where_it_is_asked_for_and_small_enough() -> None:
    whole = parts_of(a_notice(ret="FULL"))[2]
    assert whole.get_content_type() == "message/rfc822"
    assert whole.as_bytes().endswith(b"body\n")
    for notice in (a_notice(ret="FULL", whole=False), a_notice(ret="HDRS"), a_notice()):
        part = parts_of(notice)[2]
        assert part.get_content_type() == "text/rfc822-headers"
        assert "Message-ID: <1@a.example>" in str(part.get_payload())
        assert "body" not in str(part.get_payload())


def test_a_header_in_8_bit_leaves_the_notice_fit_for_every_host() -> None:
    notice = a_notice(content="Subject: grüße\r\n\r\nx\r\n".encode())
    assert notice.isascii()
    assert b"Subject: gr????e" in notice


def test_an_8_bit_message_that_is_returned_whole_says_so() -> None:
    notice = a_notice(content="Subject: a\r\n\r\ngrüße\r\n".encode(), ret="FULL")
    assert email.message_from_bytes(notice)["Content-Transfer-Encoding"] == "8bit"
    assert "grüße".encode() in notice


def test_a_message_that_holds_the_boundary_cannot_end_its_part() -> None:
    notice = a_notice(content=CONTENT + b"--=_T1--\r\n", ret="FULL")
    assert len(parts_of(notice)) == 3
    assert "--=_T1--" in str(parts_of(notice)[2])


def test_nothing_to_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="one failure"):
        compose_notice([], Returned(b"", True, ""), hostname="a.example", token="t", wall=0.0)
