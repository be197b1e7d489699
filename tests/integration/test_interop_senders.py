"""Other people's servers that relay through us, over STARTTLS and logged in: Postfix, Exim, OpenSMTPD.

Each is given every body by a client of its own and sends it on to us; what a raw host gets from us is compared byte by byte.
What a peer does with an extension is asked for where our EHLO offers it, and must not be seen where it does not.
"""

import smtplib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from tests.support.bodies import BODIES, a_message, body_of, subject_of
from tests.support.daemon import Daemon, free_port, running
from tests.support.exim import an_exim, needs_exim
from tests.support.host import OFFERS, Host, Received, wire_faults
from tests.support.opensmtpd import an_opensmtpd, needs_opensmtpd
from tests.support.peers import WAIT_S, Mta, Smarthost
from tests.support.postfix import a_postfix, needs_postfix, relaying
from tests.support.secrets import write_certificate, write_users
from tests.support.wire import Wire, wait_until

USER, PASSWORD = "relay", "correct-horse"
RECIPIENTS = 3

pytestmark = pytest.mark.root


@dataclass
class Scene:
    """We, the host behind us, and the listener that takes nothing without login."""

    server: Daemon
    host: Host
    smarthost: Smarthost

    @property
    def offers(self) -> set[str]:
        """The keywords we say inside TLS."""
        with Wire(self.smarthost.port) as wire:
            wire.greet()
            lines = wire.start_tls().splitlines()[1:]
        return {line[4:].partition(" ")[0] for line in lines}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("senders")
    write_certificate(place)
    write_users(place, **{USER: PASSWORD})
    port = free_port()
    with (
        Host(offers=(*OFFERS, "SMTPUTF8", "DSN")) as host,
        running(
            place,
            default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
            more=f'[[listener]]\naddress = "127.0.0.1:{port}"\n'
            'tls_cert = "cert.pem"\ntls_key = "key.pem"\nauth_users = "users.toml"\n',
        ) as server,
    ):
        yield Scene(server, host, Smarthost(port, USER, PASSWORD))


def start(name: str, smarthost: Smarthost) -> AbstractContextManager[Mta]:
    """The peer of this name, relaying to the smart host."""
    if name == "postfix":
        return a_postfix(**relaying(smarthost))
    return {"exim": an_exim, "opensmtpd": an_opensmtpd}[name](smarthost)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("postfix", marks=needs_postfix),
        pytest.param("exim", marks=needs_exim),
        pytest.param("opensmtpd", marks=needs_opensmtpd),
    ],
)
def peer(request: pytest.FixtureRequest, scene: Scene) -> Iterator[Mta]:
    with start(request.param, scene.smarthost) as peer:
        yield peer


def arrived(scene: Scene, peer: Mta, domain: str, recipients: int) -> list[Received]:
    """What the host has for a domain once so many recipients are served."""

    def found() -> list[Received]:
        return [m for m in scene.host.messages if m.recipients[0].endswith(f"@{domain}")]

    try:
        wait_until(lambda: sum(len(m.recipients) for m in found()) >= recipients, WAIT_S)
    except AssertionError:
        raise AssertionError(f"{found()}\n{peer.log}\n{scene.server.log}") from None
    return found()


def test_each_body_passes_through_us_byte_by_byte(scene: Scene, peer: Mta) -> None:
    domain = f"from-{peer.domain}"
    with smtplib.SMTP("127.0.0.1", peer.port, timeout=20) as client:
        for name in BODIES:
            recipients = [f"{name.replace(' ', '-')}.{n}@{domain}" for n in range(RECIPIENTS)]
            message = a_message(name, recipients[0])
            assert client.sendmail("a@sender.example", recipients, message, ["BODY=8BITMIME"]) == {}
    messages = arrived(scene, peer, domain, len(BODIES) * RECIPIENTS)
    assert {subject_of(each.data) for each in messages} == set(BODIES)
    for each in messages:
        name = subject_of(each.data)
        assert body_of(each.data) == BODIES[name], name
        assert wire_faults(each.wire) == []
        assert b"with ESMTPSA id " in each.data, "not over TLS, or not logged in"
        assert "BODY=8BITMIME" in each.mail or BODIES[name].isascii(), name
    served = [address for each in messages for address in each.recipients]
    assert len(served) == len(set(served)) == len(BODIES) * RECIPIENTS


@pytest.mark.parametrize("peer", [pytest.param("exim", marks=needs_exim)], indirect=True)
def test_exim_pipelines_and_chunks_as_our_ehlo_says(scene: Scene, peer: Mta) -> None:
    domain = "flags.example"
    with smtplib.SMTP("127.0.0.1", peer.port, timeout=20) as client:
        client.sendmail(
            "a@sender.example", [f"x@{domain}"], a_message("dots", f"x@{domain}"), ["BODY=8BITMIME"]
        )
    arrived(scene, peer, domain, 1)
    wait_until(lambda: f"=> x@{domain}" in peer.log)
    line = next(each for each in peer.log.splitlines() if f"=> x@{domain}" in each)
    # Exim's log: A the authenticator, L pipelined, K sent by BDAT (its specification, "Log files").
    assert " A=login " in line
    assert (" L " in line) == ("PIPELINING" in scene.offers)
    assert (" K " in line) == ("CHUNKING" in scene.offers)


WITH_SMTPUTF8 = [
    pytest.param("postfix", marks=needs_postfix),
    pytest.param("exim", marks=needs_exim),
]


@pytest.mark.parametrize("peer", WITH_SMTPUTF8, indirect=True)
def test_addresses_in_utf8_pass_through_us(scene: Scene, peer: Mta) -> None:
    if "SMTPUTF8" not in scene.offers:
        pytest.skip("our EHLO does not say SMTPUTF8")
    domain, sender = f"utf8-{peer.domain}", "grüße@sender.example"
    recipient = f"日本@{domain}"
    message = a_message("eight bits", recipient, sender)
    with smtplib.SMTP("127.0.0.1", peer.port, timeout=20) as client:
        client.ehlo()
        client.sendmail(sender, [recipient], message, ["SMTPUTF8", "BODY=8BITMIME"])
    (got,) = arrived(scene, peer, domain, 1)
    as_read = {text: text.encode().decode("latin-1") for text in (sender, recipient)}
    assert got.recipients == [as_read[recipient]]
    assert f"<{as_read[sender]}>" in got.mail
    assert "SMTPUTF8" in got.mail
    assert body_of(got.data) == BODIES["eight bits"]
    assert f"To: {recipient}\r\n".encode() in got.data


@pytest.mark.parametrize("peer", [pytest.param("postfix", marks=needs_postfix)], indirect=True)
def test_what_a_sender_wants_to_hear_of_passes_through_us(scene: Scene, peer: Mta) -> None:
    """RFC 3461: Postfix hands on NOTIFY, ENVID and ORCPT where our EHLO says DSN, and so do we."""
    domain = "dsn.example"
    with smtplib.SMTP("127.0.0.1", peer.port, timeout=20) as client:
        client.sendmail(
            "a@sender.example",
            [f"x@{domain}"],
            a_message("plain", f"x@{domain}"),
            ["RET=HDRS", "ENVID=number-7"],
            ["NOTIFY=NEVER", f"ORCPT=rfc822;first@{domain}"],
        )
    (got,) = arrived(scene, peer, domain, 1)
    is_offered = "DSN" in scene.offers
    (rcpt,) = got.rcpts
    assert ("ENVID=number-7" in got.mail) == is_offered
    assert ("NOTIFY=NEVER" in rcpt) == is_offered
    assert (f"ORCPT=rfc822;first@{domain}" in rcpt) == is_offered
