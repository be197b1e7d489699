"""Bounded lines out of a stream, however it is cut.

O(n) in time, and never more than the limit and one segment in memory.
Serves both roles. A line ends with CRLF and nothing else (RFC 5321 §2.3.8); a bare LF ends it too,
so that the dialogue can go on, but is reported, so that the server can refuse what came before it.
A line beyond the limit is thrown away as it comes and reported when its end is seen: the reader has
no opinion on what is answered.

Bytes that are no lines – the body after DATA, a ClientHello – are taken out whole with `take_all`
and may be given back.
"""

_CR = 13


class BadLine(ValueError):
    """What came is no line of ours; the reader stands behind it and can go on."""


class LineTooLong(BadLine):
    """More bytes than the limit before the LF (RFC 5321 §4.5.3.1.4)."""


class BareLineFeed(BadLine):
    """The line ends with LF alone."""


class LineReader:
    """What was received and not yet read; `next_line` cuts lines off its front.

    Invariant: no LF stands in the buffer before `_searched`.
    """

    __slots__ = ("_at", "_buffer", "_discarding", "_limit", "_searched", "_takes_bare_lf")

    def __init__(self, limit: int, *, takes_bare_lf: bool = False) -> None:
        self._limit = limit  # bytes of a line, its CRLF included
        self._takes_bare_lf = takes_bare_lf
        self._buffer = b""
        self._at = 0
        self._searched = 0
        self._discarding = False

    def __len__(self) -> int:
        """Bytes waiting."""
        return len(self._buffer) - self._at

    @property
    def is_overlong(self) -> bool:
        """Whether the line that is coming is too long already."""
        return self._discarding

    @property
    def is_busy(self) -> bool:
        """Whether anything waits, or a part of a line that is being thrown away."""
        return self._discarding or self._at < len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        if self._at == len(self._buffer):
            self._buffer = data
            self._at = self._searched = 0
        else:
            self._searched -= self._at
            self._buffer = self._buffer[self._at :] + data
            self._at = 0

    def next_line(self) -> bytes | None:
        """The next line without its CRLF, or None until its end is here. Raises BadLine."""
        buffer = self._buffer
        if self._searched == len(buffer):
            return None  # nothing came since we looked: every other call ends here
        start = self._at
        end = buffer.find(b"\n", self._searched)
        if end < 0:
            self._wait()
            return None
        self._at = self._searched = end + 1
        if self._discarding or end + 1 - start > self._limit:
            self._discarding = False
            raise LineTooLong
        if end > start and buffer[end - 1] == _CR:
            return buffer[start : end - 1]
        if self._takes_bare_lf:
            return buffer[start:end]
        raise BareLineFeed

    def take_all(self) -> bytes:
        """Everything that waits, as it came; the reader is empty then."""
        data = self._buffer[self._at :] if self._at else self._buffer
        self._buffer = b""
        self._at = self._searched = 0
        return data

    def take(self, limit: int) -> bytes:
        """What waits, `limit` bytes at most, as it came."""
        data = self._buffer[self._at : self._at + limit]
        self._at += len(data)
        self._searched = max(self._searched, self._at)
        return data

    def _wait(self) -> None:
        """No LF yet: remember how far we looked, and hoard no line that is too long already."""
        self._searched = len(self._buffer)
        if self._discarding or len(self._buffer) - self._at > self._limit:
            self._discarding = True
            self._buffer = b""
            self._at = self._searched = 0
