"""The body of a message that comes in by BDAT: octets that are counted, not searched for an end.

Nothing is stuffed and no text ends the message, so what DATA would need guessing for is plain here.
The text itself obeys the same rules: every newline is CRLF, no NUL, no line beyond 998 bytes
(RFC 3030 §3: without BINARYMIME it is text as for DATA). A CRLF may stand across two pieces, or two
BDAT commands; a CR at the end of a piece is therefore held until the next. Text without a CRLF at
its very end gets one, so that what is stored does not tell by which command it came.

RFC 3030 §2.
"""

from mta.smtp.dots import BodyReader, DataFault

_CRLF = b"\r\n"


class OctetReader(BodyReader):
    """The body of one message out of the octets of its BDAT commands.

    After a fault or beyond `max_size` no more text is given out; the octets are still taken.
    """

    __slots__ = ("_ends_line", "_held")

    def __init__(self, max_size: int, *, normalize: bool = False) -> None:
        super().__init__(max_size, normalize=normalize)
        self._held = b""  # a CR whose LF may come with the next octets
        self._ends_line = True

    def announce(self, size: int) -> None:
        """So many octets follow: what would be too big is so before it is read."""
        if self.size + len(self._held) + size > self._max_size:
            self._watch.faults.add(DataFault.TOO_BIG)

    def feed(self, data: bytes) -> bytes:
        """The text that `data` (not empty) completes, b"" for none."""
        if self._held:
            data = self._held + data
            self._held = b""
        if data[-1:] == b"\r":
            data, self._held = data[:-1], b"\r"
        return self._give_out(data) if data else b""

    def finish(self) -> bytes:
        """What is still missing of the text once all octets are here; called again, nothing."""
        held, self._held = self._held, b""
        text = self._give_out(held) if held else b""
        if self._ends_line or self.fault is not None:
            return text
        self._ends_line = True
        self.size += len(_CRLF)
        return text + _CRLF

    def _give_out(self, data: bytes) -> bytes:
        text = self._inspect(data)
        if text:
            self._ends_line = text.endswith(b"\n")
        return text
