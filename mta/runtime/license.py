"""The seam to licensing: what the supervisor asks of the guard, and what it tells the workers. Nothing is judged here.

`Guard` is the contract of `licensing.guard.Guard`: what it says may be done is an `Entitlement`, which travels to every worker as
it is. Counts go the other way, and nothing else does: no address, no content (8.9). In lab mode there is no guard.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from licensing.entitlement import LAB, UNLICENSED, Entitlement, Injection, Remark, Stamp, State
from mta.config.load import Settings

__all__ = [
    "LAB",
    "UNLICENSED",
    "Delivered",
    "Entitlement",
    "Guard",
    "Injection",
    "OpenGuard",
    "Remark",
    "Stamp",
    "State",
    "banner_of",
    "hold_of",
    "open_guard",
]

# What an operator does about a hold whose reason does not say it.
REMEDIES = {
    State.OVER_LIMIT: "`sluice license status` shows what is left and when there is more",
    State.STANDBY: "this server is a standby: activate it, or send from the primary",
    State.FENCED: "another server of the pair is active; this one holds its mail",
    State.EXPIRED: "install the renewal: `sluice license install FILE`",
    State.REVOKED: "ask your vendor for another licence",
    State.TAMPERED: "install the licence file again: `sluice license install FILE`",
    State.PENDING: "`sluice license activate` activates it",
}


@dataclass(frozen=True, slots=True)
class Delivered:
    """So many Emails were delivered from this spool by the events after `since` up to `upto`, both event ids."""

    spool: str  # its UUID
    since: int
    upto: int
    emails: int


class Guard(Protocol):
    """What the supervisor asks of licensing."""

    @property
    def entitlement(self) -> Entitlement:
        """What is allowed now."""

    def subscribe(self, told: Callable[[Entitlement], None]) -> object:
        """Call on the loop whenever that changes."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def take(self, count: int) -> int:
        """So many Emails, 0 to `count`, are the caller's to deliver or refund."""

    def refund(self, count: int) -> None:
        """So many of those taken are not delivered."""

    async def cursors(self) -> dict[str, int]:
        """The last event counted, by the spool's UUID."""

    async def delivered(self, counts: Sequence[Delivered]) -> None:
        """Count these; durable, with the cursors, when it returns."""

    def connections(self, in_use: int, peak: int) -> None:
        """How many outbound connections there are, and the most there were since the last time."""

    async def status(self) -> dict[str, Any]:
        """All that an operator may know, as JSON has it."""


class Unlicensed:
    """A guard without any licence: it says no, and counts what it is told."""

    entitlement = UNLICENSED

    def __init__(self) -> None:
        self._cursors: dict[str, int] = {}

    def subscribe(self, told: Callable[[Entitlement], None]) -> None:
        """See `Guard`: it never changes."""

    async def start(self) -> None:
        """See `Guard`."""

    async def stop(self) -> None:
        """See `Guard`."""

    def take(self, count: int) -> int:
        """See `Guard`."""
        return 0

    def refund(self, count: int) -> None:
        """See `Guard`."""

    async def cursors(self) -> dict[str, int]:
        """See `Guard`."""
        return dict(self._cursors)

    async def delivered(self, counts: Sequence[Delivered]) -> None:
        """See `Guard`."""
        self._cursors.update((each.spool, each.upto) for each in counts)

    def connections(self, in_use: int, peak: int) -> None:
        """See `Guard`."""

    async def status(self) -> dict[str, Any]:
        """See `Guard`."""
        return {}


OpenGuard = Callable[[Settings], Guard]


def open_guard(settings: Settings) -> Guard:
    """The guard of a server with this configuration."""
    return Unlicensed()


def hold_of(entitlement: Entitlement) -> str:
    """Why nothing is delivered, and what to do; "": it is."""
    if entitlement.deliver:
        return ""
    remedy = REMEDIES.get(entitlement.state, "")
    return "; ".join(part for part in (entitlement.reason, remedy) if part) or entitlement.state


def banner_of(entitlement: Entitlement, *, lab: bool) -> str:
    """What the greeting says behind the host's name."""
    if lab:
        return "ESMTP Sluice LAB"
    if entitlement.state is State.UNLICENSED:
        return "ESMTP Sluice UNLICENSED"
    word = entitlement.stamp.banner if entitlement.stamp is not None else ""
    return f"ESMTP Sluice {word}".rstrip()
