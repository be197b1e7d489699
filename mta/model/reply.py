"""SMTP replies: what they said to us, and the table of what we say (RFC 5321 §4.2, RFC 3463)."""

import re
from dataclasses import dataclass

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:[ \t]+|$)")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: code, enhanced status ("5.7.1", or "" where none was given), text lines without either."""

    code: int
    enhanced: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines joined by blanks, as records and notices show them."""
        return " ".join(self.lines)

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 400

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    def __str__(self) -> str:
        parts = (str(self.code), self.enhanced, self.text)
        return " ".join(part for part in parts if part)

    def encode(self) -> bytes:
        """The reply as bytes for the wire: each line `code[- ][enhanced ]text CRLF`."""
        enhanced = self.enhanced + " " if self.enhanced else ""
        if len(self.lines) == 1:
            return f"{self.code} {enhanced}{self.lines[0]}\r\n".encode("utf-8", "replace")
        last = len(self.lines) - 1
        return "".join(
            f"{self.code}{'-' if n < last else ' '}{enhanced}{line}\r\n"
            for n, line in enumerate(self.lines)
        ).encode("utf-8", "replace")


def split_enhanced(code: int, lines: tuple[str, ...]) -> Reply:
    """Make a Reply of raw text lines, taking the enhanced status off each line that repeats it.

    RFC 2034 §4: the status stands at the start of every line, and its class is the code's first digit.
    """
    found = _ENHANCED.match(lines[0]) if lines else None
    if found is None or int(found.group(1)) != code // 100:
        return Reply(code, "", lines)
    enhanced = ".".join(found.groups())
    return Reply(
        code,
        enhanced,
        tuple(
            line[len(enhanced) :].lstrip(" \t") if line.startswith(enhanced) else line
            for line in lines
        ),
    )


def a_reply(code: int, enhanced: str, text: str) -> Reply:
    """One line of the table below."""
    return Reply(code, enhanced, (text,))
