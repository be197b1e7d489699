"""A real Postfix asks for news of its mail, relays it through us, and gets its notices from us: RFC 3461 from end to end."""

import smtplib
from pathlib import Path

import pytest

from tests.integration.test_egress_transactions import by_local_part
from tests.support.host import Host
from tests.support.notices import blocks_of
from tests.support.peers import wait_for_mail
from tests.support.postfix import a_postfix, needs_postfix
from tests.support.sender import a_sender

pytestmark = [pytest.mark.root, needs_postfix]

NOTICES = 'notices = "send"\nnotice_delay = "1s"\nnotice_language = "sender"'
MESSAGE = b"Subject: hello\r\nAccept-Language: nl-NL\r\n\r\nbody\r\n"


def test_postfix_asks_for_success_and_failure_and_hears_of_both_from_us(tmp_path: Path) -> None:
    with (
        a_sender(tmp_path, server=NOTICES) as sender,
        a_postfix(relayhost=f"[127.0.0.1]:{sender.server.port}") as postfix,
        Host(by_local_part) as host,
    ):
        sender.domain(f"127.0.0.1:{postfix.port}", name=postfix.domain)
        domain = sender.domain(host)
        wishes = {
            f"good@{domain}": "SUCCESS,FAILURE",
            f"550bad@{domain}": "SUCCESS,FAILURE",
            f"quiet@{domain}": "FAILURE",
            f"550silent@{domain}": "NEVER",
        }
        with smtplib.SMTP("127.0.0.1", postfix.port, timeout=20) as client:
            client.ehlo()
            assert client.mail(f"me@{postfix.domain}", ["RET=HDRS", "ENVID=camp+2B7"])[0] == 250
            for recipient, notify in wishes.items():
                assert client.rcpt(recipient, [f"NOTIFY={notify}"])[0] == 250
            assert client.data(MESSAGE)[0] == 250
        (notice,) = wait_for_mail(postfix, 1)
        (record,) = sender.wait_for_records(postfix.domain, "d")
        assert sender.server.totals()["notices"] == 1
        assert len(postfix.mail()) == 1, "Postfix told of it, too"
    head, _, report = notice.partition(b"From: Mail Delivery System")
    of_message, *of_recipients = map(dict, blocks_of(b"From: Mail Delivery System" + report))
    assert b"Return-Path: <>" in head
    assert b"Subject: Uw bericht is niet bezorgd" in report
    assert of_message["original-envelope-id"] == "camp+7"
    assert {each["final-recipient"]: each["action"] for each in of_recipients} == {
        f"rfc822; good@{domain}": "relayed",
        f"rfc822; 550bad@{domain}": "failed",
    }
    # Postfix names the first recipient (RFC 3461 §5.2.1), and it is handed back.
    assert {each["original-recipient"] for each in of_recipients} == {
        f"rfc822; good@{domain}",
        f"rfc822; 550bad@{domain}",
    }
    assert (record["orig"], record["srcType"]) == ("", "notice")
