"""The dialogue of a client with a server, as lines fit to be shown: what passes by is read, nothing is kept or changed.

Commands and replies are shown; a body is only counted, and what follows AUTH is told as secret. Bytes that are no text, and
control characters, are escaped. Whatever comes, at most `MAX_LINE` bytes of a line are kept.
"""

from mta.model.escape import escape_controls

MAX_LINE = 1000  # bytes that are shown
_END = b"\r\n.\r\n"
SECRET = "(secret)"


class Dialogue:
    """Both directions of one connection, from wherever it is first listened to.

    Joined in the middle of a body, it takes the rest of that for commands: `in_body` says that one is under way.
    """

    def __init__(self, *, in_body: bool = False) -> None:
        self._in_body = in_body
        self._body_bytes = 0
        self._tail = b"\r\n" if not in_body else b""  # the last bytes of the body, for its end
        self._is_auth = False  # what the client says is secret
        self._out = _Lines()
        self._in = _Lines()

    def sent(self, data: bytes) -> list[str]:
        """What the client says, line by line."""
        shown: list[str] = []
        while data:
            if self._in_body:
                data, line = self._pass_body(data)
                shown += line
                continue
            end = data.find(b"\n") + 1 or len(data)
            line_ = self._out.take(data[:end])
            data = data[end:]
            if line_ is not None:
                shown.append(self._command(line_))
        return shown

    def received(self, data: bytes) -> list[str]:
        """What the server says, line by line."""
        shown: list[str] = []
        for piece in data.splitlines(keepends=True):
            line = self._in.take(piece)
            if line is None:
                continue
            shown.append(_text(line))
            if line[3:4] != b"-":
                self._is_auth = line[:3] == b"334"
                if line[:3] == b"354":
                    self._in_body, self._body_bytes, self._tail = True, 0, b"\r\n"
        return shown

    def _command(self, line: bytes) -> str:
        if self._is_auth:
            return SECRET
        if line[:5].upper() == b"AUTH ":
            mechanism, _, initial = line[5:].partition(b" ")
            return f"AUTH {_text(mechanism)}" + (f" {SECRET}" if initial else "")
        return _text(line)

    def _pass_body(self, data: bytes) -> tuple[bytes, list[str]]:
        """What stands behind the body's end, and the line that tells of it."""
        joined = self._tail + data
        at = joined.find(_END)
        if at < 0:
            self._body_bytes += len(data)
            self._tail = joined[-4:]
            return b"", []
        used = at + len(_END) - len(self._tail)
        total = self._body_bytes + used
        self._in_body = False
        return data[used:], [f"({total} bytes of message, with its dot)"]


class _Lines:
    """The beginning of each line, however it is cut."""

    def __init__(self) -> None:
        self._line = b""
        self._cut = False

    def take(self, piece: bytes) -> bytes | None:
        """The line if this ends it."""
        room = MAX_LINE - len(self._line)
        text = piece.rstrip(b"\r\n")
        self._cut = self._cut or len(text) > room
        self._line += text[: max(0, room)]
        if not piece.endswith(b"\n"):
            return None
        line, self._line = self._line, b""
        if self._cut:
            line, self._cut = line + " …".encode(), False
        return line


def _text(line: bytes) -> str:
    return escape_controls(line.decode("utf-8", "backslashreplace"))
