"""Signatures on mail as the next hop got it, judged by dkimpy: which key signs what, and that nothing signed may be added to.

RFC 6376, RFC 8463; reliability.md K1, K2, K6; issue: "key by From domain with wildcard, then envelope sender".
"""

import re
from collections.abc import Iterator

import pytest

from tests.support.dkim import signatures
from tests.support.host import Dialogue, Host
from tests.support.secrets import write_dkim_key
from tests.support.sender import NO_DNS, Sender, a_sender

KEYS = {
    # (domain in the configuration, selector): algorithm and canonicalisation
    ("both.example", "rsa"): ("rsa", "relaxed"),
    ("both.example", "ed"): ("ed25519", "relaxed"),
    ("simple.example", "s"): ("rsa", "simple"),
    ("*.wild.example", "w"): ("ed25519", "relaxed"),
    ("exact.wild.example", "x"): ("ed25519", "relaxed"),
}


@pytest.fixture(scope="module")
def records() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def sender(records: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    place = tmp_path_factory.mktemp("dkim")
    more = NO_DNS
    for (domain, selector), (algorithm, canon) in KEYS.items():
        text = write_dkim_key(place / f"{selector}.pem", algorithm)
        records[f"{selector}._domainkey.{domain.removeprefix('*.')}"] = text
        more += (
            f'\n[[dkim]]\ndomain = "{domain}"\nselector = "{selector}"\nkey_file = "{selector}.pem"'
            f'\nheader_canonicalization = "{canon}"\nbody_canonicalization = "{canon}"\n'
        )
    with a_sender(place, more=more) as sender:
        yield sender


def delivered(
    sender: Sender, host: Host, author: str, envelope: str = "bounce@unsigned.example"
) -> bytes:
    """A message by this author and this envelope sender, as it arrived."""
    domain = sender.domain(host)
    author_field = f"From: {author}\r\n" if author else ""
    message = (
        f"{author_field}To: x@{domain}\r\nSubject:  odd   spaces \r\n\ttabbed\r\n\r\n"
        "body  with\tblanks \r\n\r\nlast\r\n\r\n\r\n"
    )
    sender.send(f"x@{domain}", message=message.encode(), sender=envelope)
    sender.wait_for_records(domain, "d")
    return host.message_to(f"x@{domain}").data


@pytest.mark.parametrize(
    ("author", "envelope", "names"),
    [
        ("a@both.example", "", ["rsa._domainkey.both.example", "ed._domainkey.both.example"]),
        (
            '"A, B" <a@Both.Example>',
            "",
            ["rsa._domainkey.both.example", "ed._domainkey.both.example"],
        ),
        ("a@simple.example", "b@both.example", ["s._domainkey.simple.example"]),
        ("a@deep.down.wild.example", "", ["w._domainkey.wild.example"]),
        ("a@exact.wild.example", "", ["x._domainkey.exact.wild.example"]),
        ("a@wild.example", "", []),  # the wildcard stands for names below
        ("a@other.example", "b@sub.wild.example", ["w._domainkey.wild.example"]),
        ("", "b@simple.example", ["s._domainkey.simple.example"]),
        ("a@other.example", "b@another.example", []),
    ],
)
def test_the_key_is_found_by_author_and_then_by_envelope_sender(
    sender: Sender,
    host: Host,
    records: dict[str, str],
    author: str,
    envelope: str,
    names: list[str],
) -> None:
    got = delivered(sender, host, author, envelope)
    assert signatures(got, records) == dict.fromkeys(names, True)


def test_what_was_signed_cannot_be_added_to_or_changed(
    sender: Sender, host: Host, records: dict[str, str]
) -> None:
    got = delivered(sender, host, "a@both.example")
    header, _, body = got.partition(b"\r\n\r\n")
    changed = {
        "a second From": b"From: evil@x.example\r\n" + got,
        "a second Subject": b"Subject: other\r\n" + got,
        "a Reply-To": b"Reply-To: evil@x.example\r\n" + got,
        "another Subject": got.replace(b"odd", b"even"),
        "more body": got + b"more\r\n",
        "another body": header + b"\r\n\r\n" + body.replace(b"last", b"list"),
    }
    for what, message in changed.items():
        assert not any(signatures(message, records).values()), what
    # What a forwarder may do under relaxed.
    assert all(signatures(got + b"\r\n\r\n", records).values())
    assert all(signatures(b"Received: from x by y; now\r\n" + got, records).values())


def test_no_signature_limits_the_length_of_the_body(sender: Sender, host: Host) -> None:
    got = delivered(sender, host, "a@both.example")
    fields = re.findall(rb"(?m)^DKIM-Signature:(?:.*\r\n)(?:[ \t].*\r\n)*", got)
    assert len(fields) == 2
    for field in fields:
        assert not re.search(rb"[;\s]l=", field)
        assert b"c=relaxed/relaxed" in field
        assert max(map(len, field.split(b"\r\n"))) <= 78
    assert got.index(b"DKIM-Signature") == 0  # above Received and all else


def test_every_attempt_carries_the_same_signature(sender: Sender, records: dict[str, str]) -> None:
    refused: list[bytes] = []

    def greylist(dialogue: Dialogue, command: str) -> bytes | None:
        if command == "." and not refused:
            refused.append(host.messages[-1].data)
            return b"451 4.7.1 come again\r\n"
        return None

    with Host(greylist) as host:
        domain = sender.domain(host)
        message = b"From: a@both.example\r\nSubject: x\r\n\r\nbody\r\n"
        sender.send(f"x@{domain}", message=message)
        sender.wait_for_records(domain, "d")
        assert host.messages[0].data == refused[0]
        assert all(signatures(refused[0], records).values())


def test_a_new_key_is_used_after_a_reload(sender: Sender, host: Host) -> None:
    text = write_dkim_key(sender.server.place / "new.pem", "ed25519")
    sender.add('\n[[dkim]]\ndomain = "new.example"\nselector = "n"\nkey_file = "new.pem"\n')
    got = delivered(sender, host, "a@new.example")
    assert signatures(got, {"n._domainkey.new.example": text}) == {"n._domainkey.new.example": True}
