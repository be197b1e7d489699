"""The part of a notice that programs read: fields of the message and of each recipient (RFC 3464 §2, RFC 6533). Pure."""

import re

from mta.mime.headers import CRLF, field
from mta.mime.trace import format_date
from mta.model.escape import escape_controls
from mta.model.event import Attempt
from mta.model.told import Action, Told

MAX_TEXT = 600  # characters of what a host said

_ENCODED = re.compile(r"\+([0-9A-F]{2})")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_CLASSES = {Action.FAILED: "45", Action.DELAYED: "4", Action.RELAYED: "2"}
_UNKNOWN = {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0", Action.RELAYED: "2.0.0"}


def message_fields(
    attempt: Attempt, *, hostname: str, name: str, is_to_sender: bool, utf8: bool
) -> bytes:
    """RFC 3464 §2.2; `name`: the message's id with us. Who is told instead of the sender hears who that was."""
    block = b""
    if attempt.envid:
        block += field("Original-Envelope-Id", decode_xtext(attempt.envid))
    block += field("Reporting-MTA", f"dns; {hostname}")
    block += field("Arrival-Date", format_date(attempt.queued_at).decode())
    if name:
        block += field("X-Sluice-Message-Id", name)
    if not is_to_sender:
        block += _address_field("X-Sluice-Sender", attempt.sender, utf8)
    return block


def recipient_fields(told: Told, *, utf8: bool) -> bytes:
    """RFC 3464 §2.3."""
    attempt = told.attempt
    block = b""
    kind, _, original = attempt.orcpt.partition(";")
    if original:
        shown = decode_xtext(original)
        if utf8 and kind.lower() == "utf-8":
            shown = _EMBEDDED.sub(_as_character, shown)
        block += field("Original-Recipient", f"{kind}; {shown}", utf8=utf8)
    block += _address_field("Final-Recipient", attempt.recipient, utf8)
    block += field("Action", told.action)
    block += field("Status", _status(told))
    if host := as_ascii(attempt.remote_name).strip():
        block += field("Remote-MTA", f"dns; {host}")
    if words := as_ascii(words_of(attempt)).strip():
        # RFC 3464 §2.3.6: `smtp` is what another host said, word for word; of ourselves we speak in words of our own.
        kind = "x-sluice" if attempt.local else "smtp"
        block += field("Diagnostic-Code", f"{kind}; {words}")
    if (
        told.action is not Action.DELAYED
    ):  # of a queue that waits nobody knows when this one was tried
        block += field("Last-Attempt-Date", format_date(attempt.at).decode())
    if told.until:
        block += field("Will-Retry-Until", format_date(told.until).decode())
    return block


def all_fields(
    told: list[Told], *, hostname: str, name: str, is_to_sender: bool, utf8: bool
) -> bytes:
    """The whole part: the message, then a block for each recipient."""
    first = message_fields(
        told[0].attempt, hostname=hostname, name=name, is_to_sender=is_to_sender, utf8=utf8
    )
    return first + b"".join(CRLF + recipient_fields(each, utf8=utf8) for each in told)


def words_of(attempt: Attempt) -> str:
    """What was said last: `550 5.1.1 no such user`."""
    return " ".join(filter(None, (str(attempt.code or ""), attempt.enhanced, attempt.text)))


def as_ascii(text: str) -> str:
    """One line of printable ASCII, not too long."""
    safe = escape_controls(text[:MAX_TEXT])
    return safe.encode("ascii", "backslashreplace").decode("ascii")[:MAX_TEXT]


def decode_xtext(text: str) -> str:
    """RFC 3461 §4; what came in was looked at then, and stands for printable ASCII."""
    return as_ascii(_ENCODED.sub(lambda found: chr(int(found[1], 16)), text))


def _address_field(name: str, address: str, utf8: bool) -> bytes:
    if address.isascii():
        return field(name, f"rfc822; {as_ascii(address)}")
    # RFC 6533 §3: a UTF-8 address is written as it is in a part of UTF-8, in escapes in one of 7 bits.
    shown = "".join(
        char
        if ("!" <= char <= "~" and char not in "+=\\")
        or (utf8 and char > "~" and char.isprintable())
        else f"\\x{{{ord(char):02X}}}"
        for char in address
    )
    return field(name, f"utf-8; {shown}", utf8=utf8)


def _as_character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    char = chr(number) if 0xA0 <= number <= 0x10FFFF else ""
    return char if char.isprintable() and char else found[0]


def _status(told: Told) -> str:
    """RFC 3463; of a host that gives none only the class is known."""
    status = told.attempt.enhanced
    if _STATUS.fullmatch(status) and status[0] in _CLASSES[told.action]:
        return status
    return _UNKNOWN[told.action]
