"""What a refusal means: its category, what to do about it, and whose matter it is.

Rules stand in order, the operator's before ours, and the first that fits decides. Those that name
words are found through one of their words: a reply is taken apart once, and only rules that share
a word with it are looked at. Those that name none (they judge by code and status, RFC 3463) are
few, stand at the end, and are remembered by code, status and site. Of our own texts only the
status counts. What was judged lately is remembered. A delivery never comes here.
"""

from collections import Counter
from dataclasses import dataclass

from mta.bounce.rules import (
    CATEGORIES,
    OTHER,
    PREFIX,
    STANDARD,
    SUCCESS,
    Rule,
)
from mta.bounce.words import MAX_TEXT, link_words, status_of, words_of
from mta.model.reply import Reply, split_enhanced

__all__ = ["CATEGORIES", "OTHER", "SUCCESS", "Classifier", "Refusal", "parse_reply", "standard"]

_REMEMBERED = 4096  # strangers choose codes and statuses; sites are ours
# Whole replies, for what comes in floods (rate limits, greylisting) is one sentence over and over: 0.3 µs
# instead of 4 to 11.
_REPLIES, _REPLY_CHARS = 1024, 512


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a reply means. `rule`: the name of the rule that says so, "" for none."""

    category: str
    verdict: str
    fault: str
    rule: str = ""


# A positive reply where another was due, or a code that is none.
_UNKNOWN = Refusal(OTHER, "transient", "network")
_TAKEN = Refusal(SUCCESS, "transient", "network")


class Classifier:
    """Judges replies by rules. Knows nothing else and never changes: a reload makes another."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self._wordless = [number for number, rule in enumerate(rules) if not rule.words]
        self._by_code: dict[tuple[int, str, str], int] = {}
        self._by_reply: dict[tuple[int, str, str, str], Refusal] = {}
        # A phrase stands under one of its words, the one that is in the fewest, with the number of its rule.
        self._by_word: dict[str, list[tuple[int, str]]] = {}
        self._by_prefix: dict[str, list[tuple[int, str]]] = {}
        phrases = [(number, each) for number, rule in enumerate(rules) for each in rule.words]
        counts = Counter(word for _, phrase in phrases for word in phrase.whole)
        for number, phrase in phrases:
            table, anchor = self._by_prefix, phrase.text.strip()[:PREFIX]
            if phrase.whole:
                table, anchor = self._by_word, min(phrase.whole, key=counts.__getitem__)
            table.setdefault(anchor, []).append((number, phrase.text))
        self._permanent = [
            Refusal(each.category, each.verdict, each.fault, each.name) for each in rules
        ]
        self._temporary = [
            Refusal(each.category, each.temporary, each.fault, each.name) for each in rules
        ]

    def classify(self, reply: Reply, site: str, local: bool) -> Refusal:
        """What `reply` means as `site` or, with `local`, we ourselves gave it."""
        if reply.is_positive:
            return _TAKEN
        text = "" if local else _text(reply)
        if len(text) > _REPLY_CHARS:
            return self._judge(reply.code, reply.enhanced, site, text)
        key = reply.code, reply.enhanced, site, text
        refusal = self._by_reply.get(key)
        if refusal is None:
            refusal = self._judge(reply.code, reply.enhanced, site, text)
            if len(self._by_reply) >= _REPLIES:
                self._by_reply.clear()
            self._by_reply[key] = refusal
        return refusal

    def _judge(self, code: int, enhanced: str, site: str, text: str) -> Refusal:
        if not enhanced and text:
            enhanced = status_of(text)
        number = self._first_by_code(code, enhanced, site)
        if text:
            found = self._first_by_words(words_of(text), code, enhanced, site, number)
            if found < 0 and "://" in text:
                # What a link leads to is said only where nothing else is.
                found = self._first_by_words(link_words(text), code, enhanced, site, number)
            number = found if found >= 0 else number
        if number < 0:
            return _UNKNOWN
        # A host that says 550 and 4.2.1 is not sure of it: no address is given up for that.
        permanent = code >= 500 and not enhanced.startswith("4")
        return self._permanent[number] if permanent else self._temporary[number]

    def _first_by_words(
        self, words: list[str], code: int, enhanced: str, site: str, before: int
    ) -> int:
        """The first rule that names words and fits; -1 if there is none, or none that stands `before`."""
        candidates: list[tuple[int, str]] = []
        for word in set(words):
            found = self._by_word.get(word)
            if found is not None:
                candidates += found
            found = self._by_prefix.get(word[:PREFIX])
            if found is not None:
                candidates += found
        text = " " + " ".join(words) + " "
        for number in sorted({number for number, phrase in candidates if phrase in text}):
            if 0 <= before < number:
                return -1
            rule = self.rules[number]
            if rule.fits_reply(code, enhanced, site) and rule.fits_rest(text):
                return number
        return -1

    def _first_by_code(self, code: int, enhanced: str, site: str) -> int:
        key = (code, enhanced, site)
        found = self._by_code.get(key)
        if found is None:
            if len(self._by_code) >= _REMEMBERED:
                self._by_code.clear()
            found = -1
            for number in self._wordless:
                if self.rules[number].fits_reply(code, enhanced, site):
                    found = number
                    break
            self._by_code[key] = found
        return found


def standard(category: str) -> str:
    """The name among the seventeen for a tool that knows only those; an operator's own stays as it is."""
    return STANDARD.get(category, category)


def parse_reply(line: str) -> Reply:
    """A reply as a log shows it, on one line: `550 5.1.1 no such user`. Raises ValueError where no code leads it."""
    code, text = line[:3], line[3:]
    if not code.isascii() or not code.isdecimal() or text[:1] not in ("", " ", "-"):
        raise ValueError("begins with no code of three digits")
    return split_enhanced(int(code), (text[1:].lstrip(),))


def _text(reply: Reply) -> str:
    lines = reply.lines
    if len(lines) == 1:
        return lines[0]
    # Joined only as far as it is read: a hostile host may send a great many lines.
    taken: list[str] = []
    room = MAX_TEXT
    for line in lines:
        taken.append(line[:room])
        room -= len(line) + 1
        if room <= 0:
            break
    return " ".join(taken)
