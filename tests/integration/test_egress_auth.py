"""Logging in at a smart host: who hears the password, and that nobody else ever does. RFC 4954, RFC 2195, RFC 4616.

Hosts are raw ones, and aiosmtpd, whose authentication is not ours.
"""

import base64
import hmac
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from mta.control.protocol import ControlError
from mta.lab.certificate import make_certificate
from tests.support.daemon import free_port
from tests.support.host import OFFERS, Dialogue, Host, Script
from tests.support.names import Names
from tests.support.sender import Sender, a_sender
from tests.support.wire import wait_until

USER, PASSWORD = "relay@example.com", "s3cret-Pässword"
MECHANISMS = (*OFFERS, "AUTH PLAIN LOGIN CRAM-MD5")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("auth")
    secret = place / "password"
    secret.touch(0o600)
    secret.write_text(PASSWORD + "\n")
    return place


@pytest.fixture(scope="module")
def context(place: Path) -> ssl.SSLContext:
    certificate, key = make_certificate("localhost")
    (place / "ca.pem").write_bytes(certificate)
    (place / "both.pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "both.pem")
    return context


@pytest.fixture(scope="module")
def sender(place: Path, context: ssl.SSLContext) -> Iterator[Sender]:
    del context
    with Names() as names:
        names.dns.add("localhost", "A", "127.0.0.1")
        with a_sender(place, more=f'[dns]\nservers = ["{names.address}"]') as sender:
            yield sender
            assert_never_shown(sender)


def assert_never_shown(sender: Sender) -> None:
    for said in (PASSWORD, base64.b64encode(PASSWORD.encode()).decode()):
        assert said not in sender.server.log


def login(**more: str) -> dict[str, str]:
    return {"user": USER, "password_file": "password", **more}


def takes(mechanism: str, judge: Callable[[list[str]], bool]) -> Script:
    """A script that knows one mechanism and takes no mail before; `judge` is given the lines of the client."""
    lines: list[str] = []
    good: list[bool] = []

    def script(dialogue: Dialogue, command: str) -> bytes | None:
        if command.startswith("AUTH "):
            lines[:] = [command]
        elif lines and not good:
            lines.append(command)
        else:
            return None if good or command[:4] != "MAIL" else b"530 5.7.0 log in first\r\n"
        if mechanism == "CRAM-MD5" and len(lines) == 1:
            return b"334 PDE4OTYuNjk3QHg+\r\n"
        if mechanism == "LOGIN" and len(lines) < 3:
            return b"334 VXNlcm5hbWU6\r\n" if len(lines) == 1 else b"334 UGFzc3dvcmQ6\r\n"
        good[:] = [True] if judge(lines) else []
        return b"235 2.7.0 welcome\r\n" if good else b"535 5.7.8 no\r\n"

    return script


def said_plain(lines: list[str]) -> bool:
    return base64.b64decode(lines[0].split()[2]) == f"\0{USER}\0{PASSWORD}".encode()


def said_login(lines: list[str]) -> bool:
    return [base64.b64decode(each).decode() for each in lines[1:]] == [USER, PASSWORD]


def said_cram_md5(lines: list[str]) -> bool:
    digest = hmac.digest(PASSWORD.encode(), b"<1896.697@x>", "md5").hex()
    return base64.b64decode(lines[1]).decode() == f"{USER} {digest}"


@pytest.mark.parametrize(
    ("mechanism", "judge"),
    [("PLAIN", said_plain), ("LOGIN", said_login), ("CRAM-MD5", said_cram_md5)],
)
def test_each_mechanism_logs_in_once_a_connection(
    sender: Sender, context: ssl.SSLContext, mechanism: str, judge: Callable[[list[str]], bool]
) -> None:
    with Host(
        takes(mechanism, judge), offers=(*OFFERS, f"AUTH {mechanism}"), context=context
    ) as host:
        domain = sender.domain(f"localhost:{host.port}", auth=login(ca_file="ca.pem"))
        for number in range(3):
            sender.send(f"r{number}@{domain}")
        host.wait_for(messages=3)
        assert all(message.tls for message in host.messages)
    assert sum(each.startswith("AUTH") for each in host.dialogues[0].commands) == 1


def test_a_refused_login_is_our_mistake_and_mail_waits(
    sender: Sender, context: ssl.SSLContext
) -> None:
    def refuse(_: Dialogue, command: str) -> bytes | None:
        return b"535 5.7.8 bad credentials\r\n" if command.startswith("AUTH") else None

    with Host(refuse, offers=MECHANISMS, context=context) as host:
        domain = sender.domain(f"localhost:{host.port}", auth=login(ca_file="ca.pem"))
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "tq")[:1]
        assert "refused our login as relay@example.com" in record["dsnDiag"]
        assert "bad credentials" in record["dsnDiag"]
        said = str(sender.waits(domain)) + str(sender.server.ask("explain", what=domain))
        assert "refused our login" in said
        assert PASSWORD not in said
        assert not sender.records(domain, "b")
        host.script = takes("PLAIN", said_plain)
        sender.wait_for_records(domain, "d")
    assert not any("MAIL" in each for each in host.dialogues[0].commands)


@pytest.mark.parametrize("trouble", ["no TLS", "unknown certificate", "other name"])
def test_the_password_is_kept_from_a_host_that_does_not_prove_its_name(
    sender: Sender, context: ssl.SSLContext, trouble: str
) -> None:
    with Host(offers=MECHANISMS, context=None if trouble == "no TLS" else context) as host:
        name = host.name if trouble == "other name" else f"localhost:{host.port}"
        ca = {} if trouble == "unknown certificate" else {"ca_file": "ca.pem"}
        domain = sender.domain(name, auth=login(**ca))
        sender.send(f"x@{domain}")
        record = sender.wait_for_records(domain, "tq")[0]
        assert "TLS" in record["dsnDiag"]
    assert not host.messages
    assert not any("AUTH" in command for each in host.dialogues for command in each.commands)


def test_less_is_enough_where_the_configuration_says_so(
    sender: Sender, context: ssl.SSLContext
) -> None:
    with Host(takes("PLAIN", said_plain), offers=MECHANISMS, context=context) as host:
        domain = sender.domain(host, auth=login(tls="encrypted"))
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
        assert host.messages[0].tls
    with Host(takes("CRAM-MD5", said_cram_md5), offers=MECHANISMS) as host:
        domain = sender.domain(host, auth=login(tls="none"))
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)


def test_a_smart_host_in_tls_from_the_first_byte_gets_login_and_mail(
    sender: Sender, context: ssl.SSLContext
) -> None:
    script = takes("PLAIN", said_plain)
    with Host(script, offers=MECHANISMS, context=context, starts_in_tls=True) as host:
        domain = sender.domain(
            f"localhost:{host.port}", tls="implicit", auth=login(ca_file="ca.pem")
        )
        sender.send(f"x@{domain}", f"y@{domain}")
        found = sender.wait_for_records(domain, "d", count=2)
        assert all(each["dlvTlsProtocol"].startswith("TLSv1") for each in found)
        assert host.message_to(f"x@{domain}").tls
        assert not any(each.startswith("STARTTLS") for each in host.dialogues[0].commands)


def test_port_465_is_spoken_to_in_tls_without_being_told(
    sender: Sender, context: ssl.SSLContext
) -> None:
    try:
        host = Host(context=context, starts_in_tls=True, address="127.0.0.7", port=465)
    except OSError as error:
        pytest.skip(f"port 465 cannot be had here: {error}")
    with host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
        assert host.messages[0].tls


def test_in_implicit_tls_nothing_is_said_in_the_clear_and_mail_waits(
    sender: Sender, context: ssl.SSLContext
) -> None:
    with Host(offers=MECHANISMS) as plain:
        domain = sender.domain(plain, tls="implicit")
        sender.send(f"x@{domain}")
        found = sender.wait_for_records(domain, "tq", count=3)
        assert [each["dsnDiag"] for each in found if "TLS handshake" not in each["dsnDiag"]] == []
        said = [each.bytes[:2] for each in plain.dialogues if each.bytes]
        assert set(said) <= {b"\x16\x03"}  # a ClientHello at most
    with Host(offers=MECHANISMS, context=context, starts_in_tls=True) as other_name:
        domain = sender.domain(other_name, tls="implicit", auth=login(ca_file="ca.pem"))
        sender.send(f"x@{domain}")
        assert "TLS" in sender.wait_for_records(domain, "tq")[0]["dsnDiag"]
        assert not any(each.commands for each in other_name.dialogues)


def test_a_host_that_offers_no_login_gets_no_mail(sender: Sender, context: ssl.SSLContext) -> None:
    with Host(context=context) as host:
        domain = sender.domain(host, auth=login(tls="encrypted"))
        sender.send(f"x@{domain}")
        assert "offers none of PLAIN" in sender.wait_for_records(domain, "tq")[0]["dsnDiag"]
    assert not host.messages


def test_a_password_is_never_said_to_hosts_that_another_section_names(sender: Sender) -> None:
    with Host(offers=MECHANISMS) as other:
        sender.add(
            '[vmta.default]\nhosts = ["127.0.0.1:9"]\n'
            f'auth = {{ user = "{USER}", password_file = "password", tls = "none" }}\n'
        )
        domain = sender.domain(other)
        sender.send(f"x@{domain}")
        other.wait_for(messages=1)
    assert not any(each.startswith("AUTH") for each in other.dialogues[0].commands)


def test_a_password_without_hosts_or_that_others_can_read_is_a_mistake(
    sender: Sender, place: Path
) -> None:
    with pytest.raises(ControlError, match="needs hosts"):
        _reload_with(
            sender,
            f'[domain."m1.example"]\nauth = {{ user = "{USER}", password_file = "password" }}\n',
        )
    (place / "open").write_text("x\n")
    (place / "open").chmod(0o644)
    with pytest.raises(ControlError, match="chmod 600"):
        _reload_with(
            sender,
            f'[domain."m2.example"]\nhosts = ["127.0.0.1"]\nauth = {{ user = "{USER}", password_file = "open" }}\n',
        )


def _reload_with(sender: Sender, text: str) -> None:
    before = sender.server.config.read_text()
    try:
        sender.server.config.write_text(before + text)
        sender.server.ask("reload")
    finally:
        sender.server.config.write_text(before)


class Judge:
    """aiosmtpd's authenticator."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def __call__(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        del server, session, envelope
        assert isinstance(data, LoginPassword)
        pair = (data.login.decode(), data.password.decode())
        self.seen.append((mechanism, pair[0]))
        return AuthResult(success=pair == (USER, PASSWORD))


@pytest.mark.parametrize("only", ["PLAIN", "LOGIN"])
def test_an_independent_server_lets_us_in(
    sender: Sender, context: ssl.SSLContext, only: str
) -> None:
    judge = Judge()
    port = free_port()
    controller = Controller(
        Sink(),
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=judge,
        auth_exclude_mechanism=[each for each in ("PLAIN", "LOGIN") if each != only],
    )
    controller.start()
    try:
        domain = sender.domain(f"localhost:{port}", auth=login(ca_file="ca.pem"))
        sender.send(f"x@{domain}")
        sender.wait_for_records(domain, "d")
        wait_until(lambda: not sender.server.totals()["connections_out"])
        time.sleep(0.2)  # aiosmtpd leaves behind what is open when it stops
    finally:
        controller.stop()
    assert judge.seen == [(only, USER)]
