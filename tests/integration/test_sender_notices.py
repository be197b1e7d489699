"""Notices to senders, end to end: one real server, raw hosts for the recipients and for the sender. RFC 3461, RFC 3464."""

import email
import email.utils
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from tests.integration.test_egress_transactions import by_local_part
from tests.support.daemon import running
from tests.support.host import OFFERS, Host
from tests.support.sender import DEFAULT, NO_DNS, Sender
from tests.support.wire import Wire, wait_until

NOTICES = 'notices = "send"\nnotice_delay = "0.5s"\nnotice_rate = "3/3s"\ndelay_notice_after = "1s"'


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    place = tmp_path_factory.mktemp("notices")
    with running(place, default=DEFAULT, more=NO_DNS, server=NOTICES) as server:
        yield Sender(server)
        assert server.totals()["bugs"] == 0
        assert "a fault of ours" not in server.log, server.log


def hand_in(
    sender: Sender, mail: str, *rcpts: str, body: bytes = b"Subject: hello\r\n\r\nbody\r\n"
) -> None:
    """One message, with parameters of MAIL and RCPT as written."""
    with Wire(sender.server.port) as wire:
        wire.greet()
        assert wire.ask(f"MAIL FROM:{mail}").startswith("250")
        for rcpt in rcpts:
            wire.send(f"RCPT TO:{rcpt}\r\n".encode())
            assert wire.reply().startswith("250")
        assert wire.ask("DATA").startswith("354")
        wire.send(body + b".\r\n")
        assert wire.reply().startswith("250")


def notices_to(host: Host, count: int = 1) -> list[Message]:
    host.wait_for(messages=count)
    return [email.message_from_bytes(each.data) for each in host.messages]


def blocks(notice: Message) -> list[Message]:
    part = notice.get_payload()
    assert isinstance(part, list)
    found = part[1].get_payload()
    assert isinstance(found, list)
    return found


def test_the_sender_gets_one_notice_of_all_recipients_that_failed(sender: Sender) -> None:
    with Host(by_local_part) as host, Host() as home:
        domain, at_home = sender.domain(host), sender.domain(home)
        hand_in(
            sender,
            f"<me@{at_home}> RET=HDRS ENVID=camp+2B7",
            f"<550a@{domain}> ORCPT=rfc822;Alice@old.example",
            f"<550b@{domain}>",
            f"<good@{domain}>",
            f"<550never@{domain}> NOTIFY=NEVER",
            f"<550delay@{domain}> NOTIFY=DELAY",
        )
        (notice,) = notices_to(home)
        sender.wait_for_records(domain, "b", count=4)
        sender.wait_for_records(at_home, "d")
    assert home.messages[0].mail.startswith("MAIL FROM:<>")
    assert home.messages[0].recipients == [f"me@{at_home}"]
    assert notice["Auto-Submitted"] == "auto-replied"
    of_message, *of_recipients = blocks(notice)
    assert of_message["Original-Envelope-Id"] == "camp+7"
    assert [each["Final-Recipient"] for each in of_recipients] == [
        f"rfc822; 550a@{domain}",
        f"rfc822; 550b@{domain}",
    ]
    assert of_recipients[0]["Original-Recipient"] == "rfc822; Alice@old.example"
    assert of_recipients[0]["Diagnostic-Code"] == "smtp; 550 5.1.1 unknown"
    (record,) = sender.records(at_home, "d")
    assert (record["orig"], record["srcType"]) == ("", "notice")
    time.sleep(1.5)
    assert len(home.messages) == 1


def test_an_expired_message_is_told_of_with_what_the_host_said_last(sender: Sender) -> None:
    with Host(by_local_part) as host, Host() as home:
        domain = sender.domain(host, expire_after="1s", retry=["0.4s"])
        at_home = sender.domain(home)
        hand_in(sender, f"<me@{at_home}> RET=FULL", f"<450@{domain}>")
        (notice,) = notices_to(home)
    (_, block) = blocks(notice)
    assert block["Action"] == "failed"
    assert "not now" in block["Diagnostic-Code"]
    returned = notice.get_payload(2)
    assert isinstance(returned, Message)
    assert returned.get_content_type() == "message/rfc822"
    assert "body" in returned.as_string()


def test_no_notice_is_made_of_a_null_sender_or_of_a_notice(sender: Sender) -> None:
    with (
        Host(by_local_part) as host,
        Host(lambda _, line: b"550 5.7.1 no\r\n" if line == "DATA" else None) as home,
    ):
        domain, at_home = sender.domain(host), sender.domain(home)
        before = sender.server.totals()
        hand_in(sender, "<>", f"<550@{domain}>")
        sender.wait_for_records(domain, "b")
        hand_in(sender, f"<me@{at_home}>", f"<550@{domain}>")
        sender.wait_for_records(at_home, "b")  # the notice itself is refused
        time.sleep(1.5)
        after = sender.server.totals()
    assert after["notices"] == before["notices"] + 1
    assert after["notices_failed"] == before["notices_failed"] + 1
    assert "a notice could not be delivered" in sender.server.log
    wait_until(lambda: not sender.server.totals()["queued_recipients"])


def test_what_is_beyond_a_senders_share_is_told_in_a_digest(sender: Sender) -> None:
    with Host(by_local_part) as host, Host() as home:
        domain, at_home = sender.domain(host), sender.domain(home)
        before = sender.server.totals()["notices_folded"]
        for number in range(6):
            hand_in(sender, f"<me@{at_home}>", f"<550-{number}@{domain}>")
        sender.server.wait_for(notices_folded=before + 3)
        *notices, digest = notices_to(home, 4)
    told = [blocks(notice)[1]["Final-Recipient"] for notice in notices]
    people, *reports = digest.get_payload()  # type: ignore[misc]
    assert isinstance(people, Message)
    assert "3 recipients of 3 messages" in str(people.get_payload())
    told += [report.get_payload()[1]["Final-Recipient"] for report in reports]  # type: ignore[union-attr, index]
    assert sorted(told) == [f"rfc822; 550-{number}@{domain}" for number in range(6)]
    assert len(home.messages) == 4
    assert sender.server.totals()["notices_waived"] == 0


def test_a_delay_is_told_once_with_until_when_it_is_tried(sender: Sender) -> None:
    with Host(by_local_part) as host, Host() as home:
        domain = sender.domain(host, expire_after="1h", retry=["0.4s"])
        at_home = sender.domain(home)
        mail = f"<me@{at_home}>"
        hand_in(
            sender, mail, f"<450a@{domain}>", f"<450b@{domain}> NOTIFY=FAILURE,DELAY",
            f"<450c@{domain}> NOTIFY=FAILURE", f"<450d@{domain}> NOTIFY=NEVER",
        )  # fmt: skip
        hand_in(sender, mail, f"<450e@{domain}>", body=b"Precedence: bulk\r\n\r\nx\r\n")
        (notice,) = notices_to(home)
        time.sleep(1.5)
        assert len(home.messages) == 1
        _, *found = blocks(notice)
        assert [each["Final-Recipient"] for each in found] == [
            f"rfc822; 450a@{domain}",
            f"rfc822; 450b@{domain}",
        ]
        assert {each["Action"] for each in found} == {"delayed"}
        assert "not delivered for 1s; last: 450" in found[0]["Diagnostic-Code"]
        until = email.utils.parsedate_to_datetime(found[0]["Will-Retry-Until"]).timestamp()
        assert 3500 < until - time.time() < 3601
        sender.server.ask("messages.delete", domain=domain)


def test_success_is_told_where_the_next_host_does_not(sender: Sender) -> None:
    with Host(offers=(*OFFERS, "DSN")) as knows, Host() as knows_not, Host() as home:
        confirming, silent = sender.domain(knows), sender.domain(knows_not)
        at_home = sender.domain(home)
        hand_in(
            sender,
            f"<me@{at_home}> ENVID=e1",
            f"<a@{confirming}> NOTIFY=SUCCESS,FAILURE",
            f"<b@{silent}> NOTIFY=SUCCESS,FAILURE",
            f"<c@{silent}>",
        )
        (notice,) = notices_to(home)
        sender.wait_for_records(confirming, "d")
        time.sleep(1.2)
        assert len(home.messages) == 1
    of_message, *found = blocks(notice)
    assert of_message["Original-Envelope-Id"] == "e1"
    assert [(each["Final-Recipient"], each["Action"]) for each in found] == [
        (f"rfc822; b@{silent}", "relayed")
    ]
    assert found[0]["Status"].startswith("2.")


def test_a_source_may_have_somebody_else_told_in_another_language(sender: Sender) -> None:
    with Host(by_local_part) as host, Host() as home:
        domain, at_home = sender.domain(host), sender.domain(home)
        sender.add(
            f'[source.shop]\nsenders = ["*@shop.example"]\nnotices = "to:ops@{at_home}"\n'
            f'notice_language = "de"\n[source.quiet]\nsenders = ["*@quiet.example"]\nnotices = "never"\n'
        )
        hand_in(sender, "<me@quiet.example>", f"<550quiet@{domain}>")
        hand_in(sender, "<me@shop.example>", f"<550shop@{domain}>")
        (notice,) = notices_to(home)
        time.sleep(0.6)
    assert home.messages[0].recipients == [f"ops@{at_home}"]
    assert notice["Subject"] == "Ihre Nachricht wurde nicht zugestellt"
    of_message, of_recipient = blocks(notice)
    assert of_message["X-Sluice-Sender"] == "rfc822; me@shop.example"
    assert of_recipient["Final-Recipient"] == f"rfc822; 550shop@{domain}"


def test_mail_in_utf_8_is_told_of_in_utf_8(sender: Sender) -> None:
    with Host(by_local_part, offers=(*OFFERS, "SMTPUTF8")) as host, Host() as home:
        domain, at_home = sender.domain(host), sender.domain(home)
        hand_in(sender, f"<me@{at_home}> SMTPUTF8", f"<550ü@{domain}>")
        (notice,) = notices_to(home)
    kinds = [part.get_content_type() for part in notice.get_payload()]  # type: ignore[union-attr]
    assert kinds[1:] == ["message/global-delivery-status", "message/global-headers"]
    assert home.messages[0].data.isascii()
    assert f"utf-8; 550=C3=BC@{domain}" in home.messages[0].data.decode()


def test_wishes_about_notices_go_on_to_a_host_that_knows_dsn(sender: Sender) -> None:
    with Host(offers=(*OFFERS, "DSN")) as knows, Host() as knows_not:
        for host in (knows, knows_not):
            domain = sender.domain(host)
            hand_in(
                sender,
                "<me@a.example> RET=FULL ENVID=e1",
                f"<x@{domain}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@a.example",
            )
            host.wait_for(messages=1)
    assert "RET=FULL ENVID=e1" in knows.messages[0].mail
    assert "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@a.example" in knows.messages[0].rcpts[0]
    assert "ENVID" not in knows_not.messages[0].mail
    assert "NOTIFY" not in knows_not.messages[0].rcpts[0]


def test_ehlo_offers_dsn_only_where_notices_are_sent(sender: Sender, tmp_path: Path) -> None:
    with Wire(sender.server.port) as wire:
        wire.reply()
        assert "DSN" in wire.ask("EHLO me")
    with running(tmp_path, default=DEFAULT, more=NO_DNS) as server, Host(by_local_part) as host:
        silent = Sender(server)
        with Wire(server.port) as wire:
            wire.reply()
            assert "DSN" not in wire.ask("EHLO me")
        domain = silent.domain(host)
        silent.send(f"550@{domain}", sender=f"me@{domain}")
        silent.wait_for_records(domain, "b")
        time.sleep(1.2)
        assert server.totals()["notices"] == 0
        assert server.totals()["queued_recipients"] == 0


def test_killed_between_the_failure_and_the_notice_the_sender_is_told_once(tmp_path: Path) -> None:
    with Host(by_local_part) as host, Host() as home:
        hosts = f'[domain."d.example"]\nhosts = ["{host.name}"]\n[domain."home.example"]\nhosts = ["{home.name}"]\n'
        late = 'notices = "send"\nnotice_delay = "2s"\ndelay_notice_after = "1s"'
        with running(tmp_path, default=DEFAULT, more=f"{NO_DNS}\n{hosts}", server=late) as server:
            sender = Sender(server)
            sender.send("450@d.example", sender="me@home.example")
            sender.send("550@d.example", sender="me@home.example")
            sender.wait_for_records("d.example", "b")
            server.kill()
            assert not home.messages
            server.start()
            notices_to(home, 2)
            server.kill()
            server.start()
            wait_until(lambda: server.totals()["queued_recipients"] == 1)  # 450
            time.sleep(2.5)
            told = {
                (notice["Message-ID"], blocks(notice)[1]["Final-Recipient"])
                for notice in notices_to(home)
            }
            # A kill before its own settle may repeat the delivery, never the notice.
            assert sorted(recipient for _, recipient in told) == [
                "rfc822; 450@d.example",
                "rfc822; 550@d.example",
            ]
