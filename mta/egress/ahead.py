"""Bodies read from the spool, and those of the messages behind them in the same go.

Whoever reads waits for the commit under way, some milliseconds, and a connection that works off a backlog would do so before each
message: with 3 connections and 100,000 messages on disk this held a server at 1,000 msg/s that delivers 4,000 from memory. So a
read brings the bodies of what its queue sends next, and the following read begins when half of them are used up. Bounded in
messages and bytes; what nobody came for (the queue was paused, the connection lost) makes room for the next or grows too old.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mta.io.clock import Clock
from mta.model.envelope import Message
from mta.model.errors import SpoolError
from mta.spool.bodies import Body

MOST_MESSAGES = 16  # in one read
MOST_BYTES = 256 * 1024  # in one read, beyond its first message
HELD_BYTES = 8 * 1024 * 1024  # over all queues of a worker
KEPT_S = 5.0  # then it is read anew: an operator may have changed the message

_Key = tuple[int, int]  # spool, number
Done = Callable[[Body | SpoolError], None]


class BodySpool(Protocol):
    """Where bodies lie."""

    def bodies(
        self, messages: Sequence[Message], done: Callable[[list[Body | SpoolError]], None]
    ) -> None: ...


class _Read:
    """A body at hand; with the one that `is_half`, half of those read together are used up."""

    __slots__ = ("at", "body", "cost", "is_half")

    def __init__(self, body: Body, cost: int, at: float, is_half: bool) -> None:
        self.body = body
        self.cost = cost
        self.at = at
        self.is_half = is_half


class ReadAhead:
    """Every body that is asked for comes once, or its error does."""

    def __init__(self, spools: Mapping[int, BodySpool], clock: Clock) -> None:
        self._spools = spools
        self._clock = clock
        self._here: OrderedDict[_Key, _Read] = OrderedDict()
        self._held = 0
        self._coming: dict[_Key, list[Done]] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies nobody has come for yet."""
        return self._held

    def prepare(self, upcoming: Callable[[int], list[Message]]) -> None:
        """A connection opens: read what it sends first while it is greeted."""
        messages = upcoming(MOST_MESSAGES)
        if messages:
            self._read(self._choose(messages[0].spool, messages))

    def take(self, message: Message, upcoming: Callable[[int], list[Message]]) -> Body | None:
        """The body, if it was read before; `upcoming` tells what its queue sends next, for the next read."""
        read = self._here.pop((message.spool, message.number), None)
        if read is None:
            return None
        self._held -= read.cost
        if read.at + KEPT_S < self._clock.now():
            return None
        if read.is_half:
            self._read(self._choose(message.spool, upcoming(2 * MOST_MESSAGES)))
        return read.body

    def fetch(self, message: Message, done: Done, upcoming: Callable[[int], list[Message]]) -> None:
        """Read the body, and what comes after it; `done` hears of this one."""
        key = (message.spool, message.number)
        waiting = self._coming.get(key)
        if waiting is not None:
            waiting.append(done)
            return
        self._coming[key] = [done]  # before the others are chosen: it may be among them once more
        self._read([message, *self._choose(message.spool, upcoming(MOST_MESSAGES))])

    def _choose(self, spool: int, upcoming: list[Message]) -> list[Message]:
        chosen: list[Message] = []
        size = 0
        for message in upcoming:
            key = (message.spool, message.number)
            if message.spool != spool or key in self._here or key in self._coming:
                continue
            size += message.size
            if size > MOST_BYTES or len(chosen) >= MOST_MESSAGES:
                break
            chosen.append(message)
        return chosen

    def _read(self, messages: list[Message]) -> None:
        if not messages:
            return
        for message in messages:
            self._coming.setdefault((message.spool, message.number), [])

        def read(bodies: list[Body | SpoolError]) -> None:
            half, now = len(messages) // 2, self._clock.now()
            for at, (message, body) in enumerate(zip(messages, bodies, strict=True)):
                waiting = self._coming.pop((message.spool, message.number))
                for done in waiting:
                    done(body)
                if not waiting and not isinstance(body, SpoolError):
                    self._put(message, _Read(body, message.size, now, at == half))

        self._spools[messages[0].spool].bodies(messages, read)

    def _put(self, message: Message, read: _Read) -> None:
        self._here[message.spool, message.number] = read
        self._held += read.cost
        while self._held > HELD_BYTES:
            _, dropped = self._here.popitem(last=False)
            self._held -= dropped.cost
