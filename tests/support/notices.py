"""Notices for tests: what is told, a notice of it, and a reader that holds one against the grammar of its RFCs, field by field.

Written from RFC 3464, RFC 6522 and RFC 6533, without anything of ours.
"""

import email
import re
from email.message import Message
from typing import Any

from mta.bounce.notice import Heading, Returned, compose_notice
from mta.config.notice_texts import shipped_wordings
from mta.model.event import Attempt
from mta.model.told import Action, Told

CONTENT = b"Received: from here\r\nSubject: hello\r\nMessage-ID: <1@a.example>\r\n\r\nbody\r\n"

_DATE = (
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4}"
    r" \d\d:\d\d:\d\d [+-]\d{4}"
)
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_TYPED = rf"{_ATOM} ?; ?\S.*"
# RFC 3464 §2.2, §2.3: how often a field may stand in its block, and what it holds.
_OF_MESSAGE = {
    "original-envelope-id": (0, r"\S.*"),
    "reporting-mta": (1, r"dns; [a-z0-9.-]+"),
    "arrival-date": (0, _DATE),
    "x-sluice-message-id": (0, r"[0-9a-f]{8}-\d+"),
    "x-sluice-sender": (0, _TYPED),
}
_OF_RECIPIENT = {
    "original-recipient": (0, _TYPED),
    "final-recipient": (1, _TYPED),
    "action": (1, r"failed|delayed|delivered|relayed|expanded"),
    "status": (1, r"[245]\.\d{1,3}\.\d{1,3}"),
    "remote-mta": (0, _TYPED),
    "diagnostic-code": (0, _TYPED),
    "last-attempt-date": (0, _DATE),
    "will-retry-until": (0, _DATE),
}


def an_attempt(**changes: Any) -> Attempt:
    """One that failed, unless `changes` say otherwise."""
    values: dict[str, Any] = {
        "kind": "b",
        "at": 1_795_000_060.0,
        "message": 7,
        "entry": 9,
        "sender": "news@example.com",
        "recipient": "bob@example.net",
        "orcpt": "",
        "domain": "example.net",
        "vmta": "default",
        "job": "",
        "envid": "",
        "size": 100,
        "queued_at": 1_795_000_000.0,
        "first_attempt": 1_795_000_001.0,
        "attempts": 1,
        "code": 550,
        "enhanced": "5.1.1",
        "text": "no such user",
        "local": False,
        "category": "bad-mailbox",
        "source_kind": "smtp",
        "source_name": "",
        "source_feeder_ip": "",
        "user": "",
        "remote_name": "mx.example.net",
    }
    return Attempt(**{**values, **changes})


def a_failure(**changes: Any) -> Told:
    return Told(Action.FAILED, an_attempt(**changes))


def a_heading(to: str = "news@example.com", language: str = "en") -> Heading:
    return Heading(to, "mta.example.com", shipped_wordings()[language], "T1", 1_795_000_100.0)


def a_notice(
    *told: Told,
    content: bytes = CONTENT,
    whole: bool = True,
    ret: str = "",
    utf8: bool = False,
    to: str = "news@example.com",
    language: str = "en",
) -> bytes:
    """The notice of these recipients; without any, of one that failed."""
    returned = Returned(content, whole, ret, utf8)
    heading = a_heading(to, language)
    return compose_notice(told or (a_failure(),), returned, heading, name="1f2e3d4c-7")


def parts_of(notice: bytes) -> list[Message]:
    """Its parts, as the stdlib reads them."""
    parsed = email.message_from_bytes(notice)
    assert not parsed.defects, parsed.defects
    found = parsed.get_payload()
    assert isinstance(found, list)
    return found


def decoded(part: Message) -> bytes:
    """The octets of a part, whatever its encoding; the stdlib does not decode the encoded types of RFC 6533."""
    text = part.as_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    copy = Message()
    copy["Content-Type"] = "application/octet-stream"
    copy["Content-Transfer-Encoding"] = part["Content-Transfer-Encoding"]
    copy.set_payload(text.decode("ascii"))
    found = copy.get_payload(decode=True)
    assert isinstance(found, bytes)
    return found


def blocks_of(notice: bytes) -> list[list[tuple[str, str]]]:
    """The blocks of its report: of the message, then of each recipient; each a list of (name in lower case, value).

    Raises AssertionError where the grammar is broken.
    """
    part = parts_of(notice)[1]
    kind = part.get_content_type()
    assert kind in ("message/delivery-status", "message/global-delivery-status")
    if kind == "message/delivery-status":
        at = notice.index(b"Content-Type: message/delivery-status")
        raw = notice[notice.index(b"\r\n\r\n", at) + 4 :]
        raw = raw[: raw.index(b"\r\n--=_")]
        assert raw.isascii(), "RFC 3464 §2.1.1: the fields are 7-bit"
    else:
        raw = decoded(part)
    blocks = [
        _fields(block) for block in re.split(r"\r?\n\r?\n", raw.decode("utf-8")) if block.strip()
    ]
    assert len(blocks) >= 2, "RFC 3464 §2.1: at least one recipient"
    _check(blocks[0], _OF_MESSAGE)
    for block in blocks[1:]:
        _check(block, _OF_RECIPIENT)
        _check_recipient(dict(block))
    return blocks


def _fields(block: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in block.replace("\r\n", "\n").rstrip("\n").split("\n"):
        if line[0] in " \t":
            name, value = found[-1]
            found[-1] = name, value + line
        else:
            name, colon, value = line.partition(":")
            assert colon, line
            assert re.fullmatch("[!-9;-~]+", name), name
            found.append((name.lower(), value.strip()))
    return found


def _check(block: list[tuple[str, str]], grammar: dict[str, tuple[int, str]]) -> None:
    names = [name for name, _ in block]
    assert len(set(names)) == len(names), f"a field stands twice: {names}"
    assert names == sorted(names, key=list(grammar).index), "not in the order of RFC 3464 §2"
    for name, (least, _) in grammar.items():
        assert names.count(name) >= least, f"{name} is missing"
    for name, value in block:
        assert name in grammar, f"{name} is no field of RFC 3464"
        assert re.fullmatch(grammar[name][1], value), f"{name}: {value!r}"


def _check_recipient(block: dict[str, str]) -> None:
    classes = {"failed": "45", "delayed": "4", "relayed": "2"}
    assert block["status"][0] in classes[block["action"]]
    assert ("will-retry-until" in block) <= (block["action"] == "delayed"), "RFC 3464 §2.3.9"
    kind, _, address = block["final-recipient"].partition("; ")
    if kind == "utf-8":  # RFC 6533 §3: + and = and \ only as \x{…}
        plain = re.sub(r"\\x\{[0-9A-F]{2,6}\}", "", address)
        assert not re.search(r"[\s+=\\]", plain), address
    else:
        assert kind == "rfc822"
