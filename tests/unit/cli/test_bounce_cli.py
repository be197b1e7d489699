"""`sluice bounce classify` and `sluice bounce lint`, as an operator uses them."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from mta.cli.bounce import app

OWN = """\
[[rule]]
name = "own"
category = "mine"
verdict = "soft"
fault = "recipient"
words = ["on holiday"]
sites = ["example"]
examples = ["550 on holiday"]
"""


def sluice_bounce(*args: object, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], input=given)


def test_a_reply_is_told_with_the_rule_and_why() -> None:
    result = sluice_bounce("classify", "450 4.2.1 receiving mail at a rate that prevents more")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["category", "rate-limited", "(bounceCat", "policy-related)"]
    assert lines[1].startswith("verdict   transient: ")
    assert lines[2].split() == ["fault", "recipient"]
    assert lines[3].split() == ["rule", "rate-of-recipient"]
    assert '"receiving mail at a rate"' in lines[4]


def test_lines_of_replies_become_lines_of_json_in_their_order_whatever_they_are() -> None:
    given = b"550 5.1.1 no such user\r\n\nhello\n250 2.0.0 ok\n550 5.2.2 voll \xff\n"
    result = sluice_bounce("classify", "--stdin", "--json", given=given)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [set(row) for row in rows] == [{"reply", "category", "verdict", "fault", "rule"}] * 4
    assert [row["category"] for row in rows] == ["bad-mailbox", "other", "success", "quota-issues"]
    assert rows[0]["reply"] == "550 5.1.1 no such user" and rows[0]["verdict"] == "hard"


def test_an_operators_rule_is_asked_first_and_only_for_its_site(tmp_path: Path) -> None:
    rules = tmp_path / "own.toml"
    rules.write_text(OWN)
    config = tmp_path / "sluice.toml"
    config.write_text('[bounce]\nrules = "own.toml"\n')
    for chosen in (("--rules", rules), ("--config", config)):
        here = sluice_bounce("classify", "550 on holiday", "--site", "example", "--json", *chosen)
        assert json.loads(here.stdout)["rule"] == "own"
        elsewhere = sluice_bounce("classify", "550 on holiday", "--json", *chosen)
        assert json.loads(elsewhere.stdout)["category"] == "other"


def test_what_is_no_reply_is_refused() -> None:
    assert sluice_bounce("classify", "hello").exit_code == 2
    assert sluice_bounce("classify").exit_code == 2


def test_lint_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    assert sluice_bounce("lint").exit_code == 0
    rules = tmp_path / "own.toml"
    rules.write_text(OWN.replace('"550 on holiday"', '"550 at work"'))
    result = sluice_bounce("lint", "--rules", rules)
    assert result.exit_code == 1
    assert 'own: its example "550 at work" is taken by refused' in result.stdout
    rules.write_text(OWN + 'pattern = "(a+)+"\n')
    assert sluice_bounce("lint", "--rules", rules).exit_code == 78
