"""STARTTLS towards the next hop: opportunistic with one plain retry, required, none; and what a man in the middle may try.

Raw hosts, each on an address of its own, because a host whose TLS is broken is remembered. RFC 3207, RFC 7435; reliability.md
D9 and S-series TLS rows; issue: "opportunistic STARTTLS with one plain retry on a new connection".
"""

import itertools
import ssl
from collections.abc import Iterator

import pytest

from mta.lab.certificate import make_server_context
from tests.support.host import Dialogue, HangUp, Host, Script
from tests.support.sender import Sender, a_sender
from tests.support.wire import wait_until

_addresses = itertools.count(1)


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    with a_sender(tmp_path_factory.mktemp("tls")) as sender:
        yield sender


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    return make_server_context("host.example")


def a_host(script: Script | None = None, context: ssl.SSLContext | None = None) -> Host:
    return Host(script, context=context, address=f"127.0.5.{next(_addresses)}")


def test_where_starttls_is_offered_mail_goes_over_tls(
    sender: Sender, context: ssl.SSLContext
) -> None:
    with a_host(context=context) as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "d")
    assert host.messages[0].tls
    assert record["dlvTlsProtocol"] == "TLSv1.3"
    assert record["dlvTlsCipher"].startswith("TLS_")
    assert "STARTTLS" not in record["dlvEsmtpAvailable"]  # what counts was said inside TLS
    # EHLO again inside TLS (RFC 3207 §4.2).
    commands = [each.partition(" ")[0] for each in host.dialogues[0].commands[:4]]
    assert commands == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


def test_where_it_is_not_offered_mail_goes_in_the_clear(sender: Sender) -> None:
    with a_host() as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "d")
    assert (record["dlvTlsProtocol"], record["dlvTlsCipher"]) == ("", "")


def test_none_never_asks_for_tls(sender: Sender, context: ssl.SSLContext) -> None:
    with a_host(context=context) as host:
        domain = sender.domain(host, tls="none")
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
    assert not host.messages[0].tls
    assert "STARTTLS" not in host.dialogues[0].commands


def test_require_uses_tls_where_it_is(sender: Sender, context: ssl.SSLContext) -> None:
    with a_host(context=context) as host:
        domain = sender.domain(host, tls="require")
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
    assert host.messages[0].tls


def hang_up(dialogue: Dialogue, command: str) -> bytes | None:
    """The connection ends where the handshake should begin."""
    if command == "STARTTLS":
        raise HangUp(b"220 2.0.0 go ahead\r\n")
    return None


def fall_silent(dialogue: Dialogue, command: str) -> bytes | None:
    """220, and then no handshake: what comes is read and not answered."""
    return b"" if "STARTTLS" in dialogue.commands and command != "STARTTLS" else None


def refuse(dialogue: Dialogue, command: str) -> bytes | None:
    """It offered STARTTLS and will not."""
    return b"454 4.7.0 no TLS now\r\n" if command == "STARTTLS" else None


class OldTls:
    """Contexts whose handshake fails with us."""

    def __init__(self) -> None:
        self.context = make_server_context("host.example")
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_ciphers("ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0")  # a cipher we do not offer


def offering(script: Script | None, context: ssl.SSLContext | None) -> Host:
    """A host that says STARTTLS though nothing good comes of it."""
    host = a_host(script, context)
    if context is None:
        host.offers = (*host.offers, "STARTTLS")
    return host


BROKEN = {
    "hangs up": lambda: offering(hang_up, make_server_context("host.example")),
    # It has no TLS at all, and takes the ClientHello for a command.
    "talks on in the clear": lambda: offering(None, None),
    "falls silent": lambda: offering(fall_silent, None),
    "has no cipher in common": lambda: offering(None, OldTls().context),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_handshake_that_fails_is_followed_by_one_plain_try_on_a_new_connection(
    sender: Sender, how: str
) -> None:
    with BROKEN[how]() as host:
        domain = sender.domain(host, idle_timeout="0s", timeouts={"starttls": "0.5s"})
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
        (record,) = sender.wait_for_records(domain, "d")
        assert len(host.dialogues) == 2
        assert "STARTTLS" in host.dialogues[0].commands
        assert not any(each.startswith("MAIL") for each in host.dialogues[0].commands)
        assert "STARTTLS" not in host.dialogues[1].commands
        assert not host.messages[0].tls
        assert record["dlvTlsProtocol"] == ""
        assert sender.records(domain, "t", "tq", "b") == []
        # It is remembered: the next connection does not pay for the same failure.
        wait_until(lambda: host.dialogues[1].over)
        sender.send(f"y@{domain}")
        host.wait_for(messages=2)
        assert len(host.dialogues) == 3
        assert "STARTTLS" not in host.dialogues[2].commands


def test_another_port_of_a_host_whose_tls_is_broken_is_another_server(
    sender: Sender, context: ssl.SSLContext
) -> None:
    broken = BROKEN["hangs up"]()
    with broken, Host(context=context, address=broken.address) as good:
        domain, beside = sender.domain(broken), sender.domain(good)
        sender.send(f"x@{domain}")
        broken.wait_for(messages=1)
        sender.send(f"x@{beside}")
        good.wait_for(messages=1)
    assert not broken.messages[0].tls
    assert good.messages[0].tls


def test_a_host_that_refuses_starttls_gets_the_mail_on_the_same_connection(
    sender: Sender, context: ssl.SSLContext
) -> None:
    with a_host(refuse, context) as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
    assert len(host.dialogues) == 1


@pytest.mark.parametrize("how", [*BROKEN, "refuses", "does not offer it"])
def test_with_require_mail_waits_and_is_never_sent_in_the_clear(sender: Sender, how: str) -> None:
    makers = {
        **BROKEN,
        "refuses": lambda: offering(refuse, make_server_context("host.example")),
        "does not offer it": a_host,
    }
    with makers[how]() as host:
        domain = sender.domain(
            host, tls="require", backoff_initial="1h", timeouts={"starttls": "0.5s"}
        )
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "tq")
        assert "4." in record["dsnStatus"]
        assert any("backoff" in each["what"] for each in sender.waits(f"{domain}/default"))
    assert not any(
        command.startswith("MAIL") for each in host.dialogues for command in each.commands
    )
    assert sender.records(domain, "d", "b", "t") == []


@pytest.mark.parametrize("tls", ["opportunistic", "require"])
def test_bytes_behind_the_220_to_starttls_abort_the_connection(
    sender: Sender, context: ssl.SSLContext, tls: str
) -> None:
    def inject(dialogue: Dialogue, command: str) -> bytes | None:
        # What a man in the middle adds in the clear: an answer to the EHLO that will come inside TLS.
        injected = b"220 2.0.0 go\r\n250-host.example\r\n250 SIZE 1\r\n"
        return injected if command == "STARTTLS" and dialogue.number == 0 else None

    with a_host(inject, context) as host:
        domain = sender.domain(host, tls=tls)
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
    assert not any(each.startswith(("MAIL", "RCPT")) for each in host.dialogues[0].commands)
    assert host.dialogues[0].over
    # Nothing of what was injected counts: the message is beyond "SIZE 1" and arrives all the same.
    (got,) = host.messages
    assert got.connection > 0
    if tls == "require":
        assert got.tls
