"""What the licence allows at this moment: computed rarely, read at every message.

Never an exception: a licence in trouble is an Entitlement that says no. In none of its states is mail deleted, bounced or
aged out. Design 3.9.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class State(StrEnum):
    """The states of design 3.9, from good to bad; the value is what metrics and JSON say."""

    VALID = "valid"
    PENDING = "pending"  # a good file that is not activated yet
    GRACE = "grace"  # something is wrong and is borne until a deadline
    OVER_LIMIT = "over_limit"
    STANDBY = "standby"
    FENCED = "fenced"
    EXPIRED = "expired"
    REVOKED = "revoked"
    TAMPERED = "tampered"
    UNLICENSED = "unlicensed"


class Injection(StrEnum):
    """What the door says to new mail."""

    OPEN = "open"
    UNTIL_FULL = "until_full"  # accepted and held up to the spool's watermark, then 452 4.3.1
    REFUSED = "refused"  # 451 4.7.0
    STANDBY = "standby"  # 421 4.3.2


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing the operator should know: `code` names it once for ever (a notice is sent once per code), text is for people.

    `covers`: codes that need no notice of their own any more once this one was sent (90 % covers 80 %). `info` is told
    once and is no flaw: a licence with nothing else is plainly valid.
    """

    code: str
    text: str
    level: Literal["info", "warn", "error"] = "warn"
    covers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a Development licence writes on every message, and whom it may write to (3.11)."""

    header: str
    recipients: tuple[str, ...]  # "@domain" or a whole address, lower case
    banner: str = "DEVELOPMENT"  # "" for none
    loopback: bool = True  # deliveries to this machine itself are allowed beside the recipients


@dataclass(frozen=True, slots=True)
class Entitlement:
    """Whether mail may come in and go out, over how many connections, and why.

    `max_connections`: over all workers of this server, None for no limit. `is_metered`: every delivery needs an Email taken
    from the guard first (Volume; Development too, for its day's cap is exact). `until`: seconds since 1970 at which something
    of this changes by itself, if nothing is done: up to then it holds, and one timer is enough. `deadline`: until when the
    trouble named in `reason` is borne, for people.
    """

    state: State
    injection: Injection = Injection.OPEN
    deliver: bool = True
    max_connections: int | None = None
    is_metered: bool = False
    reason: str = ""
    until: float | None = None
    deadline: float | None = None
    stamp: Stamp | None = None
    remarks: tuple[Remark, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """What `sluice license status` ends with: 0 valid, 1 notice, 2 grace, 3 held or limited, 4 stopped, 5 unlicensed."""
        if self.state is State.VALID and any(each.level != "info" for each in self.remarks):
            return 1
        if self.state is State.PENDING and not self.deliver:
            return 3
        return _EXIT_CODES[self.state]


_EXIT_CODES = {
    State.VALID: 0,
    State.PENDING: 2,  # as grace: it works, up to a deadline
    State.GRACE: 2,
    State.OVER_LIMIT: 3,
    State.STANDBY: 3,
    State.FENCED: 3,
    State.TAMPERED: 3,
    State.EXPIRED: 4,
    State.REVOKED: 4,
    State.UNLICENSED: 5,
}


UNLICENSED = Entitlement(
    State.UNLICENSED,
    Injection.REFUSED,
    deliver=False,
    reason="no licence is installed: run `sluice license install FILE`",
)
LAB = Entitlement(State.VALID, reason="lab mode needs no licence")
