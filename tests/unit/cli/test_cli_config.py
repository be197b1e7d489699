"""`sluice config`: what it prints, for people and for tools, and how it ends."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mta.cli.config import app
from mta.policy.passwords import verify_password

CONFIG = """
[server]
hostname = "mta.example.com"
spool_dir = "spool"
[[listener]]
address = "127.0.0.1:2525"
relay_from = ["127.0.0.0/8"]
[vmta.a]
total_connections = 200
[site.google]
mx = ["*.google.com"]
max_connections = 20
[default]
message_rate = "600/min"
timeouts = { mail = "2m" }
[domain."gmail.com"]
max_connections = 5
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sluice.toml"
    path.write_text(CONFIG)
    return path


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def test_a_sound_file_is_said_to_have_no_mistakes(config: Path) -> None:
    result = run("check", "--config", str(config))
    assert result.exit_code == 0
    assert "no mistakes" in result.stdout


def test_all_mistakes_are_listed_and_the_status_is_78(config: Path) -> None:
    config.write_text(CONFIG.replace("max_connections", "max_conections"))
    result = run("check", "-c", str(config))
    assert result.exit_code == 78
    assert result.stderr.count("did you mean max_connections?") == 2
    assert f"{config}:12: site.google.max_conections" in result.stderr
    assert "2 mistakes" in result.stderr


def test_mistakes_are_told_in_json_too(config: Path) -> None:
    config.write_text("[server]\nhostname = 3\n")
    result = run("check", "-c", str(config), "--json")
    assert result.exit_code == 78
    assert json.loads(result.stdout)["problems"] == [
        {
            "file": str(config),
            "line": 2,
            "key": "server.hostname",
            "text": "must be text in quotes",
        }
    ]


@pytest.mark.parametrize("command", [["show"], ["explain", "gmail.com"]])
def test_every_command_ends_with_78_for_a_file_that_does_not_load(
    tmp_path: Path, command: list[str]
) -> None:
    result = run(*command, "-c", str(tmp_path / "gone.toml"))
    assert result.exit_code == 78
    assert "cannot be read" in result.stderr


def test_warnings_are_printed_and_are_no_mistakes(config: Path) -> None:
    config.write_text('[server]\nhostname = "mta.example.com"\nspool_dir = "spool"\n')
    result = run("check", "-c", str(config))
    assert result.exit_code == 0
    assert "warning:" in result.stdout
    assert json.loads(run("check", "-c", str(config), "--json").stdout)["warnings"]


def test_show_fills_in_the_defaults(config: Path) -> None:
    shown = run("show", "-c", str(config)).stdout
    assert '["127.0.0.0/8"]' in shown
    assert '"10%"' in shown
    assert 'domain."gmail.com"' in shown


def test_show_in_json_has_plain_values_and_no_secrets(config: Path) -> None:
    values = json.loads(run("show", "-c", str(config), "--json").stdout)
    assert values["server"]["hostname"] == "mta.example.com"
    assert values["vmtas"]["a"]["total_connections"] == 200
    assert values["places"]["default"]["values"]["message_rate"] == "600/min"
    assert "pem" not in json.dumps(values)


def test_explain_tells_each_value_and_its_place(config: Path) -> None:
    shown = run("explain", "gmail.com", "--vmta", "a", "--mx", "mx.google.com", "-c", str(config))
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line.strip()}
    assert "gmail.com/a, site google" in shown.stdout
    assert "[site.google]" in rows["max_connections"]
    assert '[domain."gmail.com"]' in rows["domain_max_connections"]
    assert '"2m"' in rows["timeouts.mail"]
    assert "built-in default" in rows["port"]
    assert "[vmta.a]" in rows["vmta.a.total_connections"]


def test_explain_says_that_it_asked_no_dns(config: Path) -> None:
    shown = run("explain", "GMAIL.com", "-c", str(config)).stdout
    assert "gmail.com/a, site gmail.com" in shown
    assert "its MX was not looked up" in shown


def test_explain_in_json(config: Path) -> None:
    result = run("explain", "gmail.com", "--site", "google", "--json", "-c", str(config))
    values = json.loads(result.stdout)["values"]
    assert values["domain_max_connections"] == {
        "value": 5,
        "file": str(config),
        "section": 'domain."gmail.com"',
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gmail..com"], "empty label"),
        (["gmail.com", "--vmta", "b"], "there is no virtual MTA 'b'; there are: a"),
        (["gmail.com", "--site", "yahoo"], "there is no [site.yahoo]; there are: google"),
    ],
)
def test_explain_refuses_what_there_is_not(config: Path, arguments: list[str], words: str) -> None:
    result = run("explain", *arguments, "-c", str(config))
    assert result.exit_code == 64
    assert words in result.stderr


def test_a_password_becomes_a_line_of_a_users_file() -> None:
    result = run("password", "bob", "--stdin", stdin="correct horse\n")
    assert result.exit_code == 0
    user, _, stored = result.stdout.strip().partition(" = ")
    assert user == '"bob"'
    assert verify_password(stored.strip('"'), "correct horse")


def test_an_empty_password_is_refused() -> None:
    assert run("password", "bob", "--stdin", stdin="\n").exit_code == 64
