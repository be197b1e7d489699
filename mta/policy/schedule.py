"""Mail that is not to go before a time its sender names: in `X-Deliver-After`, or in MAIL (RFC 4865). Pure.

A time in the past means now; one beyond the listener's limit is refused, so that no mail is kept for ever.
"""

from datetime import datetime

HEADER = b"x-deliver-after"  # taken out before the message is signed


def parse_time(text: str) -> float:
    """Seconds since the epoch, of `2026-12-24T18:00:00+01:00` (RFC 3339) or `1798131600`. Raises ValueError."""
    text = text.strip()
    if text.isascii() and text.isdecimal() and len(text) <= 12:
        return float(text)
    # fromisoformat takes more than RFC 3339: a date alone, a time without an offset.
    if len(text) > 40 or text[10:11] not in ("T", "t", " "):
        raise ValueError(f"{text[:40]!r} is no time like 2026-12-24T18:00:00Z")
    found = datetime.fromisoformat(text.upper())
    if found.tzinfo is None:
        raise ValueError(f"{text!r} lacks its offset from UTC, like Z or +01:00")
    return found.timestamp()
