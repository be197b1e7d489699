"""What the lab's receiving servers accepted: counts for everything, the messages themselves within bounds.

One mailbox may serve many servers. A message is taken before its 250 goes out, so that no acknowledged one is missing.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

KEEP_PER_RECIPIENT = 3
KEEP_RECIPIENTS = 5_000
KEEP_BYTES = 200_000  # of a longer message only the count and the size


@dataclass(frozen=True, slots=True)
class Taken:
    """One accepted message. `data`: as on the wire, dots unstuffed, CRLF at every line's end."""

    host: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes
    size: int
    tls: bool
    at: float  # loop time
    faults: tuple[str, ...] = ()


def find_faults(data: bytes) -> tuple[str, ...]:
    """What must never be on the wire: bare CR, bare LF, NUL (RFC 5321 §2.3.8, §4.5.2)."""
    pairs = data.count(b"\r\n")
    found = []
    if data.count(b"\r") != pairs:
        found.append("bare CR")
    if data.count(b"\n") != pairs:
        found.append("bare LF")
    if b"\0" in data:
        found.append("NUL")
    return tuple(found)


class Mailbox:
    """Counts what arrived, by recipient, domain and host, and keeps the last few messages of each recipient."""

    def __init__(self, on_message: Callable[[Taken], None] | None = None) -> None:
        self.on_message = on_message
        self.messages = 0
        self.recipients = 0
        self.by_domain: Counter[str] = Counter()  # recipients
        self.by_host: Counter[str] = Counter()  # messages
        self.faults: Counter[str] = Counter()
        self._kept: OrderedDict[str, deque[Taken]] = OrderedDict()

    def take(
        self, host: str, sender: str, recipients: list[str], data: bytes, *, tls: bool
    ) -> Taken:
        """Count a message and keep it."""
        faults = find_faults(data)
        kept = data if len(data) <= KEEP_BYTES else b""
        at = asyncio.get_running_loop().time()
        taken = Taken(host, sender, tuple(recipients), kept, len(data), tls, at, faults)
        self.messages += 1
        self.recipients += len(recipients)
        self.by_host[host] += 1
        self.faults.update(faults)
        for recipient in recipients:
            self.by_domain[recipient.rpartition("@")[2].lower()] += 1
            self._kept.setdefault(recipient, deque(maxlen=KEEP_PER_RECIPIENT)).append(taken)
        while len(self._kept) > KEEP_RECIPIENTS:
            self._kept.popitem(last=False)
        if self.on_message is not None:
            self.on_message(taken)
        return taken

    def of(self, recipient: str) -> list[Taken]:
        """The last messages of one recipient, oldest first."""
        return list(self._kept.get(recipient, ()))

    def sample(self, domain: str) -> Taken | None:
        """Any kept message to this domain."""
        for recipient, taken in self._kept.items():
            if recipient.rpartition("@")[2].lower() == domain:
                return taken[-1]
        return None
