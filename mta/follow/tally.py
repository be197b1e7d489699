"""Counts of what became of mail, by hour, destination, sender's side and meaning; and how many of them are kept. Pure.

A refusal's text is part of its key, so it is *folded* first: addresses, hosts, numbers and ids are taken out, and refusals that
say the same count as one. When an hour has more rows than it may keep, names give way in the order of `_STEPS`, the rarest
first: they become `OTHERS`. A row is never dropped, so every sum stays exact; only how far it can be taken apart is lost.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mta.follow.inbox import Numbered
from mta.model.escape import escape_controls
from mta.model.event import Attempt, QueueDeferred

HOUR_S = 3600
OTHERS = "*"  # stands for the names that gave way
MAX_NAME = 100  # of a job: it comes from a header
MAX_READ = 400  # of a reply
MAX_REPLY = 120  # of one folded
MAX_FOLDED = 4096  # replies whose folded form is remembered
# A refusal weighs as much as so many deliveries when it is decided whose name is kept.
REFUSAL_WEIGHT = 10

# S3150, AUP#1310, RL000001: a provider's names for a reason.
_PROVIDERS_CODE = re.compile(r"[A-Z]{1,4}#?[0-9]{1,6}")

# delivered, bounced, deferred, expired, queues postponed
Counts = list[int]
DELIVERED, BOUNCED, DEFERRED, EXPIRED, QUEUES = range(5)
COUNTED = ("delivered", "bounced", "deferred", "expired", "queues")


class Key(NamedTuple):
    """What a row counts. `job` is "" where a queue failed; `category` `success`, `verdict` and `reply` "" of deliveries."""

    hour: int
    domain: str
    site: str
    vmta: str
    job: str
    category: str
    verdict: str
    reply: str


# Domains are the most numerous by far, but for jobs of those who name one for each message.
_STEPS = (("job",), ("domain",), ("reply",), ("vmta",), ("category", "verdict"))


class Tally:
    """What was counted and is not on disk yet. One thread."""

    def __init__(self) -> None:
        self.rows: dict[Key, Counts] = {}
        self._folded: dict[tuple[int, str, str], str] = {}

    def clear(self) -> None:
        """It is on disk, or will be read again."""
        self.rows = {}

    def add(self, events: Iterable[Numbered]) -> None:
        """Count these. What an administrator deleted was not refused, and is not counted."""
        for _, event in events:
            if event.__class__ is Attempt:
                self._add_attempt(event)
            elif event.__class__ is QueueDeferred:
                self._row(event, "", self._fold(event))[QUEUES] += 1

    def _add_attempt(self, event: Attempt) -> None:
        if event.kind == "d":
            self._row(event, event.job, "")[DELIVERED] += 1
        elif event.kind == "t":
            self._row(event, event.job, self._fold(event))[DEFERRED] += 1
        elif event.by == "expired":
            self._row(event, event.job, self._fold(event))[EXPIRED] += 1
        elif event.kind == "b" and not event.by:
            self._row(event, event.job, self._fold(event))[BOUNCED] += 1

    def _row(self, event: Attempt | QueueDeferred, job: str, reply: str) -> Counts:
        key = Key(
            int(event.at) // HOUR_S,
            event.domain,
            event.site or event.domain,
            event.vmta,
            job[:MAX_NAME],
            event.category,
            event.verdict,
            reply,
        )
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = [0, 0, 0, 0, 0]
        return row

    def _fold(self, event: Attempt | QueueDeferred) -> str:
        known = (event.code, event.enhanced, event.text[:MAX_READ])
        found = self._folded.get(known)
        if found is None:
            if len(self._folded) >= MAX_FOLDED:  # strangers must not fill it
                self._folded.clear()
            found = self._folded[known] = fold_reply(*known)
        return found


def fold_reply(code: int, enhanced: str, text: str) -> str:
    """The reply without what differs from one message to the next, on one line; no more than `MAX_REPLY` characters."""
    words = [_fold_word(word) for word in text[:MAX_READ].split()]
    said = (str(code) if code else "", enhanced, *words)
    return escape_controls(" ".join(word for word in said if word))[:MAX_REPLY]


def _fold_word(word: str) -> str:
    core = word.strip("<>()[]{}\"',;:.!?=")
    if not core:
        return word
    return "(address)" if "@" in core else word.replace(core, _stands_for(core))


def _stands_for(core: str) -> str:
    if "://" in core:
        return "(url)"
    parts = core.split(".")
    if len(parts) > 1 and all(parts):
        if len(parts) == 3 and all(part.isdecimal() for part in parts):
            return core  # a status, like 4.7.0
        if parts[-1].isalpha() and len(parts[-1]) > 1:
            return "(host)"
        if all(part.isdecimal() for part in parts):
            return "(ip)" if len(parts) == 4 else "(number)"
    if core.count(":") > 1 and any(each.isdigit() for each in core):
        return "(ip)"  # or a time of day: it differs as well
    if core.isdecimal():
        return "(number)"
    if _PROVIDERS_CODE.fullmatch(core):
        return core
    digits = sum(each.isdigit() for each in core)
    return "(id)" if digits and (len(core) > 8 or digits > 4) else core


def fold_rows(rows: Mapping[Key, Counts], limit: int) -> dict[Key, Counts]:
    """At most `limit` rows (of one hour; at least 2) with the same sums: the heaviest keep their names."""
    left = {key: list(counts) for key, counts in rows.items()}
    for step in _STEPS:
        if len(left) <= limit:
            break
        ranked = sorted(left.items(), key=_weight, reverse=True)
        kept = limit // 2
        left = dict(ranked[:kept])
        for key, counts in ranked[kept:]:
            _merge(left, _without(key, step), counts)
    return left


def _merge(into: dict[Key, Counts], key: Key, counts: Counts) -> None:
    row = into.get(key)
    if row is None:
        into[key] = list(counts)
    else:
        for place, count in enumerate(counts):
            row[place] += count


def _without(key: Key, step: tuple[str, ...]) -> Key:
    """The key without this step's names, nor those of the steps before."""
    gone = {name for each in _STEPS[: _STEPS.index(step) + 1] for name in each}
    if "vmta" in gone or ("domain" in gone and key.site == key.domain):
        gone.add("site")  # a domain that is its own site is as numerous as domains are
    return Key._make(
        OTHERS if name in gone else value for name, value in zip(Key._fields, key, strict=True)
    )


def _weight(row: tuple[Key, Counts]) -> tuple[int, Key]:
    key, counts = row
    return counts[DELIVERED] + REFUSAL_WEIGHT * sum(counts[BOUNCED:]), key
