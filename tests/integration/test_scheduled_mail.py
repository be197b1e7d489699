"""Mail that is to go later: X-Deliver-After and FUTURERELEASE, over restarts, and how it ages. RFC 4865, RFC 3339."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.daemon import running
from tests.support.host import Dialogue, Host
from tests.support.sender import DEFAULT, NO_DNS, Sender, a_sender
from tests.support.wire import Wire


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    with a_sender(tmp_path_factory.mktemp("later"), listener='max_hold = "1h"') as sender:
        yield sender


def later(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


def a_letter(field: str) -> bytes:
    return f"Subject: x\r\n{field}\r\n\r\nbody\r\n".encode()


def test_a_message_waits_until_its_time_and_says_so(sender: Sender) -> None:
    with Host() as host:
        domain = sender.domain(host)
        began = time.time()
        number = sender.send(f"x@{domain}", message=a_letter(f"X-Deliver-After: {later(3)}"))
        sender.send(f"now@{domain}", message=a_letter(f"X-Deliver-After: {int(began) - 50}"))
        host.wait_for(messages=1)
        (wait,) = [each for each in sender.waits(str(number)) if "scheduled" in each["what"]]
        assert began + 2 <= wait["until"] <= began + 5
        (listed,) = sender.server.ask("messages.list", message=number)["recipients"]
        assert listed["attempts"] == 0
        assert listed["release_at"] == pytest.approx(wait["until"])
        host.wait_for(messages=2)
        assert time.time() - began >= 2.5
    assert host.messages[0].recipients == [f"now@{domain}"]
    assert b"X-Deliver-After" not in host.messages[0].data + host.messages[1].data


def test_a_queue_of_scheduled_mail_alone_says_until_when(sender: Sender) -> None:
    with Host() as host:
        domain, other = sender.domain(host), sender.domain("127.0.0.1:9", name="away.example")
        sender.send(f"x@{domain}", message=a_letter(f"X-Deliver-After: {later(600)}"))
        sender.send(f"x@{other}", message=a_letter(f"X-Deliver-After: {later(900)}"))
        sluice = Cli(sender.server)
        (wait,) = sluice.json("explain", domain)["waits"]
        assert wait["what"] == "scheduled: mail whose sender set a time"
        assert 500 < wait["until"] - time.time() < 610
        listed = sluice.json("messages", "list", "--status", "scheduled")["recipients"]
        assert {each["recipient"] for each in listed} == {f"x@{domain}", f"x@{other}"}
        assert {each["status"] for each in listed} == {"scheduled"}
        for status in ("deferred", "due", "held"):
            found = sluice.json("messages", "list", "--status", status, "--domain", domain)
            assert found["recipients"] == []
        sluice.json("messages", "retry", "--domain", domain)
        host.wait_for(messages=1)
        sluice.json("messages", "delete", "--status", "scheduled")
        assert sluice.json("explain", other)["waits"] == []


def test_it_waits_over_a_kill_and_expires_so_long_after_its_time(tmp_path: Path) -> None:
    def full(_: Dialogue, command: str) -> bytes | None:
        return b"452 4.2.2 full\r\n" if command.startswith("RCPT TO:<full") else None

    with Host(full) as host:
        default = f'{DEFAULT}\nhosts = ["{host.name}"]\nexpire_after = "1s"'
        with running(tmp_path, default=default, more=NO_DNS) as server:
            sender = Sender(server)
            began = time.time()
            for name in ("good", "full"):
                sender.send(f"{name}@d.example", message=a_letter(f"X-Deliver-After: {later(5)}"))
            server.kill()
            server.start()
            time.sleep(max(0.0, began + 3 - time.time()))  # beyond expire_after
            assert not server.records()
            host.wait_for(messages=1)
            assert time.time() - began >= 4.5
            sender.wait_for_records("d.example", "b")
            kinds = sorted(each["type"] for each in server.records() if each["type"] in "db")
            assert kinds == ["b", "d"]
            assert server.totals()["queued_recipients"] == 0


def test_futurerelease_is_offered_with_its_limits_and_obeyed(sender: Sender) -> None:
    with Host() as host, Wire(sender.server.port) as wire:
        domain = sender.domain(host)
        wire.reply()
        (offer,) = [each for each in wire.ask("EHLO me").split("\n") if "FUTURERELEASE" in each]
        _, interval, until = (
            offer.strip().rpartition("FUTURERELEASE")[2].rpartition(" ")[0],
            *offer.split()[-2:],
        )
        assert interval == "3600"
        assert 3590 < datetime.fromisoformat(until).timestamp() - time.time() < 3610
        began = time.time()
        for parameter in ("HOLDFOR=2", f"HOLDUNTIL={later(2)}"):
            assert wire.ask(f"MAIL FROM:<a@b.example> {parameter}").startswith("250")
            assert wire.ask(f"RCPT TO:<x@{domain}>").startswith("250")
            wire.ask("DATA")
            wire.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
            assert wire.reply().startswith("250")
        host.wait_for(messages=2)
        assert time.time() - began >= 1.5


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("HOLDFOR=3601", "501"),
        ("HOLDFOR=-1", "501"),
        ("HOLDFOR=9999999999", "501"),
        ("HOLDUNTIL=2099-01-01T00:00:00Z", "501"),
        ("HOLDUNTIL=tomorrow", "501"),
        ("HOLDUNTIL=2026-02-30T00:00:00Z", "501"),
        ("HOLDFOR=5 HOLDUNTIL=2026-12-24T18:00:00Z", "501"),
        ("HOLDUNTIL=2001-01-01T00:00:00Z", "250"),
    ],
)
def test_parameters_that_cannot_be_are_refused_at_mail(
    sender: Sender, parameters: str, code: str
) -> None:
    with Wire(sender.server.port) as wire:
        wire.greet()
        assert wire.ask(f"MAIL FROM:<a@b.example> {parameters}").startswith(code)


@pytest.mark.parametrize(
    ("value", "code"), [("soon", "550"), ("2099-01-01T00:00:00Z", "501"), ("1e400", "550")]
)
def test_a_time_that_cannot_be_refuses_the_message(sender: Sender, value: str, code: str) -> None:
    with Wire(sender.server.port) as wire:
        wire.greet()
        assert wire.deliver(a_letter(f"X-Deliver-After: {value}"), "a@b.example").startswith(code)


def test_where_no_time_may_be_set_none_is_offered_and_none_ignored(tmp_path: Path) -> None:
    listener = 'max_hold = "0s"'
    with running(tmp_path, default=DEFAULT, more=NO_DNS, listener=listener) as server:
        with Wire(server.port) as wire:
            assert "FUTURERELEASE" not in wire.greet()
            assert wire.ask("MAIL FROM:<a@b.example> HOLDFOR=5").startswith("555")
        with Wire(server.port) as wire:
            wire.greet()
            letter = a_letter(f"X-Deliver-After: {later(60)}")
            assert wire.deliver(letter, "a@b.example").startswith("555")
