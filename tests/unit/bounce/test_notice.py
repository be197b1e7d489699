"""The notice a sender gets: a report that programs read (RFC 6522, RFC 3464, RFC 6533), whatever hosts and senders wrote."""

import email
import email.policy
from email.header import decode_header, make_header
from email.message import EmailMessage

import pytest

from mta.bounce.notice import MAX_SHOWN, Returned, compose_digest, compose_notice
from mta.bounce.reports import MAX_TEXT
from mta.config.notice_texts import shipped_wordings
from mta.model.told import Action, Told
from tests.support.notices import (
    CONTENT,
    a_failure,
    a_heading,
    a_notice,
    an_attempt,
    blocks_of,
    decoded,
    parts_of,
)

UNTIL = 1_795_400_000.0


def a_delay(**changes: object) -> Told:
    values = {"kind": "t", "code": 0, "enhanced": "4.2.1", "local": True, "remote_name": ""}
    text = "not delivered for 4h; last: 450 4.2.1 not now"
    return Told(Action.DELAYED, an_attempt(**{**values, "text": text, **changes}), UNTIL)


def a_relay(**changes: object) -> Told:
    values = {"kind": "d", "code": 250, "enhanced": "2.0.0", "text": "ok"}
    return Told(Action.RELAYED, an_attempt(**{**values, **changes}))


def text_of(notice: bytes) -> str:
    payload = parts_of(notice)[0].get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode("utf-8")


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
    of_message, of_recipient = map(
        dict, blocks_of(a_notice(a_failure(envid="camp+2B1", orcpt="rfc822;Bob+2Bx@old.example")))
    )
    assert of_message == {
        "reporting-mta": "dns; mta.example.com",
        "original-envelope-id": "camp+1",
        "x-sluice-message-id": "1f2e3d4c-7",
        "arrival-date": "Wed, 18 Nov 2026 11:06:40 +0000",
    }
    assert of_recipient == {
        "original-recipient": "rfc822; Bob+x@old.example",
        "final-recipient": "rfc822; bob@example.net",
        "action": "failed",
        "status": "5.1.1",
        "remote-mta": "dns; mx.example.net",
        "diagnostic-code": "smtp; 550 5.1.1 no such user",
        "last-attempt-date": "Wed, 18 Nov 2026 11:07:40 +0000",
    }


def test_what_we_said_ourselves_is_not_passed_off_as_smtp() -> None:
    expired = a_failure(
        code=451, enhanced="4.4.7", text="not delivered within 4d12h", local=True, remote_name=""
    )
    block = dict(blocks_of(a_notice(expired))[1])
    assert block["status"] == "4.4.7"
    assert block["diagnostic-code"] == "x-sluice; 451 4.4.7 not delivered within 4d12h"
    assert "remote-mta" not in block


def test_every_recipient_of_the_message_stands_in_one_notice() -> None:
    failures = [a_failure(entry=n, recipient=f"r{n}@example.net") for n in range(250)]
    notice = a_notice(*failures)
    assert [dict(block)["final-recipient"] for block in blocks_of(notice)[1:]] == [
        f"rfc822; r{n}@example.net" for n in range(250)
    ]
    assert text_of(notice).count("@example.net>") == MAX_SHOWN
    assert f"And {250 - MAX_SHOWN} more" in text_of(notice)


def test_a_delay_says_until_when_it_is_tried() -> None:
    notice = a_notice(a_delay())
    assert email.message_from_bytes(notice)["Subject"] == "Your message is delayed"
    block = dict(blocks_of(notice)[1])
    assert block["action"] == "delayed"
    assert block["status"] == "4.2.1"
    assert block["will-retry-until"] == "Mon, 23 Nov 2026 02:13:20 +0000"
    assert "last-attempt-date" not in block
    assert "It is tried until 2026-11-23 02:13 UTC" in text_of(notice)


def test_a_delay_without_a_status_has_that_of_its_class() -> None:
    assert dict(blocks_of(a_notice(a_delay(enhanced="")))[1])["status"] == "4.0.0"
    assert dict(blocks_of(a_notice(a_relay(enhanced="")))[1])["status"] == "2.0.0"


def test_what_was_passed_on_says_so_and_no_more() -> None:
    notice = a_notice(a_relay())
    assert email.message_from_bytes(notice)["Subject"] == "Your message was passed on"
    block = dict(blocks_of(notice)[1])
    assert (block["action"], block["status"]) == ("relayed", "2.0.0")
    assert "<bob@example.net>" in text_of(notice)
    assert "250" not in text_of(notice)


def test_one_notice_tells_of_all_three_and_is_headed_by_the_worst() -> None:
    notice = a_notice(
        a_relay(recipient="c@x.example"), a_delay(recipient="b@x.example"), a_failure()
    )
    assert email.message_from_bytes(notice)["Subject"] == "Your message was not delivered"
    actions = [dict(block)["action"] for block in blocks_of(notice)[1:]]
    assert actions == ["relayed", "delayed", "failed"]
    text = text_of(notice)
    assert text.index("bob@example.net") < text.index("b@x.example") < text.index("c@x.example")


def test_somebody_else_who_is_told_hears_whose_message_it_was() -> None:
    notice = a_notice(to="ops@example.org")
    assert email.message_from_bytes(notice)["To"] == "<ops@example.org>"
    assert dict(blocks_of(notice)[0])["x-sluice-sender"] == "rfc822; news@example.com"
    assert "The sender of the message is <news@example.com>." in text_of(notice)


@pytest.mark.parametrize(
    ("text", "recipient"),
    [
        ("evil\r\nBcc: <all@example.org>\r\n\r\nx", "bob@example.net"),
        ("\x1b[31mred\u202e", "bob@example.net"),
        ("x" * 50_000, "bob@example.net"),
        ("unbekannt: jürgen", "jürgen@example.net"),
    ],
)
@pytest.mark.parametrize("utf8", [False, True])
def test_what_hosts_and_senders_wrote_never_breaks_out_of_its_line(
    text: str, recipient: str, utf8: bool
) -> None:
    notice = a_notice(a_failure(text=text, recipient=recipient), utf8=utf8)
    assert notice.isascii()
    assert all(len(line) <= 998 for line in notice.split(b"\r\n"))
    assert b"\n" not in notice.replace(b"\r\n", b"")
    parsed = email.message_from_bytes(notice)
    assert parsed["Bcc"] is None
    block = dict(blocks_of(notice)[1])
    assert len(block["diagnostic-code"]) < MAX_TEXT + 100
    assert "\u202e" not in text_of(notice)


def test_a_mail_in_ascii_is_told_of_in_ascii() -> None:
    block = dict(blocks_of(a_notice(a_failure(recipient="jü+rgen@example.net")))[1])
    assert block["final-recipient"] == "utf-8; j\\x{FC}\\x{2B}rgen@example.net"


def test_a_mail_in_utf_8_is_told_of_in_the_forms_of_rfc_6533() -> None:
    content = "Subject: grüße\r\n\r\nx\r\n".encode()
    told = a_failure(recipient="jürgen@example.net", orcpt="utf-8;j\\x{FC}rgen@old.example")
    notice = a_notice(told, content=content, utf8=True)
    kinds = [part.get_content_type() for part in parts_of(notice)]
    assert kinds == ["text/plain", "message/global-delivery-status", "message/global-headers"]
    assert notice.isascii()
    block = dict(blocks_of(notice)[1])
    assert block["final-recipient"] == "utf-8; jürgen@example.net"
    assert block["original-recipient"] == "utf-8; jürgen@old.example"
    assert decoded(parts_of(notice)[2]).strip() == "Subject: grüße".encode()
    whole = a_notice(told, content=content, utf8=True, ret="FULL")
    assert parts_of(whole)[2].get_content_type() == "message/global"
    assert decoded(parts_of(whole)[2]) == content.replace(b"\r\n", b"\n")


def test_a_sender_in_utf_8_is_written_to_as_such() -> None:
    notice = a_notice(to="jürgen@example.com", utf8=True)
    assert "To: <jürgen@example.com>\r\n".encode() in notice


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


def test_lines_too_long_for_mail_are_returned_in_a_form_that_mail_takes() -> None:
    notice = a_notice(content=b"Subject: " + b"x" * 3000 + b"\r\n\r\nbody\r\n", ret="FULL")
    assert max(map(len, notice.split(b"\r\n"))) <= 998
    assert parts_of(notice)[2].get_payload(decode=True) == b"Subject: " + b"x" * 3000 + b"\r\n"


@pytest.mark.parametrize("language", sorted(shipped_wordings()))
def test_people_are_told_in_their_language(language: str) -> None:
    words = shipped_wordings()[language]
    notice = a_notice(a_failure(), a_delay(recipient="x@y.example"), language=language)
    assert notice.isascii()
    assert max(map(len, notice.split(b"\r\n"))) <= 998
    parsed = email.message_from_bytes(notice)
    assert str(make_header(decode_header(parsed["Subject"]))) == words.subject_failed
    part = parts_of(notice)[0]
    assert part["Content-Language"] == language
    for phrase in (words.failed, words.failed_end, words.delayed):
        assert phrase in text_of(notice)
    assert len(blocks_of(notice)) == 3


def test_a_digest_tells_of_many_messages_each_in_a_report_of_its_own() -> None:
    told = [a_failure(message=n % 3, entry=n, recipient=f"r{n}@example.net") for n in range(150)]
    names = [f"1f2e3d4c-{each.attempt.message}" for each in told]
    digest = compose_digest(told, names, a_heading())
    parsed = email.message_from_bytes(digest)
    assert parsed.get_content_type() == "multipart/mixed"
    assert parsed["Auto-Submitted"] == "auto-replied"
    people, *reports = parts_of(digest)
    assert [part.get_content_type() for part in reports] == ["message/delivery-status"] * 3
    found = [block for part in reports for block in part.get_payload()]  # type: ignore[union-attr]
    recipients = {block["Final-Recipient"] for block in found if block["Final-Recipient"]}  # type: ignore[call-overload, index]
    assert len(recipients) == 150
    ids = [block["X-Sluice-Message-Id"] for block in found if block["Reporting-MTA"]]  # type: ignore[call-overload, index]
    assert ids == ["1f2e3d4c-0", "1f2e3d4c-1", "1f2e3d4c-2"]
    text = str(people.get_payload())
    assert "150 recipients of 3 messages" in text
    assert f"And {150 - MAX_SHOWN} more" in text


def test_nothing_to_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="one recipient"):
        compose_notice([], Returned(b"", True, ""), a_heading())
    with pytest.raises(ValueError, match="one recipient"):
        compose_digest([], [], a_heading())
