"""The shapes of the verbs' arguments, and what is made of them: a filter, the name of a queue.

What a shape cannot tell raises ControlError with a text for the operator.
"""

import msgspec

from mta.control.protocol import ControlError
from mta.model.address import normalise_domain
from mta.model.envelope import QueueKey, parse_message_id, parse_queue_key
from mta.spool.words import Filter

MAX_QUEUES = 10_000  # rows of an answer: more is nothing to look at, and an answer is bounded
MAX_MESSAGES = 100_000
MAX_NUMBER = 1 << 62  # SQLite's integers end at twice that


class QueuesArgs(msgspec.Struct, forbid_unknown_fields=True):
    """`sort`: recipients, bytes, oldest, due or domain. `match`: part of the queue's name."""

    sort: str = "recipients"
    limit: int = 20
    match: str = ""


class QueueArgs(msgspec.Struct, forbid_unknown_fields=True):
    """`queue`: domain/vmta, or domain alone for the virtual MTA named default."""

    queue: str


STATUSES = ("due", "deferred", "scheduled", "held")


class FilterArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Which messages: all that is given must match. `message`: 1f2e3d4c-17, or 17 for that number in any spool.

    `status`: due, deferred, scheduled or held. `larger_than` and `smaller_than`: bytes.
    """

    domain: str = ""
    site: str = ""
    vmta: str = ""
    job: str | None = None
    sender: str | None = None
    recipient: str = ""
    message: int | str = ""
    status: str = ""
    older_than_s: float = 0.0
    younger_than_s: float = 0.0
    larger_than: int = 0
    smaller_than: int = 0
    held: bool | None = None
    limit: int = 100


class ChangeArgs(FilterArgs, forbid_unknown_fields=True):
    """`all`: must be said when nothing else narrows the choice. `dry_run`: only count."""

    all: bool = False
    dry_run: bool = False


class HoldArgs(ChangeArgs, forbid_unknown_fields=True):
    """`reason`: what `explain` says of them."""

    reason: str = ""


class ExplainArgs(msgspec.Struct, forbid_unknown_fields=True):
    """A message's id or number, or a queue."""

    what: str


class ResolveArgs(msgspec.Struct, forbid_unknown_fields=True):
    """A domain and the virtual MTA that would send."""

    domain: str
    vmta: str = "default"


class ShutdownArgs(msgspec.Struct, forbid_unknown_fields=True):
    """`drain`: first deliver what is due, taking nothing new."""

    drain: bool = False


def shown(limit: int, most: int) -> int:
    """How many rows to show. Raises ControlError on a number that cannot be."""
    if not 1 <= limit <= most:
        raise ControlError(f"a limit is from 1 to {most}, not {limit}")
    return limit


def queue_key(text: str) -> QueueKey:
    """The queue's name. Raises ControlError."""
    try:
        key = parse_queue_key(text)
        return QueueKey(normalise_domain(key.domain), key.vmta)
    except ValueError as error:
        raise ControlError(f"{text!r} names no queue: {error}") from None


def domain_name(text: str) -> str:
    """The domain that is meant. Raises ControlError."""
    try:
        return normalise_domain(text.strip().rstrip("."))
    except ValueError as error:
        raise ControlError(f"{text!r} is no domain: {error}") from None


def make_filter(args: FilterArgs) -> Filter:
    """What the spools look for. Raises ControlError when `message` is no id."""
    try:
        spool, message = parse_message_id(str(args.message)) if args.message else ("", 0)
    except ValueError as error:
        raise ControlError(str(error)) from None
    if args.status not in ("", *STATUSES):
        raise ControlError(f"no status {args.status!r}", f"a status is {', '.join(STATUSES)}")
    numbers = (args.older_than_s, args.younger_than_s, args.larger_than, args.smaller_than)
    if not all(0 <= each <= MAX_NUMBER for each in numbers):
        raise ControlError("a time or a size is negative, or beyond all that is stored")
    if args.status == "held" and args.held is False:
        raise ControlError("held and not held: nothing is both", "say one of them")
    return Filter(
        spool=spool,
        domain=args.domain,
        site=args.site,
        vmta=args.vmta,
        job=args.job,
        sender=args.sender,
        recipient=args.recipient,
        message=message,
        older_than_s=args.older_than_s,
        younger_than_s=args.younger_than_s,
        larger_than=args.larger_than,
        smaller_than=args.smaller_than,
        held=True if args.status == "held" else args.held,
        is_due=True if args.status == "due" else None,
        is_scheduled={"scheduled": True, "deferred": False}.get(args.status),
    )
