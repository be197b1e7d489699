"""What the dispatcher needs of its neighbours – governor, spool, policy book – and no more of them than that.

Reads over the spools stand here, too: a worker may drive several, and the scheduler is answered once.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from mta.model.envelope import Entry, Message, QueueKey
from mta.model.errors import SpoolError
from mta.model.event import QueueDeferred
from mta.model.outcome import Deferred, Failed
from mta.policy.rules import Demand, QueuePolicy, VmtaRules
from mta.queue.actions import QueueState, RateDemand, Route, Tell
from mta.spool.bodies import Body

T = TypeVar("T")

FindRoute = Callable[[QueueKey], Awaitable[Route | Deferred | Failed]]


class Governor(Protocol):
    """What the dispatcher asks of the governor; every answer comes later."""

    def request(
        self,
        destination: str,
        demand: Demand,
        granted: Callable[[int], None],
        *,
        rates: RateDemand = (),
    ) -> int: ...

    def withdraw(self, request: int) -> None: ...

    def connected(self, lease: int) -> None: ...

    def release(self, lease: int, connected: bool) -> None: ...

    def tokens(
        self, rates: RateDemand, count: int, granted: Callable[[int, float], None]
    ) -> int: ...

    def return_tokens(self, rates: RateDemand, count: int, until: float) -> None: ...

    def tell(self, tale: Tell) -> None: ...


class DeliveringSpool(Protocol):
    """What the dispatcher needs of a spool."""

    @property
    def uuid(self) -> str: ...

    def due(
        self,
        key: QueueKey,
        now: float,
        limit: int,
        done: Callable[[list[Entry], float | None], None],
    ) -> None: ...

    def due_queues(
        self,
        now: float,
        limit: int,
        done: Callable[[list[QueueState], float | None], None],
    ) -> None: ...

    def queue_state(self, key: QueueKey) -> "Future[QueueState | None]": ...

    def postpone(self, state: QueueState, event: QueueDeferred | None) -> None: ...

    def evict(self, key: QueueKey, due: float | None) -> None: ...

    def bodies(
        self, messages: Sequence[Message], done: Callable[[list[Body | SpoolError]], None]
    ) -> None: ...

    def mark(self, entry: Entry) -> None: ...

    def unmark(self, entry: Entry) -> None: ...


class PolicyBook(Protocol):
    """Which policy a queue gets."""

    def policy(self, key: QueueKey, site: str) -> QueuePolicy: ...

    def vmta(self, name: str) -> VmtaRules | None: ...


class SpoolReads:
    """One question to all spools of a worker, answered once, when the last of them has."""

    def __init__(self, spools: Iterable[DeliveringSpool]) -> None:
        self._spools = list(spools)

    def due(
        self,
        key: QueueKey,
        now: float,
        limit: int,
        done: Callable[[list[Entry], float | None], None],
    ) -> None:
        """The entries of a queue that are due, and when the earliest of the others is."""
        answer = _Gathered[Entry](len(self._spools), done)
        for spool in self._spools:
            spool.due(key, now, limit, answer.add)

    def due_queues(
        self, now: float, limit: int, done: Callable[[list[QueueState], float | None], None]
    ) -> None:
        """The queues that are due, and when the earliest of the others is."""
        answer = _Gathered[QueueState](len(self._spools), done)
        for spool in self._spools:
            spool.due_queues(now, limit, answer.add)

    def queue_state(self, key: QueueKey, done: Callable[[QueueState], None]) -> None:
        """The queue's durable row; of several the one that rests longest, for it has the latest failure."""

        def gathered(found: list[QueueState], _next_due: float | None) -> None:
            done(max(found, key=lambda each: each.next_at, default=QueueState(key)))

        answer = _Gathered[QueueState](len(self._spools), gathered)

        def read(future: "Future[QueueState | None]") -> None:
            # A read that failed is answered all the same: the queue must not wait for it for ever.
            state = future.result() if future.exception() is None else None
            answer.add([] if state is None else [state], None)

        for spool in self._spools:
            spool.queue_state(key).add_done_callback(read)


class _Gathered(Generic[T]):
    """The answers of several spools, on their way to becoming one."""

    def __init__(self, left: int, done: Callable[[list[T], float | None], None]) -> None:
        self._left = left
        self._done = done
        self._items: list[T] = []
        self._dues: list[float] = []

    def add(self, items: list[T], next_due: float | None) -> None:
        self._left -= 1
        self._items += items
        if next_due is not None:
            self._dues.append(next_due)
        if self._left == 0:
            self._done(self._items, min(self._dues, default=None))
