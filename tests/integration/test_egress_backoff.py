"""A site that refuses us, not a message: its queue rests, its mail keeps its tries, and `explain` says why and until when.

Refusals at greeting, EHLO and MAIL and every 421 rest the queue, longer each time; a success ends it. Refusals of a recipient
or a message do not. mta/policy/reaction.py has the table; issue: "Backoff" and "next MX on connect failure or 421".
"""

import time
from collections.abc import Iterator

import pytest

from tests.support.daemon import free_port
from tests.support.host import Dialogue, Host
from tests.support.sender import Sender, a_sender
from tests.support.wire import wait_until

REFUSALS = [
    ("", b"421 4.3.2 not now\r\n"),
    ("", b"554 5.7.1 you are on a list\r\n"),
    ("", b"450 4.7.1 come later\r\n"),
    ("EHLO", b"421 4.7.0 too many\r\n"),
    ("EHLO", b"450 4.7.1 later\r\n"),
    ("MAIL", b"421 4.7.0 rate\r\n"),
    ("MAIL", b"450 4.7.1 your address is blocked for now\r\n"),
    ("MAIL", b"550 5.7.1 your address is blocked\r\n"),
    ("RCPT", b"421 4.7.0 closing\r\n"),
    ("DATA", b"421 4.7.0 closing\r\n"),
]


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    with a_sender(tmp_path_factory.mktemp("backoff")) as sender:
        yield sender


class Moody:
    """A script that refuses one command while it `refuses`."""

    def __init__(self, moment: str, reply: bytes) -> None:
        self.moment = moment
        self.reply = reply
        self.refuses = True
        self.times: list[float] = []

    def __call__(self, dialogue: Dialogue, command: str) -> bytes | None:
        hit = command == "" if self.moment == "" else command.startswith(self.moment)
        if not (hit and self.refuses):
            return None
        self.times.append(time.monotonic())
        return self.reply


@pytest.mark.parametrize(
    ("moment", "reply"), REFUSALS, ids=[f"{m or 'greeting'} {r[:3].decode()}" for m, r in REFUSALS]
)
def test_a_refusal_of_us_rests_the_queue_and_explain_tells_all(
    sender: Sender, moment: str, reply: bytes
) -> None:
    script = Moody(moment, reply)
    with Host(script) as host:
        domain = sender.domain(host, backoff_initial="1h")
        number = sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "tq")
        # A second message does not make it try again.
        sender.send(f"y@{domain}")
        (wait,) = [
            each for each in sender.waits(f"{domain}/default") if each["what"].startswith("backoff")
        ]
        assert reply.decode().strip()[:12] in wait["what"]
        assert 1790 < wait["until"] - time.time() <= 3600
        assert f'domain."{domain}"' in wait["place"] or f"domain.{domain}" in wait["place"]
        assert str(sender.server.config) in wait["place"]
        # A message of the queue waits for the same.
        of_message = sender.waits(str(number))
        assert any(each["what"] == wait["what"] for each in of_message)
        assert record["dsnDiag"] == f"smtp;{reply.decode().strip()}"
        assert record["nextAttempt"]
        listed = sender.server.ask("messages.list", domain=domain)["recipients"]
        assert [each["attempts"] for each in listed] == [0, 0]
        assert len(host.dialogues) == 1
        assert sender.records(domain, "d", "b", "t") == []


def test_the_rest_grows_with_each_refusal_and_ends_with_success(sender: Sender) -> None:
    script = Moody("MAIL", b"450 4.7.1 later\r\n")
    with Host(script) as host:
        domain = sender.domain(host, backoff_initial="0.25s", backoff_cap="1h")
        sender.send(f"x@{domain}")
        wait_until(lambda: len(script.times) >= 4)
        script.refuses = False
        host.wait_for(messages=1)
        gaps = [b - a for a, b in zip(script.times, script.times[1:], strict=False)]
        assert gaps[0] < gaps[2]
        assert 0.1 < gaps[0] < 0.7
        assert 0.45 < gaps[2] < 1.9
        wait_until(lambda: not sender.waits(f"{domain}/default"))
        # The next failure begins small again.
        script.times.clear()
        script.refuses = True
        sender.send(f"y@{domain}")
        wait_until(lambda: len(script.times) >= 2)
        assert script.times[1] - script.times[0] < 0.7
        script.refuses = False
        host.wait_for(messages=2)
    assert sender.records(domain, "b") == []


def test_the_rest_has_a_cap(sender: Sender) -> None:
    script = Moody("", b"421 4.3.2 not now\r\n")
    with Host(script) as host:
        domain = sender.domain(host, backoff_initial="0.2s", backoff_cap="0.4s")
        sender.send(f"x@{domain}")
        wait_until(lambda: len(script.times) >= 6)
        gaps = [b - a for a, b in zip(script.times, script.times[1:], strict=False)]
        assert max(gaps[2:]) < 0.9
        script.refuses = False
        host.wait_for(messages=1)


def test_a_host_that_cannot_be_reached_rests_the_queue(sender: Sender) -> None:
    port = free_port()
    domain = sender.domain(f"127.0.0.1:{port}", backoff_initial="1h")
    sender.send(f"x@{domain}")
    (record,) = sender.wait_for_records(domain, "tq")
    assert record["dsnStatus"].startswith("4.4.1")
    assert record["dsnDiag"].startswith("x-sluice;451 4.4.1 cannot connect to 127.0.0.1")
    waits = sender.waits(f"{domain}/default")
    assert any(each["what"].startswith("backoff") and each["until"] for each in waits)


@pytest.mark.parametrize(
    ("moment", "reply", "kind"),
    [
        ("RCPT", b"450 4.2.2 mailbox full\r\n", "t"),
        ("RCPT", b"550 5.1.1 unknown\r\n", "b"),
        ("RCPT", b"552 too many recipients\r\n", "t"),
        ("MAIL", b"552 5.3.4 too big\r\n", "b"),
        ("MAIL", b"553 5.1.7 your sender is odd\r\n", "b"),
        ("MAIL", b"451 4.1.8 sender cannot be verified\r\n", "t"),
        ("DATA", b"451 4.3.0 later\r\n", "t"),
        ("DATA", b"554 5.6.0 no\r\n", "b"),
        (".", b"451 4.7.1 greylisted\r\n", "t"),
        (".", b"550 5.7.1 spam\r\n", "b"),
    ],
)
def test_a_refusal_of_a_message_or_recipient_rests_nothing(
    sender: Sender, moment: str, reply: bytes, kind: str
) -> None:
    script = Moody(moment, reply)
    with Host(script) as host:
        # One connection at most: a second would be no wonder while the first is still busy with its refusal.
        domain = sender.domain(host, retry=["1h"], backoff_initial="1h", max_connections=1)
        number = sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, kind)
        script.refuses = False
        sender.send(f"y@{domain}")
        host.wait_for(messages=1)
        assert len(host.dialogues) == 1
        assert host.messages[0].recipients == [f"y@{domain}"]
        assert record["dsnDiag"] == f"smtp;{reply.decode().strip()}"
        assert sender.records(domain, "tq") == []
        if kind == "t":
            waits = sender.waits(str(number))
            (wait,) = [each for each in waits if "next attempt" in each["what"]]
            assert reply.decode().strip()[:9] in wait["what"]
            assert wait["until"] > time.time() + 3000


def test_a_paused_queue_waits_and_says_so(sender: Sender) -> None:
    with Host() as host:
        domain = sender.domain(host)
        sender.server.ask("queue.pause", queue=domain)
        sender.send(f"x@{domain}")
        waits = sender.waits(f"{domain}/default")
        assert any(each["what"] == "paused by the operator" for each in waits)
        assert host.messages == []
        sender.server.ask("queue.resume", queue=domain)
        host.wait_for(messages=1)


def test_a_message_that_waited_too_long_bounces(sender: Sender) -> None:
    script = Moody("RCPT", b"450 4.2.2 mailbox full\r\n")
    with Host(script) as host:
        domain = sender.domain(host, retry=["0.3s"], expire_after="2s")
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "b")
    assert record["removedBy"] == "expired"
    assert record["dsnStatus"].startswith(("4.4.7", "5.4.7", "4.2.2"))
    assert sender.records(domain, "t")


@pytest.mark.parametrize("how", ["resting", "waiting for its retry"])
def test_a_message_expires_while_nothing_is_tried(sender: Sender, how: str) -> None:
    """The sweep: neither the queue's backoff nor a far retry keeps an expired message."""
    moment, reply = ("", b"421 4.3.2 no\r\n") if how == "resting" else ("RCPT", b"450 4.2.1 no\r\n")
    with Host(Moody(moment, reply)) as host:
        domain = sender.domain(host, backoff_initial="1h", retry=["1h"], expire_after="2s")
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "b")
    assert record["removedBy"] == "expired"
