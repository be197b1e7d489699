"""The rules that come with Sluice: against replies as hosts give them, and against hostile ones."""

import json
import time
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from mta.bounce.classify import Classifier, parse_reply
from mta.bounce.lint import lint
from mta.bounce.rules import OTHER, parse_rules
from mta.config.refusals import all_rules, shipped_rules
from mta.model.errors import ConfigError

REPLIES = Path(__file__).parent / "replies"
OURS = Classifier(shipped_rules())
HOSTILE = 65_536


def lines_of(part: str) -> list[str]:
    return (REPLIES / part).read_text().splitlines()


def share_right(part: str) -> dict[str, float]:
    """How many percent of a part are judged right, by what they are judged for."""
    right: Counter[str] = Counter()
    rows = [json.loads(line) for line in lines_of(part)]
    for row in rows:
        found = OURS.classify(parse_reply(row["reply"]), row["site"], row["site"] == "local")
        for name in ("category", "verdict", "fault"):
            right[name] += getattr(found, name) == row[name]
        right["categorised"] += found.category != OTHER or row["category"] == OTHER
    return {name: 100 * count / len(rows) for name, count in right.items()}


def test_the_replies_that_the_rules_were_written_from_are_judged_right() -> None:
    assert set(share_right("training.jsonl").values()) == {100.0}


def test_replies_that_were_held_out_are_mostly_judged_right() -> None:
    shares = share_right("heldout.jsonl")
    assert shares["category"] >= 85
    assert shares["verdict"] >= 92
    assert shares["categorised"] >= 90


def test_no_reply_is_in_both_parts_and_each_has_a_source() -> None:
    parts = [
        [json.loads(line) for line in lines_of(name)]
        for name in ("training.jsonl", "heldout.jsonl")
    ]
    replies = [row["reply"] for rows in parts for row in rows]
    assert len(replies) == len(set(replies)) >= 300
    assert len(parts[1]) == len(replies) // 3
    assert all(row["source"] for rows in parts for row in rows)


def test_our_rules_are_sound() -> None:
    assert lint(shipped_rules()) == []


def test_no_example_of_a_rule_is_from_the_held_out_part() -> None:
    held_out = {json.loads(line)["reply"] for line in lines_of("heldout.jsonl")}
    examples = {each.reply for rule in shipped_rules() for each in rule.examples}
    assert not examples & held_out


@pytest.mark.parametrize(
    "piece", ["a", "a@", "<", " ", "user ", "sender rejected ", "é", "ptr ", "1.", "\x00"]
)
def test_no_text_makes_the_rules_slow(piece: str) -> None:
    reply = parse_reply("550 " + piece * (HOSTILE // len(piece)))
    began = time.process_time()
    for _ in range(20):
        OURS.classify(reply, "example", False)
    # 2 ms each, where some 0.1 ms are measured: a pattern that goes wrong takes seconds.
    assert time.process_time() - began < 0.04 * 10


RULE = """
[[rule]]
name = "{name}"
category = "{category}"
verdict = "block"
fault = "sender"
words = ["{words}"]
examples = ["{example}"]
"""


def linted(*rules: dict[str, str]) -> list[str]:
    text = "".join(RULE.format_map({"category": "custom"} | rule) for rule in rules)
    parsed, mistakes = parse_rules(tomllib.loads(text)["rule"])
    assert not mistakes
    return lint(parsed)


def test_lint_finds_a_rule_behind_a_wider_one() -> None:
    wide = {"name": "wide", "words": "go away", "example": "550 go away"}
    narrow = {"name": "narrow", "words": "please go away now", "example": "550 please go away now"}
    assert linted(narrow, wide) == []
    found = linted(wide, narrow)
    assert any("narrow: never fires" in each and "wide" in each for each in found)


def test_lint_finds_an_example_that_another_rule_takes_and_one_that_no_rule_takes() -> None:
    a = {"name": "a", "words": "alpha", "example": "550 alpha beta"}
    b = {"name": "b", "words": "beta", "example": "550 alpha beta"}
    assert linted(a, b) == ['b: its example "550 alpha beta" is taken by a']
    assert linted(a | {"example": "550 gamma"}) == [
        'a: its example "550 gamma" is taken by no rule'
    ]


def test_an_operators_rules_stand_before_ours(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        RULE.format(name="own", category="mine", words="user unknown", example="550 user unknown")
    )
    found = Classifier(all_rules(own)).classify(parse_reply("550 5.1.1 user unknown"), "", False)
    assert (found.category, found.rule) == ("mine", "own")


def test_a_file_with_mistakes_tells_all_of_them(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[rule]]\nname = "a"\n[[rule]]\nname = "b"\n[other]\n')
    with pytest.raises(ConfigError) as caught:
        all_rules(own)
    assert len(caught.value.problems) == 3
