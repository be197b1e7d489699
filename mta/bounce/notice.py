"""Writes a notice: the message that tells a sender what became of recipients. Pure.

Three parts (RFC 6522): words for people, fields for programs (RFC 3464), and the header of the message, or all of it. What hosts
and senders said is made safe first. One notice tells of every recipient of a message within a short time. Mail that needed
SMTPUTF8 is told of in the forms of RFC 6533, all other in ASCII; either way a notice is 7-bit – but for the 8-bit message that
its sender wants back whole – and reaches every host. A digest tells of many messages, and returns none of them.
"""

import binascii
from base64 import encodebytes
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from itertools import groupby

from mta.bounce.reports import all_fields, as_ascii, words_of
from mta.bounce.wording import Wording
from mta.mime.headers import CRLF, MAX_LINE, field, header_length
from mta.mime.trace import format_date
from mta.model.escape import escape_controls
from mta.model.told import Action, Told

MAX_TOLD = 1000  # recipients in one notice; the others are told in the next
MAX_TEXT = 600  # characters of what a host said
MAX_SHOWN = 100  # recipients in the part for people; the part for programs has all

_PLAIN_BYTES = bytes(byte if byte == 9 or 31 < byte < 127 else 63 for byte in range(256))  # else ?


@dataclass(frozen=True, slots=True)
class Returned:
    """The message a notice is about: its beginning, whether that is all, the sender's wish (RET), if it needed SMTPUTF8."""

    content: bytes
    is_whole: bool
    ret: str  # "", "FULL" or "HDRS"
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Heading:
    """Who writes to whom, when, and in which language. `token` makes the boundary one of its own."""

    to: str
    hostname: str
    wording: Wording
    token: str
    wall: float


@dataclass(frozen=True, slots=True)
class _Part:
    kind: str
    encoding: str
    content: bytes
    language: str = ""


def compose_notice(
    told: Sequence[Told], returned: Returned, heading: Heading, *, name: str = ""
) -> bytes:
    """The notice of these recipients, which are of one message; `name` is its id with us.

    Raises ValueError if there is nothing to tell.
    """
    if not told:
        raise ValueError("a notice tells of one recipient at least")
    by_action = {action: [each for each in told if each.action is action] for action in Action}
    words = heading.wording
    subjects = {
        Action.FAILED: words.subject_failed,
        Action.DELAYED: words.subject_delayed,
        Action.RELAYED: words.subject_relayed,
    }
    worst = next(action for action in Action if by_action[action])
    parts = [
        _for_people(_notice_lines(by_action, told, heading), words),
        _for_programs(list(told), heading, name, utf8=returned.utf8),
        _returned(returned),
    ]
    return _assemble(
        heading,
        subjects[worst],
        "report; report-type=delivery-status",
        parts,
    )


def compose_digest(told: Sequence[Told], names: Sequence[str], heading: Heading) -> bytes:
    """One message of recipients of many messages; `names` has the id of each recipient's message with us.

    RFC 3464 §2: a report speaks of one message, so each has a part of its own. Raises ValueError if there is nothing to tell.
    """
    if not told:
        raise ValueError("a digest tells of one recipient at least")
    by_message = [
        (name, [each for _, each in group])
        for name, group in groupby(
            sorted(zip(names, told, strict=True), key=lambda pair: pair[0]), lambda pair: pair[0]
        )
    ]
    words = heading.wording
    lines = [
        words.opening.format(host=heading.hostname),
        "",
        words.digest.format(recipients=len(told), messages=len(by_message)),
        "",
    ]
    shown = 0
    for name, group in by_message:
        if shown >= MAX_SHOWN:
            break
        date = _date(group[0].attempt.queued_at)
        lines += [words.message.format(id=name, date=date)]
        lines += [
            line for each in group[: MAX_SHOWN - shown] for line in _recipient_lines(each, words)
        ]
        lines += [""]
        shown += len(group)
    if len(told) > MAX_SHOWN:
        lines += [words.more.format(count=len(told) - MAX_SHOWN), ""]
    parts = [_for_people(lines, words)]
    parts += [_for_programs(group, heading, name, utf8=False) for name, group in by_message]
    return _assemble(heading, words.subject_digest, "mixed", parts)


def _assemble(heading: Heading, subject: str, kind: str, parts: Sequence[_Part]) -> bytes:
    boundary = _boundary(heading.token, parts)
    is_8_bit = any(part.encoding == "8bit" for part in parts)
    head = (
        field("From", f"Mail Delivery System <postmaster@{heading.hostname}>")
        + field("To", f"<{heading.to}>", utf8=True)
        + field("Subject", _encode_words(subject))
        + b"Date: %b\r\n" % format_date(heading.wall)
        + field("Auto-Submitted", "auto-replied")  # RFC 3834 §5: no robot answers it
        + field("MIME-Version", "1.0")
        + field("Content-Type", f'multipart/{kind}; boundary="{boundary}"')
        + (field("Content-Transfer-Encoding", "8bit") if is_8_bit else b"")
    )
    opening = b"--%b\r\n" % boundary.encode()
    body = b"".join(
        opening
        + field("Content-Type", part.kind)
        + field("Content-Transfer-Encoding", part.encoding)
        + (field("Content-Language", part.language) if part.language else b"")
        + CRLF
        + part.content
        + CRLF
        for part in parts
    )
    return head + CRLF + body + b"--%b--\r\n" % boundary.encode()


def _notice_lines(
    by_action: dict[Action, list[Told]], told: Sequence[Told], heading: Heading
) -> list[str]:
    words = heading.wording
    lines = [words.opening.format(host=heading.hostname), ""]
    sender = told[0].attempt.sender
    if heading.to != sender:
        lines += [words.sender.format(sender=f"<{_shown(sender)}>"), ""]
    until = max((each.until for each in told), default=0.0)
    texts = {
        Action.FAILED: (words.failed, words.failed_end),
        Action.DELAYED: (words.delayed, words.delayed_end.format(until=_date(until))),
        Action.RELAYED: (words.relayed, ""),
    }
    for action, group in by_action.items():
        if not group:
            continue
        beginning, end = texts[action]
        lines += [beginning, ""]
        for each in group[:MAX_SHOWN]:
            lines += [*_recipient_lines(each, words), ""]
        if len(group) > MAX_SHOWN:
            lines += [words.more.format(count=len(group) - MAX_SHOWN), ""]
        if end:
            lines += [end, ""]
    return lines


def _recipient_lines(told: Told, words: Wording) -> list[str]:
    attempt = told.attempt
    lines = [f"<{_shown(attempt.recipient)}>"]
    if told.action is Action.RELAYED:
        return lines
    if attempt.remote_name and not attempt.local:
        lines.append(f"    {words.said.format(host=_shown(attempt.remote_name))}")
    return [*lines, f"    {_shown(words_of(attempt))}"]


def _for_people(lines: list[str], words: Wording) -> _Part:
    """RFC 2045: text that is not ASCII is encoded, as words where most of it is ASCII, else as a block."""
    text = "\r\n".join(lines)
    data = text.encode("utf-8")
    if data.isascii() and max(map(len, data.split(CRLF))) <= MAX_LINE:
        return _Part("text/plain; charset=us-ascii", "7bit", data, words.language)
    kind = "text/plain; charset=utf-8"
    if len(data) - len(text) > len(text) // 2:
        block = encodebytes(data).replace(b"\n", CRLF)
        return _Part(kind, "base64", block, words.language)
    return _Part(kind, "quoted-printable", _quote(data), words.language)


def _for_programs(told: list[Told], heading: Heading, name: str, *, utf8: bool) -> _Part:
    fields = all_fields(
        told,
        hostname=heading.hostname,
        name=as_ascii(name),
        is_to_sender=heading.to == told[0].attempt.sender,
        utf8=utf8,
    )
    if utf8:
        # RFC 6533 §4: it may be encoded, and then needs no SMTPUTF8 on the way.
        return _Part("message/global-delivery-status", "quoted-printable", _quote(fields))
    return _Part("message/delivery-status", "7bit", fields)


def _returned(returned: Returned) -> _Part:
    """The last part: all of the message where its sender wants that and it fits, else its header."""
    content = returned.content
    lines = content.split(CRLF)
    is_clean = max(map(len, lines)) <= MAX_LINE and not any(b"\r" in x or b"\n" in x for x in lines)
    if returned.ret == "FULL" and returned.is_whole and is_clean:
        if returned.utf8:
            return _Part("message/global", "quoted-printable", _quote(content))
        return _Part("message/rfc822", "7bit" if content.isascii() else "8bit", content)
    header = content[: header_length(content)]
    if returned.utf8:
        return _Part("message/global-headers", "quoted-printable", _quote(header))
    plain = CRLF.join(line.translate(_PLAIN_BYTES) for line in header.split(CRLF))
    if max(map(len, plain.split(CRLF))) > MAX_LINE:
        return _Part("text/rfc822-headers", "quoted-printable", _quote(plain))
    return _Part("text/rfc822-headers", "7bit", plain)


def _boundary(token: str, parts: Sequence[_Part]) -> str:
    """A boundary that stands in none of the parts."""
    boundary = f"=_{token}"
    while any(boundary.encode() in part.content for part in parts):
        boundary += "_"
    return boundary


def _quote(data: bytes) -> bytes:
    """Quoted-printable, line by line: whatever stands in a line, it stays one line of the text."""
    return CRLF.join(
        binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in data.split(CRLF)
    )


def _encode_words(text: str) -> str:
    """RFC 2047; `field` folds between the words."""
    if text.isascii():
        return text
    return " ".join(Header(text, "utf-8", maxlinelen=60).encode().split())


def _shown(text: str) -> str:
    """Text of strangers for people: one line, nothing invisible, not too long."""
    return escape_controls(text[:MAX_TEXT])[:MAX_TEXT]


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
