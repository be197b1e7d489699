"""Which of the licences on this machine are in force now, and why each of the others is not. Pure.

The newest revision of a licence that has begun rules; what has not begun is staged and takes over at its second. Licences for
different servers' seats add up; other kinds stand alone. Volume, server, standby, console and development licences are not mixed
on a node: what was here first stays, and production stands before development. Design 3.3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from licensing.envelope import Envelope
from licensing.model.license import Kind, License
from licensing.model.trust import Revocation
from licensing.trust import Opened


class Group(Enum):
    """What may stand together on one node."""

    SERVER = auto()
    STANDBY = auto()
    VOLUME = auto()
    CONSOLE = auto()
    DEVELOPMENT = auto()


GROUP_OF = {
    Kind.ENTERPRISE_SERVER: Group.SERVER,
    Kind.STANDARD_SERVER: Group.SERVER,
    Kind.HOT_BACKUP: Group.STANDBY,
    Kind.VOLUME: Group.VOLUME,
    Kind.MANAGEMENT_CONSOLE: Group.CONSOLE,
    Kind.DEVELOPMENT: Group.DEVELOPMENT,
}


@dataclass(frozen=True, slots=True)
class Installed:
    """A verified licence on this machine. `first_seen`: of its `license_id`, seconds since 1970; a renewal does not change it.

    `is_copy`: the file at `path` was altered, and this is what it held when it was last good.
    """

    path: Path
    license: License
    envelope: Envelope
    opened: Opened
    first_seen: float
    revocation: Revocation | None = None
    is_copy: bool = False

    @property
    def license_id(self) -> str:
        """Which licence it is; its revisions share it."""
        return self.license.license_id

    @property
    def group(self) -> Group:
        """What it may stand beside."""
        return GROUP_OF[self.license.kind]

    def has_begun(self, now: float) -> bool:
        """Whether its term has begun (C3)."""
        return self.license.not_before.timestamp() <= now

    def has_ended(self, now: float) -> bool:
        """Past the last instant of its grace, or taken back."""
        revoked = self.revocation is not None and self.revocation.effective_at.timestamp() <= now
        return revoked or self.license.terminate_at.timestamp() < now


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A file that is not in force: `code` for programs, `text` for people."""

    path: Path
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What the store found. `chosen` are in force (or have ended, where nothing better is there); `staged` begin later.

    `altered`: files whose bytes are no longer what was verified. `is_tampered`: one of them was in force, no good copy of it is
    left, and nothing else is either (3.9). `unremembered`: why the state directory could not be written, or "".
    """

    chosen: tuple[Installed, ...] = ()
    staged: tuple[Installed, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    altered: tuple[Path, ...] = ()
    is_tampered: bool = False
    unremembered: str = ""

    @property
    def seats(self) -> int:
        """Licences purchased that are in force here, all files together."""
        return sum(each.license.quantity for each in self.chosen)


@dataclass(slots=True)
class _Sieve:
    """Those still considered, and those already passed over with the reason."""

    left: list[Installed]
    passed: list[PassedOver] = field(default_factory=list)

    def keep(self, good: Iterable[Installed], code: str, text: str) -> None:
        kept = {id(each) for each in good}
        self.passed += [
            PassedOver(each.path, code, text) for each in self.left if id(each) not in kept
        ]
        self.left = [each for each in self.left if id(each) in kept]


def select(found: Sequence[Installed], now: float) -> Selection:
    """Choose among verified licences. `now`: seconds since 1970 of the trusted clock."""
    begun = _Sieve([each for each in found if each.has_begun(now)])
    later = _Sieve([each for each in found if not each.has_begun(now)])
    newest = _newest(begun.left)
    begun.keep(newest.values(), "older_revision", "a newer revision of this licence is in force")
    replaced = {
        name for each in begun.left if not each.has_ended(now) for name in each.license.supersedes
    }
    begun.keep(
        [each for each in begun.left if each.license_id not in replaced],
        "superseded",
        "another licence that is in force replaces it",
    )
    _drop_ended(begun, now)
    _drop_other_groups(begun, now)
    _drop_all_but_one(begun, now)
    _keep_staged(later, begun.left, newest)
    return Selection(tuple(begun.left), tuple(later.left), (*begun.passed, *later.passed))


def _newest(found: Iterable[Installed]) -> dict[str, Installed]:
    """The highest revision of each licence."""
    ordered = sorted(found, key=lambda each: (each.license.revision, each.opened.issued_at))
    return {each.license_id: each for each in ordered}


def _drop_ended(sieve: _Sieve, now: float) -> None:
    live = [each for each in sieve.left if not each.has_ended(now)]
    if live:
        sieve.keep(live, "ended", "its term and its grace are over, or it was revoked")
    elif sieve.left:
        # All are over: the one that lasted longest says what became of us.
        last = max(sieve.left, key=lambda each: each.license.terminate_at)
        sieve.keep([last], "ended", "its term and its grace are over, or it was revoked")


def _rank(each: Installed, now: float) -> tuple[bool, bool, float, str]:
    """The first of several that exclude each other: production, in its term, issued first."""
    found = each.license
    is_over = found.expires_at.timestamp() <= now
    is_trial = found.kind is Kind.DEVELOPMENT
    return is_trial, is_over, each.opened.issued_at, found.license_id


def _drop_other_groups(sieve: _Sieve, now: float) -> None:
    if sieve.left:
        first = min(sieve.left, key=lambda each: _rank(each, now))
        sieve.keep(
            [each for each in sieve.left if each.group is first.group],
            "mixed",
            f"it cannot stand beside a {first.license.kind} licence on one node:"
            " install it with --replace to put it in the other's place",
        )


def _drop_all_but_one(sieve: _Sieve, now: float) -> None:
    if sieve.left and sieve.left[0].group is not Group.SERVER:
        first = min(sieve.left, key=lambda each: _rank(each, now))
        sieve.keep([first], "one_only", f"a node has one {first.license.kind} licence at a time")


def _keep_staged(later: _Sieve, chosen: Sequence[Installed], begun: dict[str, Installed]) -> None:
    later.keep(
        [
            each
            for each in later.left
            if (other := begun.get(each.license_id)) is None
            or other.license.revision < each.license.revision
        ],
        "older_revision",
        "a newer revision of this licence is in force",
    )
    groups = {each.group for each in chosen}
    if groups:
        later.keep(
            [each for each in later.left if each.group in groups],
            "mixed",
            "it cannot stand beside the licence that is in force: install it with --replace when it begins",
        )
