"""Gathers the bytes of one message: in memory while it is small, in a spill file beyond `SPILL_AT`.

All unfinished DATA of a worker together stays within `intake_memory`: a message spills early when memory is tight, and
reading pauses while the writer of spill files is behind. So a pause always ends: what it waits for is a disk, not a client.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from mta.mime.headers import CRLF
from mta.model.envelope import SpillFile

SPILL_AT = 1_048_576
# With this share of the budget in use, any message spills once it has its header: memory stays for small ones.
TIGHT = 0.75
SMALL_CHUNK = 1024  # a client may send byte by byte; pieces below this are put together
SPILL_AT_WHEN_TIGHT = 327_680  # beyond the largest header: a message spills with its header whole


class Spill(Protocol):
    """A file of the spool being written (`mta.spool.spill`)."""

    def write(self, data: bytes, written: Callable[[], None] | None = None) -> None: ...

    def finish(self, done: Callable[[SpillFile | BaseException], None]) -> None: ...

    def discard(self) -> None: ...


class IntakeMemory:
    """The bytes of unfinished DATA of a worker, and who waits for them to shrink."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def held_bytes(self) -> int:
        return self._held

    @property
    def is_full(self) -> bool:
        return self._held >= self._limit

    @property
    def is_tight(self) -> bool:
        return self._held >= self._limit * TIGHT

    def take(self, size: int) -> None:
        """These bytes are held now; the caller looks at `is_full` and pauses its client."""
        self._held += size

    def give(self, size: int) -> None:
        """These bytes are gone; those who wait go on."""
        self._held -= size
        while self._waiting and not self.is_full:
            self._waiting.popleft()()

    def wait(self, resume: Callable[[], None]) -> None:
        """Call `resume` once there is room again."""
        self._waiting.append(resume)


class Collector:
    """One message on its way in. Ends with exactly one of `finish` and `discard`."""

    __slots__ = ("_chunks", "_memory", "_new_spill", "_on_spill", "_spill", "_tail", "held", "size")

    def __init__(
        self,
        memory: IntakeMemory,
        new_spill: Callable[[], Spill],
        on_spill: Callable[[bytes], bytes],
    ) -> None:
        """`on_spill` is given what was gathered until the message spills, then every later chunk; it returns what to write."""
        self._memory = memory
        self._new_spill = new_spill
        self._on_spill = on_spill
        self._chunks: list[bytes] = []
        self._spill: Spill | None = None
        self._tail = b""  # what is too small to be written alone
        self.held = 0
        self.size = 0

    @property
    def has_spilled(self) -> bool:
        return self._spill is not None

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the message (dots already unstuffed)."""
        size = len(chunk)
        self.size += size
        if self._spill is not None:
            self._tail = self._tail + chunk if self._tail else chunk
            if len(self._tail) >= SMALL_CHUNK:
                self._write_tail()
            return
        chunks = self._chunks
        if size < SMALL_CHUNK and chunks and len(chunks[-1]) < SMALL_CHUNK:
            chunks[-1] += chunk  # a byte in an object of its own would cost forty
        else:
            chunks.append(chunk)
        self.held += size
        self._memory.take(size)
        if self.held > SPILL_AT or (self._memory.is_tight and self._may_spill()):
            self._begin_spill()

    def _may_spill(self) -> bool:
        """Whether the header is here whole; one that ends just between two chunks is seen by the size alone."""
        return self.held > SPILL_AT_WHEN_TIGHT or any(CRLF + CRLF in each for each in self._chunks)

    def content(self) -> bytes:
        """All of a message that did not spill."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def finish(self, done: Callable[[SpillFile | BaseException], None]) -> None:
        """Sync the spill file; `done` gets it, or the error that kept it from the disk."""
        assert self._spill is not None
        if self._tail:
            self._write_tail()
        self._spill.finish(done)

    def release(self) -> None:
        """The gathered bytes are no longer held as unfinished DATA."""
        held, self.held = self.held, 0
        self._chunks = []
        if held:
            self._memory.give(held)

    def discard(self) -> None:
        """The message comes to nothing: free memory and remove the file."""
        self.release()
        if self._spill is not None:
            self._spill.discard()
            self._spill = None

    def _begin_spill(self) -> None:
        gathered = self.content()
        kept = self._on_spill(gathered)
        self._spill = self._new_spill()
        self.release()
        if kept:
            self._write(kept)

    def _write_tail(self) -> None:
        tail, self._tail = self._tail, b""
        self._write(self._on_spill(tail))

    def _write(self, data: bytes) -> None:
        assert self._spill is not None
        size = len(data)
        self._memory.take(size)
        memory = self._memory
        self._spill.write(data, lambda: memory.give(size))
