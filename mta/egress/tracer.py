"""Live dialogues for an operator: a *watch* hears the connections of some queues, while somebody reads it.

Nobody watches: a connection has no tap, and pays one look at an attribute. A watch that is not read for `FORGOTTEN_S` ends; what
is not read in time is dropped and counted. Nothing of it is written anywhere.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from mta.model.envelope import QueueKey
from mta.smtp.dialogue import Dialogue

MAX_WATCHES = 8
MAX_LINES = 2000  # of a watch, not yet read: 2 MB at the most
FORGOTTEN_S = 15.0

Row = dict[str, Any]


class Traced(Protocol):
    """A session, as far as a trace goes."""

    number: int
    tap: "Tap | None"

    @property
    def peer(self) -> str:
        """Host and address."""

    @property
    def is_sending(self) -> bool:
        """A body is under way."""


@dataclass(slots=True)
class Watch:
    """What one operator watches: queues by domain, and virtual MTA unless that is ""."""

    queues: frozenset[tuple[str, str]]
    read_at: float
    lines: deque[Row] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    dropped: int = 0

    def wants(self, key: QueueKey) -> bool:
        """Whether this queue is watched."""
        return key in self.queues or (key.domain, "") in self.queues

    def add(self, row: Row) -> None:
        """A line; the oldest makes room."""
        if len(self.lines) == MAX_LINES:
            self.dropped += 1
        self.lines.append(row)


class Tap:
    """Hears one connection for the watches of its queue."""

    __slots__ = ("_dialogue", "_row", "_tracer", "key")

    def __init__(self, tracer: "Tracer", key: QueueKey, session: Traced) -> None:
        self._tracer = tracer
        self.key = key
        self._row = {"connection": session.number, "queue": str(key), "peer": session.peer}
        self._dialogue = Dialogue(in_body=session.is_sending)

    def sent(self, data: bytes) -> None:
        """The session wrote this."""
        for line in self._dialogue.sent(data):
            self._tell(">", line)

    def received(self, data: bytes) -> None:
        """The host wrote this."""
        for line in self._dialogue.received(data):
            self._tell("<", line)

    def note(self, text: str) -> None:
        """What happened to the connection."""
        self._tell("*", text)

    def _tell(self, side: str, text: str) -> None:
        self._tracer.tell(self.key, {**self._row, "side": side, "text": text})


class Tracer:
    """All watches of a worker. Lives on the loop."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._watches: dict[int, Watch] = {}
        self._numbers = itertools.count(1)

    def begin(
        self, queues: Iterable[tuple[str, str]], running: Iterable[tuple[QueueKey, Traced]]
    ) -> int:
        """Watch these queues, the sessions they have among them: the watch's number, 0 if there are too many."""
        self._forget()
        if len(self._watches) >= MAX_WATCHES:
            return 0
        number = next(self._numbers)
        self._watches[number] = Watch(frozenset(queues), self._now())
        for key, session in running:
            if session.tap is None:
                self.attach(key, session)
        return number

    def read(self, number: int) -> tuple[list[Row], int] | None:
        """What came since the last time, and how many lines were lost; None: the watch has ended."""
        watch = self._watches.get(number)
        if watch is None:
            return None
        watch.read_at = self._now()
        lines, watch.lines = list(watch.lines), deque(maxlen=MAX_LINES)
        dropped, watch.dropped = watch.dropped, 0
        return lines, dropped

    def end(self, number: int) -> None:
        """Nobody reads it any more."""
        self._watches.pop(number, None)

    def attach(self, key: QueueKey, session: Traced) -> None:
        """Let this session be heard if its queue is watched."""
        if self._watches and any(watch.wants(key) for watch in self._watches.values()):
            session.tap = Tap(self, key, session)

    def tell(self, key: QueueKey, row: Row) -> None:
        """A line of a connection of this queue."""
        row["at"] = self._now()
        for watch in self._watches.values():
            if watch.wants(key):
                watch.add(row)
        self._forget()

    def _forget(self) -> None:
        before = self._now() - FORGOTTEN_S
        for number in [n for n, watch in self._watches.items() if watch.read_at < before]:
            del self._watches[number]
