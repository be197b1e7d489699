"""Mail with UTF-8 in its addresses or header, to hosts that know SMTPUTF8 and to those that do not. RFC 6531, RFC 6152.

The messages lie in the spool before the server starts, so that the sending side is seen alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mta.model.envelope import Content, QueueKey
from tests.support.daemon import running
from tests.support.host import OFFERS, Host
from tests.support.sender import DEFAULT, NO_DNS, Sender
from tests.support.spools import SpoolUnderTest

KNOWS = (*OFFERS, "SMTPUTF8")
SLOWLY = tuple(each for each in OFFERS if each != "PIPELINING")
KEY = QueueKey("xn--bcher-kva.example", "default")
PLAIN = b"Subject: a\r\n\r\nb\r\n"
FANCY = "Subject: grüße\r\n\r\nb\r\n".encode()


@contextmanager
def queued(
    place: Path,
    *recipients: str,
    offers: tuple[str, ...] = OFFERS,
    sender: str = "a@sender.example",
    body: bytes = PLAIN,
    large: int = 0,
) -> Iterator[tuple[Host, Sender]]:
    """A host with these offers, and a server with one message for these recipients that goes there."""
    spool = SpoolUnderTest(place / "spool")
    content = Content.UTF8 if body.isascii() else Content.UTF8 | Content.EIGHT_BIT
    pairs = [(each, KEY) for each in recipients]
    if large:
        spill, done = spool.spool.new_spill(), []
        spill.write(body + b"x" * 70 + b"\r\n")
        spill.finish(done.append)
        spool.loop.until(lambda: done)
        spool.accept(*pairs, sender=sender, body=done[0], content=content)
    else:
        spool.accept(*pairs, sender=sender, body=body, content=content)
    spool.close()
    with Host(offers=offers) as host:
        default = f'{DEFAULT}\nhosts = ["{host.name}"]'
        with running(place, default=default, more=NO_DNS) as server:
            yield host, Sender(server)


@pytest.mark.parametrize("offers", [KNOWS, (*SLOWLY, "SMTPUTF8")])
def test_a_host_that_knows_it_gets_it_as_it_is(tmp_path: Path, offers: tuple[str, ...]) -> None:
    both = "jürgen@bücher.example", "anna@bücher.example"
    with queued(tmp_path, *both, offers=offers, sender="søren@a.example", body=FANCY) as (host, _):
        host.wait_for(messages=1)
    (got,) = host.messages
    assert "SMTPUTF8" in got.mail.split()
    assert "BODY=8BITMIME" in got.mail
    said = [each.encode("latin-1").decode() for each in (got.mail, *got.rcpts)]
    assert "MAIL FROM:<søren@a.example>" in said[0]
    assert said[1].startswith("RCPT TO:<jürgen@bücher.example>")
    assert said[2].startswith("RCPT TO:<anna@bücher.example>")
    assert got.data.endswith(FANCY)


def test_it_is_not_said_where_nothing_needs_it(tmp_path: Path) -> None:
    with queued(tmp_path, "anna@xn--bcher-kva.example", offers=KNOWS) as (host, _):
        host.wait_for(messages=1)
    assert "SMTPUTF8" not in host.messages[0].mail


@pytest.mark.parametrize("offers", [OFFERS, SLOWLY])
@pytest.mark.parametrize("large", [0, 1])
def test_a_host_without_it_gets_what_can_be_said_in_ascii(
    tmp_path: Path, offers: tuple[str, ...], large: int
) -> None:
    """The domain becomes its A-label; a local part in UTF-8 is nobody's to translate, and that recipient fails alone."""
    recipients = [f"{each}@bücher.example" for each in ("jürgen", "anna", "søren", "bob")]
    news = "news@bücher.example"
    with queued(tmp_path, *recipients, offers=offers, sender=news, large=large) as (host, sender):
        host.wait_for(messages=1)
        records = sender.wait_for_records(KEY.domain, "b", count=2)
    (got,) = host.messages
    assert got.mail.startswith("MAIL FROM:<news@xn--bcher-kva.example>")
    assert got.recipients == ["anna@xn--bcher-kva.example", "bob@xn--bcher-kva.example"]
    assert sorted(each["rcpt"] for each in records) == [
        "jürgen@bücher.example",
        "søren@bücher.example",
    ]
    assert all(each["dsnStatus"].startswith("5.6.7") for each in records)


@pytest.mark.parametrize(
    ("recipient", "sender", "body", "status"),
    [
        ("anna@bücher.example", "søren@a.example", PLAIN, "5.6.7"),
        ("jürgen@bücher.example", "a@a.example", PLAIN, "5.6.7"),
        ("anna@bücher.example", "a@a.example", FANCY, "5.6.9"),
    ],
)
def test_what_a_host_without_it_cannot_be_told_fails_and_nothing_is_said(
    tmp_path: Path, recipient: str, sender: str, body: bytes, status: str
) -> None:
    with queued(tmp_path, recipient, sender=sender, body=body) as (host, server):
        (record,) = server.wait_for_records(KEY.domain, "b")
    assert record["dsnStatus"].startswith(status)
    assert not host.messages
    assert not any(
        each.startswith("MAIL") for dialogue in host.dialogues for each in dialogue.commands
    )


def test_a_header_in_utf8_still_needs_a_host_that_takes_8_bits(tmp_path: Path) -> None:
    offers = tuple(each for each in KNOWS if each != "8BITMIME")
    with queued(tmp_path, "anna@a.example", offers=offers, body=FANCY) as (_, server):
        (record,) = server.wait_for_records(KEY.domain, "b")
    assert record["dsnStatus"].startswith("5.6.3")
