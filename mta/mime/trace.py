"""Trace fields and what a submission must not lack: Received, Date, Message-ID (RFC 5321 §4.4, RFC
5322 §3.6, RFC 6409 §8).

All are whole fields as bytes, ending in CRLF, made of what strangers told us (EHLO name,
recipient): whatever of that does not fit the grammar is left out or replaced, never copied.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

from mta.mime.headers import CRLF, HeaderIndex, field

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# A domain or an address literal, and nothing that ends a comment or begins one.
_EHLO_NAME = re.compile(r"[0-9A-Za-z_.:\[\]-]{1,255}")
_WORD = re.compile(r"[!-'*-~]+")  # printable ASCII without parentheses
_PATH = re.compile(r"[^\x00-\x20\x7f-\x9f<>()\u2028\u2029\ud800-\udfff]{1,512}")
_ID_TEXT = re.compile(r"[0-9A-Za-z!#$%&'*+/=?^_`{|}~.\[\]:-]+")


@lru_cache(maxsize=4)
def _format_second(second: int) -> bytes:
    # Not strftime: its names follow the locale.
    at = datetime.fromtimestamp(second, UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day} {_MONTHS[at.month - 1]} {at.year:04}"
        f" {at.hour:02}:{at.minute:02}:{at.second:02} +0000"
    ).encode("ascii")


def format_date(wall: float) -> bytes:
    """`Mon, 23 Nov 2026 07:41:00 +0000` for seconds since the epoch (RFC 5322 §3.3); made once a
    second.
    """
    return _format_second(int(wall))


def date_field(wall: float) -> bytes:
    """The field `Date: …` for seconds since the epoch by the wall clock."""
    return b"Date: " + _format_second(int(wall)) + CRLF


def message_id(host: str, token: str) -> bytes:
    """The field `Message-ID: <token@host>` (RFC 5322 §3.6.4). Raises ValueError on parts that are
    no dot-atoms.
    """
    if not _ID_TEXT.fullmatch(token) or not _ID_TEXT.fullmatch(host):
        raise ValueError(f"no message id can be made of {token!r} and {host!r}")
    return b"Message-ID: <%b@%b>\r\n" % (token.encode("ascii"), host.encode("ascii"))


@lru_cache(maxsize=1024)
def _received_start(helo: str, ip: str, hostname: str, protocol: str) -> bytes:
    """What all messages of one session share; cached, for checking costs more than writing."""
    # RFC 5321 §4.1.3: an IPv6 literal carries its tag; a mapped IPv4 address is an IPv4 address.
    if ip.startswith("::ffff:") and "." in ip:
        ip = ip[7:]
    literal = f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"
    name = helo if _EHLO_NAME.fullmatch(helo) else "unknown"
    start = field("Received", f"from {name} ({literal}) by {hostname}")
    if not _WORD.fullmatch(protocol):
        raise ValueError(f"{protocol!r} is no protocol name")
    return start + f"\twith {protocol} id ".encode("ascii")


def received_field(
    *,
    helo: str,
    ip: str,
    hostname: str,
    protocol: str,
    token: str,
    wall: float,
    recipient: str = "",
) -> bytes:
    """Our Received field (RFC 5321 §4.4); `wall` is seconds since the epoch by the wall clock.

    `protocol` is ESMTP, ESMTPS, ESMTPA or ESMTPSA (RFC 3848), or HTTP and the like. `recipient`
    only when the message has exactly one (RFC 5321 §7.6: others must not learn of each other); one
    that does not fit is left out. An EHLO name that is none becomes `unknown`. Raises ValueError on
    an `id` or `protocol` that is no word.
    """
    if not _WORD.fullmatch(token):
        raise ValueError(f"{token!r} is no id")
    # RFC 5322 leaves where to fold to us: one thought a line.
    start = _received_start(helo, ip, hostname, protocol)
    if recipient and _PATH.fullmatch(recipient):
        to = b"\r\n\tfor <%b>; " % recipient.encode("utf-8")
    else:
        to = b";\r\n\t"
    return b"%b%b%b%b\r\n" % (start, token.encode("ascii"), to, _format_second(int(wall)))


def count_received(block: bytes | HeaderIndex) -> int:
    """Received fields of a header block, its hops so far (RFC 5321 §6.3: too many are a loop)."""
    index = block if isinstance(block, HeaderIndex) else HeaderIndex(block)
    return index.count(b"received")
