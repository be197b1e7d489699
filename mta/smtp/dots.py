"""The body of a message on the wire: dots stuffed and unstuffed, and what must never be in it.

Only CRLF.CRLF ends DATA (RFC 5321 §4.1.1.4): `<LF>.<LF>`, `<CR>.<CR>`, `<LF>.<CRLF>` and all their
cousins are text, and since a bare CR, bare LF or NUL is what message smuggling is made of
(VU#302671), a message that holds one carries a fault and is not given out. `DotReader` is the
server's way in, `DotWriter` the client's way out; both look through the same `LineWatch`.

How it stays fast. Everything is a bytes method over whole segments. Both directions work on the
text *with the CRLF before it*: the reader starts with the CRLF that ended the DATA line in hand, so
that a dot at the very start needs no case of its own. What might be the beginning of CRLF.CRLF at
the end of a segment is held back (four bytes at most) and put in front of the next one: text that
leaves the reader never ends inside a CRLF, and no result depends on where the stream was cut.
"""

from enum import Enum

from mta.model.errors import Unsayable
from mta.model.reply import Reply
from mta.smtp import replies

MAX_TEXT_LINE = (
    998  # RFC 5321 §4.5.3.1.6 and RFC 5322 §2.1.1: 1000 with its CRLF; a stuffed dot is not counted
)

_CRLF = b"\r\n"
_END = b"\r\n.\r\n"


class DataFault(Enum):
    """Why a message was not taken, the worst first, each with the answer to its dot."""

    TOO_BIG = replies.MESSAGE_TOO_BIG
    BARE_NEWLINE = replies.BARE_NEWLINE
    NUL = replies.NUL_BYTE
    LONG_LINE = replies.TEXT_LINE_TOO_LONG

    @property
    def reply(self) -> Reply:
        """What the server answers."""
        return self.value


class LineWatch:
    """Looks at text piece by piece: every newline must be CRLF, no NUL, no line beyond 998 bytes.

    Pieces must not cut a CRLF in two. `faults` is what was found so far, however it was cut.
    """

    __slots__ = ("_column", "faults")

    def __init__(self) -> None:
        self.faults: set[DataFault] = set()
        self._column = 0  # length so far of the line that the last piece left unfinished

    def look(self, text: bytes) -> None:
        """Look at the next piece (not empty).

        splitlines() knows CR, LF and CRLF, and nothing else: all that it took off were CRLF exactly if
        the lengths add up. With the longest line 4.9 µs for 4 KB and 101 µs for 100 KB; three
        count()s and a search for the longest took 6.7 and 162, a regex 10.7 and 259.
        """
        lengths = list(map(len, text.splitlines()))
        is_open = text[-1] not in b"\r\n"
        if sum(lengths) + 2 * (len(lengths) - is_open) != len(text):
            self.faults.add(DataFault.BARE_NEWLINE)
        lengths[0] += self._column
        self._column = lengths[-1] if is_open else 0
        if max(lengths) > MAX_TEXT_LINE:
            self.faults.add(DataFault.LONG_LINE)
        if b"\0" in text:
            self.faults.add(DataFault.NUL)


class BodyReader:
    """What the ways in share: the text is looked at, counted, and not given out once it is faulty."""

    __slots__ = ("_max_size", "_normalize", "_watch", "size")

    def __init__(self, max_size: int, *, normalize: bool = False) -> None:
        self.size = 0  # bytes of text so far, unstuffed (RFC 1870 §5)
        self._max_size = max_size
        self._normalize = normalize  # a bare CR or LF becomes CRLF instead of a fault
        self._watch = LineWatch()

    @property
    def fault(self) -> DataFault | None:
        """The worst of what is wrong so far."""
        faults = self._watch.faults
        return next(fault for fault in DataFault if fault in faults) if faults else None

    def _inspect(self, text: bytes) -> bytes:
        """The text as it is given out, or b"" once something is wrong with the message."""
        faults = self._watch.faults
        self._watch.look(text)
        if self._normalize and DataFault.BARE_NEWLINE in faults:
            faults.discard(DataFault.BARE_NEWLINE)
            text = _normalized(text)
        self.size += len(text)
        if self.size > self._max_size:
            faults.add(DataFault.TOO_BIG)
        return b"" if faults else text


class DotReader(BodyReader):
    """The body of one message out of the stream: unstuffed text, until CRLF.CRLF.

    After a fault or beyond `max_size` no more text is given out; the rest is still read to its end,
    in bounded memory.
    """

    __slots__ = ("_held", "_skip", "is_over")

    def __init__(self, max_size: int, *, normalize: bool = False) -> None:
        super().__init__(max_size, normalize=normalize)
        self.is_over = False  # the final dot was seen
        self._held = b"\r\n"  # the one that ended the DATA line: see the card
        self._skip = 2  # that one is not part of the text

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The text that `data` completes (b"" for none), and what follows the final dot."""
        data = self._held + data
        # One search for both: most messages have no line that begins with a dot but their last.
        dot = data.find(b"\r\n.")
        end = data.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self.is_over = True
            stop, rest = end + 2, data[end + 5 :]
        else:
            stop, rest = len(data) - _possible_end(data), b""
            self._held = data[stop:]
        if not stop:
            return b"", rest
        if dot < 0 or dot == end:
            text = data[self._skip : stop]
        else:
            text = data[:stop].replace(b"\r\n.", b"\r\n")[self._skip :]
        self._skip = 0
        return (self._inspect(text) if text else b""), rest


class DotWriter:
    """The body of one message onto the wire: stuffed, ended by CRLF, and asserted clean.

    `write` raises Unsayable, and the piece is not sent, for a bare CR or LF, a NUL or a line
    beyond 998 bytes: whatever went wrong before, it goes no further.
    """

    __slots__ = ("_held", "_is_line_start", "_watch")

    def __init__(self) -> None:
        self._held = b""  # a CR whose LF may come with the next piece
        self._is_line_start = True
        self._watch = LineWatch()

    def write(self, data: bytes, *, last: bool, is_checked: bool = False) -> bytes:
        """The wire form of the next piece; the `last` one with what is missing of CRLF.CRLF.

        `is_checked`: this very object went through a LineWatch without a fault, as all text does that
        a DotReader gives out; whole lines of it are not looked at again (100 µs for 100 KB).
        Raises Unsayable.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        if not last and data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        if data:
            if not (is_checked and self._is_line_start and data.endswith(_CRLF)):
                self._assert_clean(data)
            # Nothing but CRLF ends a line here: the assertion above has just seen to it.
            wire = data.replace(b"\r\n.", b"\r\n..")
            if self._is_line_start and data.startswith(b"."):
                wire = b"." + wire
            self._is_line_start = data.endswith(b"\n")
        else:
            wire = b""
        if not last:
            return wire
        return wire + (b".\r\n" if self._is_line_start else _END)

    def _assert_clean(self, data: bytes) -> None:
        faults = self._watch.faults
        self._watch.look(data)
        if faults:
            raise Unsayable(next(fault for fault in DataFault if fault in faults).reply.text)


def stuff(body: bytes) -> bytes:
    """A whole body as it goes on the wire, final dot included.

    Raises Unsayable as DotWriter does.
    """
    return DotWriter().write(body, last=True)


def unstuff(wire: bytes) -> bytes:
    """The body of a whole wire form that ends with its final dot.

    Raises ValueError if it does not, or has a fault.
    """
    reader = DotReader(len(wire))
    body, rest = reader.feed(wire)
    if not reader.is_over or rest:
        raise ValueError("the final dot is not at the end")
    if reader.fault is not None:
        raise ValueError(reader.fault.reply.text)
    return body


def _possible_end(data: bytes) -> int:
    """How many bytes at the end of `data` may be the beginning of CRLF.CRLF."""
    for held in (4, 3, 2, 1):
        if data.endswith(_END[:held]):
            return held
    return 0


def _normalized(text: bytes) -> bytes:
    """`text` with every CR, LF and CRLF made CRLF."""
    ended = text[-1:] in (b"\n", b"\r")
    return b"\r\n".join(text.splitlines()) + (b"\r\n" if ended else b"")
