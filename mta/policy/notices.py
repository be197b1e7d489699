"""Who is told by mail of what became of recipients, in which language, and how often. Pure.

Never about a null sender and never about a notice, so that no two servers ever answer each other (RFC 5321 §4.5.5); only about
mail that was handed in to us by somebody who may; never against the wish of the sender (NOTIFY, RFC 3461 §4.1); and no more to
one address than its share: what goes beyond is gathered and told together.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from mta.model.envelope import Entry
from mta.model.units import Rate
from mta.policy.admission import parse_ip, sender_pattern
from mta.policy.rules import NEVER, SEND, TELL_OTHER, ServerRules, SourceRules

MAX_SENDERS = 10_000  # remembered; about 2 MB
# Where nothing else is said, who asks for news of a delay (NOTIFY=DELAY) gets them after so long.
DELAY_TOLD_AFTER_S = 14_400.0
# The `source_kind`s of mail that a client of ours handed in. What else there may be one day is not told of until it stands here.
_HANDED_IN = frozenset({"smtp", "http", "pickup", "import"})


def is_tellable(sender: str, source_kind: str) -> bool:
    """Whether anybody may be told of mail with this sender, from this kind of source."""
    return sender != "" and source_kind in _HANDED_IN


def wants_failure(entry: Entry) -> bool:
    """Whether the sender of this entry, which failed, is to be told."""
    # RFC 3461 §4.1: without NOTIFY a failure is told.
    return _is_tellable(entry) and (not entry.notify or "FAILURE" in entry.notify)


def wants_success(entry: Entry, extensions: str) -> bool:
    """Whether the sender of this entry, which a host with these extensions took, is to be told.

    RFC 3461 §5.2.2: a host that offers DSN was told of the wish, and tells the sender itself.
    """
    return (
        _is_tellable(entry)
        and "SUCCESS" in entry.notify
        and "DSN" not in extensions.upper().split(",")
    )


def wants_delay(entry: Entry, *, is_told_unasked: bool) -> bool:
    """Whether the sender of this entry, which has waited for long, is to be told."""
    return _is_tellable(entry) and (
        "DELAY" in entry.notify or (not entry.notify and is_told_unasked)
    )


def _is_tellable(entry: Entry) -> bool:
    return is_tellable(entry.message.sender, entry.message.source_kind)


class NoticeRule(NamedTuple):
    """Who is told of one source's mail, and in which language."""

    notices: str  # "send", "never" or "to:address"
    language: str

    @property
    def is_never(self) -> bool:
        return self.notices == NEVER

    def address(self, sender: str) -> str:
        """Who is told instead of, or as, this sender."""
        return self.notices.removeprefix(TELL_OTHER) if self.notices != SEND else sender


class NoticeBook:
    """The rule of every source. Never changes: a reload builds another."""

    def __init__(self, server: ServerRules, sources: Sequence[SourceRules] = ()) -> None:
        self._default = NoticeRule(server.notices, server.notice_language)
        self._sources = [
            (
                rules,
                [sender_pattern(text) for text in rules.senders],
                NoticeRule(
                    rules.notices or server.notices, rules.notice_language or server.notice_language
                ),
            )
            for rules in sources
            if rules.notices or rules.notice_language
        ]
        self.delay_told_after_s = server.delay_notice_after or DELAY_TOLD_AFTER_S
        self.is_delay_told_unasked = server.delay_notice_after > 0

    @property
    def is_never(self) -> bool:
        """Nobody is ever told."""
        return all(rule.is_never for rule in self._rules())

    @property
    def offers_dsn(self) -> bool:
        """Whether EHLO offers DSN: senders are told, of some source at least (RFC 3461 §4: who offers it must)."""
        return any(rule.notices == SEND for rule in self._rules())

    def rule(self, sender: str, user: str, source_ip: str) -> NoticeRule:
        """The rule for mail of this sender, handed in by this user from this address."""
        for source, senders, rule in self._sources:
            if _fits(source, user, source_ip) and (
                not senders or any(pattern.fullmatch(sender.lower()) for pattern in senders)
            ):
                return rule
        return self._default

    def _rules(self) -> list[NoticeRule]:
        return [self._default, *(rule for _, _, rule in self._sources)]


def _fits(source: SourceRules, user: str, source_ip: str) -> bool:
    if source.users and user not in source.users:
        return False
    if not source.networks:
        return True
    address = parse_ip(source_ip)
    # `in` is false, not an error, for a network of the other family.
    return address is not None and any(address in network for network in source.networks)


class NoticeLimit:
    """Lets no more notices through to one address in an interval than the rate says; remembers `MAX_SENDERS`, the latest."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, how many

    def may_tell(self, address: str, rate: Rate | None, now: float) -> bool:
        """Count one notice to this address, if it may get one. None: there is no limit."""
        if rate is None:
            return True
        since, count = self._counts.get(address, (now, 0))
        if not 0 <= now - since < rate.per_s:
            since, count = now, 0
        if count >= rate.count:
            return False
        self._counts[address] = (since, count + 1)
        self._counts.move_to_end(address)
        if len(self._counts) > MAX_SENDERS:
            self._counts.popitem(last=False)
        return True

    def free_at(self, address: str, rate: Rate | None, now: float) -> float:
        """When this address may get a notice again."""
        if rate is None or address not in self._counts:
            return now
        since, count = self._counts[address]
        return now if count < rate.count else max(now, since + rate.per_s)
