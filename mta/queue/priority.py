"""High before normal before low, within one queue, and nobody starved: the shares of the three classes. Pure.

Of 21 entries that wait, 16 are high, 4 normal and 1 low, as long as there are so many of each; a class that has nothing leaves
its share to the others.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TypeVar

from mta.model.envelope import Priority

T = TypeVar("T")


# In this order within a round: high first, and what is low not only at its end.
HIGH_SHARE = 4  # to one normal
MAX_JUMPS = 16  # high entries that may pass the others in memory in a row; each normal transaction gives HIGH_SHARE back
HIGH_ROOM = 100  # so many of them find room in a full window
ROUND = "HHHHNHHHHNHHHHNHHHHNL"


def parse_priority(text: str) -> Priority:
    """`high`, `normal` or `low`, in any case. Raises ValueError."""
    try:
        return Priority[text.strip().upper()]
    except KeyError:
        raise ValueError("a class of priority is high, normal or low") from None


def merge_classes(normal: list[T], high: Sequence[T], low: Sequence[T], limit: int) -> list[T]:
    """The first `limit` of all, each class in its own order, by their shares."""
    if not high and not low:
        return normal  # nearly always
    waiting = {"H": deque(high), "N": deque(normal), "L": deque(low)}
    merged: list[T] = []
    while len(merged) < limit and any(waiting.values()):
        _go_round(waiting, merged, limit)
    return merged


def _go_round(waiting: dict[str, deque[T]], merged: list[T], limit: int) -> None:
    for name in _only(ROUND, waiting):
        if len(merged) >= limit:
            return
        if waiting[name]:
            merged.append(waiting[name].popleft())


def _only(names: Iterable[str], waiting: dict[str, deque[T]]) -> list[str]:
    return [name for name in names if waiting[name]]
