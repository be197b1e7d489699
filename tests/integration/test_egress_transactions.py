"""How mail is handed to the next hop: connections kept and closed, commands pipelined, recipients shared out, hosts in turn.

One real server; every host is a raw one that keeps each piece it was sent. RFC 5321 §5.1 (order of hosts), RFC 2920
(pipelining), RFC 1870 (SIZE), RFC 6152 (8BITMIME); issue: "Queues, policy, DNS, egress".
"""

import time
from collections.abc import Iterator

import pytest

from mta.lab.ports import bind_hosts
from tests.support.daemon import free_port
from tests.support.host import Dialogue, Host, wire_faults
from tests.support.names import Names
from tests.support.sender import Sender, a_sender
from tests.support.wire import wait_until


@pytest.fixture(scope="module")
def sender(names: Names, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    place = tmp_path_factory.mktemp("transactions")
    with a_sender(place, more=f'[dns]\nservers = ["{names.address}"]') as sender:
        yield sender


def by_local_part(dialogue: Dialogue, command: str) -> bytes | None:
    """450 and 550 to recipients that are called so."""
    if command.startswith("RCPT TO:<450"):
        return b"450 4.2.1 not now\r\n"
    if command.startswith("RCPT TO:<550"):
        return b"550 5.1.1 unknown\r\n"
    return None


def test_one_connection_serves_many_messages_and_says_quit_when_idle(sender: Sender) -> None:
    with Host() as host:
        domain = sender.domain(host)
        for number in range(5):
            sender.send(f"r{number}@{domain}")
        host.wait_for(messages=5)
        wait_until(lambda: host.dialogues[0].over)
    (dialogue,) = host.dialogues
    assert dialogue.messages == 5
    assert dialogue.commands[-1] == "QUIT"


def test_after_so_many_messages_a_connection_is_closed(sender: Sender) -> None:
    with Host() as host:
        domain = sender.domain(host, max_messages_per_connection=2)
        for number in range(5):
            sender.send(f"r{number}@{domain}")
        host.wait_for(messages=5)
        wait_until(lambda: all(each.over for each in host.dialogues))
    assert max(each.messages for each in host.dialogues) <= 2
    assert all(each.commands[-1] == "QUIT" for each in host.dialogues)


def test_a_connection_that_may_not_be_idle_does_its_work_first(sender: Sender) -> None:
    with Host() as host:
        domain = sender.domain(host, idle_timeout="0s")
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
        wait_until(lambda: host.dialogues[0].over)
    assert len(host.dialogues) == 1


def test_commands_are_pipelined_to_a_host_that_offers_it(sender: Sender) -> None:
    with Host() as host:
        domain = sender.domain(host)
        sender.send(*(f"r{number}@{domain}" for number in range(3)))
        host.wait_for(messages=1)
    assert any(
        piece.startswith(b"MAIL FROM:")
        and piece.count(b"RCPT TO:") == 3
        and piece.endswith(b"DATA\r\n")
        for piece in host.dialogues[0].pieces
    ), host.dialogues[0].pieces


def test_without_pipelining_each_command_waits_for_its_reply(sender: Sender) -> None:
    with Host(by_local_part, offers=("8BITMIME",)) as host:
        domain = sender.domain(host)
        sender.send(f"a@{domain}", f"550@{domain}", f"b@{domain}")
        sender.send(f"550@{domain}")
        sender.send(f"c@{domain}")
        host.wait_for(messages=2)
        sender.wait_for_records(domain, "d", "b", count=5)
    for piece in host.dialogues[0].pieces:
        assert piece.count(b"\r\n") == 1 or piece.endswith(b"\r\n.\r\n"), piece
    # The second message had no recipient left: DATA was not even asked.
    commands = [each.partition(" ")[0] for each in host.dialogues[0].commands]
    assert commands.count("DATA") == 2


def test_each_recipient_of_a_transaction_has_its_own_outcome(sender: Sender) -> None:
    with Host(by_local_part) as host:
        domain = sender.domain(host, retry=["1h"])
        number = sender.send(*(f"{name}@{domain}" for name in ("250a", "450", "550", "250b")))
        sender.wait_for_records(domain, count=4)
        records = {each["rcpt"].partition("@")[0]: each for each in sender.records(domain)}
    assert {name: each["type"] for name, each in records.items()} == {
        "250a": "d",
        "250b": "d",
        "450": "t",
        "550": "b",
    }
    assert records["450"]["dsnStatus"].startswith("4.2.1")
    assert records["450"]["dsnDiag"] == "smtp;450 4.2.1 not now"
    assert records["550"]["dsnStatus"].startswith("5.1.1")
    (got,) = host.messages
    assert len(host.dialogues) == 1
    assert got.recipients == [f"250a@{domain}", f"250b@{domain}"]
    (left,) = sender.server.ask("messages.list", message=number)["recipients"]
    assert (left["recipient"], left["attempts"]) == (f"450@{domain}", 1)


def test_after_a_transaction_without_any_taker_the_next_begins_clean(sender: Sender) -> None:
    with Host(by_local_part) as host:
        domain = sender.domain(host)
        sender.send(f"550x@{domain}", f"550y@{domain}")
        sender.send(f"good@{domain}")
        host.wait_for(messages=1)
        sender.wait_for_records(domain, "b", count=2)
    assert host.messages[0].recipients == [f"good@{domain}"]


def test_a_host_that_says_354_to_no_recipient_gets_an_empty_message(sender: Sender) -> None:
    """RFC 2920 §3.1: the client must send a lone dot; and the refusals stand, whatever is said to it."""

    def odd(dialogue: Dialogue, command: str) -> bytes | None:
        if command == "DATA":
            dialogue.rcpts = dialogue.rcpts or ["RCPT TO:<nobody>"]
        return by_local_part(dialogue, command)

    with Host(odd) as host:
        domain = sender.domain(host)
        sender.send(f"550@{domain}")
        sender.send(f"good@{domain}")
        wait_until(lambda: any("good" in rcpt for each in host.messages for rcpt in each.rcpts))
        (record,) = sender.wait_for_records(domain, "b")
    assert record["rcpt"] == f"550@{domain}"
    assert len(host.dialogues) == 1


def test_recipients_are_shared_out_over_transactions(sender: Sender) -> None:
    with Host() as host:
        domain = sender.domain(host, max_recipients_per_message=3)
        sender.send(*(f"r{number}@{domain}" for number in range(8)))
        sender.wait_for_records(domain, "d", count=8)
    assert sorted(len(each.recipients) for each in host.messages) == [2, 3, 3]
    assert len({each for got in host.messages for each in got.recipients}) == 8


def test_a_second_domain_is_another_transaction_with_the_same_bytes(sender: Sender) -> None:
    with Host() as host:
        one, two = sender.domain(host), sender.domain(host)
        sender.send(f"x@{one}", f"y@{two}", f"z@{one}")
        host.wait_for(messages=2)
    assert sorted(sorted(each.recipients) for each in host.messages) == sorted(
        [[f"x@{one}", f"z@{one}"], [f"y@{two}"]]
    )
    assert host.messages[0].data == host.messages[1].data
    assert wire_faults(host.messages[0].wire) == []


# -- the next host ----------------------------------------------------------------------------------------------


def test_a_host_that_cannot_be_reached_makes_room_for_the_next(sender: Sender) -> None:
    with Host() as second:
        domain = sender.domain(f"127.0.0.1:{free_port()}", second)
        sender.send(f"x@{domain}")
        (record,) = sender.wait_for_records(domain, "d")
    assert record["dlvDestinationIp"] == second.address
    assert sender.records(domain, "t", "tq", "b") == []


@pytest.mark.parametrize("refusal", [b"421 4.3.2 not now\r\n", b"554 5.7.1 not you\r\n"])
def test_a_host_that_greets_with_a_refusal_makes_room_for_the_next(
    sender: Sender, refusal: bytes
) -> None:
    with (
        Host(lambda dialogue, command: refusal if command == "" else None) as first,
        Host() as second,
    ):
        domain = sender.domain(first, second)
        sender.send(f"x@{domain}")
        second.wait_for(messages=1)
    assert first.dialogues[0].commands in ([], ["QUIT"])
    assert sender.records(domain, "t", "tq", "b") == []


def test_mx_hosts_are_tried_by_preference(sender: Sender, names: Names) -> None:
    port, sockets = bind_hosts(3, first=31)
    for sock in sockets:
        sock.close()
    with Host(address="127.0.0.32", port=port) as second, Host(address="127.0.0.33", port=port):
        names.dns.add(
            "mx.example", "MX", "30 c.mx.example.", "10 a.mx.example.", "20 b.mx.example."
        )
        for host, address in zip("abc", ("127.0.0.31", "127.0.0.32", "127.0.0.33"), strict=True):
            names.dns.add(f"{host}.mx.example", "A", address)
        domain = sender.domain(name="mx.example", port=port)
        sender.send(f"x@{domain}")
        second.wait_for(messages=1)
        (record,) = sender.wait_for_records(domain, "d")
    assert record["dsnMta"] == "b.mx.example (127.0.0.32)"
    assert record["site"] == "mx.example"


@pytest.mark.parametrize(
    ("name", "status"), [("nosuch.example", "5.1.2"), ("null.example", "5.1.10")]
)
def test_only_nxdomain_and_a_null_mx_fail(
    sender: Sender, names: Names, name: str, status: str
) -> None:
    names.dns.add("null.example", "MX", "0 .")
    sender.send(f"x@{name}")
    (record,) = sender.wait_for_records(name, "b")
    assert record["dsnStatus"].startswith(f"{status} ")
    assert record["dsnDiag"].startswith("x-sluice;55")


# -- what a host can never take ---------------------------------------------------------------------------------


def test_a_message_beyond_the_hosts_size_fails_before_a_word_is_said(sender: Sender) -> None:
    with Host(offers=("SIZE 2000", "PIPELINING")) as host:
        domain = sender.domain(host)
        big = b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" * 1500
        sender.send(f"big@{domain}", message=big)
        sender.send(f"small@{domain}")
        (record,) = sender.wait_for_records(domain, "b")
        host.wait_for(messages=1)
    assert record["rcpt"] == f"big@{domain}"
    assert record["dsnStatus"].startswith("5.3.4")
    assert not any("big@" in command for command in host.dialogues[0].commands)
    assert "SIZE=" in host.messages[0].mail


def test_8_bit_mail_to_a_7_bit_host_fails_and_7_bit_mail_does_not(sender: Sender) -> None:
    with Host(offers=("SIZE", "PIPELINING")) as host:
        domain = sender.domain(host)
        sender.send(f"eight@{domain}", message="Subject: x\r\n\r\nfür\r\n".encode())
        sender.send(f"header@{domain}", message="Subject: für\r\n\r\nx\r\n".encode())
        sender.send(f"seven@{domain}")
        records = sender.wait_for_records(domain, "b", count=2)
        host.wait_for(messages=1)
    assert {each["dsnStatus"].partition(" ")[0] for each in records} == {"5.6.3"}
    assert host.messages[0].recipients == [f"seven@{domain}"]


def test_8_bit_mail_is_declared_to_a_host_that_takes_it(sender: Sender) -> None:
    with Host() as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}", message="Subject: x\r\n\r\nfür\r\n".encode())
        sender.send(f"y@{domain}")
        host.wait_for(messages=2)
    assert "BODY=8BITMIME" in host.message_to(f"x@{domain}").mail
    assert "BODY=8BITMIME" not in host.message_to(f"y@{domain}").mail


def test_a_host_that_does_not_know_ehlo_gets_helo(sender: Sender) -> None:
    def old(dialogue: Dialogue, command: str) -> bytes | None:
        return b"502 what?\r\n" if command.startswith("EHLO") else None

    with Host(old) as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
    assert host.dialogues[0].commands[:2] == ["EHLO mta.test.example", "HELO mta.test.example"]
    assert host.messages[0].mail == "MAIL FROM:<a@sender.example>"


def test_the_null_sender_and_odd_local_parts_go_through_as_they_are(sender: Sender) -> None:
    with Host() as host:
        domain = sender.domain(host)
        local = '"quoted string"'
        sender.send(f"{local}@{domain}", f"o'brien+tag@{domain}", f"a..b@{domain}", sender="")
        host.wait_for(messages=1)
    (got,) = host.messages
    assert got.mail.startswith("MAIL FROM:<> ")
    assert got.recipients == [f"{local}@{domain}", f"o'brien+tag@{domain}", f"a..b@{domain}"]


def test_messages_go_out_no_faster_than_their_rate(sender: Sender) -> None:
    with Host() as host:
        domain = sender.domain(host, message_rate="5/s")
        started = time.monotonic()
        for number in range(8):
            sender.send(f"r{number}@{domain}")
        host.wait_for(messages=8)
        assert time.monotonic() - started >= 1.0  # 8 at 5 a second, and no burst at the start
