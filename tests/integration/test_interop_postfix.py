"""Postfix on both sides: relaying through us with STARTTLS and SASL AUTH, and receiving from us over TLS.

A real Postfix in an instance of its own (root; skipped where it is not installed). Asserted by both sides' records: its log and
maildir, our accounting. Issue: "Postfix relaying through it with STARTTLS and SASL as clients; Postfix receiving with TLS".
"""

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from tests.support.daemon import running
from tests.support.dkim import signatures
from tests.support.host import Host, wire_faults
from tests.support.peers import Smarthost
from tests.support.postfix import DOMAIN, Postfix, a_postfix, needs_postfix, relaying
from tests.support.secrets import write_certificate, write_dkim_key, write_users
from tests.support.sender import NO_DNS, Sender, a_sender

pytestmark = [needs_postfix, pytest.mark.root]


def a_message(subject: str, recipient: str, body: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "a@sender.example"
    message["To"] = recipient
    message["Subject"] = subject
    message.set_content(body)
    return message


def test_postfix_relays_through_us_with_starttls_and_login(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("relayed")
    write_certificate(place)
    write_users(place, postfix="secret")
    with (
        Host() as host,
        running(
            place,
            default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
            # A second listener takes nothing from this address without login.
            listener='tls_cert = "cert.pem"\ntls_key = "key.pem"\nauth_users = "users.toml"',
        ) as server,
    ):
        text = server.config.read_text().replace('relay_from = ["127.0.0.0/8"]', "relay_from = []")
        server.config.write_text(text)
        server.ask("reload")
        with a_postfix(**relaying(Smarthost(server.port, "postfix", "secret"))) as postfix:
            count = 20
            with smtplib.SMTP("127.0.0.1", postfix.port) as client:
                for number in range(count):
                    recipients = [f"r{number}@example.net", f"s{number}@example.org"]
                    body = f"number {number}\n.\n..dots\n" + "x" * 900 + "\n" + "für\n" * number
                    message = a_message(f"n{number}", recipients[0], body)
                    client.send_message(message, "a@sender.example", recipients)
            postfix.wait_for_log(" status=sent (250 2.6.0 queued as ", 2 * count)
            host.wait_for(messages=2 * count)
            log = postfix.log
    assert log.count("status=sent") == 2 * count
    assert "status=deferred" not in log
    assert "TLS connection established to 127.0.0.1" in log
    assert {f"r{n}@example.net" for n in range(count)} | {
        f"s{n}@example.org" for n in range(count)
    } == {each for got in host.messages for each in got.recipients}
    for got in host.messages:
        assert wire_faults(got.wire) == []
        assert b"\r\n.\r\n..dots\r\n" in got.data
        assert b"with ESMTPSA id " in got.data


def test_postfix_is_refused_without_login_and_keeps_its_mail(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("refused")
    with running(place, default='hosts = ["127.0.0.1:9"]') as server:
        text = server.config.read_text().replace('["127.0.0.0/8"]', '["192.0.2.0/24"]')
        server.config.write_text(text)
        server.ask("reload")
        with a_postfix(
            relayhost=f"[127.0.0.1]:{server.port}", soft_bounce="yes", smtp_tls_security_level="may"
        ) as postfix:
            with smtplib.SMTP("127.0.0.1", postfix.port) as client:
                client.sendmail("a@sender.example", "b@example.net", "Subject: x\r\n\r\nbody\r\n")
            postfix.wait_for_log("550 5.7.1 Relaying denied")
        assert server.totals()["messages_in"] == 0


@pytest.fixture(scope="module")
def receiving() -> Iterator[Postfix]:
    with a_postfix(smtpd_tls_security_level="may") as postfix:
        yield postfix


@pytest.fixture(scope="module")
def records() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def sender(records: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    place = tmp_path_factory.mktemp("receiving")
    more = NO_DNS
    for selector, algorithm in {"r": "rsa", "e": "ed25519"}.items():
        text = write_dkim_key(place / f"{selector}.pem", algorithm)
        records[f"{selector}._domainkey.sender.example"] = text
        more += f'\n[[dkim]]\ndomain = "sender.example"\nselector = "{selector}"\nkey_file = "{selector}.pem"\n'
    with a_sender(place, more=more) as sender:
        yield sender


def test_postfix_receives_over_tls_and_both_sides_say_so(
    sender: Sender, receiving: Postfix, records: dict[str, str]
) -> None:
    sender.domain(f"127.0.0.1:{receiving.port}", name=DOMAIN)
    body = "first\r\n.\r\n..dots\r\nTrailing \t\r\n" + "für\r\n" + "x" * 998 + "\r\n\r\n"
    message = f"From: a@sender.example\r\nSubject: over tls\r\n\r\n{body}".encode()
    sender.send(f"in@{DOMAIN}", message=message)
    (record,) = sender.wait_for_records(DOMAIN, "d")
    assert record["dlvTlsProtocol"] == "TLSv1.3"
    assert record["dlvTlsCipher"].startswith("TLS_")
    assert record["dsnDiag"].startswith("smtp;250 2.0.0 Ok: queued as ")
    assert {"PIPELINING", "8BITMIME", "DSN", "SIZE"} <= set(record["dlvEsmtpAvailable"].split(","))
    receiving.wait_for_log("status=sent (delivered to maildir)")
    assert "TLS connection established from" in receiving.log
    (got,) = receiving.mail()
    assert got.endswith(body.encode())
    assert b"(using TLSv1.3 with cipher" in got
    # Without the fields Postfix has put in front, as a verifier at the mailbox would see it.
    assert signatures(got, records) == dict.fromkeys(records, True)


def test_many_recipients_and_large_mail_reach_postfix(sender: Sender, receiving: Postfix) -> None:
    domain = sender.domain(f"127.0.0.1:{receiving.port}", max_connections=5)
    before = len(receiving.mail())
    # Delivered to the one maildir, whoever is named: the domain is rewritten by the envelope below.
    large = b"From: a@sender.example\r\nSubject: large\r\n\r\n" + (b"y" * 70 + b"\r\n") * 30_000
    sender.send(f"large@{DOMAIN}", message=large)
    for number in range(30):
        sender.send(*(f"r{number}.{n}@{DOMAIN}" for n in range(3)))
    sender.wait_for_records(DOMAIN, "d", count=1 + 90)
    receiving.wait_for_log("status=sent (delivered to maildir)", 92)
    assert len(receiving.mail()) == before + 91
    assert any(len(each) > 2_000_000 for each in receiving.mail())
    assert domain


def test_what_postfix_refuses_is_recorded_as_it_said_it_and_tls_is_used_where_it_must_be(
    sender: Sender,
) -> None:
    with a_postfix(
        smtpd_tls_security_level="encrypt",
        message_size_limit="5000",
        smtpd_recipient_restrictions="check_recipient_access inline:{ { no@pf2.example = 550 5.7.1 not here } }, permit",
        virtual_mailbox_domains="pf2.example, pf3.example",
    ) as postfix:
        sender.domain(f"127.0.0.1:{postfix.port}", name="pf2.example")
        sender.send("no@pf2.example", "yes@pf2.example")
        sender.send("big@pf2.example", message=b"Subject: big\r\n\r\n" + b"x" * 78 + b"\r\n" * 4000)
        sender.wait_for_records("pf2.example", "d")
        bounced = sender.wait_for_records("pf2.example", "b", count=2)
        postfix.wait_for_log("status=sent (delivered to maildir)")
        clear = "pf3.example"
        sender.domain(f"127.0.0.1:{postfix.port}", name=clear, tls="none", backoff_initial="1h")
        sender.send(f"x@{clear}")
        (refused,) = sender.wait_for_records(clear, "tq")
        assert "530 5.7.0" in refused["dsnDiag"]
        assert len(postfix.mail()) == 1
    by_name = {each["rcpt"].partition("@")[0]: each for each in bounced}
    assert by_name["no"]["dsnDiag"].startswith("smtp;550 5.7.1 <no@pf2.example>")
    assert by_name["big"]["dsnStatus"].startswith("5.3.4")
