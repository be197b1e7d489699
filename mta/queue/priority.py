"""High before normal before low, within one queue, and nobody starved: the shares of the three classes. Pure.

Of 21 entries that wait, 16 are high, 4 normal and 1 low, as long as there are so many of each; a class that has nothing leaves
its share to the others.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

# In this order within a round: high first, and what is low not only at its end.
HIGH_SHARE = 4  # to one normal
ROUND = "HHHHNHHHHNHHHHNHHHHNL"


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
