"""What we send, as other people's servers take it: Postfix, Exim, OpenSMTPD and aiosmtpd, over STARTTLS.

A peer whose own TLS is broken must still get its mail: in the clear, on a second connection.
Bodies are compared byte by byte in the peer's mailbox, and our signatures must verify there, with whatever it put in front.
"""

import smtplib
import ssl
from collections.abc import Iterator

import pytest

from tests.support.aiosmtpd_peer import an_aiosmtpd
from tests.support.bodies import BODIES, a_message, body_of, subject_of
from tests.support.dkim import signatures
from tests.support.exim import an_exim, needs_exim
from tests.support.opensmtpd import an_opensmtpd, needs_opensmtpd
from tests.support.peers import Mta, wait_for_mail
from tests.support.postfix import a_postfix, needs_postfix
from tests.support.secrets import write_dkim_key
from tests.support.sender import NO_DNS, Sender, a_sender
from tests.support.wire import trusting, wait_until

STARTS = {
    "postfix": lambda: a_postfix(smtpd_tls_security_level="may"),
    "exim": an_exim,
    "opensmtpd": an_opensmtpd,
    "aiosmtpd": an_aiosmtpd,
}
PEERS = [
    pytest.param("postfix", marks=[needs_postfix, pytest.mark.root]),
    pytest.param("exim", marks=[needs_exim, pytest.mark.root]),
    pytest.param("opensmtpd", marks=[needs_opensmtpd, pytest.mark.root]),
    "aiosmtpd",
]


@pytest.fixture(scope="module")
def dkim_records() -> dict[str, str]:
    """What DNS says of our keys: name → text."""
    return {}


@pytest.fixture(scope="module")
def sender(
    dkim_records: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sender]:
    place = tmp_path_factory.mktemp("receivers")
    more = NO_DNS
    for selector, algorithm in {"r": "rsa", "e": "ed25519"}.items():
        text = write_dkim_key(place / f"{selector}.pem", algorithm)
        dkim_records[f"{selector}._domainkey.sender.example"] = text
        more += f'\n[[dkim]]\ndomain = "sender.example"\nselector = "{selector}"\nkey_file = "{selector}.pem"\n'
    with a_sender(place, more=more) as sender:
        yield sender


@pytest.fixture(scope="module", params=PEERS)
def peer(request: pytest.FixtureRequest, sender: Sender) -> Iterator[Mta]:
    with STARTS[request.param]() as peer:
        sender.domain(f"127.0.0.1:{peer.port}", name=peer.domain, max_connections=2)
        yield peer


def does_tls(peer: Mta) -> bool:
    """Whether an independent client gets through its handshake: Debian 12's OpenSMTPD offers STARTTLS and cannot do it."""
    with smtplib.SMTP("127.0.0.1", peer.port, timeout=20) as client:
        try:
            client.starttls(context=trusting())
        except ssl.SSLError:
            client.close()
            return False
        client.ehlo()
        return True


def test_each_body_arrives_byte_by_byte_and_its_signatures_verify(
    sender: Sender, peer: Mta, dkim_records: dict[str, str]
) -> None:
    for name in BODIES:
        recipient = f"{name.replace(' ', '-')}@{peer.domain}"
        sender.send(recipient, message=a_message(name, recipient))
    arrived = {subject_of(each): each for each in wait_for_mail(peer, len(BODIES))}
    assert set(arrived) == set(BODIES)
    for name, message in arrived.items():
        assert body_of(message) == BODIES[name], name
        assert signatures(message, dkim_records) == dict.fromkeys(dkim_records, True), name
    protocol = "TLSv1.3" if does_tls(peer) else ""
    for record in sender.wait_for_records(peer.domain, "d", count=len(BODIES)):
        assert record["dlvTlsProtocol"] == protocol
        assert {"8BITMIME", "SIZE"} <= set(record["dlvEsmtpAvailable"].split(","))


def test_many_recipients_of_one_message_are_all_served(sender: Sender, peer: Mta) -> None:
    recipients = {f"one-of-{n}@{peer.domain}" for n in range(30)}
    # aiosmtpd keeps a transaction; the others put a copy into a mailbox for each recipient.
    copies = 1 if peer.domain == "aiosmtpd.example" else len(recipients)
    sender.send(*sorted(recipients), message=a_message("plain", "all@lists.example"))
    wait_until(lambda: sum(b"To: all@" in each for each in peer.mail()) == copies)
    arrived = [body_of(each) for each in peer.mail() if b"To: all@" in each]
    assert arrived == [BODIES["plain"]] * copies
    wait_until(lambda: recipients <= {r["rcpt"] for r in sender.records(peer.domain, "d")})


def test_an_address_in_utf8_goes_to_those_who_say_smtputf8_and_to_no_one_else(
    sender: Sender, peer: Mta
) -> None:
    recipient = f"jürgen@{peer.domain}"
    with smtplib.SMTP("127.0.0.1", sender.server.port, timeout=20) as client:
        client.ehlo()
        if not client.has_extn("SMTPUTF8"):
            pytest.skip("our EHLO does not say SMTPUTF8")
        message = a_message("spaces", recipient)
        client.sendmail("a@sender.example", [recipient], message, ["SMTPUTF8", "BODY=8BITMIME"])
    with smtplib.SMTP("127.0.0.1", peer.port, timeout=20) as client:
        client.ehlo()
        says_it = client.has_extn("SMTPUTF8")

    def ends() -> list[dict[str, str]]:
        records = sender.records(peer.domain, "d", "b", complete=False)
        return [each for each in records if each["rcpt"] == recipient]

    wait_until(ends)
    (record,) = ends()
    assert record["type"] == ("d" if says_it else "b")
    if says_it:
        wait_until(lambda: any(f"To: {recipient}".encode() in each for each in peer.mail()))
    else:
        # RFC 6531 §3.5; RFC 6710: the address cannot go there, and neither can the header.
        assert record["dsnStatus"].startswith(("5.6.7", "5.6.9"))
