"""A spool's event interface in memory: the same contract as the real one, with hands to stop and fail it."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from mta.model.event import Attempt, Event, encode_event

Numbered = tuple[int, Event]

SPOOL_UUID = "0123456789abcdef0123456789abcdef"
MIDDAY = 1_549_627_200.0  # 2019-02-08 12:00:00 UTC


def an_attempt(kind: str = "d", **changes: object) -> Attempt:
    """A delivery – or another outcome – as a quiet day has it."""
    values: dict[str, object] = {
        "kind": kind,
        "at": MIDDAY + 3,
        "message": 7,
        "entry": 9,
        "sender": "news@example.com",
        "recipient": "someone@example.net",
        "orcpt": "",
        "domain": "example.net",
        "vmta": "default",
        "job": "",
        "envid": "",
        "size": 4096,
        "queued_at": MIDDAY,
        "first_attempt": MIDDAY + 2,
        "attempts": 1,
        "code": 250,
        "enhanced": "2.0.0",
        "text": "OK queued",
        "local": False,
        "category": "success",
        "source_kind": "smtp",
        "source_name": "feeder.example.com",
        "source_feeder_ip": "192.0.2.7",
        "user": "",
        "remote_name": "mx.example.net",
        "remote_ip": "198.51.100.1",
        "local_ip": "192.0.2.10",
        "extensions": "PIPELINING,SIZE,8BITMIME",
    }
    values.update(changes)
    return Attempt(**values)  # type: ignore[arg-type]


class FakeSpool:
    """Events in a list; `commit` is what the real one does after a transaction."""

    def __init__(self, uuid: str = SPOOL_UUID) -> None:
        self.uuid = uuid
        self.pruned = 0
        self.reads = 0
        self.unreadable: set[int] = set()  # rows that the table passes over
        self._table: list[tuple[int, Event]] = []
        self._last = 0
        self._callbacks: list[Callable[[Sequence[Numbered]], None]] = []

    def commit(self, events: Sequence[Event], *, offer: bool = True) -> list[Numbered]:
        """Events as one commit; without `offer` as if committed before anybody subscribed."""
        batch = [(self._last + n, event) for n, event in enumerate(events, 1)]
        self._last += len(batch)
        self._table.extend(batch)
        if offer:
            self.offer(batch)
        return batch

    def offer(self, batch: Sequence[Numbered]) -> None:
        """Tell the subscribers, perhaps long after the commit."""
        for callback in self._callbacks:
            callback(batch)

    @property
    def pending_event_bytes(self) -> int:
        return sum(len(encode_event(event)) for _, event in self._table)

    def subscribe(self, callback: Callable[[Sequence[Numbered]], None]) -> None:
        self._callbacks.append(callback)

    def events(self, cursor: int, limit: int) -> "Future[list[Numbered]]":
        self.reads += 1
        answer: Future[list[Numbered]] = Future()
        rows = [one for one in self._table if one[0] > cursor][:limit]
        answer.set_result([one for one in rows if one[0] not in self.unreadable])
        return answer

    def prune(self, up_to: int) -> None:
        self.pruned = up_to
        self._table = [one for one in self._table if one[0] > up_to]


class FakeClock:
    """A clock that stands until it is moved."""

    def __init__(self, at: float = MIDDAY) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds
