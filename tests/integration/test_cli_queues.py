"""`sluice queues`, `queue show|pause|resume|retry` and `explain`: what an operator sees of queues, and does to them.

One real server with queues that rest, retry, are paused and are empty. Issue: "`explain` names every reason, until when, and the
config place each comes from".
"""

import re
import time
from collections.abc import Iterator

import pytest

from tests.support.cli import Cli
from tests.support.host import Dialogue, Host
from tests.support.sender import NO_DNS, Sender, a_sender
from tests.support.wire import wait_until


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    place = tmp_path_factory.mktemp("queues")
    more = NO_DNS + "\n[vmta.a]\n[vmta.b]\n"
    with a_sender(place, listener='vmta = "a"', more=more) as sender:
        yield sender


@pytest.fixture
def sluice(sender: Sender) -> Cli:
    return Cli(sender.server)


class Refusing:
    """A script that refuses every recipient while `refuses`."""

    def __init__(self) -> None:
        self.refuses = True
        self.asked = 0

    def __call__(self, dialogue: Dialogue, command: str) -> bytes | None:
        if command.startswith("RCPT") and self.refuses:
            self.asked += 1
            return b"450 4.2.1 not now\r\n"
        return None


@pytest.fixture
def refusing() -> Refusing:
    return Refusing()


@pytest.fixture
def host(refusing: Refusing) -> Iterator[Host]:
    with Host(refusing) as host:
        yield host


def test_queues_are_listed_largest_first_and_by_part_of_their_name(
    sender: Sender, sluice: Cli, host: Host
) -> None:
    names = [sender.domain(host, name=f"{n}.list.example", retry=["1h"]) for n in ("one", "two")]
    sender.send(f"x@{names[0]}")
    sender.send(f"x@{names[1]}", f"y@{names[1]}", f"z@{names[1]}")
    for name, count in zip(names, (1, 3), strict=True):
        sender.wait_for_records(name, "t", count=count)
    answer = sluice.json("queues", "list.example")
    rows = answer["queues"]
    assert [(row["queue"], row["recipients"]) for row in rows] == [
        ("two.list.example/a", 3),
        ("one.list.example/a", 1),
    ]
    assert answer["total"] == 2
    for row in rows:
        assert row["size_bytes"] > 0
        assert abs(row["oldest_at"] - time.time()) < 60
        assert row["due"] > time.time() + 3000
        assert (row["held"], row["paused"]) == (0, False)
    by_name = sluice.json("queues", "list.example", "--sort", "domain", "--limit", "1")
    assert [row["queue"] for row in by_name["queues"]] == ["one.list.example/a"]
    assert by_name["total"] == 2
    text = sluice.text("queues", "list.example")
    assert "two.list.example/a" in text
    assert "2 of 2 queues" in text
    assert sluice.json("queues", "no-such-name")["queues"] == []


def test_queues_cannot_be_sorted_by_anything(sluice: Cli) -> None:
    ended = sluice("queues", "--sort", "colour")
    assert ended.code == 1
    assert "colour" in ended.err
    assert "recipients, oldest, domain, bytes, due" in ended.err


def test_a_queue_is_shown_with_its_policy_and_where_each_value_is_set(
    sender: Sender, sluice: Cli, host: Host
) -> None:
    domain = sender.domain(host, retry=["2h"], max_recipients_per_message=7)
    sender.send(f"x@{domain}")
    sender.wait_for_records(domain, "t")
    answer = sluice.json("queue", "show", f"{domain}/a")
    assert (answer["queue"], answer["recipients"]) == (f"{domain}/a", 1)
    policy = {row["name"]: row for row in answer["policy"]}
    assert policy["max_recipients_per_message"]["value"] == "7"
    assert domain in policy["max_recipients_per_message"]["place"]
    assert str(sender.server.config) in policy["max_recipients_per_message"]["place"]
    assert policy["port"]["place"] == "built-in default"
    assert any(wait["what"].startswith("retry") for wait in answer["waits"])
    text = sluice.text("queue", "show", f"{domain}/a")
    assert "max_recipients_per_message" in text
    assert "waits: " in text


def test_a_queue_there_is_not_is_said_so(sluice: Cli) -> None:
    for name in ("nosuch.example", "nosuch.example/b"):
        ended = sluice("queue", "show", name)
        assert ended.code == 1
        assert "nosuch.example" in ended.err
    ended = sluice("queue", "show", "not a name/at all/x")
    assert ended.code == 1


def test_a_paused_queue_delivers_nothing_until_it_is_resumed_over_a_reload_too(
    sender: Sender, sluice: Cli, host: Host, refusing: Refusing
) -> None:
    refusing.refuses = False
    domain = sender.domain(host)
    name = f"{domain}/a"
    answer = sluice.json("queue", "pause", name)
    assert (answer["queue"], answer["paused"]) == (name, True)
    sender.send(f"x@{domain}")
    sluice.json("reload")
    assert any("paused" in wait["what"] for wait in sluice.json("explain", name)["waits"])
    assert "paused by the operator" in sluice.text("explain", name)
    wait_until(lambda: sluice.json("queue", "show", name)["paused"])
    assert "paused" in sluice.text("queues", domain)
    assert host.messages == []
    assert sluice.json("queue", "resume", name)["was_paused"] is True
    host.wait_for(messages=1)


def test_retry_makes_everything_due_now(
    sender: Sender, sluice: Cli, host: Host, refusing: Refusing
) -> None:
    domain = sender.domain(host, retry=["1h"])
    sender.send(f"x@{domain}", f"y@{domain}")
    sender.wait_for_records(domain, "t", count=2)
    refusing.refuses = False
    answer = sluice.json("queue", "retry", f"{domain}/a")
    assert (answer["queue"], answer["due"]) == (f"{domain}/a", 2)
    host.wait_for(messages=1)
    delivered = sender.wait_for_records(domain, "d", count=2)
    assert {each["attempts"] for each in delivered} == {"2"}


def test_retry_ends_a_backoff(sender: Sender, sluice: Cli) -> None:
    refuses = [True]

    def grumpy(dialogue: Dialogue, command: str) -> bytes | None:
        return b"421 4.3.2 not now\r\n" if command == "" and refuses[0] else None

    with Host(grumpy) as host:
        domain = sender.domain(host, backoff_initial="1h")
        name = f"{domain}/a"
        sender.send(f"x@{domain}")
        sender.wait_for_records(domain, "tq")
        (wait,) = [
            each
            for each in sluice.json("explain", name)["waits"]
            if each["what"].startswith("backoff")
        ]
        assert "421 4.3.2 not now" in wait["what"]
        assert wait["until"] > time.time() + 1790
        assert domain in wait["place"]
        text = sluice.text("explain", name)
        assert "421 4.3.2 not now" in text
        assert re.search(r" in ([345][0-9]m|1h)", text)
        row = sluice.json("queue", "show", name)
        assert row["mode"] == "backoff"
        assert "421 4.3.2 not now" in row["reason"]
        refuses[0] = False
        assert "are due now" in sluice.text("queue", "retry", name)
        host.wait_for(messages=1)


def test_explain_of_a_message_tells_each_recipient(sender: Sender, sluice: Cli, host: Host) -> None:
    domain = sender.domain(host, retry=["1h"])
    number = sender.send(f"x@{domain}", f"y@{domain}")
    sender.wait_for_records(domain, "t", count=2)
    waits = sluice.json("explain", str(number))["waits"]
    for recipient in (f"x@{domain}", f"y@{domain}"):
        (wait,) = [
            each
            for each in waits
            if each["of"].endswith(f"-{number} to {recipient}") and "attempt" in each["what"]
        ]
        assert "450 4.2.1 not now" in wait["what"]
        assert wait["until"] > time.time() + 1790
    assert f"y@{domain}" in sluice.text("explain", str(number))


def test_explain_of_nothing(sluice: Cli) -> None:
    ended = sluice("explain", "99999999")
    assert ended.code == 1
    assert "99999999 is not queued" in ended.err
    assert "waits for nothing" in sluice.text("explain", "empty.example")


def test_a_hundred_queues_are_counted_and_a_page_is_shown(
    sender: Sender, sluice: Cli, host: Host
) -> None:
    sender.add(f'\n[vmta.b.domain."x.page.example"]\nhosts = ["{host.name}"]\n')
    names = [f"q{number}.page.example" for number in range(100)]
    sender.send(*(f"x@{name}" for name in names))  # no DNS: all of them wait
    wait_until(lambda: sluice.json("queues", "page.example")["total"] == 100)
    answer = sluice.json("queues", "page.example", "--sort", "domain", "--limit", "30")
    assert [row["queue"] for row in answer["queues"]] == sorted(f"{name}/a" for name in names)[:30]
    assert len(sluice.json("queues", "page.example", "--limit", "1000")["queues"]) == 100


def test_what_names_no_queue_is_refused_and_a_domain_alone_means_all_of_its_queues(
    sender: Sender, sluice: Cli
) -> None:
    for words, says in (
        (("queue", "pause", ".."), "names no queue"),
        (("queue", "pause", "a b.example"), "names no queue"),
        (("queue", "pause", "some.example/zz"), "there is no virtual MTA zz"),
        (("queue", "pause", "some.example"), "sluice vmtas lists them"),
        (("explain", "a b"), "names no queue"),
        (("resolve", ""), "is no domain"),
        (("resolve", "exa mple"), "is no domain"),
    ):
        ended = sluice(*words)
        assert ended.code == 1, words
        assert says in ended.err, (words, ended.err)
    for vmta in ("a", "b"):
        sluice.json("queue", "pause", f"both.example/{vmta}")
    sluice.json("queue", "pause", "not-both.example/a")
    waits = sluice.json("explain", "Both.Example")["waits"]
    assert [each["of"] for each in waits] == ["both.example/a", "both.example/b"]
