"""The rule for a report (design 3.5): is it new, the same again, or does it come from a state that was copied or set back? Pure.

Counts are cumulative in (node, epoch), numbered by `seq`, and each carries the token of the answer before it. So a lost,
repeated, late or replayed report cannot change a total: the same bytes get the same answer, anything else that is not the next
one is a conflict. A conflict closes nothing by itself: it offers the node a new epoch, and only a report that opens it does. A
replayed old report therefore cannot push an honest node out of its epoch.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from licensing.errors import LicenseError
from licensing.model.usage import Acked, UsageReport
from licensing.server.rows import EpochRow

Reason = Literal["REWIND", "FORK", "EPOCH"]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The very bytes that were answered last: the stored answer goes out again."""


@dataclass(frozen=True, slots=True)
class Apply:
    """The next report of this node: `added` Emails more than before, perhaps as the first of a new epoch."""

    added: int
    opens_epoch: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """Not the next report: `reason` for the grant and the finding, `detail` for people."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Offer:
    """The epoch a node was told it may open, and the token it must show."""

    epoch: int
    token: str


def judge(
    report: UsageReport,
    sha256: str,
    *,
    state: EpochRow,
    answered: str,
    offer: Offer | None,
) -> Repeat | Apply | Conflict:
    """What to do with a report of a known node whose signature holds; `answered` is the hash of the last one answered."""
    if sha256 == answered:
        return Repeat()
    cum = report.cum or 0
    if report.epoch < state.epoch:
        return Conflict("REWIND", f"epoch {report.epoch} was followed by epoch {state.epoch}")
    if report.epoch > state.epoch:
        if offer is not None and (report.epoch, report.token) == (offer.epoch, offer.token):
            return Apply(cum, opens_epoch=True)
        return Conflict("EPOCH", f"epoch {report.epoch} was not granted")
    if report.seq == state.seq:
        return Conflict("FORK", f"two different reports have number {report.seq}")
    if report.seq < state.seq:
        return Conflict("REWIND", f"report {report.seq} came after report {state.seq}")
    if report.token != state.token:
        return Conflict("REWIND", "it does not carry the token of the last answer")
    # A heartbeat of a server kind counts nothing, and takes nothing back.
    if report.cum is not None and cum < state.cum:
        return Conflict("REWIND", f"it counts {cum} Emails, after {state.cum}")
    return Apply(0 if report.cum is None else cum - state.cum)


def next_offer(report_epoch: int, state: EpochRow, offer: Offer | None, fresh_token: str) -> Offer:
    """The epoch to offer after a conflict: the one offered before while it still serves, so that asking twice changes nothing."""
    if offer is not None and offer.epoch > max(report_epoch, state.epoch):
        return offer
    return Offer(max(report_epoch, state.epoch) + 1, fresh_token)


def is_ahead(shown: Acked, state: EpochRow) -> bool:
    """Whether our own signed word says that we once knew more than we do: then we were restored from a backup (A27)."""
    return (shown.epoch, shown.seq) > (state.epoch, state.seq)


# -- days ---------------------------------------------------------------------------------------------


def spread(
    days: Mapping[str, int], stored: Mapping[str, int], added: int, today: date
) -> dict[str, int]:
    """How `added` Emails fall on days: the growth of each day, and what no day explains on today.

    The sum is always `added`, so that days and totals can never disagree. A day beyond tomorrow is a clock that is wrong, or an
    attempt to use up next month's quota: it counts as today. Raises LicenseError for what is no date.
    """
    growth: dict[str, int] = {}
    left = added
    latest = today + timedelta(days=1)
    for name in sorted(days):
        grown = min(left, max(0, days[name] - stored.get(name, 0)))
        if _as_date(name) <= latest and grown:
            growth[name] = grown
            left -= grown
    if left:
        growth[today.isoformat()] = growth.get(today.isoformat(), 0) + left
    return growth


def _as_date(name: str) -> date:
    try:
        return date.fromisoformat(name)
    except ValueError:
        raise LicenseError("schema", f"{name} is not a date") from None


# -- how often ----------------------------------------------------------------------------------------


def next_report(interval_s: int, node_id: str, now: float, slowdown: float = 1.0) -> int:
    """Seconds until the next report: a whole interval, shifted so that this node's turn is always at the same place in it.

    The place comes from the node's id: after an outage, when all report at once, one interval is enough to spread them again.
    """
    interval = max(1.0, interval_s * slowdown)
    place = zlib.crc32(node_id.encode()) / 2**32 * interval
    shift = (place - now) % interval  # seconds to this node's next turn
    wait = shift if shift >= interval / 2 else shift + interval
    return max(1, min(86_400, round(wait)))
