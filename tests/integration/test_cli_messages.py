"""`sluice messages list|show|hold|release|delete|retry`: every filter alone and together, dry runs, and the
record that a deletion leaves.

One real server whose queues are paused, so that what is listed stays. Issue: "`messages list|show|delete` with filters".
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.host import Dialogue, Host
from tests.support.sender import NO_DNS, Sender, a_sender

RECIPIENTS = ["a@one.example", "b@one.example", "c@two.example", "d@two.example"]


@dataclass
class Scene:
    sender: Sender
    sluice: Cli
    news: int  # the numbers of three messages
    bill: int
    bounce: int


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """For tests that only look."""
    with a_scene(tmp_path_factory.mktemp("listed")) as scene:
        yield scene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """For a test that deletes."""
    with a_scene(tmp_path) as scene:
        yield scene


@contextmanager
def a_scene(place: Path) -> Iterator[Scene]:
    more = NO_DNS + "\n[vmta.a]\n[vmta.b]\n[site.twins]\ndomains = ['two.example']\n"
    with Host() as host, a_sender(place, listener='vmta = "a"', more=more) as sender:
        sender.domain(host, name="one.example")
        sender.domain(host, name="two.example")
        sluice = Cli(sender.server)
        for name in ("one.example/a", "one.example/b", "two.example/a", "two.example/b"):
            sluice.json("queue", "pause", name)
        news = b"X-Job: news\r\nSubject: n\r\n\r\nbody\r\n"
        bill = b"X-Job: bills\r\nX-Virtual-MTA: b\r\nSubject: b\r\n\r\nbody\r\n"
        yield Scene(
            sender,
            sluice,
            sender.send(*RECIPIENTS, message=news, sender="news@sender.example"),
            sender.send("a@one.example", message=bill, sender="bill@sender.example"),
            sender.send("x@two.example", sender=""),
        )
        assert host.messages == []


FILTERS = {
    "nothing": ((), 6),
    "a domain": (("--domain", "one.example"), 3),
    "a domain in capitals": (("--domain", "ONE.example"), 3),
    "a virtual MTA": (("--vmta", "b"), 1),
    "a queue": (("--domain", "one.example", "--vmta", "a"), 2),
    "a job": (("--job", "news"), 4),
    "no job": (("--job", ""), 1),
    "a sender": (("--sender", "bill@sender.example"), 1),
    "a sender pattern": (("--sender", "*@sender.example"), 5),
    "the null sender": (("--sender", ""), 1),
    "a recipient": (("--recipient", "a@one.example"), 2),
    "a recipient pattern": (("--recipient", "*@two.example"), 3),
    "a job and a domain": (("--job", "news", "--domain", "two.example"), 2),
    "a site that is a domain": (("--site", "one.example"), 3),
    "a site that the configuration lists": (("--site", "twins"), 3),
    "older than a day": (("--older-than", "1d"), 0),
    "younger than a day": (("--younger-than", "1d"), 6),
    "larger than a megabyte": (("--larger-than", "1M"), 0),
    "smaller than a megabyte": (("--smaller-than", "1M"), 6),
    "larger than 100 bytes": (("--larger-than", "100"), 6),
    "due": (("--status", "due"), 6),
    "deferred": (("--status", "deferred"), 0),
    "held ones": (("--status", "held"), 0),
    "not held": (("--not-held",), 6),
    "held": (("--held",), 0),
    "a domain there is not": (("--domain", "three.example"), 0),
}


def test_every_filter_lists_what_it_says_and_delete_counts_the_same(listed: Scene) -> None:
    for what, (words, count) in FILTERS.items():
        rows = listed.sluice.json("messages", "list", *words)["recipients"]
        assert len(rows) == count, what
        counted = listed.sluice.json("messages", "delete", *words, "--dry-run", "--all")
        assert counted["would_delete"] == count, what
    assert len(listed.sluice.json("messages", "list", "--limit", "2")["recipients"]) == 2
    assert listed.sender.server.totals()["queued_recipients"] == 6


def test_a_row_tells_all_of_a_recipient(listed: Scene) -> None:
    (row,) = listed.sluice.json("messages", "list", "--vmta", "b")["recipients"]
    assert abs(row.pop("received_at") - time.time()) < 60
    assert abs(row.pop("due") - time.time()) < 60
    assert row.pop("size") > 100
    # One id for all: the answer to the feeder, the list, the records, the trace field.
    assert re.fullmatch(rf"[0-9a-f]{{8}}-{listed.bill}", row["id"])
    assert row.pop("id") in listed.sluice.text("messages", "list")
    assert row == {
        "message": listed.bill,
        "spool": 0,
        "recipient": "a@one.example",
        "sender": "bill@sender.example",
        "queue": "one.example/b",
        "job": "bills",
        "attempts": 0,
        "status": "due",
        "held": False,
        "hold_reason": "",
        "last_reply": "",
        "priority": "normal",
        "release_at": None,
    }
    text = listed.sluice.text("messages", "list")
    assert "<>" in text  # the null sender, as people write it
    assert "one.example/b" in text


def test_show_gives_every_recipient_of_one_message(listed: Scene) -> None:
    rows = listed.sluice.json("messages", "show", str(listed.news))["recipients"]
    assert [row["recipient"] for row in rows] == RECIPIENTS
    (name,) = {row["id"] for row in rows}
    for said in (name, name.upper()):
        assert listed.sluice.json("messages", "show", said)["recipients"] == rows
    waits = listed.sluice.json("explain", name)["waits"]
    assert {wait["of"] for wait in waits} == {f"{name} to {each}" for each in RECIPIENTS}
    assert listed.sluice.json("explain", str(listed.news))["waits"] == waits
    other = f"{'0' * 8 if name[0] != '0' else 'f' * 8}-{listed.news}"
    assert f"{other} is not queued" in listed.sluice("messages", "show", other).err
    assert f"{other} is not queued" in listed.sluice("explain", other).err
    counted = listed.sluice.json("messages", "delete", "--message", other, "--dry-run")
    assert counted["would_delete"] == 0
    assert "d@two.example" in listed.sluice.text("messages", "show", str(listed.news))
    ended = listed.sluice("messages", "show", "4711")
    assert ended.code == 1
    assert "4711 is not queued" in ended.err
    assert "accounting" in ended.err


def test_delete_removes_leaves_a_record_and_touches_nothing_else(scene: Scene) -> None:
    sluice = scene.sluice
    assert sluice.json("messages", "delete", "--job", "news", "--domain", "one.example") == {
        "deleted": 2,
        "silent": [],
    }
    left = sluice.json("messages", "list")["recipients"]
    assert sorted(row["recipient"] for row in left) == sorted(
        ["c@two.example", "d@two.example", "a@one.example", "x@two.example"]
    )
    records = scene.sender.wait_for_records("one.example", "b", count=2)
    assert {(each["rcpt"], each["removedBy"]) for each in records} == {
        ("a@one.example", "administrator"),
        ("b@one.example", "administrator"),
    }
    assert {each["jobId"] for each in records} == {"news"}
    (news,) = {each["messageId"] for each in records}
    assert news == left[0]["id"]
    (bill,) = {row["id"] for row in left if row["message"] == scene.bill}
    assert "1 recipients deleted" in sluice.text("messages", "delete", "--message", bill)
    assert sluice.json("messages", "delete", "--all")["deleted"] == 3
    assert sluice.json("messages", "delete", "--all")["deleted"] == 0
    assert scene.sender.server.totals()["queued_messages"] == 0
    # The queues are still there, for they are paused; nothing is in them.
    assert {row["recipients"] for row in sluice.json("queues")["queues"]} == {0}


def test_all_mail_is_deleted_only_when_all_is_said(listed: Scene) -> None:
    ended = listed.sluice("messages", "delete")
    assert ended.code == 1
    assert "--all" in ended.err
    assert listed.sender.server.totals()["queued_recipients"] == 6


def test_what_is_deleted_is_gone_after_a_restart(scene: Scene) -> None:
    scene.sluice.json("messages", "delete", "--domain", "two.example")
    server = scene.sender.server
    server.kill()
    server.start()
    rows = scene.sluice.json("messages", "list")["recipients"]
    assert {row["queue"].partition("/")[0] for row in rows} == {"one.example"}
    assert len(rows) == 3
    # The pause has survived as well: nothing has gone out.
    assert scene.sluice.json("queue", "show", "one.example/a")["paused"] is True


def test_what_is_held_waits_over_a_restart_says_why_and_goes_once_it_is_released(
    tmp_path: Path,
) -> None:
    with Host() as host, a_sender(tmp_path) as sender:
        sender.domain(host, name="one.example")
        sluice = Cli(sender.server)
        sluice.json("queue", "pause", "one.example")
        news = b"X-Job: news\r\nSubject: n\r\n\r\nbody\r\n"
        number = sender.send("a@one.example", "b@one.example", message=news)
        words = ("messages", "hold", "--job", "news", "--recipient", "b@*", "--reason", "not yet")
        assert sluice.json(*words, "--dry-run") == {"would_hold": 1, "silent": []}
        assert sluice.json(*words)["held"] == 1
        assert sluice.json(*words)["held"] == 0  # it is held already
        sender.server.kill()
        sender.server.start()
        (row,) = sluice.json("messages", "list", "--status", "held")["recipients"]
        assert (row["recipient"], row["hold_reason"]) == ("b@one.example", "not yet")
        waits = sluice.json("explain", row["id"])["waits"]
        assert "held: not yet" in {wait["what"] for wait in waits}
        sluice.json("queue", "resume", "one.example")
        sender.server.wait_for(delivered=1)
        assert sluice.json("messages", "retry", "--all")["due"] == 0  # a hold is no delay
        assert sender.server.totals()["held"] == 1
        assert sluice.text("messages", "release", "--message", str(number)) == (
            "1 recipients released\n"
        )
        host.wait_for(2)
        assert {address for each in host.messages for address in each.recipients} == {
            "a@one.example",
            "b@one.example",
        }


def test_retry_ends_a_delay_and_a_backoff_but_no_pause(tmp_path: Path) -> None:
    busy = True

    def script(dialogue: Dialogue, command: str) -> bytes | None:
        return b"450 4.2.0 later\r\n" if busy and command.startswith("RCPT") else None

    with Host(script) as host, a_sender(tmp_path) as sender:
        sender.domain(host, name="one.example", retry=["1h"], backoff_initial="1h")
        sluice = Cli(sender.server)
        sender.send("a@one.example")
        sender.server.wait_for(deferred=1)
        (row,) = sluice.json("messages", "list", "--status", "deferred")["recipients"]
        assert row["attempts"] == 1
        busy = False
        sluice.json("queue", "pause", "one.example")
        assert sluice.json("messages", "retry", "--domain", "one.example")["due"] == 1
        assert sluice.json("messages", "list", "--status", "due")["recipients"]
        assert sluice.json("queue", "show", "one.example")["paused"] is True
        assert host.messages == []
        sluice.json("queue", "resume", "one.example")
        host.wait_for(1)
