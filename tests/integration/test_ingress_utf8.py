"""Mail with UTF-8 in its addresses or header, as a client hands it in (RFC 6531, RFC 6532; reliability.md S8).

A domain written with U-labels and with A-labels is one domain, and has one queue.
"""

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from tests.support.daemon import Daemon, free_port, running
from tests.support.wire import Wire

PLAIN = b"From: a@sender.example\r\nSubject: x\r\n\r\nbody\r\n"
HEADER = "From: Jörg <jörg@bücher.example>\r\nSubject: Grüße\r\n\r\nbody\r\n".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    place = tmp_path_factory.mktemp("utf8")
    with running(place, default=f'hosts = ["127.0.0.1:{free_port()}"]\nretry = ["1h"]') as daemon:
        yield daemon


def hand_in(server: Daemon, sender: str, *recipients: str, message: bytes = PLAIN) -> str:
    """The answer to a message that says SMTPUTF8."""
    with Wire(server.port) as wire:
        assert "SMTPUTF8" in wire.greet()
        wire.send(f"MAIL FROM:<{sender}> SMTPUTF8\r\n".encode())
        assert wire.reply().startswith("250")
        for each in recipients:
            wire.send(f"RCPT TO:<{each}>\r\n".encode())
            assert wire.reply().startswith("250")
        assert wire.ask("DATA").startswith("354")
        wire.send(message + b".\r\n")
        return wire.reply()


def test_one_domain_has_one_queue_however_it_is_written(server: Daemon) -> None:
    spellings = ["bücher.example", "BÜCHER.Example", "xn--bcher-kva.example", "bücher。example"]
    for number, domain in enumerate(spellings):
        answer = hand_in(server, "jörg@bücher.example", f"用户{number}@{domain}")
        assert answer.startswith("250 2.6.0")
    queues = {each["queue"]: each for each in server.ask("queues")["queues"]}
    assert "xn--bcher-kva.example/default" in queues
    assert not any("bücher" in name for name in queues)


def test_the_messages_are_found_by_their_addresses(server: Daemon) -> None:
    answer = hand_in(server, "", "jörg@found.example", "ascii@found.example", message=HEADER)
    assert answer.startswith("250 2.6.0")
    found = server.ask("messages.list", recipient="jörg@found.example")["recipients"]
    assert [each["recipient"] for each in found] == ["jörg@found.example"]


def test_without_smtputf8_an_address_in_utf8_is_refused_and_the_session_lives(
    server: Daemon,
) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        wire.send("MAIL FROM:<jörg@x.example>\r\n".encode())
        assert wire.reply().startswith("553 5.6.7")
        assert wire.ask("MAIL FROM:<a@x.example>").startswith("250")
        wire.send("RCPT TO:<jörg@x.example>\r\n".encode())
        assert wire.reply().startswith("553 5.6.7")
        wire.send("RCPT TO:<jörg@x.example>\r\n".encode("latin-1"))
        assert wire.reply().startswith("501 5.5.2")
        assert wire.ask("NOOP").startswith("250")


def test_a_header_that_says_utf8_is_utf8(server: Daemon) -> None:
    latin = "Subject: Grüße\r\n\r\nbody\r\n".encode("latin-1")
    assert hand_in(server, "a@s.example", "b@x.example", message=latin).startswith("550 5.6.0")
    assert hand_in(server, "a@s.example", "b@x.example", message=HEADER).startswith("250")
    with Wire(server.port) as wire:  # without the word it is 8-bit text, as it always was
        wire.greet()
        assert wire.deliver(latin).startswith("250 2.6.0")


def test_smtplib_is_understood(server: Daemon) -> None:
    message = EmailMessage()
    message["From"] = "jörg@bücher.example"
    message["To"] = "用户@smtplib.example"
    message["Subject"] = "Grüße"
    message.set_content("für alle\n")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        assert client.send_message(message) == {}
    found = server.ask("messages.list", recipient="用户@smtplib.example")["recipients"]
    assert [each["queue"] for each in found] == ["smtplib.example/default"]
