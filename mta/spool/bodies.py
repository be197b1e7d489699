"""The bodies a worker still has in memory, so that the first attempt does not read back what was just written.

Bounded in bytes, oldest out first, and in time: what has not gone out within seconds will wait for longer, and memory is better
used. A body that is not here is read from the spool. Only what has just passed the door is put
here: its lines were looked at then, and whoever sends it need not do so again.
"""

from collections import OrderedDict

from mta.model.envelope import Message, SpillFile

Body = tuple[bytes, bytes | SpillFile]  # prefix, body
# And, in a cell, how many recipients still need it; when it came.
_Held = tuple[bytes, bytes | SpillFile, list[int], float]

_ROW_BYTES = 300  # what an entry of the dict and its objects cost beside the bytes


class BodyCache:
    """Holds at most `limit_bytes`; an entry leaves with its last recipient."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._bodies: OrderedDict[tuple[int, int], _Held] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        return self._held

    def put(
        self, message: Message, prefix: bytes, body: bytes | SpillFile, recipients: int
    ) -> None:
        """Remember a body that so many recipients need; older ones make room."""
        self._bodies[message.spool, message.number] = (
            prefix,
            body,
            [recipients],
            message.received_at,
        )
        self._held += _cost(prefix, body)
        while self._held > self._limit and self._bodies:
            self._drop_oldest()

    def forget_before(self, at: float) -> int:
        """Let go of what came before that time; how many bytes that were."""
        held = self._held
        while self._bodies and next(iter(self._bodies.values()))[3] < at:
            self._drop_oldest()
        return held - self._held

    def _drop_oldest(self) -> None:
        _, dropped = self._bodies.popitem(last=False)
        self._held -= _cost(dropped[0], dropped[1])

    def get(self, message: Message) -> Body | None:
        """The message's prefix and body, if still here."""
        held = self._bodies.get((message.spool, message.number))
        return None if held is None else (held[0], held[1])

    def release(self, message: Message) -> None:
        """One recipient less needs it; with the last it leaves."""
        key = (message.spool, message.number)
        held = self._bodies.get(key)
        if held is None:
            return
        held[2][0] -= 1
        if held[2][0] <= 0:
            del self._bodies[key]
            self._held -= _cost(held[0], held[1])


def _cost(prefix: bytes, body: bytes | SpillFile) -> int:
    return _ROW_BYTES + len(prefix) + (len(body) if isinstance(body, bytes) else 0)
