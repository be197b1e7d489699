"""A next hop that lies, drips, floods or leaves: what the connection does, and what stands in the record.

The lost reply to a final dot is the one place where mail may arrive twice, and the record must say so. RFC 5321 §4.2, §4.5.3.2,
§4.1.1.4; reliability.md Q9, F12, F14; issue: "Replies bounded (64 kB, 100 lines), never paired with the wrong command".
"""

import time
from collections.abc import Iterator

import psutil
import pytest

from tests.support.host import Dialogue, HangUp, Host
from tests.support.sender import Sender, a_sender
from tests.support.wire import wait_until

RSS_GROWTH = 8_000_000


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    with a_sender(tmp_path_factory.mktemp("faults")) as sender:
        yield sender


# -- the final dot ----------------------------------------------------------------------------------------------


def test_a_reply_to_the_dot_that_is_lost_defers_and_the_record_says_it_may_repeat(
    sender: Sender,
) -> None:
    def lose(dialogue: Dialogue, command: str) -> bytes | None:
        if command == "." and dialogue.number == 0:
            raise HangUp  # after the message was taken
        return None

    with Host(lose) as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}", f"y@{domain}")
        host.wait_for(messages=2)
        delivered = sender.wait_for_records(domain, "d", count=2)
        deferred = sender.records(domain, "t")
    assert [each.recipients for each in host.messages] == [[f"x@{domain}", f"y@{domain}"]] * 2
    assert len(deferred) == 2
    for record in deferred:
        assert record["mayRepeat"] == "true"
        assert record["dsnDiag"].startswith("x-sluice;")
        assert "dot" in record["dsnDiag"] or "end of data" in record["dsnDiag"].lower()
    # The message that came again is the one that may be there twice.
    assert {each["mayRepeat"] for each in delivered} == {"true"}


@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "DATA"])
def test_a_connection_lost_before_the_dot_repeats_nothing(sender: Sender, moment: str) -> None:
    def leave(dialogue: Dialogue, command: str) -> bytes | None:
        if command.startswith(moment) and dialogue.number == 0:
            raise HangUp
        return None

    with Host(leave) as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
        sender.wait_for_records(domain, "d")
    assert len(host.messages) == 1
    assert {each.get("mayRepeat", "") for each in sender.records(domain, "t", "d")} <= {""}


def test_a_connection_lost_in_the_middle_of_a_large_body_repeats_nothing(sender: Sender) -> None:
    def leave(dialogue: Dialogue, command: str) -> bytes | None:
        if command == "DATA" and dialogue.number == 0:
            raise HangUp(b"354 go\r\n")
        return None

    large = b"Subject: large\r\n\r\n" + (b"x" * 78 + b"\r\n") * 40_000
    with Host(leave) as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}", message=large)
        host.wait_for(messages=1)
        (record,) = sender.wait_for_records(domain, "d")
    assert host.messages[0].data.endswith(large)
    assert record["mayRepeat"] == ""


def test_a_421_to_the_dot_refuses_the_message_and_it_goes_again(sender: Sender) -> None:
    def refuse(dialogue: Dialogue, command: str) -> bytes | None:
        return b"421 4.3.2 later\r\n" if command == "." and dialogue.number == 0 else None

    with Host(refuse) as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "d")
    assert len(host.dialogues) == 2
    assert record["mayRepeat"] == ""  # it said no: nothing was taken


# -- replies ----------------------------------------------------------------------------------------------------

ENDLESS = b"".join(b"250-line %d\r\n" % number for number in range(100_000))


@pytest.mark.parametrize(
    ("moment", "reply"),
    [
        pytest.param("", ENDLESS, id="endless greeting"),
        pytest.param("EHLO", ENDLESS, id="endless EHLO"),
        pytest.param("EHLO", b"250 " + b"x" * 1_000_000 + b"\r\n", id="a line of 1 MB"),
        pytest.param("", b"220 " + b"x" * 5_000_000, id="a line without end"),
        pytest.param("MAIL", b"no code at all\r\n", id="no code"),
        pytest.param("MAIL", b"250-a\r\n550 b\r\n", id="two codes"),
        pytest.param("MAIL", b"\xff\xfe\x00\x01\r\n", id="binary"),
        pytest.param("MAIL", b"354 what?\r\n", id="354 to MAIL"),
        pytest.param("RCPT", b"250 2.1.5 Ok\r\n" * 5, id="more replies than commands"),
        pytest.param("DATA", b"250 2.0.0 delivered!\r\n", id="250 to DATA"),
        pytest.param(
            "EHLO", b"250 host\r\n250 2.0.0 delivered\r\n", id="a reply before its command"
        ),
        pytest.param("", b"99 x\r\n", id="a code that is none"),
    ],
)
def test_a_reply_that_is_none_ends_the_connection_and_mail_waits(
    sender: Sender, moment: str, reply: bytes
) -> None:
    def answer(dialogue: Dialogue, command: str) -> bytes | None:
        hit = command == "" if moment == "" else command.startswith(moment)
        return reply if hit and dialogue.number == 0 else None

    process = psutil.Process(sender.server.pid)
    with Host(answer) as host:
        domain = sender.domain(host)
        before = process.memory_info().rss
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
        assert process.memory_info().rss - before < RSS_GROWTH
        (record,) = sender.wait_for_records(domain, "d")
    # The good reply on the second connection is the one that counts, and nothing was paired with another.
    assert record["dsnDiag"] == "smtp;250 2.0.0 taken"
    assert len(host.messages) == 1
    assert host.messages[0].connection > 0
    assert host.dialogues[0].over
    assert sender.records(domain, "b") == []


def test_a_reply_of_a_hundred_lines_is_still_read(sender: Sender) -> None:
    lines = b"".join(b"250-X-EXT%d\r\n" % number for number in range(98))

    def wordy(dialogue: Dialogue, command: str) -> bytes | None:
        if command.startswith("EHLO"):
            return b"250-host\r\n" + lines + b"250 PIPELINING\r\n"
        return None

    with Host(wordy) as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
    assert len(host.dialogues) == 1


def test_control_bytes_in_a_reply_are_escaped_in_the_record(sender: Sender) -> None:
    def odd(dialogue: Dialogue, command: str) -> bytes | None:
        if command.startswith("RCPT"):
            return b'550 5.1.1 no\x1b[31m "such", \x00 user \xff\xe2\x80\xae\r\n'
        return None

    with Host(odd) as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "b")
    assert record["dsnDiag"].startswith("smtp;550 5.1.1 no")
    assert record["dsnDiag"].isprintable()
    assert '"such"' in record["dsnDiag"]


@pytest.mark.parametrize("step", ["greeting", "ehlo", "mail", "data", "end_of_data"])
def test_a_host_that_stalls_is_given_up_after_the_steps_time_out(sender: Sender, step: str) -> None:
    commands = {"greeting": "", "ehlo": "EHLO", "mail": "MAIL", "data": "DATA", "end_of_data": "."}
    wanted = commands[step]

    def stall(dialogue: Dialogue, command: str) -> bytes | None:
        hit = command == "" if wanted == "" else command.startswith(wanted)
        return b"" if hit and dialogue.number == 0 else None

    with Host(stall, offers=("SIZE",)) as host:  # no pipelining: each step waits for itself
        domain = sender.domain(host, timeouts={step: "0.5s"})
        started = time.monotonic()
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "d")
        assert 0.5 <= time.monotonic() - started < 10
    assert record["mayRepeat"] == ("true" if step == "end_of_data" else "")
    assert host.dialogues[0].over


def test_a_host_that_drips_its_reply_is_given_up_as_well(sender: Sender) -> None:
    """The deadline is of the step, not of the last byte."""

    def drip(dialogue: Dialogue, command: str) -> bytes | None:
        if not command.startswith("EHLO") or dialogue.number:
            return None
        for _ in range(100):
            dialogue.send(b"2")
            time.sleep(0.1)
        return b""

    with Host(drip) as host:
        domain = sender.domain(host, timeouts={"ehlo": "0.5s"})
        started = time.monotonic()
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
        assert time.monotonic() - started < 6


def test_a_connection_that_the_host_closes_when_idle_is_no_failure(sender: Sender) -> None:
    def sends_away(dialogue: Dialogue, command: str) -> bytes | None:
        if command == "." and dialogue.number == 0:
            raise HangUp(b"250 2.0.0 taken\r\n421 4.4.2 idle too long\r\n")
        return None

    with Host(sends_away) as host:
        domain = sender.domain(host, idle_timeout="30s", backoff_initial="1h")
        sender.send(f"x@{domain}")
        wait_until(lambda: host.dialogues and host.dialogues[0].over)
        sender.send(f"y@{domain}")
        sender.wait_for_records(domain, "d", count=2)
    assert sender.records(domain, "t", "tq", "b") == []
    assert len(host.dialogues) == 2
