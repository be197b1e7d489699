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
PARTS = (
    "training.jsonl",
    "heldout.jsonl",
    "independent.jsonl",
    "independent-heldout.jsonl",
    "later.jsonl",
    "last.jsonl",
)
HELD_OUT = ("heldout.jsonl", "last.jsonl")


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


# Floors, some two percent below what was measured, so that a change which loses many is seen.
@pytest.mark.parametrize(
    ("part", "category", "verdict", "categorised"),
    [
        ("independent.jsonl", 89, 94, 96),
        ("independent-heldout.jsonl", 84, 92, 93),
        ("later.jsonl", 90, 94, 96),
        ("last.jsonl", 72, 88, 84),
    ],
)
def test_replies_that_were_found_elsewhere_are_mostly_judged_right(
    part: str, category: float, verdict: float, categorised: float
) -> None:
    shares = share_right(part)
    assert shares["category"] >= category
    assert shares["verdict"] >= verdict
    assert shares["categorised"] >= categorised


def test_none_of_all_these_replies_kills_an_address_that_lives() -> None:
    for part in PARTS:
        for row in map(json.loads, lines_of(part)):
            found = OURS.classify(parse_reply(row["reply"]), row["site"], row["site"] == "local")
            assert found.verdict != "hard" or row["verdict"] == "hard", row["reply"]


def test_no_reply_is_in_two_parts_and_each_has_a_source() -> None:
    parts = [[json.loads(line) for line in lines_of(name)] for name in PARTS]
    replies = [row["reply"] for rows in parts for row in rows]
    assert len(replies) == len(set(replies)) >= 900
    assert len(parts[1]) == (len(parts[0]) + len(parts[1])) // 3
    assert all(row["source"] for rows in parts for row in rows)


def test_our_rules_are_sound() -> None:
    assert lint(shipped_rules()) == []


def test_no_example_of_a_rule_is_from_a_part_that_is_held_out() -> None:
    held_out = {json.loads(line)["reply"] for part in HELD_OUT for line in lines_of(part)}
    examples = {each.reply for rule in shipped_rules() for each in rule.examples}
    assert not examples & held_out


@pytest.mark.parametrize(
    "piece",
    [
        *("a", "a@", "<", "<a", "<a>", "@", " ", "user ", "sender rejected ", "ptr ", "\x00", "-", "_.", "a.", "a-."),
        *("1.", "a.b ", "é", "é@", "邮", "사", "а", "\\xe4", "Ã¤", "\u0301", "http://", "http://a/", "http://a.b/c ", "#5.1.1"),
        *("mailbox", "mailbox unknown ", "5.1.1 ", "a@b.example ", "recipient not sender unknown "),
    ],
)  # fmt: skip
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
