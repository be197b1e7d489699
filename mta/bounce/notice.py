"""Writes a notice: the message that tells a sender which recipients failed. Pure.

Three parts (RFC 6522): words for people, fields for programs (RFC 3464), and the header of the message, or all of it. What
hosts and senders said is made safe and ASCII first: a notice reaches every host, whatever it offers. One notice tells of every
recipient that failed within a short time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mta.mime.headers import CRLF, field, header_length
from mta.mime.trace import format_date
from mta.model.escape import escape_controls
from mta.model.event import Attempt

MAX_TOLD = 1000  # failures in one notice; the others are told in the next
MAX_TEXT = 600  # characters of what a host said
MAX_SHOWN = 100  # recipients in the part for people; the part for programs has all

_ENCODED = re.compile(r"\+([0-9A-F]{2})")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Returned:
    """The message a notice is about: its beginning, whether that is all of it, and the sender's wish (RET)."""

    content: bytes
    is_whole: bool
    ret: str  # "", "FULL" or "HDRS"


def compose_notice(
    failures: Sequence[Attempt], returned: Returned, *, hostname: str, token: str, wall: float
) -> bytes:
    """The notice to the sender of these failures, which are of one message. `token` makes its boundary one of its own.

    Raises ValueError if there is nothing to tell.
    """
    if not failures:
        raise ValueError("a notice tells of one failure at least")
    boundary = _boundary(token, returned.content)
    count = f"{len(failures)} recipients" if len(failures) > 1 else "1 recipient"
    kind, encoding, content = _returned(returned)
    head = (
        field("From", f"Mail Delivery System <postmaster@{hostname}>")
        + field("To", f"<{failures[0].sender}>", utf8=True)
        + field("Subject", f"Not delivered: {count}")
        + b"Date: %b\r\n" % format_date(wall)
        + field("Auto-Submitted", "auto-replied")  # RFC 3834 §5: no robot answers it
        + field("MIME-Version", "1.0")
        + field(
            "Content-Type",
            f'multipart/report; report-type=delivery-status; boundary="{boundary}"',
        )
        + (field("Content-Transfer-Encoding", encoding) if encoding != "7bit" else b"")
    )
    parts = (
        ("text/plain; charset=us-ascii", "7bit", _for_people(failures, hostname)),
        ("message/delivery-status", "7bit", _for_programs(failures, hostname)),
        (kind, encoding, content),
    )
    opening = b"--%b\r\n" % boundary.encode()
    body = b"".join(
        opening
        + field("Content-Type", type_)
        + field("Content-Transfer-Encoding", coding)
        + CRLF
        + text
        + CRLF
        for type_, coding, text in parts
    )
    return head + CRLF + body + b"--%b--\r\n" % boundary.encode()


def _for_people(failures: Sequence[Attempt], hostname: str) -> bytes:
    lines = [
        f"This is the mail server {hostname}.",
        "",
        "Your message could not be delivered to:",
        "",
    ]
    for failure in failures[:MAX_SHOWN]:
        lines += [f"<{_ascii(failure.recipient)}>", f"    {_said(failure)}", ""]
    if len(failures) > MAX_SHOWN:
        lines += [f"... and {len(failures) - MAX_SHOWN} more; the next part names all of them.", ""]
    lines += ["It will not be tried again for them.", ""]
    return "\r\n".join(lines).encode("ascii")


def _said(failure: Attempt) -> str:
    words = _ascii(f"{failure.code} {failure.enhanced} {failure.text}".replace("  ", " "))
    if failure.local:
        return words
    return f"{_ascii(failure.remote_name) or 'the host'} said: {words}"


def _for_programs(failures: Sequence[Attempt], hostname: str) -> bytes:
    """RFC 3464 §2.2 and §2.3: fields of the message, then a block for each recipient."""
    first = failures[0]
    block = field("Reporting-MTA", f"dns; {hostname}")
    if first.envid:
        block += field("Original-Envelope-Id", _decode_xtext(first.envid))
    block += field("Arrival-Date", format_date(first.queued_at).decode())
    return block + b"".join(CRLF + _of_recipient(failure) for failure in failures)


def _of_recipient(failure: Attempt) -> bytes:
    block = b""
    kind, _, original = failure.orcpt.partition(";")
    if original:
        block += field("Original-Recipient", f"{kind}; {_decode_xtext(original)}")
    block += field("Final-Recipient", _final(failure.recipient))
    block += field("Action", "failed")
    block += field("Status", _status(failure))
    if failure.remote_name:
        block += field("Remote-MTA", f"dns; {_ascii(failure.remote_name)}")
    words = _ascii(f"{failure.code} {failure.enhanced} {failure.text}".replace("  ", " "))
    # RFC 3464 §2.3.6: `smtp` is what another host said, word for word; of ourselves we speak in words of our own.
    block += field("Diagnostic-Code", f"{'x-sluice' if failure.local else 'smtp'}; {words}")
    return block + field("Last-Attempt-Date", format_date(failure.at).decode())


def _final(recipient: str) -> str:
    if recipient.isascii():
        return f"rfc822; {recipient}"
    # RFC 6533 §3: in a part that is 7-bit, a UTF-8 address is written in escapes.
    shown = "".join(char if "!" <= char <= "~" else f"\\x{{{ord(char):X}}}" for char in recipient)
    return f"utf-8; {shown}"


def _status(failure: Attempt) -> str:
    """RFC 3463; of a host that gives none only the class is known."""
    return failure.enhanced if _STATUS.fullmatch(failure.enhanced) else "5.0.0"


def _returned(returned: Returned) -> tuple[str, str, bytes]:
    """The last part: its type, its encoding and its bytes."""
    content = returned.content
    if returned.ret == "FULL" and returned.is_whole:
        return "message/rfc822", "7bit" if content.isascii() else "8bit", content
    header = content[: header_length(content)]
    if not header.isascii():
        header = bytes(byte if byte < 128 else 63 for byte in header)  # 63: a question mark
    return "text/rfc822-headers", "7bit", header


def _boundary(token: str, content: bytes) -> str:
    """A boundary that no line of the content begins with."""
    boundary = f"=_{token}"
    while boundary.encode() in content:
        boundary += "_"
    return boundary


def _decode_xtext(text: str) -> str:
    """RFC 3461 §4; what came in was looked at then, and stands for printable ASCII."""
    return _ascii(_ENCODED.sub(lambda found: chr(int(found[1], 16)), text))


def _ascii(text: str) -> str:
    """One line of printable ASCII, not too long."""
    safe = escape_controls(text[:MAX_TEXT])
    return safe.encode("ascii", "backslashreplace").decode("ascii")[:MAX_TEXT]
