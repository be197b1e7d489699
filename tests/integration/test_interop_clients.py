"""Clients as people use them: swaks, msmtp, nodemailer, Python's smtplib, aiosmtplib – plain, STARTTLS, TLS from the first
byte, AUTH.

Each hands a message to a real server, which delivers it to a raw host.
"""

import asyncio
import base64
import json
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest

from bench.peers.room import PEERS
from tests.support.bodies import BODIES, a_message, body_of, subject_of
from tests.support.daemon import Daemon, free_port, running
from tests.support.host import Host, Received
from tests.support.peers import needs
from tests.support.secrets import write_certificate, write_users
from tests.support.wire import trusting, wait_until

PASSWORD = "p@ss wörd"
NODEMAILER = PEERS / "nodemailer/node_modules/nodemailer"
SEND_BY_NODEMAILER = Path(__file__).parent.parent / "support/send_by_nodemailer.js"
needs_swaks = needs("swaks is not installed" * (shutil.which("swaks") is None))
needs_msmtp = needs("msmtp is not installed" * (shutil.which("msmtp") is None))
needs_nodemailer = needs(
    "nodemailer is not installed: run bench/install-peers nodemailer"
    * (not NODEMAILER.exists() or shutil.which("node") is None)
)


@dataclass
class Scene:
    server: Daemon
    host: Host
    implicit: int

    def arrived(self, recipient: str) -> Received:
        wait_until(lambda: any(recipient in each.recipients for each in self.host.messages))
        return self.host.message_to(recipient)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("clients")
    write_certificate(place)
    write_users(place, ada=PASSWORD, bob="ascii only")
    implicit = free_port()
    tls = 'tls_cert = "cert.pem"\ntls_key = "key.pem"\nauth_users = "users.toml"'
    with (
        Host() as host,
        running(
            place,
            default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
            listener=tls,
            more=f'[[listener]]\naddress = "127.0.0.1:{implicit}"\ntls = "implicit"\n{tls}\n',
        ) as server,
    ):
        yield Scene(server, host, implicit)


def an_email(recipient: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ada <ada@sender.example>"
    message["To"] = recipient
    message["Subject"] = "Grüße"
    message.set_content("plain für\n.\n..two dots\n")
    message.add_alternative("<p>html</p>", subtype="html")
    message.add_attachment(bytes(range(256)) * 40, maintype="application", subtype="octet-stream")
    message.set_boundary("the-edge")  # else each look at its bytes makes a new one
    return message


# -- swaks ------------------------------------------------------------------------------------------------------


def swaks(port: int, recipient: str, *options: str) -> str:
    """Run it; what it showed of the dialogue. It must have succeeded."""
    command = [
        "swaks",
        *("--server", f"127.0.0.1:{port}", "--from", "a@sender.example", "--to", recipient),
        *("--helo", "swaks.example", "--timeout", "20"),
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_swaks
def test_swaks_in_the_clear(scene: Scene) -> None:
    said = swaks(scene.server.port, "plain@swaks.example", "--body", "line\n.\n..dot")
    assert "250 2.6.0 queued as " in said
    got = scene.arrived("plain@swaks.example")
    assert b"\r\nline\r\n.\r\n..dot\r\n" in got.data
    assert b"with ESMTP id " in got.data


@needs_swaks
def test_swaks_with_pipelining(scene: Scene) -> None:
    swaks(scene.server.port, "pipe1@swaks.example,pipe2@swaks.example", "--pipeline")
    assert len(scene.arrived("pipe1@swaks.example").recipients) == 2


@needs_swaks
def test_swaks_with_starttls(scene: Scene) -> None:
    said = swaks(scene.server.port, "tls@swaks.example", "-tls")
    assert "TLS started with cipher TLSv1.3" in said
    assert b"with ESMTPS id " in scene.arrived("tls@swaks.example").data


@needs_swaks
def test_swaks_with_starttls_and_auth_plain(scene: Scene) -> None:
    login = ("--auth", "PLAIN", "--auth-user", "ada", "--auth-password", PASSWORD)
    said = swaks(scene.server.port, "auth@swaks.example", "-tls", *login)
    assert "235 2.7.0" in said
    assert b"with ESMTPSA id " in scene.arrived("auth@swaks.example").data


@needs_swaks
def test_swaks_with_tls_from_the_first_byte(scene: Scene) -> None:
    login = ("--auth", "PLAIN", "--auth-user", "ada", "--auth-password", PASSWORD)
    swaks(scene.implicit, "implicit@swaks.example", "-tlsc", *login)
    assert b"with ESMTPSA id " in scene.arrived("implicit@swaks.example").data


@needs_swaks
def test_swaks_with_a_wrong_password_is_refused(scene: Scene) -> None:
    command = ["swaks", "--server", f"127.0.0.1:{scene.implicit}", "-tlsc", "--to", "x@y.example"]
    login = ["--auth", "PLAIN", "--auth-user", "ada", "--auth-password", "wrong"]
    done = subprocess.run(command + login, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 28, done.stdout  # swaks: error in AUTH
    assert "535 5.7.8" in done.stdout


# -- msmtp ------------------------------------------------------------------------------------------------------


@needs_msmtp
@pytest.mark.parametrize("how", ["plain", "starttls", "implicit"])
def test_msmtp(scene: Scene, how: str) -> None:
    port = scene.implicit if how == "implicit" else scene.server.port
    options = ["--tls=off", "--auth=off"]
    if how != "plain":
        options = ["--tls=on", f"--tls-starttls={'on' if how == 'starttls' else 'off'}"]
        options += ["--tls-certcheck=off", "--auth=plain", "--user=ada"]
        options += [f"--passwordeval=printf '%s\\n' '{PASSWORD}'"]
    for name in BODIES:
        recipients = [f"{name.replace(' ', '-')}.{n}@{how}.msmtp.example" for n in range(2)]
        command = ["msmtp", "--file=/dev/null", "--host=127.0.0.1", f"--port={port}", *options]
        done = subprocess.run(
            [*command, "--timeout=20", "--from=a@sender.example", "--", *recipients],
            input=a_message(name, recipients[0]).replace(
                b"\r\n", b"\n"
            ),  # as a mail program pipes it
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        got = scene.arrived(recipients[1])
        assert got.recipients == recipients
        assert body_of(got.data) == BODIES[name], name
        assert (b"with ESMTPSA id " if how != "plain" else b"with ESMTP id ") in got.data


# -- nodemailer -------------------------------------------------------------------------------------------------


def nodemailer(messages: list[dict[str, Any]], **transport: Any) -> list[dict[str, Any]]:
    """Send these over one transport; what it was told of each."""
    transport = {"host": "127.0.0.1", "tls": {"rejectUnauthorized": False}, **transport}
    order = {"module": str(NODEMAILER), "transport": transport, "messages": messages}
    done = subprocess.run(
        ["node", str(SEND_BY_NODEMAILER)],
        input=json.dumps(order).encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


@needs_nodemailer
@pytest.mark.parametrize("how", ["plain", "starttls", "implicit", "pooled"])
def test_nodemailer(scene: Scene, how: str) -> None:
    domain = f"{how}.nodemailer.example"
    login = {"auth": {"user": "ada", "pass": PASSWORD}}
    settings: dict[str, Any] = {
        "plain": {"port": scene.server.port, "ignoreTLS": True},
        "starttls": {"port": scene.server.port, "requireTLS": True, **login},
        "implicit": {"port": scene.implicit, "secure": True, **login},
        # One connection for all messages.
        "pooled": {
            "port": scene.implicit,
            "secure": True,
            "pool": True,
            "maxConnections": 1,
            **login,
        },
    }[how]
    messages = [
        {
            "envelope": {"from": "a@sender.example", "to": [f"{name.replace(' ', '-')}@{domain}"]},
            "raw": base64.b64encode(a_message(name, f"x@{domain}")).decode(),
        }
        for name in BODIES
    ]
    for name, answer in zip(BODIES, nodemailer(messages, **settings), strict=True):
        assert answer["response"].startswith("250 2.6.0 queued as "), name
        (recipient,) = answer["accepted"]
        got = scene.arrived(recipient)
        assert subject_of(got.data) == name
        assert body_of(got.data) == BODIES[name], name
        assert (b"with ESMTP id " if how == "plain" else b"with ESMTPSA id ") in got.data


@needs_nodemailer
def test_nodemailer_composes_a_message_with_an_attachment(scene: Scene) -> None:
    recipient = "composed@nodemailer.example"
    attached = bytes(range(256)) * 300
    message = {
        "from": "Ada <ada@sender.example>",
        "to": recipient,
        "subject": "Grüße",
        "text": "für\n.\n..dots\n",
        "attachments": [
            {
                "filename": "alle.bin",
                "content": base64.b64encode(attached).decode(),
                "encoding": "base64",
            }
        ],
    }
    nodemailer([message], port=scene.server.port, ignoreTLS=True)
    got = message_from_bytes(scene.arrived(recipient).data, policy=default_policy)
    assert got["Subject"] == "Grüße"
    text, binary = got.iter_parts()
    assert text.get_content().replace("\r\n", "\n") == "für\n.\n..dots\n"
    assert binary.get_content() == attached


# -- smtplib ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "starttls", "starttls and login", "implicit"])
def test_smtplib(scene: Scene, how: str) -> None:
    recipient = f"{how.replace(' ', '-')}@smtplib.example"
    message = an_email(recipient)
    if how == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            "127.0.0.1", scene.implicit, context=trusting(), timeout=20
        )
    else:
        client = smtplib.SMTP("127.0.0.1", scene.server.port, timeout=20)
    with client:
        if how.startswith("starttls"):
            assert client.starttls(context=trusting())[0] == 220
            client.ehlo()
        if how in ("starttls and login", "implicit"):
            assert client.login("bob", "ascii only")[0] == 235  # all that smtplib can say
        assert client.send_message(message) == {}
        for number in range(3):  # the same connection goes on
            client.sendmail("b@sender.example", f"{number}{recipient}", "Subject: x\r\n\r\nb\r\n")
    got = scene.arrived(recipient)
    assert got.data.endswith(message.as_bytes().replace(b"\n", b"\r\n"))
    word = {"plain": b"ESMTP", "starttls": b"ESMTPS"}.get(how, b"ESMTPSA")
    assert b"with " + word + b" id " in got.data
    scene.arrived(f"2{recipient}")


def test_smtplib_is_told_of_each_refused_recipient(scene: Scene) -> None:
    with smtplib.SMTP("127.0.0.1", scene.server.port, timeout=20) as client:
        refused = client.sendmail(
            "a@sender.example",
            ["ok@smtplib.example", "no@[192.0.2.1]"],
            "Subject: x\r\n\r\nbody\r\n",
        )
    assert list(refused) == ["no@[192.0.2.1]"]
    assert refused["no@[192.0.2.1]"][0] == 550
    assert scene.arrived("ok@smtplib.example").recipients == ["ok@smtplib.example"]


# -- aiosmtplib -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "starttls", "implicit"])
async def test_aiosmtplib(scene: Scene, how: str) -> None:
    recipient = f"{how}@aiosmtplib.example"
    message = an_email(recipient)
    context: ssl.SSLContext = trusting()
    refused, answer = await aiosmtplib.send(
        message,
        sender="a@sender.example",
        hostname="127.0.0.1",
        port=scene.implicit if how == "implicit" else scene.server.port,
        use_tls=how == "implicit",
        start_tls=how == "starttls",
        tls_context=None if how == "plain" else context,
        username=None if how == "plain" else "ada",
        password=None if how == "plain" else PASSWORD,
        timeout=20,
    )
    assert refused == {}
    assert answer.startswith("2.6.0 queued as ")
    got = scene.arrived(recipient)
    assert got.data.endswith(message.as_bytes().replace(b"\n", b"\r\n"))


async def test_aiosmtplib_sends_many_at_once(scene: Scene) -> None:
    async def session(number: int) -> None:
        async with aiosmtplib.SMTP(
            hostname="127.0.0.1", port=scene.server.port, start_tls=False, timeout=30
        ) as client:
            for at in range(20):
                await client.sendmail(
                    "a@sender.example", [f"m{number}.{at}@many.example"], b"Subject: x\r\n\r\nb\r\n"
                )

    await asyncio.gather(*(session(number) for number in range(10)))

    def arrived() -> bool:
        found = [
            each for each in scene.host.messages if each.recipients[0].endswith("@many.example")
        ]
        return len(found) == 200

    await asyncio.to_thread(wait_until, arrived)


def test_the_certificate_is_the_one_configured(scene: Scene) -> None:
    """Verified, by name, as a careful client does."""
    context = ssl.create_default_context(cafile=str(scene.server.place / "cert.pem"))
    with smtplib.SMTP("127.0.0.1", scene.server.port, timeout=20) as client:
        client._host = "mta.test.example"  # the name that is verified
        assert client.starttls(context=context)[0] == 220
        assert client.ehlo()[0] == 250
