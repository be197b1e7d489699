"""Seats (design 3.4): who may have one, how many are free, how often they may move. Pure.

A node's key is its identity: the same key gets the same activation again, and never a second seat. Seats that are not heard of
for long are free again by themselves, so that killed containers cannot leak them.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from licensing.model.activation import ActivationRequest
from licensing.model.bodies import SeatTaken
from licensing.model.license import Kind, License, Limitation
from licensing.model.usage import UsageReport
from licensing.server.rows import ActivationRow

VALID_S = 35 * 86_400  # what an activation lasts beyond the last contact
LAPSE_S = 7 * 86_400  # a seat is kept this long beyond its certificate
SEEN_EVERY_S = 300  # the last contact is written no more often
CONTAINER_LAPSE_S = 3_600 + SEEN_EVERY_S  # an hour at least from a container's last contact
MAX_MOVES = 10
MOVES_WINDOW_S = 30 * 86_400

# Crockford's base32, as the ids of licences and activations are written.
_ALPHABET = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)


@dataclass(frozen=True, slots=True)
class Taken:
    """The seat is given; `is_move`: it was another's before."""

    is_move: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """No seat: an HTTP status, a code for programs, a text for people, and who sits where."""

    status: int
    code: str
    text: str
    seats: tuple[SeatTaken, ...] = ()


def activation_id(license_id: str, node_id: str) -> str:
    """The name of this node's activation on this licence: always the same.

    So a server restored from a backup that lacks the row gives the same name again, and what it once signed still holds (A27).
    """
    digest = hashlib.sha256(f"sluice-activation-v1|{license_id}|{node_id}".encode()).digest()
    return "A" + base64.b32encode(digest).translate(_ALPHABET)[:26].decode("ascii")


def capacity(license: License) -> int | None:
    """How many seats there are, None for any number (C7, C10)."""
    if license.limits.dev is not None:
        return license.limits.dev.nodes
    if license.limitation is Limitation.VOLUME:
        return license.limits.max_nodes
    return license.quantity


def valid_until(license: License, now: int, *, heard: bool) -> int:
    """Until when an activation holds. Nobody must call home under a server licence (8.4): there it is the end of the term,
    unless the customer leaves the heartbeat on."""
    term_end = int(license.terminate_at.timestamp())
    if license.kind is Kind.VOLUME or heard:
        return max(now, min(term_end, now + VALID_S))
    return max(now, term_end)


def has_lapsed(seat: ActivationRow, license: License, now: float) -> bool:
    """Whether the seat is free again because nothing was heard of its node for too long."""
    if seat.server_class == "container" and (seat.heard or license.kind is Kind.VOLUME):
        return now > seat.last_seen + CONTAINER_LAPSE_S
    return now > seat.valid_until + LAPSE_S


def seen(seat: ActivationRow, license: License, report: UsageReport, now: int) -> ActivationRow:
    """The seat after a report; the very same while only minutes have passed, for each change is a write."""
    released_at = now if report.final else None
    same = (seat.role, seat.version, seat.heard, seat.released_at) == (
        report.role,
        report.version,
        True,
        released_at,
    )
    if same and now - seat.last_seen < SEEN_EVERY_S:
        return seat
    return replace(
        seat,
        last_seen=now,
        heard=True,
        role=report.role,
        version=report.version,
        valid_until=valid_until(license, now, heard=True),
        released_at=released_at,
    )


def decide(
    license: License,
    request: ActivationRequest,
    others: Sequence[ActivationRow],
    *,
    ever_taken: int,
    recent_moves: int,
    now: float,
) -> Taken | Refused:
    """Whether a node that has no seat gets one. `others` have theirs and have not lapsed; moves are those of the last 30 days."""
    wrong = _why_never(license, request, now)
    if wrong is not None:
        return wrong
    seats = capacity(license)
    if seats is None:
        return Taken(is_move=False)
    taken = sum(other.seats for other in others)
    if taken + request.seats > seats:
        return Refused(
            403,
            "SEAT_LIMIT",
            f"licence {license.license_id} has {seats} seats and {taken} are taken: deactivate a server that is no longer used"
            " (`sluice license deactivate` there), or buy more",
            _listed(others),
        )
    is_move = ever_taken + request.seats > seats
    if is_move and recent_moves >= MAX_MOVES:
        return Refused(
            429,
            "SEAT_MOVES",
            f"seats of licence {license.license_id} have moved {recent_moves} times in 30 days: ask your vendor to allow more",
        )
    return Taken(is_move)


def _why_never(license: License, request: ActivationRequest, now: float) -> Refused | None:
    if now >= license.terminate_at.timestamp():
        return Refused(
            403,
            "EXPIRED",
            f"licence {license.license_id} ended on {license.terminate_at:%Y-%m-%d}",
        )
    allowed = {*license.binding.allow, *(("backup",) if license.kind is Kind.HOT_BACKUP else ())}
    if request.server_class not in allowed:
        return Refused(
            403,
            "SERVER_CLASS",
            f"licence {license.license_id} may not run on a {request.server_class}, only on: {', '.join(sorted(allowed))}",
        )
    return None


def _listed(others: Iterable[ActivationRow]) -> tuple[SeatTaken, ...]:
    return tuple(
        SeatTaken(
            label=other.label,
            server_class=other.server_class,
            seats=other.seats,
            last_seen=other.last_seen,
        )
        for other in others
    )
