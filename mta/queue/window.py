"""What is known of a destination – a site as one virtual MTA sees it – beyond the life of any of its queues.

Whether it answers (*proven*: a successful connect since start or since the last failed one), its backoff, which its queues
share, and how many connections it bears: refused while others work, it gets no more than those that work, and one more each
minute. Kept for the destinations last used; one forgotten is merely unproven again.
"""

from typing import TYPE_CHECKING

from mta.model.envelope import QueueKey

if TYPE_CHECKING:
    from mta.queue.queue import Queue

GROW_S = 60.0
MAX_DESTINATIONS = 20_000  # remembered; about 300 bytes each


class Destination:
    """One (site, virtual MTA)."""

    __slots__ = (
        "_bears",
        "_since",
        "attempts",
        "is_proven",
        "prober",
        "reason",
        "suspect",
        "until",
        "waiting",
        "working",
    )

    def __init__(self) -> None:
        self.is_proven = False
        self.attempts = 0  # failures in a row
        self.until = 0.0  # no new connection before
        self.reason = ""
        self.suspect = 0  # the message under which it failed last
        self.working = 0  # connections that are open and were not refused
        # While it is unproven or in trouble one of its queues tries, with one connection; the others wait for the result.
        self.prober: Queue | None = None
        self.waiting: dict[Queue, None] = {}
        self._bears = 0  # 0: no bound known
        self._since = 0.0

    @property
    def is_probed(self) -> bool:
        """One connection is to show first that it works."""
        return self.attempts > 0 or not self.is_proven

    def refused_beyond(self, working: int, now: float) -> None:
        """A connection more than these was refused."""
        self._bears = max(1, working)
        self._since = now

    def bears(self, now: float) -> int | None:
        """So many connections, as far as it showed; None: no bound known."""
        if not self._bears:
            return None
        return self._bears + int((now - self._since) / GROW_S)

    def grows_at(self, now: float) -> float:
        """When it is trusted with one more."""
        return self._since + (int((now - self._since) / GROW_S) + 1) * GROW_S

    def works(self) -> None:
        """It took or judged a message: what was held against it is void."""
        self.attempts = 0
        self.until = 0.0
        self.reason = ""
        self.suspect = 0


class Destinations:
    """The destinations last used."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Destination] = {}

    def of(self, site: str, key: QueueKey) -> Destination:
        """The destination of this queue."""
        return self.named(site, key.vmta)

    def named(self, site: str, vmta: str) -> Destination:
        """The destination of this name; a new one is unproven."""
        name = (site, vmta)
        found = self._known.pop(name, None)
        if found is None:
            if len(self._known) >= MAX_DESTINATIONS:
                del self._known[next(iter(self._known))]
            found = Destination()
        self._known[name] = found  # the last used stand at the end
        return found
