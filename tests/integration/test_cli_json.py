"""Every command with --json, once for real: `tests.support.cli` holds each answer against its documented shape."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from licensing.envelope import format_armour
from mta.cli.answers import SHAPES, check_answer
from tests.integration.test_license_chain import a_license
from tests.support import cli
from tests.support.cli import Cli, run
from tests.support.daemon import free_port
from tests.support.host import Host
from tests.support.licence_wire import WallClock, a_wire
from tests.support.machine_time import MachineTime
from tests.support.node import a_guard
from tests.support.sender import NO_DNS, Sender, a_sender
from tests.support.vendor import Vendor

MORE = (
    NO_DNS
    + '\n[vmta.a]\n[vmta.b]\n[pool.both]\nvmtas = { a = 1, b = 1 }\n[site.big]\ndomains = ["x.example"]\n'
)
NEWS = b"X-Job: news\r\nSubject: n\r\n\r\nbody\r\n"


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    listener = 'vmta = "a"'
    with a_sender(tmp_path, listener=listener, more=MORE) as sender:
        yield sender


def test_a_running_servers_answers_have_their_shapes(sender: Sender, tmp_path: Path) -> None:
    cli.answered.clear()
    sluice = Cli(sender.server)
    sender.domain(f"127.0.0.1:{free_port()}", name="x.example")
    sluice.json("queue", "pause", "x.example/a")
    sender.send("one@x.example", "two@x.example", message=NEWS)
    for kind, name in (("domains", "x.example"), ("sites", "big"), ("jobs", "news")):
        sluice.json(kind, "pause", name, "--for", "1h", "--reason", "a reason")
        sluice.json(kind, "drain", name)
        assert sluice.json(kind, "list")[kind][0]["orders"]
        if kind != "jobs":
            sluice.json(kind, "limit", name, "--max-connections", "3")
            sluice.json(kind, "unlimit", name)
    sluice.json("queue", "drain", "x.example/a", "--for", "1h")
    sluice.json("queue", "undrain", "x.example/a")
    sluice.json("queue", "limit", "x.example/a", "--max-connections", "3")
    assert sluice.json("orders")["orders"]
    (first, _) = sluice.json("messages", "list")["recipients"]
    assert sluice.json("messages", "show", first["id"])["recipients"]
    assert sluice.json("explain", first["id"])["waits"]
    assert sluice.json("queue", "show", "x.example/a")["policy"]
    assert sluice.json("queues")["queues"]
    assert sluice.json("vmtas")["vmtas"]
    assert sluice.json("bounces", "--since", "2h")["rows"] == []
    sluice.json("resolve", "x.example", "--vmta", "a")
    for verb in ("pause", "drain", "resume"):
        sluice.json("vmta", verb, "b")
    for verb in ("hold", "release", "retry"):
        sluice.json("messages", verb, "--domain", "x.example", "--dry-run")
        sluice.json("messages", verb, "--domain", "x.example")
    sluice.json("messages", "export", str(tmp_path / "out"))
    sluice.json("messages", "import", str(tmp_path / "out"))
    sluice.json("messages", "reroute", "--to", "both", "--domain", "x.example", "--dry-run")
    sluice.json("messages", "reroute", "--to", "b", "--domain", "x.example")
    sluice.json("messages", "delete", "--domain", "x.example", "--dry-run")
    sluice.json("messages", "delete", "--domain", "x.example")
    sluice.json("queue", "retry", "x.example/a")
    sluice.json("queue", "resume", "x.example/a")
    sluice.json("queue", "unlimit", "x.example/a")
    for kind, name in (("domains", "x.example"), ("sites", "big"), ("jobs", "news")):
        sluice.json(kind, "resume", name)
    sluice.json("config", "diff")
    for words in (
        ("status",),
        ("rotate",),
        ("reload",),
        ("license", "status"),
        ("license", "show"),
    ):
        sluice.json(*words)
    asked = {
        name
        for name in SHAPES
        if name.split()[0]
        not in ("license", "trace", "spool", "bounce", "dkim", "doctor", "shutdown", "config")
    }
    assert cli.answered >= asked, asked - cli.answered


def test_a_trace_is_one_object_a_line(sender: Sender) -> None:
    sluice = Cli(sender.server)
    with Host() as host:
        sender.domain(host, name="x.example")
        sluice.json("queue", "pause", "x.example/a")
        sender.send("one@x.example")
        cli.answered.clear()
        # What is said first is heard, too: a connection attempt that ends in nothing would do.
        thread = threading.Timer(
            0.7, lambda: sender.server.ask("queue.resume", queue="x.example/a")
        )
        thread.start()
        ended = sluice("trace", "x.example", "--for", "20s", "--limit", "3", "--json")
        thread.join()
        assert ended.code == 0
        assert len(ended.out.splitlines()) == 3
        assert cli.answered == {"trace"}


def test_commands_without_a_server_answer_in_their_shapes(tmp_path: Path) -> None:
    cli.answered.clear()
    config = tmp_path / "sluice.toml"
    config.write_text(f'[server]\nhostname = "a.example"\nspool_dir = "{tmp_path}"\n[vmta.a]\n')
    named = ("--config", str(config), "--json")
    assert run("config", "check", *named).code == 0
    assert run("config", "show", *named).json["vmtas"]
    assert run("config", "explain", "x.example", *named).json["values"]
    ended = run("bounce", "classify", "550 5.1.1 no such user", "--json")
    assert ended.json["verdict"] == "hard"
    config.write_text("[server]\nhost = 1\n")
    for words in (("config", "show"), ("config", "check"), ("doctor",)):
        ended = run(*words, *named)
        assert ended.code == 78
        assert ended.json["problems"]
    assert cli.answered == {"config check", "config show", "config explain", "bounce classify"}


async def test_what_the_vendor_is_asked_for_has_its_shape(tmp_path: Path) -> None:
    vendor, time, clock = Vendor(), MachineTime(), WallClock()
    clock.now = time.true
    license = a_license(vendor, 5_000)
    (tmp_path / "server").mkdir()
    async with a_wire(tmp_path / "server", vendor, clock=clock) as wire:
        known = await wire.learn(license)
        authority = tmp_path / "server" / "tls.pem"
        guard = a_guard(tmp_path, vendor, time, endpoint=wire.url, ca_file=authority)
        await guard.open()
        armour = format_armour(known.envelope).encode()
        check_answer("license install", await guard.install(armour))
        check_answer("license activate", await guard.activate())
        assert guard.take(10) == 10
        answers = {
            "license report now": await guard.report_now(),
            "license usage": await guard.usage(),
            "license events": await guard.events(),
            "license report show": await guard.report_show(2),
            "license test-connection": await guard.test_connection(),
        }
        assert all(answers.values())
        for command, answer in answers.items():
            check_answer(command, json.loads(json.dumps(answer)))
        check_answer("license deactivate", await guard.deactivate())
        await guard.stop()


def test_the_schema_of_a_command_is_printed_and_an_unknown_one_is_told() -> None:
    ended = run("schema", "queue", "show")
    assert ended.code == 0
    schema = ended.json
    assert schema["title"] == "sluice queue show --json"
    assert "waits" in schema["$defs"]["QueueShown"]["required"]
    assert run("schema").out.split("\n")[:-1] == list(SHAPES)
    ended = run("schema", "queue", "shw")
    assert ended.code == 2
    assert "did you mean queue show?" in ended.err


def test_an_answer_of_another_shape_is_refused() -> None:
    good = {
        "orders": [
            {
                "scope": "domain",
                "name": "a.example",
                "setting": "pause",
                "value": "",
                "until": None,
                "by": "root",
                "given_at": None,
                "command": "x",
            }
        ]
    }
    check_answer("orders", good)
    good["orders"][0]["until"] = "soon"
    with pytest.raises(msgspec.ValidationError, match="orders"):
        check_answer("orders", good)
    with pytest.raises(msgspec.ValidationError, match="more"):
        check_answer("orders", {"orders": [], "more": 1})
