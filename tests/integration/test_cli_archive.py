"""`sluice messages export` and `import`: what was queued at one server is delivered by another, once, byte for byte.

A directory and a tar; a message larger than a line of the control socket; holds; a second import, also after a kill; what is
broken, said message by message.
"""

import json
import time
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.host import Host
from tests.support.sender import Sender, a_sender
from tests.support.wire import wait_until

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 4 + b"\r\n"
LARGE += (b"x" * 998 + b"\r\n") * 2500  # beyond a line, and beyond what stands in a row


def a_place(path: Path, name: str) -> Path:
    made = path / name
    made.mkdir()
    return made


def fill(sender: Sender) -> None:
    """Three messages with five recipients, of which one is held."""
    sluice = Cli(sender.server)
    for each in ("one.example", "two.example"):
        sluice.json("queue", "pause", each)
    news = b"X-Job: news\r\nSubject: n\r\n\r\n.dot\r\n\xc3\xa4\r\n"
    sender.send("a@one.example", "b@one.example", "c@two.example", message=news)
    sender.send("d@one.example", sender="", message=LARGE)
    sender.send("e@two.example")
    assert sluice.json("messages", "hold", "--recipient", "b@*", "--reason", "later")["held"] == 1


@pytest.mark.parametrize("name", ["out", "out.tar", "out.tgz"])
def test_what_one_server_exports_another_delivers_once_and_unchanged(
    name: str, tmp_path: Path
) -> None:
    archive = tmp_path / name
    with Host() as host:
        with a_sender(a_place(tmp_path, "old"), server="workers = 2") as old:
            for each in ("one.example", "two.example"):
                old.domain(host, name=each)
            fill(old)
            answer = Cli(old.server).json("messages", "export", str(archive))
            assert answer == {"messages": 3, "recipients": 5, "gone": 0}
            assert old.server.totals()["queued_recipients"] == 5  # they stay
            names = [row["id"] for row in Cli(old.server).json("messages", "list")["recipients"]]
        with a_sender(a_place(tmp_path, "new")) as new:
            for each in ("one.example", "two.example"):
                new.domain(host, name=each)
            sluice = Cli(new.server)
            assert sluice.json("messages", "import", str(archive)) == {
                "taken": 3,
                "known": 0,
                "refused": {},
            }
            wait_until(lambda: new.server.totals()["queued_recipients"] == 1)
            new.server.kill()  # what was taken is known for ever
            new.server.start()
            again = sluice.json("messages", "import", str(archive))
            assert (again["taken"], again["known"]) == (0, 3)
            (held,) = sluice.json("messages", "list")["recipients"]
            assert (held["recipient"], held["hold_reason"]) == ("b@one.example", "later")
            assert held["job"] == "news"
            sluice.json("messages", "release", "--all")
            host.wait_for(5)
            assert {each["srcType"] for each in new.server.records()} == {"import"}
    whole = host.message_to("d@one.example").data
    assert whole.endswith(LARGE)
    assert b"\r\n.dot\r\n\xc3\xa4\r\n" in host.message_to("c@two.example").data
    assert len(host.messages) == 5
    for each in set(names):  # the trace field is the old one's
        assert any(each.encode() in message.data for message in host.messages)


def test_release_time_and_priority_go_along(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Host() as host, a_sender(tmp_path, listener='max_hold = "1h"') as sender:
        sender.domain(host, name="one.example")
        sluice = Cli(sender.server)
        release_at = int(time.time()) + 600
        fields = f"X-Deliver-After: {release_at}\r\nX-Priority-Class: high\r\nSubject: x\r\n\r\n"
        sender.send("later@one.example", message=fields.encode() + b"body\r\n")
        sluice.json("messages", "export", str(out))
        assert sluice.json("messages", "delete", "--all")["deleted"] == 1
        assert sluice.json("messages", "import", str(out))["taken"] == 1
        (found,) = sluice.json("messages", "list")["recipients"]
        assert (found["status"], found["priority"]) == ("scheduled", "high")
        assert found["release_at"] == pytest.approx(release_at, abs=2)
        (wait,) = sluice.json("explain", found["id"])["waits"]
        assert wait["what"].startswith("scheduled: ")
        assert wait["until"] == pytest.approx(release_at, abs=2)
        assert not host.messages


def test_an_export_takes_filters_and_its_files_say_all(tmp_path: Path) -> None:
    with Host() as host, a_sender(tmp_path) as sender:
        for each in ("one.example", "two.example"):
            sender.domain(host, name=each)
        fill(sender)
        out = tmp_path / "out"
        text = Cli(sender.server).text("messages", "export", str(out), "--job", "news")
        assert text == f"1 messages with 3 recipients written to {out}\n"
        (found,) = out.glob("*.json")
        envelope = json.loads(found.read_bytes())
        assert envelope["id"] == found.stem
        assert [each["address"] for each in envelope["recipients"]] == [
            "a@one.example",
            "b@one.example",
            "c@two.example",
        ]
        assert found.with_suffix(".eml").stat().st_size == envelope["size"]
        # It is still queued here: there is nothing to take.
        assert Cli(sender.server).json("messages", "import", str(out))["known"] == 1


def test_what_is_broken_is_refused_message_by_message(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Host() as host, a_sender(tmp_path) as sender:
        sender.domain(host, name="one.example")
        sluice = Cli(sender.server)
        out.mkdir()
        bad = {
            "aaaaaaaa-1": ({}, b"Subject: x\n\nbare\n"),
            "aaaaaaaa-2": ({"vmta": "nowhere"}, b"Subject: x\r\n\r\nb\r\n"),
            "aaaaaaaa-3": ({"job": "a\r\nRCPT TO:<x@y.example>"}, b"Subject: x\r\n\r\nb\r\n"),
            "aaaaaaaa-4": ({"sender": "a b@c"}, b"Subject: x\r\n\r\nb\r\n"),
            "aaaaaaaa-5": ({"size": 3}, b"Subject: x\r\n\r\nb\r\n"),
            "aaaaaaaa-6": ({"envid": "a b"}, b"Subject: x\r\n\r\nb\r\n"),
        }
        good = ({}, b"Subject: x\r\n\r\nb\r\n")
        for name, (changes, data) in {**bad, "aaaaaaaa-9": good}.items():
            envelope = {
                "id": name,
                "sender": "a@b.example",
                "recipients": [{"address": "r@one.example", "domain": "one.example"}],
                "size": len(data),
                "vmta": "default",
                "received_at": 1.0e9 if name in bad else 4.0e9,
                **changes,
            }
            (out / f"{name}.json").write_text(json.dumps(envelope))
            (out / f"{name}.eml").write_bytes(data)
        ended = sluice("messages", "import", str(out), "--json")
        assert ended.code == 1
        assert ended.json["taken"] == 1
        assert set(ended.json["refused"]) == set(bad)
        host.wait_for(1)
        (out / "aaaaaaaa-1.json").write_text("{}")
        ended = sluice("messages", "import", str(out))
        assert ended.code == 1
        assert "cannot be read" in ended.err
        ended = sluice("messages", "import", str(tmp_path / "nothing"))
        assert ended.code == 1
