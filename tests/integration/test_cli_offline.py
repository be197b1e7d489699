"""`sluice send`, `config`, `spool check` and `dkim`: the commands that need no control socket, end to end.

What `dkim generate` makes signs mail that `dkim check` accepts; what `config check` calls sound starts; what `send` hands in
arrives. Issue: "`sluice send`", "`sluice spool check` verifies a spool offline", "`sluice dkim check FILE` verifies with dkimpy".
"""

import gc
import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import Ended, run
from tests.support.daemon import Daemon, free_port, running
from tests.support.host import Host, Received
from tests.support.secrets import write_certificate, write_users
from tests.support.wire import Wire, wait_until

MESSAGE = b"From: a@sender.example\nSubject: by command\n\nfirst\n.\n..dots\nlast"
WIRE = b"From: a@sender.example\r\nSubject: by command\r\n\r\nfirst\r\n.\r\n..dots\r\nlast\r\n"
EX_UNAVAILABLE = 69


@dataclass
class Scene:
    server: Daemon
    host: Host

    def send(self, *words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ended:
        server = f"127.0.0.1:{self.server.port}"
        return run("send", *words, "--server", server, stdin=stdin, env=env)

    def arrived(self, recipient: str) -> Received:
        wait_until(lambda: any(recipient in each.recipients for each in self.host.messages))
        return self.host.message_to(recipient)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("offline")
    write_certificate(place, "localhost")
    write_users(place, ada="secret")
    made = run("dkim", "generate", "sender.example", "s1", "--out", str(place / "s1.pem"))
    assert made.code == 0, made
    with (
        Host() as host,
        running(
            place,
            default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
            listener='tls_cert = "cert.pem"\ntls_key = "key.pem"\nauth_users = "users.toml"',
            more='[[dkim]]\ndomain = "sender.example"\nselector = "s1"\nkey_file = "s1.pem"\n',
        ) as server,
    ):
        yield Scene(server, host)


# -- send -------------------------------------------------------------------------------------------------------


def test_send_hands_in_a_file(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "message.eml"
    path.write_bytes(MESSAGE)
    ended = scene.send(
        "file@d.example",
        "two@d.example",
        "--file",
        str(path),
        "--from",
        "a@s.example",
        "--insecure",
    )
    assert ended.code == 0, ended
    assert "queued as " in ended.out
    got = scene.arrived("file@d.example")
    assert got.recipients == ["file@d.example", "two@d.example"]
    assert got.mail.startswith("MAIL FROM:<a@s.example>")
    assert got.data.endswith(WIRE)


def test_send_reads_standard_input(scene: Scene) -> None:
    ended = scene.send("stdin@d.example", "--insecure", stdin=MESSAGE.replace(b"\n", b"\r\n"))
    assert ended.code == 0, ended
    got = scene.arrived("stdin@d.example")
    assert got.mail.startswith("MAIL FROM:<> ")  # no --from: no sender
    assert got.data.endswith(WIRE)


def test_send_logs_in_over_tls(scene: Scene) -> None:
    ended = scene.send(
        "login@d.example",
        *("--user", "ada", "--insecure"),
        stdin=MESSAGE,
        env={"SLUICE_PASSWORD": "secret"},
    )
    assert ended.code == 0, ended
    assert b"with ESMTPSA id " in scene.arrived("login@d.example").data
    ended = scene.send(
        "x@d.example", "--user", "ada", "--password", "wrong", "--insecure", stdin=MESSAGE
    )
    assert ended.code == 1
    assert "535" in ended.err or "5.7.8" in ended.err


# aiosmtplib leaves the transport of a handshake that failed to the collector: here, not in whatever test comes next.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_send_says_what_is_wrong(scene: Scene, tmp_path: Path) -> None:
    ended = scene.send("x@d.example", "--insecure", stdin=b"  \n")
    assert (ended.code, "empty" in ended.err) == (2, True)
    ended = scene.send("x@d.example", "--file", str(tmp_path / "nosuch.eml"), "--insecure")
    assert ended.code != 0
    assert "nosuch.eml" in ended.err
    ended = scene.send("x@[192.0.2.1]", "--insecure", stdin=MESSAGE)
    assert ended.code == 1
    assert "550" in ended.err
    ended = scene.send("x@[192.0.2.1]", "good@d.example", "--insecure", stdin=MESSAGE)
    assert ended.code == 1  # one was taken, one was not: not all is well
    assert "x@[192.0.2.1]: 550" in ended.err
    ended = scene.send("x@d.example", stdin=MESSAGE)
    assert ended.code == 1
    assert "certificate" in ended.err
    assert "--insecure" in ended.err
    ended = run("send", "x@d.example", "--server", f"127.0.0.1:{free_port()}", stdin=MESSAGE)
    assert ended.code == EX_UNAVAILABLE
    assert "is it running?" in ended.err
    ended = run("send", "x@d.example", "--server", "no-port", stdin=MESSAGE)
    assert ended.code == 2
    assert run("send", stdin=MESSAGE).code == 2  # to nobody
    gc.collect()


# -- dkim -------------------------------------------------------------------------------------------------------


def test_a_generated_key_signs_mail_that_check_accepts(scene: Scene, tmp_path: Path) -> None:
    place = scene.server.place
    assert stat.S_IMODE((place / "s1.pem").stat().st_mode) == 0o600
    scene.send("dkim@d.example", "--insecure", stdin=MESSAGE)
    path = tmp_path / "got.eml"
    path.write_bytes(scene.arrived("dkim@d.example").data)
    ended = run("dkim", "check", str(path), "--key", str(place / "s1.pem"), "--json")
    assert ended.code == 0, ended
    assert ended.json["passed"] is True
    (signature,) = ended.json["signatures"]
    assert (signature["domain"], signature["selector"]) == ("sender.example", "s1")
    text = run("dkim", "check", str(path), "--key", str(place / "s1.pem"))
    assert text.out.startswith("pass")
    # The record as printed is the one to publish.
    made = run(
        "dkim", "generate", "sender.example", "s2", "--out", str(tmp_path / "s2.pem"), "--json"
    )
    zone = tmp_path / "zone"
    zone.write_text(made.json["zone"] + "\n")
    path.write_bytes(path.read_bytes().replace(b"last", b"lost"))
    ended = run("dkim", "check", str(path), "--key", str(place / "s1.pem"), "--json")
    assert ended.code == 1
    assert ended.json["passed"] is False
    assert "body hash" in ended.json["signatures"][0]["reason"]
    ended = run("dkim", "check", str(path), "--dns-record", str(zone))
    assert ended.code == 1


# -- config -----------------------------------------------------------------------------------------------------


def test_config_check_show_and_explain_of_the_running_servers_file(scene: Scene) -> None:
    config = ("--config", str(scene.server.config))
    assert "no mistakes" in run("config", "check", *config).out
    assert run("config", "check", *config, "--json").json["problems"] == []
    shown = run("config", "show", *config, "--json").json
    assert "BEGIN PRIVATE KEY" not in json.dumps(shown)
    assert "scrypt" not in json.dumps(shown)
    assert "mta.test.example" in run("config", "show", *config).out
    explained = run("config", "explain", "gmail.com", *config, "--json").json
    assert explained["values"]["retry"]["section"] == "default"
    assert explained["values"]["retry"]["file"] == str(scene.server.config)
    assert "[default]" in run("config", "explain", "gmail.com", *config).out
    assert run("config", "explain", "gmail.com", "--vmta", "nosuch", *config).code == 64


def test_a_key_that_does_not_load_is_a_mistake_and_the_server_does_not_start(
    tmp_path: Path,
) -> None:
    (tmp_path / "bad.pem").touch(0o600)
    (tmp_path / "bad.pem").write_text("no key\n")
    server = Daemon(
        tmp_path,
        default="retri = 1",
        more='[dns]\nservers = ["127.0.0.1:9"]\n'
        '[[dkim]]\ndomain = "x.example"\nselector = "s"\nkey_file = "bad.pem"\n',
    )
    ended = run("config", "check", "--config", str(server.config))
    assert ended.code == 78
    assert "bad.pem" in ended.err
    assert "did you mean retry?" in ended.err
    server.start(wait=False)
    assert server.wait_for_exit() == 78
    assert "bad.pem" in server.log
    assert "did you mean retry?" in server.log
    assert "Traceback" not in server.log


# -- spool ------------------------------------------------------------------------------------------------------


def test_spool_check_of_a_stopped_server(tmp_path: Path) -> None:
    with (
        running(tmp_path, default=f'hosts = ["127.0.0.1:{free_port()}"]') as server,
        Wire(server.port) as wire,
    ):
        wire.greet()
        large = b"Subject: x\r\n\r\n" + (b"x" * 78 + b"\r\n") * 20_000
        assert wire.deliver(large, "a@s.example", "x@d.example").startswith("250")
        assert wire.deliver(b"Subject: x\r\n\r\nb\r\n", "a@s.example", "x@d.example", "y@e.example")
    spool = tmp_path / "spool"
    ended = run("spool", "check", str(spool))
    assert ended.code == 0, ended
    assert "2 messages, 3 recipients" in ended.out
    assert "sound" in ended.out
    (report,) = run("spool", "check", str(spool), "--json").json
    assert (report["messages"], report["recipients"], report["problems"]) == (2, 3, [])
    # A body file that is gone is a message that is lost: it must be said.
    (body,) = [
        each
        for each in spool.rglob("*")
        if each.is_file() and each.stat().st_size > 1_000_000 and "sqlite" not in each.name
    ]
    body.unlink()
    ended = run("spool", "check", str(spool))
    assert ended.code == 1
    ended = run("spool", "check", str(spool), "--json")
    assert ended.code == 1
    assert body.name in json.dumps(ended.json)


def test_spool_check_of_nothing_and_of_rubbish(tmp_path: Path) -> None:
    ended = run("spool", "check", str(tmp_path))
    assert ended.code == 2
    assert "there is no spool in" in ended.err
    rubbish = tmp_path / "0.sqlite"
    rubbish.write_bytes(b"no database at all" * 1000)
    ended = run("spool", "check", str(rubbish))
    assert ended.code == 1
    assert "Traceback" not in ended.err
