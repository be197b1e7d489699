"""What the scheduler answers when it is asked: the next batch, the decision on an outcome, the reasons of a wait."""

from dataclasses import dataclass
from typing import NamedTuple

from mta.model.envelope import Entry, Message
from mta.policy.rules import Place


class Batch:
    """Entries of one message in one queue, for one transaction."""

    __slots__ = ("entries", "message")

    def __init__(self, message: Message, entries: list[Entry]) -> None:
        self.message = message
        self.entries = entries


@dataclass(frozen=True, slots=True)
class Decision:
    """What the spool writes of an outcome: the next time (None: the entry is gone), and who removed it if no attempt did."""

    due: float | None
    by: str = ""  # "" or "expired"


GONE = Decision(None)
EXPIRED = Decision(None, "expired")


class Wait(NamedTuple):
    """One reason why a queue or an entry waits: what, in detail, until when, set where.

    `until`: 0.0 where nobody can know (a reply, a free slot, the operator).
    """

    what: str
    detail: str = ""
    until: float = 0.0
    place: Place | None = None

    def text(self, now: float) -> str:
        """As the operator reads it: `waiting 41 s: message rate (vmta-7 → gmail.com: 300/min, from conf.d/…)`."""
        how_long = f" {max(0.0, self.until - now):.0f} s" if self.until > now else ""
        about = [self.detail] if self.detail else []
        if self.place is not None:
            about.append(f"from {self.place}")
        return f"waiting{how_long}: {self.what}" + (f" ({', '.join(about)})" if about else "")
