"""What becomes of a message between the client and the next hop: fields added and removed, DSN parameters, large bodies.

One real server, one next hop that offers DSN and one that does not; what they got is compared byte by byte. RFC 5321 §4.4
(Received), RFC 6409 §8 (Date, Message-ID), RFC 3461 (DSN parameters); reliability.md F22; issue: "Ingress".
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import psutil
import pytest

from tests.support.daemon import Daemon, free_port, running
from tests.support.dkim import signatures
from tests.support.host import OFFERS, Host, Received, wire_faults
from tests.support.secrets import write_dkim_key
from tests.support.wire import Wire, wait_until

BODY = b"body\r\n"
LARGE = 3_000_000
MORE = """
[vmta.a]
ehlo_name = "a.test.example"
[vmta.b]
ehlo_name = "b.test.example"

[[listener]]
address = "127.0.0.1:{named}"
relay_from = ["127.0.0.0/8"]
vmta = "b"
vmta_header = "X-Route"
job_header = "X-Campaign"

[domain."dsn.example"]
hosts = ["{dsn}"]

[[dkim]]
domain = "sender.example"
selector = "rsa"
key_file = "rsa.pem"
[[dkim]]
domain = "sender.example"
selector = "ed"
key_file = "ed.pem"
"""


@dataclass
class Scene:
    server: Daemon
    plain: Host
    dsn: Host
    named: int  # the port of the listener with names of its own
    records: dict[str, str]

    def send(self, message: bytes, recipient: str, *, sender: str = "a@sender.example") -> Received:
        """Hand it in; what the next hop got."""
        with Wire(self.server.port) as wire:
            wire.greet()
            answer = wire.deliver(message, sender, recipient)
            assert answer.startswith("250 2.6.0"), answer
        return self.arrived(recipient)

    def arrived(self, recipient: str) -> Received:
        """What the next hop got for this recipient."""
        host = self.dsn if recipient.endswith("@dsn.example") else self.plain
        wait_until(lambda: any(recipient in each.recipients for each in host.messages))
        return host.message_to(recipient)

    def refusal(self, message: bytes, port: int = 0) -> str:
        """The reply to its final dot."""
        with Wire(port or self.server.port) as wire:
            wire.greet()
            return wire.deliver(message)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("message")
    records = {
        "rsa._domainkey.sender.example": write_dkim_key(place / "rsa.pem", "rsa"),
        "ed._domainkey.sender.example": write_dkim_key(place / "ed.pem", "ed25519"),
    }
    named = free_port()
    with (
        Host() as plain,
        Host(offers=(*OFFERS, "DSN")) as dsn,
        running(
            place,
            default=f'hosts = ["{plain.name}"]\nretry = ["1h"]',
            listener='vmta = "a"',
            more=MORE.format(named=named, dsn=dsn.name),
        ) as server,
    ):
        yield Scene(server, plain, dsn, named, records)


def fields(message: bytes, name: str) -> list[str]:
    """The values of every field of this name, unfolded."""
    header = message.partition(b"\r\n\r\n")[0] + b"\r\n"
    found = re.findall(rb"(?im)^" + name.encode() + rb":[ \t]*((?:.*\r\n)(?:[ \t].*\r\n)*)", header)
    return [re.sub(rb"\r\n[ \t]*", b" ", each).strip().decode("latin-1") for each in found]


# -- fields -----------------------------------------------------------------------------------------------------


def test_date_and_message_id_are_added_when_missing_and_received_is_ours(scene: Scene) -> None:
    got = scene.send(b"Subject: bare\r\n\r\n" + BODY, "added@example.net").data
    (date,) = fields(got, "Date")
    assert parsedate_to_datetime(date).tzinfo is not None
    (identity,) = fields(got, "Message-ID")
    assert re.fullmatch(r"<[0-9a-f]{8}-[0-9]+@mta\.test\.example>", identity)
    (received,) = fields(got, "Received")
    assert re.fullmatch(
        r"from client\.example \(\[127\.0\.0\.1\]\) by mta\.test\.example .*with ESMTP id "
        + identity[1:].partition("@")[0]
        + r" for <added@example\.net>; .* \+0000",
        received,
    ), received
    assert fields(got, "X-Sluice-Lab")
    assert got.endswith(b"Subject: bare\r\n\r\n" + BODY)


def test_what_is_there_stays_as_it_is(scene: Scene) -> None:
    header = (
        b"date: Mon, 23 Nov 2026 07:41:00 +0000\r\nMESSAGE-ID: <x@y>\r\nSubject: folded\r\n\tover"
        b"  two lines \r\nX-Odd:no blank\r\n"
    )
    got = scene.send(header + b"\r\n" + BODY, "kept@example.net").data
    assert got.endswith(header + b"\r\n" + BODY)
    assert len(fields(got, "Date")) == len(fields(got, "Message-ID")) == 1


def test_with_two_recipients_received_names_none(scene: Scene) -> None:
    with Wire(scene.server.port) as wire:
        wire.greet()
        message = b"Subject: two\r\n\r\n" + BODY
        answer = wire.deliver(message, "a@s.example", "two1@example.net", "two2@example.net")
        assert answer.startswith("250")
    got = scene.arrived("two1@example.net")
    assert got.recipients == ["two1@example.net", "two2@example.net"]  # one transaction for both
    assert " for <" not in fields(got.data, "Received")[0]


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (b"no header at all\r\nsecond line\r\n", b"\r\n\r\nno header at all\r\nsecond line\r\n"),
        (b"\r\nstarts with its body\r\n", b"\r\n\r\nstarts with its body\r\n"),
        (b"Subject: no body\r\n", b"Subject: no body\r\n\r\n"),
        (b"", b"\r\n\r\n"),
    ],
    ids=["no header", "blank line first", "no body", "empty"],
)
def test_a_message_without_header_or_body_is_given_what_it_lacks(
    scene: Scene, message: bytes, sent: bytes
) -> None:
    recipient = f"odd{hashlib.sha1(message).hexdigest()[:8]}@example.net"
    got = scene.send(message, recipient).data
    assert got.endswith(sent), got
    assert fields(got, "Date")
    assert fields(got, "Message-ID")
    assert signatures(got, scene.records) == dict.fromkeys(scene.records, True)


def test_virtual_mta_and_job_are_read_and_removed(scene: Scene) -> None:
    got = scene.send(
        b"X-Job: spring sale\r\nSubject: control\r\nx-virtual-mta: B\r\n\r\n" + BODY,
        "control@example.net",
    )
    assert fields(got.data, "X-Virtual-MTA") == fields(got.data, "X-Job") == []
    assert got.data.endswith(b"\r\nSubject: control\r\n\r\n" + BODY)
    dialogue = scene.plain.dialogues[got.connection]
    assert dialogue.commands[0] == "EHLO b.test.example"
    (record,) = wait_for_records(scene, "control@example.net")
    assert (record["vmta"], record["jobId"], record["type"]) == ("b", "spring sale", "d")
    assert record["queue"] == "example.net/b"


def wait_for_records(scene: Scene, recipient: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []

    def look() -> bool:
        found[:] = [each for each in scene.server.records() if each["rcpt"] == recipient]
        return bool(found)

    wait_until(look)
    return found


def test_mail_that_names_no_virtual_mta_goes_by_the_listeners(scene: Scene) -> None:
    got = scene.send(b"Subject: x\r\n\r\n" + BODY, "default@example.net")
    assert scene.plain.dialogues[got.connection].commands[0] == "EHLO a.test.example"


def test_an_unknown_virtual_mta_is_refused(scene: Scene) -> None:
    answer = scene.refusal(b"Subject: x\r\nX-Virtual-MTA: nosuch\r\n\r\n" + BODY)
    assert answer.startswith("550 5.7.1")


def test_the_names_of_the_control_fields_can_be_chosen(scene: Scene) -> None:
    with Wire(scene.named) as wire:
        wire.greet()
        message = (
            b"X-Route: a\r\nX-Campaign: c1\r\nX-Virtual-MTA: nosuch\r\nX-Job: j\r\n\r\n" + BODY
        )
        assert wire.deliver(message, "a@s.example", "named@example.net").startswith("250")
    got = scene.arrived("named@example.net")
    assert fields(got.data, "X-Route") == fields(got.data, "X-Campaign") == []
    assert fields(got.data, "X-Virtual-MTA") == ["nosuch"]  # a field like any other here
    assert scene.plain.dialogues[got.connection].commands[0] == "EHLO a.test.example"


# -- DSN --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["dsn.example", "example.net"])
def test_dsn_parameters_reach_a_next_hop_that_offers_dsn_and_no_other(
    scene: Scene, domain: str
) -> None:
    recipient = f"notify@{domain}"
    with Wire(scene.server.port) as wire:
        assert "DSN" not in wire.greet().split()
        assert "DSN" not in wire.ask("HELP")
        for command in (
            "MAIL FROM:<a@sender.example> RET=HDRS ENVID=QQ+2B314159",
            f"RCPT TO:<{recipient}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Old+2BName@old.example",
        ):
            assert wire.ask(command).startswith("250")
        assert wire.ask("DATA").startswith("354")
        wire.send(b"Subject: dsn\r\n\r\nbody\r\n.\r\n")
        assert wire.reply().startswith("250")
    got = scene.arrived(recipient)
    if domain == "dsn.example":
        assert set(got.mail.split()) >= {"RET=HDRS", "ENVID=QQ+2B314159"}
        assert set(got.rcpts[0].split()) >= {
            "NOTIFY=SUCCESS,FAILURE",
            "ORCPT=rfc822;Old+2BName@old.example",
        }
    else:
        assert not re.search("RET=|ENVID=|NOTIFY=|ORCPT=", got.mail + got.rcpts[0])
    (record,) = wait_for_records(scene, recipient)
    assert record["envId"]
    assert "Old" in record["orcpt"]


@pytest.mark.parametrize(
    "command",
    [
        "MAIL FROM:<a@s.example> RET=ALL",
        "MAIL FROM:<a@s.example> ENVID=a+ZZb",
        "MAIL FROM:<a@s.example> ENVID=" + "a" * 101,
        "MAIL FROM:<a@s.example> RET=FULL RET=FULL",
        "RCPT TO:<b@example.net> NOTIFY=NEVER,SUCCESS",
        "RCPT TO:<b@example.net> NOTIFY=SOMETIMES",
        "RCPT TO:<b@example.net> ORCPT=no-type",
    ],
)
def test_dsn_parameters_that_are_wrong_are_refused(scene: Scene, command: str) -> None:
    with Wire(scene.server.port) as wire:
        wire.greet()
        if command.startswith("RCPT"):
            wire.ask("MAIL FROM:<a@s.example>")
        assert wire.ask(command).startswith("501 5.5.4")


# -- large bodies -----------------------------------------------------------------------------------------------


def large_body(seed: int, size: int = LARGE) -> bytes:
    """Lines of any length, dots at their starts, white space at their ends, 8-bit bytes, blank lines last."""
    rng = random.Random(seed)
    lines: list[bytes] = []
    left = size
    while left > 0:
        line = rng.choice([b"", b".", b"..", b" \t"]) + rng.randbytes(rng.randrange(900))
        line = line.translate(None, b"\r\n\0") + rng.choice([b"", b" ", b"\t "])
        lines.append(line)
        left -= len(line) + 2
    return b"\r\n".join([*lines, b"", b"", b""])


@pytest.mark.parametrize("piece", [65_536, 1_000, 33_333])
def test_a_large_body_arrives_byte_for_byte_with_a_valid_signature(
    scene: Scene, piece: int
) -> None:
    recipient = f"large{piece}@example.net"
    body = large_body(piece)
    message = b"From: a@sender.example\r\nX-Job: large\r\nSubject: large\r\n\r\n" + body
    stuffed = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    with Wire(scene.server.port) as wire:
        wire.greet()
        wire.envelope("a@sender.example", recipient)
        for at in range(0, len(stuffed), piece):
            wire.send(stuffed[at : at + piece])
        assert wire.reply().startswith("250 2.6.0")
    got = scene.arrived(recipient)
    assert got.data.endswith(b"\r\nFrom: a@sender.example\r\nSubject: large\r\n\r\n" + body)
    assert wire_faults(got.wire) == []
    assert "BODY=8BITMIME" in got.mail
    assert signatures(got.data, scene.records) == dict.fromkeys(scene.records, True)
    assert fields(got.data, "X-Job") == []


def test_the_file_of_a_large_body_goes_when_its_message_is_done(scene: Scene) -> None:
    scene.send(b"Subject: file\r\n\r\n" + b"x" * 70 + b"\r\n" * 800_000, "file@example.net")
    spool = scene.server.place / "spool"
    wait_until(lambda: scene.server.totals()["queued_recipients"] == 0)
    wait_until(lambda: not spilled(spool))


def spilled(spool: Path) -> list[Path]:
    """The files of bodies beside the database."""
    return [
        each
        for each in spool.rglob("*")
        if each.is_file() and each.stat().st_size > 500_000 and "sqlite" not in each.name
    ]


def test_a_client_that_leaves_in_a_large_body_leaves_nothing_behind(scene: Scene) -> None:
    with Wire(scene.server.port) as wire:
        wire.greet()
        wire.envelope()
        wire.send(b"Subject: half\r\n\r\n" + (b"x" * 78 + b"\r\n") * 30_000)
        wait_until(lambda: spilled(scene.server.place / "spool"))
    wait_until(lambda: not spilled(scene.server.place / "spool"))
    wait_until(lambda: scene.server.totals()["intake_memory"] == 0)


def test_a_refused_large_body_leaves_nothing_behind(scene: Scene) -> None:
    spoilt = b"Subject: half\r\n\r\n" + (b"x" * 78 + b"\r\n") * 30_000 + b"bare\rCR\r\n"
    assert scene.refusal(spoilt).startswith("550 5.6.0")
    wait_until(lambda: not spilled(scene.server.place / "spool"))


def test_a_message_beyond_max_size_is_refused_and_memory_stays_flat(tmp_path: Path) -> None:
    with running(tmp_path, default='hosts = ["127.0.0.1:9"]', listener='max_size = "2M"') as server:
        process = psutil.Process(server.pid)
        with Wire(server.port) as wire:
            assert "SIZE 2097152" in wire.greet()
            wire.envelope()
            before = process.memory_info().rss
            wire.send(b"Subject: x\r\n\r\n")
            for _ in range(20):
                wire.send((b"x" * 998 + b"\r\n") * 1000)
            wire.send(b".\r\n")
            assert wire.reply().startswith("552 5.3.4")
            assert process.memory_info().rss - before < 12_000_000
            assert wire.deliver(b"Subject: small\r\n\r\nbody\r\n").startswith("250 2.6.0")
        wait_until(lambda: not spilled(tmp_path / "spool"))
