"""The licences the server knows, decoded, with what was revoked: read at every request, changed by the vendor only.

Everything in it was verified when it came, and stands in the database too. Its size is that of the vendor's business.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from licensing.envelope import Envelope, decode_closed, decode_envelope
from licensing.errors import LicenseError
from licensing.model.fields import REVOCATIONS
from licensing.model.license import License
from licensing.model.trust import Revocations
from licensing.server.rows import LicenseRow
from licensing.trust import Trust


@dataclass(frozen=True, slots=True)
class Known:
    """One revision of a licence."""

    license: License
    sha256: str
    envelope: Envelope


class Book:
    """Revisions by licence, and the newest list of revocations."""

    def __init__(self) -> None:
        self._revisions: dict[str, dict[int, Known]] = {}
        self._revoked_at: dict[str, float] = {}
        self.revocations: Envelope | None = None
        self.revocations_number = 0

    @classmethod
    def load(cls, rows: Iterable[LicenseRow], revocations: bytes | None) -> "Book":
        """From the database; it was verified on its way in."""
        book = cls()
        for row in rows:
            envelope = decode_envelope(row.envelope)
            found = decode_closed(envelope.payload_bytes(), License)
            book.add(Known(found, row.sha256, envelope))
        if revocations is not None:
            envelope = decode_envelope(revocations)
            book.revoke(envelope, decode_closed(envelope.payload_bytes(), Revocations))
        return book

    def add(self, known: Known) -> None:
        """A new revision, committed already."""
        license = known.license
        self._revisions.setdefault(license.license_id, {})[license.revision] = known

    def revoke(self, envelope: Envelope, revocations: Revocations) -> None:
        """A newer list of revocations, committed already."""
        self.revocations, self.revocations_number = envelope, revocations.number
        self._revoked_at = {
            each.license_id: each.effective_at.timestamp() for each in revocations.revoked
        }

    def at(self, license_id: str, revision: int) -> Known | None:
        """One revision."""
        return self._revisions.get(license_id, {}).get(revision)

    def newest(self, license_id: str) -> Known | None:
        """The highest revision, begun or not."""
        revisions = self._revisions.get(license_id)
        return revisions[max(revisions)] if revisions else None

    def current(self, license_id: str, now: float) -> Known | None:
        """The highest revision whose term has begun; before the first term, the highest."""
        revisions = self._revisions.get(license_id)
        if not revisions:
            return None
        begun = [
            number
            for number, known in revisions.items()
            if known.license.not_before.timestamp() <= now
        ]
        return revisions[max(begun or revisions)]

    def has(self, license_id: str, sha256: str) -> bool:
        """Whether this is one of the licence's revisions."""
        return any(known.sha256 == sha256 for known in self._revisions.get(license_id, {}).values())

    def is_listed(self, license_id: str) -> bool:
        """Whether a revocation names this licence, in force or not yet (C2: its node must know beforehand)."""
        return license_id in self._revoked_at

    def is_revoked(self, license_id: str, now: float) -> bool:
        """Whether a revocation is in force."""
        at = self._revoked_at.get(license_id)
        return at is not None and at <= now

    def all(self) -> list[Known]:
        """Every revision."""
        return [known for revisions in self._revisions.values() for known in revisions.values()]


def verify_license(envelope: Envelope, trust: Trust) -> Known:
    """Read a licence the vendor signed. Raises LicenseError."""
    found, opened = trust.open_license(envelope)
    return Known(found, opened.sha256, envelope)


def verify_revocations(envelope: Envelope, trust: Trust, held: int) -> Revocations:
    """Read a list of revocations that is newer than `held`. Raises LicenseError."""
    found = decode_closed(trust.open(envelope, REVOCATIONS).payload, Revocations)
    if found.number <= held:
        raise LicenseError(
            "old", f"list {found.number} of revocations is not newer than list {held}"
        )
    return found
