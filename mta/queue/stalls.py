"""Finds queues that have due work and no reason to wait, and yet make no attempt: a fault of ours, which nobody would see.

Looked for every few seconds, not on the hot path: what had made no attempt since the last look, again and again for `STALL_S`, is
asked why it waits. A full limit, a rate, a rest and the operator are reasons; anything else that lasts so long is none.
"""

from collections.abc import Iterable
from typing import Protocol

from mta.model.envelope import QueueKey
from mta.queue.answers import Wait

STALL_S = 60.0
# The words of `mta.queue.explain` for what may last.
REASONS = frozenset(
    {
        "paused by the operator",
        "backoff",
        "backoff of the site",
        "retry",
        "another queue's try",
        "connections",
        "a free connection",
        "max_connections",
        "its turn to ask for a connection",
        "message rate",
    }
)


class WatchedScheduler(Protocol):
    """What is looked at."""

    def due_work(self) -> Iterable[tuple[QueueKey, int]]:
        """The queues in memory with something ready and nothing in flight, and how many batches each ever began."""

    def explain(self, key: QueueKey, now: float) -> list[Wait]: ...


class Stalls:
    """Remembers since when a queue stands still. Bounded by the queues in memory."""

    def __init__(self) -> None:
        self._since: dict[QueueKey, tuple[int, float]] = {}  # batches begun, first seen so
        self._told: set[QueueKey] = set()

    def look(self, scheduler: WatchedScheduler, now: float) -> list[tuple[QueueKey, list[Wait]]]:
        """The queues newly found to stand still for `STALL_S` without a reason, with what they say."""
        since: dict[QueueKey, tuple[int, float]] = {}
        found = []
        for key, begun in scheduler.due_work():
            before = self._since.get(key)
            since[key] = before if before is not None and before[0] == begun else (begun, now)
            if now - since[key][1] < STALL_S or key in self._told:
                continue
            waits = scheduler.explain(key, now)
            if not any(wait.what in REASONS for wait in waits):
                found.append((key, waits))
        self._since = since
        self._told = {key for key in self._told if key in since} | {key for key, _ in found}
        return found

    @property
    def count(self) -> int:
        """Queues that stand still now."""
        return len(self._told)
