"""Text of strangers made safe to show: control characters and direction marks become escapes.

What a feeder or a remote host said ends in logs, records, terminals and web pages. A line break
there forges a log line, an escape sequence drives a terminal, a right-to-left mark swaps what the
reader sees (CWE-117, "Trojan Source"). One function, used wherever such text leaves us; the text
itself is kept unchanged in the spool.
"""

import re

# C0, DEL and C1; the marks of direction and those without a shape; U+2028/9, line breaks to some
# readers; lone surrogates, which no UTF-8 encoder takes. Not U+200C and U+200D: names in Persian and
# in Indic scripts are written with them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def escape_controls(text: str) -> str:
    """`text` with each unsafe character as `\\xNN` or `\\uNNNN`; the same object if there is none."""
    # isprintable() is a third faster than the regex, and false for all of _UNSAFE.
    return text if text.isprintable() else _UNSAFE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
