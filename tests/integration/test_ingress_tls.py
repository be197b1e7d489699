"""TLS at a listener: old versions, certificates of clients that stand for users, and a new certificate by `reload`.

RFC 8996 (TLS 1.2 at least), RFC 3207 §4; issue: "Ingress".
"""

import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.control.protocol import ControlError
from tests.support.daemon import Daemon, free_port, running
from tests.support.host import Host
from tests.support.secrets import Authority, write_certificate
from tests.support.wire import Wire, trusting, wait_until

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"

MORE = """
[[listener]]
address = "127.0.0.1:{optional}"
tls = "implicit"
tls_cert = "cert.pem"
tls_key = "key.pem"
tls_client_ca = "ca.pem"
relay_certificates = ["app1.example.com", "*.apps.example.com"]
max_messages_per_day = 3

[[listener]]
address = "127.0.0.1:{required}"
relay_from = ["127.0.0.0/8"]
tls_cert = "cert.pem"
tls_key = "key.pem"
tls_client_ca = "ca.pem"
tls_client = "required"
relay_certificates = ["app1.example.com"]
"""


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {"optional": free_port(), "required": free_port()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("tls")
    write_certificate(place)
    return place


@pytest.fixture(scope="module")
def authority(place: Path) -> Authority:
    return Authority(place)


@pytest.fixture(scope="module")
def server(
    host: Host, ports: dict[str, int], place: Path, authority: Authority
) -> Iterator[Daemon]:
    with running(
        place,
        server="workers = 2",
        default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
        listener='tls_cert = "cert.pem"\ntls_key = "key.pem"',
        more=MORE.format(**ports),
    ) as daemon:
        yield daemon


def rcpt(wire: Wire) -> str:
    """The answer to RCPT in a new transaction."""
    wire.ask("RSET")
    wire.ask("MAIL FROM:<a@s.example>")
    return wire.ask("RCPT TO:<b@example.net>")[:9]


@pytest.mark.parametrize("name", ["app1.example.com", "APP1.Example.com", "x.apps.example.com"])
def test_a_name_in_a_certificate_stands_for_a_user(
    server: Daemon, ports: dict[str, int], authority: Authority, name: str
) -> None:
    with Wire(ports["optional"], tls=True, context=authority.client(name)) as wire:
        wire.greet()
        assert rcpt(wire) == "250 2.1.5"


@pytest.mark.parametrize(
    "name", ["app2.example.com", "apps.example.com", "*.apps.example.com", "xapps.example.com"]
)
def test_any_other_name_gives_no_rights(
    server: Daemon, ports: dict[str, int], authority: Authority, name: str
) -> None:
    with Wire(ports["optional"], tls=True, context=authority.client(name)) as wire:
        wire.greet()
        assert rcpt(wire) == "550 5.7.1"


def test_without_a_certificate_one_is_served_where_it_is_optional(
    server: Daemon, ports: dict[str, int]
) -> None:
    with Wire(ports["optional"], tls=True) as wire:
        wire.greet()
        assert rcpt(wire) == "550 5.7.1"


def test_the_name_is_the_user_in_the_record_and_in_limits(
    server: Daemon, ports: dict[str, int], authority: Authority
) -> None:
    context = authority.client("limited.apps.example.com")
    with Wire(ports["optional"], tls=True, context=context) as wire:
        wire.greet()
        for _ in range(3):
            answer = wire.deliver(MESSAGE, "a@s.example", "record@example.net")
            assert answer.startswith("250 2.6.0")
        assert wire.ask("MAIL FROM:<a@s.example>").startswith("451 4.7.1")
    wait_until(
        lambda: (
            [
                each["rcvSmtpUser"]
                for each in server.records()
                if each["rcpt"] == "record@example.net"
            ]
            == ["limited.apps.example.com"] * 3
        )
    )


def test_where_a_certificate_is_required_nothing_goes_without(
    server: Daemon, ports: dict[str, int], authority: Authority, place: Path
) -> None:
    with Wire(ports["required"]) as wire:
        wire.greet()
        assert wire.ask("MAIL FROM:<a@s.example>").startswith("530 5.7.0")
    with Wire(ports["required"], context=authority.client("app1.example.com")) as wire:
        wire.greet()
        wire.start_tls()
        assert rcpt(wire) == "250 2.1.5"
    strange = Authority(place, "strange").client("app1.example.com")
    for context in (trusting(), strange):
        with Wire(ports["required"], context=context) as wire:
            wire.greet()
            with pytest.raises((OSError, EOFError)):
                wire.start_tls()
    wait_until(lambda: "a client's TLS handshake failed" in server.log)


def test_tls_before_1_2_is_refused(server: Daemon) -> None:
    context = trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with Wire(server.port, context=context) as wire:
        wire.greet()
        with pytest.raises(OSError):
            wire.start_tls()
    with Wire(server.port) as wire:
        wire.greet()
        wire.start_tls()
        assert isinstance(wire.sock, ssl.SSLSocket)
        assert wire.sock.version() in ("TLSv1.2", "TLSv1.3")


def test_a_reload_takes_a_new_certificate_and_refuses_a_bad_one(
    server: Daemon, place: Path
) -> None:
    def shown() -> bytes | None:
        with Wire(server.port) as wire:
            wire.greet()
            wire.start_tls()
            assert isinstance(wire.sock, ssl.SSLSocket)
            return wire.sock.getpeercert(binary_form=True)

    with Wire(server.port) as running_on:
        running_on.greet()
        old = shown()
        write_certificate(place)
        assert shown() == old  # not before it is told
        server.ask("reload")
        new = {shown() for _ in range(4)}  # both workers
        assert len(new) == 1
        assert new != {old}
        good = (place / "key.pem").read_bytes()
        for bad in (b"", good[:60], make_other_key(place)):
            (place / "key.pem").write_bytes(bad)
            with pytest.raises(ControlError, match=r"key\.pem"):
                server.ask("reload")
            assert {shown()} == new
        (place / "key.pem").write_bytes(good)
        server.ask("reload")
        assert running_on.ask("NOOP").startswith("250")


def make_other_key(place: Path) -> bytes:
    """A sound key that belongs to another certificate."""
    elsewhere = place / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    return write_certificate(elsewhere)[1].read_bytes()
