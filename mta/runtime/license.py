"""The seam to licensing: what the supervisor asks of the guard, and what it tells the workers. Nothing is judged here.

`Guard` is the contract of `licensing.guard.Guard`: what it says may be done is an `Entitlement`, which travels to every worker as
it is. Counts go the other way, and nothing else does: no address, no content (8.9). In lab mode there is no guard.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from licensing.checks import installed_licenses
from licensing.entitlement import LAB, UNLICENSED, Entitlement, Injection, Remark, Stamp, State
from licensing.errors import LicenseError
from licensing.guard import Guard as LicensingGuard
from licensing.guard import GuardOptions, Surroundings
from licensing.installation import AlreadyRunning, load_trust
from licensing.model.license import Kind
from licensing.options import SendMail
from mta import __version__
from mta.config.load import Settings
from mta.model.errors import ConfigError, Problem

__all__ = [
    "LAB",
    "UNLICENSED",
    "AlreadyRunning",
    "Delivered",
    "Entitlement",
    "Guard",
    "Injection",
    "LicenseError",
    "OpenGuard",
    "Remark",
    "Stamp",
    "State",
    "banner_of",
    "check_reporting",
    "guard_options",
    "hold_of",
    "installed_kinds",
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
    at: tuple[int, ...] = ()  # the event of each: it says which life of a worker delivered it


class Guard(Protocol):
    """What the supervisor asks of licensing."""

    @property
    def entitlement(self) -> Entitlement:
        """What is allowed now."""

    def subscribe(self, told: Callable[[Entitlement], None]) -> object:
        """Call on the loop whenever that changes."""

    async def start(self) -> None: ...

    async def open(self) -> None:
        """As `start`, without anything that goes on by itself."""

    async def stop(self) -> None: ...

    def take(self, count: int) -> int:
        """So many Emails, 0 to `count`, are the caller's to deliver or refund."""

    def refund(self, count: int) -> None:
        """So many of those taken are not delivered."""

    async def cursors(self) -> dict[str, int]:
        """The last event counted, by the spool's UUID."""

    async def delivered(self, counts: Sequence[Delivered]) -> None:
        """Count these; durable, with the cursors, when it returns."""

    def spools(self, present: Iterable[str]) -> None:
        """The UUIDs of all spools there are: one that was counted from and is gone is a finding."""

    def connections(self, in_use: int, peak: int) -> None:
        """How many outbound connections there are, and the most there were since the last time."""

    async def status(self) -> dict[str, Any]:
        """All that an operator may know, as JSON has it."""


OpenGuard = Callable[[Settings, SendMail], Guard]


def open_guard(settings: Settings, send_mail: SendMail | None = None) -> Guard:
    """The guard of a server with this configuration; nothing is read before its `start`. Without `send_mail` it tells nobody."""
    around = Surroundings(send_mail=send_mail, tells=send_mail is not None)
    return LicensingGuard(guard_options(settings), around)


def guard_options(settings: Settings) -> GuardOptions:
    """What the configuration says to licensing."""
    rules = settings.license
    return GuardOptions(
        license_dir=Path(rules.dir),
        state_dir=Path(rules.state_dir),
        reporting=rules.reporting,
        endpoint=rules.endpoint or None,
        proxy=rules.proxy or None,
        ca_file=Path(rules.ca_file) if rules.ca_file else None,
        node_label=rules.node_label,
        notify_email=rules.notify_email,
        notify_url=rules.notify_url,
        root_file=Path(rules.root) if rules.root else None,
        allow_ephemeral=rules.allow_ephemeral,
        version=__version__,
    )


def check_reporting(settings: Settings, kinds: Collection[str]) -> None:
    """Raises ConfigError where reporting is off though a licence of these kinds demands it (8.4, C12)."""
    if settings.license.reporting or Kind.VOLUME not in kinds or settings.server.lab:
        return
    file, line = settings.reporting_at
    text = (
        "a Volume licence is installed, and section 8.4 of its terms demands the connection that reports"
        " the counts: take this setting out, or set it to true"
    )
    raise ConfigError([Problem(file, "license.reporting", text, line)])


def installed_kinds(settings: Settings) -> frozenset[str]:
    """The kinds of the installed licences that are genuine, read from their files; empty where none can be read."""
    rules = settings.license
    try:
        trust = load_trust(Path(rules.root) if rules.root else None)
        return frozenset(each.kind for each in installed_licenses(Path(rules.dir), trust))
    except (LicenseError, OSError):
        return frozenset()


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
