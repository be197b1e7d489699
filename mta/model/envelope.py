"""The envelope and its parts: sender, recipients, message, and the name of a queue (RFC 5321, RFC 3461)."""

import re
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple

NOTICE = "notice"  # the `source_kind` of what we tell a sender: never answered, never counted as an Email


class QueueKey(NamedTuple):
    """The name of a queue: where mail goes, and which virtual MTA sends it.

    A NamedTuple, not a dataclass: it is hashed several times a message, and a tuple's hash is C code.
    """

    domain: str
    vmta: str

    def __str__(self) -> str:
        return f"{self.domain}/{self.vmta}"


def parse_queue_key(text: str, default_vmta: str = "default") -> QueueKey:
    """Parse `domain/vmta` or `domain` as an operator writes it."""
    domain, _, vmta = text.strip().lower().partition("/")
    if not domain:
        raise ValueError("a queue is named domain/vmta, for example gmail.com/default")
    return QueueKey(domain, vmta or default_vmta)


# Of a spool's UUID, how much a message id carries: two of 100 spools agree with a chance of one in a million.
SPOOL_DIGITS_OF_ID = 8
_MESSAGE_ID = re.compile(r"(?:([0-9a-f]{8,32})-)?([0-9]{1,18})", re.ASCII)


def format_message_id(spool: str, number: int) -> str:
    """`1f2e3d4c-17`: how a message is named to everybody – its feeder, its trace field, the operator, the records.

    `spool` is the UUID of its spool, for a number is unique within that alone.
    """
    return f"{spool[:SPOOL_DIGITS_OF_ID]}-{number}"


def parse_message_id(text: str) -> tuple[str, int]:
    """The first digits of the spool's UUID ("": not named) and the number. Raises ValueError."""
    found = _MESSAGE_ID.fullmatch(text.strip().lower())
    if found is None or not int(found[2]):
        raise ValueError(f"{text!r} is no message id; they look like 1f2e3d4c-17, or 17")
    return found[1] or "", int(found[2])


def is_message_id(text: str) -> bool:
    """Whether this names a message, and not a queue or anything else."""
    return _MESSAGE_ID.fullmatch(text.strip().lower()) is not None


class Content(IntFlag):
    """What a next hop must bear to take the message unchanged."""

    PLAIN = 0
    EIGHT_BIT = 1  # bytes over 127 in the body: needs 8BITMIME (RFC 6152)
    UTF8 = 2  # UTF-8 in addresses or header: may need SMTPUTF8 (RFC 6531); `mta.egress.spoken` looks where


class Priority(IntEnum):
    """Which mail of one queue goes first."""

    NORMAL = 0
    HIGH = 1
    LOW = 2


@dataclass(slots=True)
class Message:
    """What the queues and records need to know of a message; its body stays in the spool.

    `number` is unique within its spool for ever; `spool` is the index of that spool in this worker.
    """

    spool: int
    number: int
    sender: str  # "" is the null sender
    size: int  # bytes of prefix and body
    received_at: float  # seconds since the epoch, by the worker's clock
    vmta: str
    job: str = ""
    envid: str = ""  # xtext as received (RFC 3461 §4.4)
    ret: str = ""  # "", "FULL" or "HDRS"
    content: Content = Content.PLAIN
    source_kind: str = "smtp"  # smtp | http | pickup | notice
    source_ip: str = ""
    source_name: str = ""  # the EHLO name of the feeder
    user: str = ""  # the AUTH user
    licence_held_s: float = 0.0  # the spool's total of licence holds when it was accepted
    release_at: float = 0.0  # not before; its age for expiry counts from then. 0.0: at once
    priority: Priority = Priority.NORMAL


class Entry:
    """One recipient of one message in a queue.

    Mutable and slotted, compared by identity: hundreds of thousands pass through a scheduler. `number` is unique
    within its spool for ever.
    """

    __slots__ = (
        "address",
        "attempts",
        "crashes",
        "due",
        "first_attempt",
        "key",
        "may_repeat",
        "message",
        "notify",
        "number",
        "orcpt",
    )

    def __init__(
        self,
        message: Message,
        key: QueueKey,
        address: str,
        *,
        number: int = 0,
        notify: str = "",
        orcpt: str = "",
        due: float = 0.0,
        attempts: int = 0,
        first_attempt: float = 0.0,
        crashes: int = 0,
        may_repeat: bool = False,
    ) -> None:
        self.message = message
        self.key = key
        self.address = address
        self.number = number
        self.notify = notify  # as received: "", "NEVER" or a list of SUCCESS,FAILURE,DELAY
        self.orcpt = orcpt  # as received: "" or "rfc822;xtext"
        self.due = due
        self.attempts = attempts
        self.first_attempt = first_attempt  # 0.0: none yet
        self.crashes = crashes
        self.may_repeat = may_repeat  # it may reach the recipient twice; its next event says so

    def __repr__(self) -> str:
        return f"Entry({self.message.number}.{self.number} {self.address} in {self.key})"


@dataclass(frozen=True, slots=True)
class SpillFile:
    """A body too large for a row: a finished file under the spool's `bodies/`, already fsynced, directory too."""

    path: str
    size: int


@dataclass(slots=True)
class Draft:
    """A message about to be accepted: what the intake hands to the spool.

    `prefix` is what we add in front (Received, DKIM-Signature, …) and ends with CRLF; `body` is the message as
    received: its own header fields, the blank line, and the body. They go out one after the other.
    """

    message: Message
    entries: list[Entry]
    prefix: bytes
    body: bytes | SpillFile
    event: object | None = None  # the reception event, written in the same transaction
    # It is a notice: of which message, and the numbers of the entries it tells of.
    answers: tuple[int, list[int]] | None = None
    origin: str = ""  # of an imported message: the id it had where it was exported
