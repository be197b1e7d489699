"""What a message says of itself that bears on telling its sender: a robot wrote it, or it is a report itself. Pure.

RFC 3834 §2 (Auto-Submitted, Precedence), RFC 6522 (multipart/report).
"""

from mta.mime.headers import HeaderIndex

_BULK = (b"bulk", b"list", b"junk")


def is_automatic(header: HeaderIndex) -> bool:
    """Nobody waits for news of it: it was sent by a program, or to a list.

    Failures are told all the same: who sends by program wants its dead addresses.
    """
    submitted = _first_word(header.find(b"auto-submitted"))
    precedence = _first_word(header.find(b"precedence"))
    return submitted not in (b"", b"no") or precedence in _BULK


def is_report(header: HeaderIndex) -> bool:
    """It is a notice itself, ours or another's, whatever its envelope says: nothing is told of it (RFC 3464 §2)."""
    return _first_word(header.find(b"content-type")) == b"multipart/report"


def _first_word(value: bytes | None) -> bytes:
    words = (value or b"").lower().replace(b";", b" ").split()
    return words[0] if words else b""
