"""Who is told of a failure by mail, and how often. Pure.

Never about a null sender and never about a notice, so that no two servers ever answer each other (RFC 5321 §4.5.5); never
against the wish of the sender (NOTIFY, RFC 3461 §4.1); and no more to one sender than its share, for a sender may be forged.
"""

from collections import OrderedDict

from mta.model.envelope import NOTICE, Entry
from mta.model.units import Rate

MAX_SENDERS = 10_000  # remembered; about 2 MB


def wants_notice(entry: Entry) -> bool:
    """Whether the sender of this entry, which failed, is to be told."""
    message = entry.message
    if not message.sender or message.source_kind == NOTICE:
        return False
    # RFC 3461 §4.1: without NOTIFY a failure is told.
    return not entry.notify or "FAILURE" in entry.notify


class NoticeLimit:
    """Lets no more notices through to one sender in an interval than the rate says; remembers `MAX_SENDERS`, the latest."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, how many

    def may_tell(self, sender: str, rate: Rate | None, now: float) -> bool:
        """Count one notice to this sender, if it may get one. None: there is no limit."""
        if rate is None:
            return True
        since, count = self._counts.get(sender, (now, 0))
        if not 0 <= now - since < rate.per_s:
            since, count = now, 0
        if count >= rate.count:
            return False
        self._counts[sender] = (since, count + 1)
        self._counts.move_to_end(sender)
        if len(self._counts) > MAX_SENDERS:
            self._counts.popitem(last=False)
        return True
