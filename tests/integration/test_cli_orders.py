"""`sluice domains|sites|jobs` and `queue limit`: what is queued for each, pauses and limits, their ends, and restarts between."""

import os
import pwd
import time
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.host import Dialogue, Host
from tests.support.sender import NO_DNS, Sender, a_sender
from tests.support.wire import Wire, wait_until

NEWS = b"X-Job: news\r\nSubject: n\r\n\r\nbody\r\n"
TWINS = NO_DNS + "\n[site.twins]\ndomains = ['one.example', 'two.example']\n"


ME = pwd.getpwuid(os.getuid()).pw_name


def queued(sender: Sender) -> int:
    return int(sender.server.totals()["queued_recipients"])


@pytest.mark.parametrize(
    ("kind", "name", "workers"),
    [("domains", "one.example", 1), ("sites", "twins", 2), ("jobs", "news", 2)],
)
def test_a_pause_holds_new_mail_too_over_restarts_until_it_is_ended(
    kind: str, name: str, workers: int, tmp_path: Path
) -> None:
    with Host() as host, a_sender(tmp_path, more=TWINS, server=f"workers = {workers}") as sender:
        sender.domain(host, name="one.example")
        sluice = Cli(sender.server)
        sender.send("a@one.example", message=NEWS)  # the queue is in memory, and connected
        host.wait_for(1)
        wait_until(lambda: queued(sender) == 0)
        (order,) = sluice.json(kind, "pause", name, "--reason", "no reason")["orders"]
        assert (order["name"], order["setting"], order["until"]) == (name, "pause", None)
        for number in range(4):
            sender.send(f"b{number}@one.example", message=NEWS)
        sender.server.kill()
        sender.server.start()
        for number in range(4):
            sender.send(f"c{number}@one.example", message=NEWS)
        (row,) = sluice.json(kind, "list", name)[kind]
        assert (row["name"], row["recipients"]) == (name, 8)
        assert [each["value"] for each in row["orders"]] == ["no reason"]
        assert "paused: no reason" in sluice.text(kind, "list")
        time.sleep(0.5)
        assert len(host.messages) == 1
        if kind != "jobs":
            says = {wait["what"]: wait["place"] for wait in sender.waits("one.example")}
            (place,) = [place for what, place in says.items() if "no reason" in what]
            assert place == f"order of {ME} for {kind[:-1]} {name}"
        assert sluice.json(kind, "resume", name)["recalled"] == 1
        host.wait_for(9)
        assert "was neither paused nor drained" in sluice.text(kind, "resume", name)


def test_explain_names_every_stop_with_who_until_when_and_what_ends_it(tmp_path: Path) -> None:
    with a_sender(tmp_path, more=TWINS) as sender:
        sender.domain("127.0.0.1:9", name="one.example")
        sluice = Cli(sender.server)
        queue = "one.example/default"
        sluice.json("queue", "pause", queue)
        number = sender.send("a@one.example", message=NEWS)
        (listed,) = sluice.json("messages", "list")["recipients"]
        stops = {
            ("domains", "pause", "one.example"): "sluice domains resume one.example",
            ("sites", "pause", "twins"): "sluice sites resume twins",
            ("jobs", "pause", "news"): "sluice jobs resume news",
        }
        for words in stops:
            sluice.json(*words, "--for", "1h", "--reason", f"because of {words[0]}")
        for what in (queue, str(number)):
            waits = {each["command"]: each for each in sluice.json("explain", what)["waits"]}
            assert waits.keys() >= {*stops.values(), f"sluice queue resume {queue}"}, waits
            for (kind, _, name), command in stops.items():
                wait = waits[command]
                assert f"because of {kind}" in wait["what"]
                assert 3500 < wait["until"] - time.time() < 3700
                assert wait["place"].startswith(f"order of {ME} for {kind[:-1]} {name}, until 2")
        text = sluice.text("explain", queue)
        assert "in 59m" in text or "in 1h" in text
        assert "; sluice jobs resume news ends it" in text
        assert f", by {ME} " in sluice.text("orders")
        for words, command in stops.items():  # what it says does it
            assert sluice.json(*command.split()[1:])["recalled"] == 1, words
        sluice.json("vmta", "pause", "default")
        sluice.json("messages", "hold", "--message", listed["id"], "--reason", "too early")
        for what in (queue, str(number)):
            waits = {each["command"]: each for each in sluice.json("explain", what)["waits"]}
            assert f"by {ME}" in waits["sluice vmta resume default"]["what"]
            (held,) = (each for each in waits.values() if each["what"].startswith("held: "))
            if what != queue:
                assert held["what"] == "held: too early"
            assert sluice.json(*held["command"].split()[1:], "--dry-run")["would_release"] == 1


def test_a_paused_job_lets_other_mail_of_its_queues_pass(tmp_path: Path) -> None:
    with Host() as host, a_sender(tmp_path) as sender:
        sender.domain(host, name="one.example")
        sluice = Cli(sender.server)
        sluice.json("jobs", "pause", "news")
        for number in range(3):
            sender.send(f"n{number}@one.example", message=NEWS)
            sender.send(f"o{number}@one.example")
        host.wait_for(3)
        wait_until(lambda: queued(sender) == 3)
        assert all(each.recipients[0].startswith("o") for each in host.messages)
        sluice.json("jobs", "resume", "news")
        host.wait_for(6)


def test_a_drain_delivers_what_is_queued_and_refuses_more(tmp_path: Path) -> None:
    with Host() as host, a_sender(tmp_path, more=TWINS) as sender:
        sender.domain(host, name="one.example")
        sluice = Cli(sender.server)
        for kind, name, refused in (
            ("domains", "one.example", "not taken now"),
            ("sites", "twins", "not taken now"),
            ("jobs", "news", "of this job is not taken now"),
            ("queue", "one.example/default", "of this queue is not taken now"),
        ):
            sluice.json("queue", "pause", "one.example")
            before = len(host.messages)
            sender.send("a@one.example", message=NEWS)
            sluice.json(kind, "drain", name)
            with Wire(sender.server.port) as wire:
                wire.greet()
                wire.ask("MAIL FROM:<a@sender.example>")
                reply = wire.ask("RCPT TO:<b@one.example>")
                if kind in ("jobs", "queue"):
                    wire.ask("DATA")
                    wire.send(NEWS + b".\r\n")
                    reply = wire.reply()
            assert reply.startswith("451 4.3.2"), reply
            assert refused in reply
            sluice.json("queue", "resume", "one.example")
            host.wait_for(before + 1)
            assert "drain" in sluice.text("orders")
            if kind != "queue":
                assert "drained" in sluice.text(kind, "list")
            ending = "undrain" if kind == "queue" else "resume"
            assert sluice.json(kind, ending, name)["recalled"] == 1
            sender.send("c@one.example", message=NEWS)
            host.wait_for(before + 2)


def test_a_temporary_limit_is_explained_with_its_end_and_gone_after_it(tmp_path: Path) -> None:
    def script(dialogue: Dialogue, command: str) -> bytes | None:
        time.sleep(0.05 if command == "." else 0.0)
        return None

    with Host(script) as host, a_sender(tmp_path, default="max_connections = 5") as sender:
        sender.domain(host, name="one.example")
        sluice = Cli(sender.server)
        sluice.json("queue", "pause", "one.example")
        for number in range(40):
            sender.send(f"a{number}@one.example")
        words = ("queue", "limit", "one.example", "--max-connections", "1", "--for", "4s")
        (order,) = sluice.json(*words)["orders"]
        assert 0 < order["until"] - time.time() < 6
        began = time.monotonic()
        policy = {
            each["name"]: each for each in sluice.json("queue", "show", "one.example")["policy"]
        }
        assert policy["max_connections"]["value"] == "1"
        assert (
            f"order of {ME} for queue one.example/default, until 2"
            in (policy["max_connections"]["place"])
        )
        sluice.json("queue", "resume", "one.example")
        host.wait_for(10)
        if time.monotonic() - began < 3.5:
            assert len(host.dialogues) == 1
        wait_until(lambda: sluice.json("orders")["orders"] == [])
        host.wait_for(40)
        sluice.json("queue", "pause", "one.example")
        sender.send("b@one.example")
        policy = {
            each["name"]: each for each in sluice.json("queue", "show", "one.example")["policy"]
        }
        assert policy["max_connections"]["value"] == "5"


def test_what_cannot_be_ordered_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with a_sender(tmp_path) as sender:
        sluice = Cli(sender.server)
        for words, says in (
            (("domains", "limit", "one.example"), "which limit"),
            (("domains", "limit", "one.example", "--max-connections", "0"), "1 to 100000"),
            (("domains", "limit", "one.example", "--message-rate", "fast"), "fast"),
            (("domains", "pause", "one..example"), "domain"),
            (("domains", "pause", "one.example", "--reason", "a\nb"), "printable"),
            (("domains", "pause", "one.example", "--for", "99999d"), "10 years"),
            (("domains", "list", "--sort", "colour"), "colour"),
        ):
            ended = sluice(*words)
            assert ended.code == 1, words
            assert says in ended.err, (words, ended.err)
        assert sluice.json("orders")["orders"] == []
        assert "no order" in sluice.text("domains", "unlimit", "one.example")


def test_the_file_is_compared_with_what_runs_orders_aside(tmp_path: Path) -> None:
    with a_sender(tmp_path) as sender:
        sluice = Cli(sender.server)
        sluice.json("domains", "limit", "one.example", "--max-connections", "3")
        ended = sluice("config", "diff")
        assert (ended.code, ended.out) == (0, "the server runs with what the file says\n")
        text = sender.server.config.read_text()
        sender.server.config.write_text(text + '\n[domain."one.example"]\nmax_connections = 7\n')
        ended = sluice("config", "diff", "--json")
        assert ended.code == 1
        (change,) = ended.json["changes"]
        assert (change["key"], change["running"], change["file"]) == ("max_connections", None, "7")
        assert "max_connections" in sluice("config", "diff").out
        sluice.json("reload")
        assert sluice("config", "diff").code == 0
