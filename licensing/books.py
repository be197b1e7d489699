"""The books of this server: what the ledger keeps, as one value in memory. Words only.

The loop changes them, the ledger's thread is given copies: nothing is shared between the two.
"""

from dataclasses import dataclass

import msgspec

from licensing.clock import ClockState
from licensing.model.activation import Role
from licensing.model.usage import Pool


class HeldLease(msgspec.Struct, kw_only=True):
    """A block of Emails this server holds; `used` never exceeds `emails`."""

    id: str
    fence: int
    period: str
    emails: int
    used: int = 0
    use_until: int


class AckedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the vendor has signed for: the last acknowledgement. `at` is trusted time; 0 while there was none."""

    epoch: int = 1
    seq: int = 0
    cum: int = 0
    days: dict[str, int] = {}
    head: str = ""
    at: float = 0.0


class Books(msgspec.Struct, kw_only=True):
    """All that must survive a crash, as one value: it is stored whole, in one transaction, or not at all.

    `cum` and `days` count Emails in this epoch; `cursors` name the last event counted in each spool; `credit_used` is what was
    sent beyond leases, by period; `findings` are codes with the trusted time they were first seen at.
    """

    license_id: str = ""
    activation_id: str = ""
    epoch: int = 1
    seq: int = 0  # of the last report built in this epoch
    token: str = ""
    cum: int = 0
    days: dict[str, int] = {}
    cursors: dict[str, int] = {}
    leases: list[HeldLease] = []
    credit_used: dict[str, int] = {}
    acked: AckedFigures = AckedFigures()
    pool: Pool | None = None
    contact_at: float = 0.0  # trusted time of the last signed answer
    next_report_at: float = 0.0
    activation_until: float = 0.0
    role: Role = "primary"
    conn_peak: int = 0  # since the last acknowledgement
    first_seen: dict[str, float] = {}  # licence id → trusted time; a renewal does not change it
    requests: list[
        str
    ] = []  # SHA-256 of activation requests that wait for an answer, the last eight
    wants_seat: bool = True  # False once the operator gave it back, until he activates again
    findings: dict[str, float] = {}
    clock: ClockState | None = None
    is_clean: bool = True  # False from the first write of a run until its orderly end

    @property
    def acked_here(self) -> AckedFigures:
        """What the vendor has signed for in this epoch; nothing yet at its beginning."""
        return self.acked if self.acked.epoch == self.epoch else AckedFigures(epoch=self.epoch)

    def copy(self) -> "Books":
        """A value of its own, for another thread to write while this one changes."""
        return msgspec.convert(msgspec.to_builtins(self), Books)


@dataclass(frozen=True, slots=True)
class Times:
    """When something was recorded: the wall's seconds, those since boot, and the trusted clock's."""

    wall: float
    boottime: float
    trusted: float


def unacknowledged_days(books: Books) -> dict[str, int]:
    """The days of which the vendor has not yet signed the figure."""
    known = books.acked_here.days
    return {day: emails for day, emails in books.days.items() if known.get(day) != emails}
