"""What a rule about refusals is: which replies it speaks of, and what it says of them. Pure: tables in, rules out.

A rule names words, and perhaps codes, statuses and sites; all that it names must fit. There are no
regular expressions: a reply is cut to `MAX_TEXT`, taken apart into words once (`words`), and a rule's words are looked up
among those. So no rule can be slow, whoever wrote it and whatever a stranger answers.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mta.bounce.words import name_of, words_of

MAX_RULES = 5000
PREFIX = 4  # `rl00*` is found by so many of its first characters

OTHER = "other"
SUCCESS = "success"

# The seventeen names that users' tools know.
CATEGORIES = (
    "spam-related",
    "virus-related",
    "content-related",
    "quota-issues",
    "invalid-sender",
    "inactive-mailbox",
    "bad-mailbox",
    "relaying-issues",
    "bad-domain",
    "policy-related",
    "protocol-errors",
    "routing-errors",
    "bad-configuration",
    "bad-connection",
    "no-answer-from-host",
    "message-expired",
    OTHER,
)

# Our own names, and which of the seventeen a tool is told that knows only those.
STANDARD = {
    "rate-limited": "policy-related",
    "greylisted": "policy-related",
    "authentication": "policy-related",
}

# What to do about it, and whose matter it is.
VERDICTS = ("hard", "soft", "block", "transient")
FAULTS = ("recipient", "message", "sender", "network")

_KEYS = frozenset(
    {
        "name", "category", "verdict", "temporary", "fault", "words", "also", "unless",
        "codes", "status", "sites", "source", "examples",
    }
)  # fmt: skip
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_STATUS = re.compile(r"([245x])\.(\d{1,3})\.(\*|\d{1,3})(?:-(\d{1,3}))?")
_NO_STATUS = "none"


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that stand side by side. `whole`: those by which it may be looked up, all but a last one that may go on."""

    text: str  # " user unknown ", or " rl00" where it may go on
    whole: tuple[str, ...]

    def is_in(self, text: str) -> bool:
        """`text`: words joined by one blank, with a blank at either end."""
        return self.text in text


@dataclass(frozen=True, slots=True)
class StatusRange:
    """Enhanced statuses: `5.1.1`, `x.1.1` of any class, `x.7.*`, `5.7.606-649`."""

    first: str  # "" for any class
    subject: str
    least: int
    most: int

    def has(self, enhanced: str) -> bool:
        """Whether the status is one of these."""
        parts = enhanced.split(".")
        return (
            len(parts) == 3
            and (not self.first or parts[0] == self.first)
            and parts[1] == self.subject
            and parts[2].isdecimal()
            and self.least <= int(parts[2]) <= self.most
        )


@dataclass(frozen=True, slots=True)
class Example:
    """A reply that the rule must find, as a host gave it, and where we know it from."""

    reply: str
    source: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Of `words` one must occur, of `also` one too, of `unless` none."""

    name: str
    category: str
    verdict: str
    temporary: str  # the verdict where the code begins with 4
    fault: str
    words: tuple[Phrase, ...] = ()
    also: tuple[Phrase, ...] = ()
    unless: tuple[Phrase, ...] = ()
    codes: tuple[int, ...] = ()  # 4 and 5 mean all that begin so
    status: tuple[StatusRange, ...] = ()
    without_status: bool = False
    sites: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()

    def fits_reply(self, code: int, enhanced: str, site: str) -> bool:
        """Whether codes, status and site fit; the text is another matter."""
        if self.codes and code not in self.codes and code // 100 not in self.codes:
            return False
        if self.sites and site not in self.sites:
            return False
        if not self.status and not self.without_status:
            return True
        if not enhanced:
            return self.without_status
        return any(each.has(enhanced) for each in self.status)

    def fits_rest(self, text: str) -> bool:
        """Whether a text in which one of `words` was found fits otherwise, in the form of `Phrase.is_in`."""
        for each in self.unless:
            if each.text in text:
                return False
        return not self.also or any(each.is_in(text) for each in self.also)


def parse_rules(tables: object) -> tuple[list[Rule], list[str]]:
    """The rules of a file's `[[rule]]` tables, and what is wrong with the others."""
    rules: list[Rule] = []
    mistakes: list[str] = []
    if not isinstance(tables, list):
        return [], ["rules are written as [[rule]], once for each"]
    if len(tables) > MAX_RULES:
        return [], [f"there are {len(tables)} rules; {MAX_RULES} are enough"]
    names: set[str] = set()
    for number, table in enumerate(tables, 1):
        try:
            rule = _parse_rule(table)
            if rule.name in names:
                raise ValueError("another rule has this name already")
        except ValueError as error:
            name = table.get("name") if isinstance(table, dict) else None
            mistakes.append(f"rule {name or number}: {error}")
            continue
        names.add(rule.name)
        rules.append(rule)
    return rules, mistakes


def _parse_rule(table: object) -> Rule:
    """Raises ValueError, with what is wrong."""
    if not isinstance(table, dict):
        raise ValueError("must be a table")
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise ValueError(f"there is no key {unknown[0]}; known are {', '.join(sorted(_KEYS))}")
    verdict = _choice(table, "verdict", VERDICTS)
    # What is no matter of the address gets another try where the host asks for one; a dead address does not come alive by it,
    # but 4xx says that the host is not sure.
    softened = {"hard": "soft", "block": "transient"}.get(verdict, verdict)
    statuses = _texts(table, "status")
    rule = Rule(
        name=_name(table, "name"),
        category=_name(table, "category"),
        verdict=verdict,
        temporary=_choice(table, "temporary", VERDICTS) if "temporary" in table else softened,
        fault=_choice(table, "fault", FAULTS),
        words=_phrases(table, "words"),
        also=_phrases(table, "also"),
        unless=_phrases(table, "unless"),
        codes=_codes(table),
        status=tuple(_parse_status(each) for each in statuses if each != _NO_STATUS),
        without_status=_NO_STATUS in statuses,
        sites=tuple(_texts(table, "sites")),
        examples=_examples(table),
    )
    if rule.also and not rule.words:
        raise ValueError("`also` needs `words` beside it")
    if not (rule.words or rule.codes or rule.status or rule.without_status or rule.sites):
        raise ValueError("names neither words nor codes, status or sites: it would fit every reply")
    return rule


def _name(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"`{key}` must be a name of small letters, digits and hyphens")
    return value


def _choice(table: Mapping[str, Any], key: str, values: Sequence[str]) -> str:
    value = table.get(key)
    if value not in values:
        raise ValueError(f"`{key}` must be one of {', '.join(values)}")
    return str(value)


def _texts(table: Mapping[str, Any], key: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ValueError(f"`{key}` must be a list of texts")
    return value


def _codes(table: Mapping[str, Any]) -> tuple[int, ...]:
    value = table.get("codes", [])
    if not isinstance(value, list) or not all(
        type(each) is int and (each in (4, 5) or 400 <= each <= 599) for each in value
    ):
        raise ValueError("`codes` must be a list of codes from 400 to 599; 4 and 5 mean all such")
    return tuple(value)


def _phrases(table: Mapping[str, Any], key: str) -> tuple[Phrase, ...]:
    return tuple(parse_phrase(each) for each in _texts(table, key))


def parse_phrase(text: str) -> Phrase:
    """Raises ValueError for one by which nothing can be looked up."""
    name = name_of(text)
    if name:
        if name.count(".") > 2:
            raise ValueError(f'"{text}" is too long: a host is known by two or three labels')
        return Phrase(f" {name} ", (name,))
    words = words_of(text.removesuffix("*"))
    if not words:
        raise ValueError(f'"{text}" has no word in it')
    if any(name_of(word) for word in words):
        raise ValueError(f'"{text}" has more than words in it: a domain stands alone, so does @')
    joined = " " + " ".join(words)
    if not text.endswith("*"):
        return Phrase(joined + " ", tuple(words))
    if len(words) == 1 and len(words[0]) < PREFIX:
        raise ValueError(f'"{text}" is too short: give {PREFIX} characters before the *')
    return Phrase(joined, tuple(words[:-1]))


def _parse_status(text: str) -> StatusRange:
    found = _STATUS.fullmatch(text)
    if found is None or (found[3] == "*" and found[4]):
        raise ValueError(f'"{text}" is no status: write 5.1.1, x.1.1, x.7.*, 5.7.606-649 or none')
    first = "" if found[1] == "x" else found[1]
    if found[3] == "*":
        return StatusRange(first, found[2], 0, 999)
    least = int(found[3])
    return StatusRange(first, found[2], least, int(found[4] or least))


def _examples(table: Mapping[str, Any]) -> tuple[Example, ...]:
    source = table.get("source", "")
    if not isinstance(source, str):
        raise ValueError("`source` must be a text")
    found: list[Example] = []
    examples = table.get("examples", [])
    if not isinstance(examples, list):
        raise ValueError("`examples` must be a list")
    for each in examples:
        if isinstance(each, str):
            found.append(Example(each, source))
        elif isinstance(each, dict) and set(each) <= {"reply", "source"} and "reply" in each:
            found.append(Example(str(each["reply"]), str(each.get("source", source))))
        else:
            raise ValueError("an example is a reply, or a table of `reply` and `source`")
    return tuple(found)
