"""`sluice status|resolve|reload|rotate|shutdown` against a running server, and what is said when none is running.

Real commands over the real control socket. Issue: "CLI over the Unix socket … `--json` everywhere".
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import Cli, run
from tests.support.daemon import Daemon, ended
from tests.support.host import Dialogue, Host
from tests.support.names import Names
from tests.support.sender import Sender, a_sender
from tests.support.wire import Wire, wait_until

EX_UNAVAILABLE, EX_CONFIG, USAGE = 69, 78, 2


@pytest.fixture(scope="module")
def sender(names: Names, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    place = tmp_path_factory.mktemp("server")
    more = f'[dns]\nservers = ["{names.address}"]\n[vmta.a]\n[vmta.b]\n[site.big]\nmx = ["*.big.example"]'
    with a_sender(place, listener='vmta = "a"', more=more) as sender:
        yield sender


@pytest.fixture
def sluice(sender: Sender) -> Cli:
    return Cli(sender.server)


# -- status, resolve, rotate ------------------------------------------------------------------------------------


def test_status_tells_totals_connections_and_lag(sender: Sender, sluice: Cli) -> None:
    with Host() as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        sender.wait_for_records(domain, "d")
        answer = sluice.json("status")
    assert answer["totals"]["messages_in"] >= 1
    assert answer["totals"]["delivered"] >= 1
    assert answer["totals"]["bugs"] == 0
    assert answer["pid"] == sender.server.pid
    assert answer["lab"] is True
    assert answer["config"] == str(sender.server.config)
    assert answer["silent"] == []
    assert [each["number"] for each in answer["workers"]] == [0]
    assert answer["workers"][0]["intake"] == "open"
    assert answer["loop_lag_p99_ms"] >= 0
    text = sluice.text("status")
    for words in ("mta.test.example", f"pid {sender.server.pid}", "LAB", "delivered", "loop lag"):
        assert words in text
    assert "accounting.main" in text


def test_resolve_shows_where_mail_goes(names: Names, sluice: Cli) -> None:
    names.dns.add("big-customer.example", "MX", "20 mx2.big.example.", "10 mx1.big.example.")
    names.dns.add("mx1.big.example", "A", "127.0.0.41")
    names.dns.add("mx2.big.example", "A", "127.0.0.42")
    answer = sluice.json("resolve", "Big-Customer.example.", "--vmta", "a")
    assert (answer["domain"], answer["vmta"], answer["site"]) == (
        "big-customer.example",
        "a",
        "big",
    )
    assert [(each["host"], each["address"]) for each in answer["candidates"]] == [
        ("mx1.big.example", "127.0.0.41"),
        ("mx2.big.example", "127.0.0.42"),
    ]
    text = sluice.text("resolve", "big-customer.example", "--vmta", "a")
    assert "site big" in text
    assert "127.0.0.42" in text


def test_resolve_of_what_does_not_exist_fails(sluice: Cli) -> None:
    ended = sluice("resolve", "nosuch.example", "--vmta", "a")
    assert ended.code == 1
    assert "does not exist" in ended.out + ended.err
    assert "5.1.2" in json.dumps(sluice.json("resolve", "nosuch.example", "--vmta", "a"))


def test_resolve_refuses_what_is_no_domain_or_no_virtual_mta(sluice: Cli) -> None:
    for words in (("no domain!",), ("example.com", "--vmta", "nosuch")):
        ended = sluice("resolve", *words)
        assert ended.code == 1, words
        assert ended.err or ended.out


def test_rotate_finishes_the_accounting_file(sender: Sender, sluice: Cli) -> None:
    with Host() as host:
        domain = sender.domain(host)
        sender.send(f"x@{domain}")
        host.wait_for(messages=1)
        wait_until(lambda: sender.server.totals()["queued_recipients"] == 0)
        finished = sluice.json("rotate")["finished"]["main"]
    assert Path(finished).exists()
    assert f"x@{domain}" in Path(finished).read_text()
    assert "nothing was written since the last time" in sluice.text("rotate")


# -- reload -----------------------------------------------------------------------------------------------------


def test_a_good_reload_counts_at_once(sender: Sender, sluice: Cli) -> None:
    good = sender.server.config.read_text()
    try:
        sender.server.config.write_text(good + '\n[domain."new.example"]\nmax_connections = 3\n')
        assert sluice.json("reload")["reloaded"] is True
        assert "configuration reloaded" in sluice.text("reload")
    finally:
        sender.server.config.write_text(good)
        sluice.json("reload")


def test_a_bad_reload_lists_all_mistakes_and_changes_nothing(sender: Sender, sluice: Cli) -> None:
    with Host() as host:
        domain = sender.domain(host)
        good = sender.server.config.read_text()
        bad = good.replace("retry =", "retri =")
        bad += '\n[domain."x y"]\nmax_connections = 0\nno_such_key = 1\n'
        try:
            sender.server.config.write_text(bad)
            ended = sluice("reload")
            assert ended.code == 1
            assert ended.out == ""
            for words in ("retri", "did you mean retry", "x y", "no_such_key", "not changed"):
                assert words in ended.err, words
            # The same mistakes as without a server.
            offline = run("config", "check", "--config", str(sender.server.config))
            assert offline.code == EX_CONFIG
            for line in offline.err.splitlines()[:-1]:
                assert line.strip() in ended.err
            sender.send(f"x@{domain}")  # the old configuration still knows the way
            host.wait_for(messages=1)
        finally:
            sender.server.config.write_text(good)
        sluice.json("reload")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('hostname = "mta.test.example"', 'hostname = "other.example"', "server.hostname"),
        ('/spool"', '/other"', "server.spool_dir"),
        ("[[listener]]", '[[listener]]\naddress = "127.0.0.1:1"\n[[listener]]', "listener"),
        ("[server]", "[server", "sluice.toml"),
    ],
)
def test_what_a_reload_cannot_change_is_refused_whole(
    sender: Sender, sluice: Cli, old: str, new: str, words: str
) -> None:
    good = sender.server.config.read_text()
    try:
        sender.server.config.write_text(good.replace(old, new, 1))
        # The socket by name: a file that cannot be read leads nowhere.
        ended = run("reload", "--socket", str(sender.server.place / "control.sock"))
        assert ended.code == 1
        assert words in ended.err
    finally:
        sender.server.config.write_text(good)
    assert sluice.json("status")["hostname"] == "mta.test.example"


def test_sighup_reloads_and_a_mistake_is_only_logged(sender: Sender) -> None:
    server = sender.server
    good = server.config.read_text()
    before = server.log.count("configuration reloaded")
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: server.log.count("configuration reloaded") > before)
    try:
        server.config.write_text(good + "\n[nonsense]\n")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "the configuration was not changed" in server.log)
    finally:
        server.config.write_text(good)
    assert server.ask("status")["pid"] == server.pid


# -- no server, wrong words -------------------------------------------------------------------------------------

VERBS = [
    ("status",),
    ("queues",),
    ("queue", "show", "x.example"),
    ("queue", "pause", "x.example"),
    ("queue", "resume", "x.example"),
    ("queue", "retry", "x.example"),
    ("messages", "list"),
    ("messages", "show", "1"),
    ("messages", "delete", "--all"),
    ("explain", "x.example"),
    ("resolve", "x.example"),
    ("reload",),
    ("rotate",),
    ("shutdown",),
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_without_a_server_every_verb_says_so_and_what_to_do(
    verb: tuple[str, ...], tmp_path: Path
) -> None:
    for extra in ((), ("--json",)):
        ended = run(*verb, *extra, "--socket", str(tmp_path / "no.sock"))
        assert ended.code == EX_UNAVAILABLE
        assert ended.out == ""
        assert "no.sock" in ended.err
        assert "sluice run --config" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("queue", "show"), "QUEUE"),
        (("messages", "show", "abc"), "MESSAGE"),
        (("queues", "--limit", "many"), "--limit"),
        (("status", "--frobnicate"), "frobnicate"),
        (("frobnicate",), "frobnicate"),
        (("messages", "list", "--older-than", "soon"), "soon"),
    ],
)
def test_wrong_words_are_a_usage_error(sluice: Cli, words: tuple[str, ...], said: str) -> None:
    ended = sluice(*words)
    assert ended.code == USAGE
    assert said in ended.err
    assert ended.out == ""


def test_a_configuration_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    ended = run("status", "--config", str(tmp_path / "nosuch.toml"))
    assert ended.code == EX_CONFIG
    assert "nosuch.toml" in ended.err
    assert "--socket" in ended.err


def test_the_socket_is_found_by_environment(sender: Sender) -> None:
    socket = str(sender.server.place / "control.sock")
    for env in ({"SLUICE_SOCKET": socket}, {"SLUICE_CONFIG": str(sender.server.config)}):
        assert run("status", "--json", env=env).json["pid"] == sender.server.pid


def test_the_command_itself_answers_and_ends_as_said(sender: Sender, tmp_path: Path) -> None:
    """Once as a process of its own, as an operator runs it."""
    command = [sys.executable, "-m", "mta", "status", "--json"]
    good = [*command, "--config", str(sender.server.config)]
    done = subprocess.run(good, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["pid"] == sender.server.pid
    bad = [*command, "--socket", str(tmp_path / "no.sock")]
    done = subprocess.run(bad, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == EX_UNAVAILABLE


# -- life -------------------------------------------------------------------------------------------------------


def test_a_second_start_on_the_same_spool_names_its_owner(sender: Sender) -> None:
    server = sender.server
    other = server.place / "second.toml"
    text = server.config.read_text()
    text = text.replace('"control.sock"', '"second.sock"').replace(f":{server.port}", ":0")
    other.write_text(text)
    command = [sys.executable, "-m", "mta", "run", "--config", str(other)]
    done = subprocess.run(
        command, cwd=server.place, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert f"process {server.pid}" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert server.ask("status")["pid"] == server.pid


@contextmanager
def a_server(place: Path, host: Host) -> Iterator[Daemon]:
    """A started server that a test ends as it likes; whatever becomes of the test, none is left."""
    default = f'hosts = ["{host.name}"]\nretry = ["1h"]\nmax_connections = 1\nidle_timeout = "0.5s"'
    with ended(Daemon(place, default=default)) as server:
        server.start()
        yield server


def hand_in(server: Daemon, count: int) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        for number in range(count):
            answer = wire.deliver(b"Subject: x\r\n\r\nb\r\n", "a@s.example", f"r{number}@d.example")
            assert answer.startswith("250")


def test_shutdown_stops_and_what_is_queued_stays(tmp_path: Path) -> None:
    with (
        Host(lambda dialogue, command: b"421 4.3.2 no\r\n" if command == "" else None) as host,
        a_server(tmp_path, host) as server,
    ):
        hand_in(server, 5)
        assert Cli(server).json("shutdown") == {"stopping": True, "drain": False}
        assert server.wait_for_exit() == 0
        assert not (tmp_path / "control.sock").exists()
        host.script = None
        server.start()
        try:
            assert server.totals()["queued_recipients"] == 5
            assert "5 recipients of d.example" in Cli(server).text("queue", "retry", "d.example")
            host.wait_for(messages=5)
        finally:
            assert server.stop() == 0


def test_shutdown_drain_delivers_what_is_due_and_takes_nothing_new(tmp_path: Path) -> None:
    def slow(dialogue: Dialogue, command: str) -> bytes | None:
        if command == ".":
            time.sleep(0.05)
        return None

    with Host(slow) as host, a_server(tmp_path, host) as server:
        hand_in(server, 20)
        with Wire(server.port) as idle, Wire(server.port) as busy:
            idle.greet()
            busy.greet()
            busy.envelope("a@s.example", "last@d.example")
            assert "draining" in Cli(server).text("shutdown", "--drain")
            # Who had begun may end; all others hear that we stop, and nobody new comes in.
            assert idle.reply().startswith("421 4.3.2")
            busy.send(b"Subject: last\r\n\r\nbody\r\n.\r\n")
            assert busy.reply().startswith("250 2.6.0")
            assert busy.reply().startswith("421 4.3.2")
        with pytest.raises(OSError):
            Wire(server.port)
        assert server.wait_for_exit(30) == 0
    assert len(host.messages) == 21
    assert [each["type"] for each in server.records_on_disk()] == ["d"] * 21


def test_a_drain_that_waits_for_a_paused_queue_ends_with_a_second_shutdown(tmp_path: Path) -> None:
    with Host() as host, a_server(tmp_path, host) as server:
        sluice = Cli(server)
        sluice.json("queue", "pause", "d.example")
        hand_in(server, 3)
        sluice.json("shutdown", "--drain")
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait_for_exit(0.6)
        sluice.json("shutdown")
        assert server.wait_for_exit() == 0
    assert host.messages == []


def test_the_end_of_a_process_finishes_running_transactions(tmp_path: Path) -> None:
    """SIGTERM in the middle: nothing lost, nothing twice (reliability.md F9)."""

    def slow(dialogue: Dialogue, command: str) -> bytes | None:
        if command == ".":
            time.sleep(0.1)
        return None

    with Host(slow) as host, a_server(tmp_path, host) as server:
        hand_in(server, 12)
        host.wait_for(messages=2)
        assert server.stop() == 0
        delivered = len(host.messages)
        assert 2 <= delivered < 12
        server.start()
        try:
            host.wait_for(messages=12)
            wait_until(lambda: server.totals()["queued_recipients"] == 0)
        finally:
            assert server.stop() == 0
    assert len(host.messages) == 12
    assert len({each.recipients[0] for each in host.messages}) == 12
    assert {each["mayRepeat"] for each in server.records_on_disk()} == {""}
