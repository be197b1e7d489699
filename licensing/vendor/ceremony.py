"""Roots and delegations: drafts that several people sign, one after the other, each with the key on their own stick.

A root is drafted from public keys, then signed until its threshold is met; root N+1 needs the threshold of N too. A delegation
gives a key its narrow scope and needs the threshold of the newest root. Nothing here reads a clock or asks for a passphrase.
Design 3.14.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licensing.envelope import Envelope, decode_closed, key_id, sign, verify
from licensing.errors import LicenseError
from licensing.model.fields import ACTIVATION, DELEGATION, REWIND_GRANT, ROOT, USAGE_ACK
from licensing.model.license import Kind
from licensing.model.trust import Delegation, Root
from licensing.trust import SIGNED_BY_ROLE, Trust, read_key
from licensing.vendor.folder import Activated, Issued, VendorFolder

ROOT_YEARS = 5
YEAR = timedelta(days=365)

# What each role is given. A role's own limits (trust.SIGNED_BY_ROLE) hold whatever stands in a delegation.
SCOPES = {
    "license-signing": tuple(sorted(SIGNED_BY_ROLE["license-signing"])),
    "server-online": (ACTIVATION, USAGE_ACK, REWIND_GRANT),
    "revocation": tuple(sorted(SIGNED_BY_ROLE["revocation"])),
}
# How long a key of each role serves (3.14).
WINDOWS = {
    "license-signing": timedelta(days=365),
    "server-online": timedelta(days=90),
    "revocation": timedelta(days=730),
}


@dataclass(frozen=True, slots=True)
class Signing:
    """How far a draft is: how many of the keys that must sign have signed."""

    what: str
    signed: int
    needed: int

    @property
    def is_complete(self) -> bool:
        """Whether it is believed now."""
        return self.signed >= self.needed

    def __str__(self) -> str:
        return f"{self.what}: {self.signed} of {self.needed} signatures"


# -- drafts -------------------------------------------------------------------------------------------


def first_root(
    keys: Sequence[str], *, threshold: int, now: datetime, years: int, production: bool
) -> Envelope:
    """Root 1, not signed yet. `keys`: base64 of raw public keys."""
    root = Root(
        version=1,
        issued_at=now,
        expires_at=now + years * YEAR,
        production=production,
        threshold=threshold,
        keys=tuple(keys),
    )
    return _draft(root)


def next_root(held: Root, *, now: datetime, years: int, **changes: object) -> Envelope:
    """Root N+1, not signed yet: as root N but for the changes (`keys`, `threshold`, `compromised`, …)."""
    values = {
        "version": held.version + 1,
        "issued_at": now,
        "expires_at": now + years * YEAR,
        **changes,
    }
    return _draft(msgspec.structs.replace(held, **values))


def _draft(root: Root) -> Envelope:
    distinct = {key_id(read_key(each)) for each in root.keys}
    mistakes = []
    if len(distinct) != len(root.keys):
        mistakes.append("a key is named twice")
    if root.threshold > len(distinct):
        mistakes.append(f"{len(distinct)} keys cannot give {root.threshold} signatures")
    if root.threshold < 1:
        mistakes.append("the threshold is at least 1")
    if root.expires_at <= root.issued_at:
        mistakes.append("it expires after it is issued")
    if mistakes:
        raise LicenseError("root", "; ".join(mistakes))
    return sign(ROOT, msgspec.json.encode(root), [])


def delegation(
    public: str,
    role: str,
    *,
    kinds: Sequence[Kind],
    not_before: datetime,
    not_after: datetime,
    now: datetime,
) -> Envelope:
    """What this key may sign, not signed yet. Raises LicenseError."""
    if role not in SCOPES:
        raise LicenseError("role", f"{role} is no role: one of {', '.join(SCOPES)}")
    if not not_before < not_after:
        raise LicenseError("window", "a key's window ends after it begins")
    given = Delegation(
        key=public,
        role=role,  # type: ignore[arg-type]  # checked above
        payload_types=SCOPES[role],
        kinds=tuple(kinds) if role == "license-signing" else (),
        not_before=not_before,
        not_after=not_after,
        issued_at=now,
    )
    return sign(DELEGATION, msgspec.json.encode(given), [])


# -- signing ------------------------------------------------------------------------------------------


def add_signature(envelope: Envelope, key: Ed25519PrivateKey, allowed: Sequence[Root]) -> Envelope:
    """The draft with one signature more. Raises LicenseError when the key belongs to none of these roots, or has signed."""
    name = key_id(key.public_key())
    if not any(name in _ids(root) for root in allowed):
        raise LicenseError("key", f"{name} is not a key of the root that must sign this")
    if any(each.keyid == name for each in envelope.signatures):
        raise LicenseError("signed", f"{name} has signed this already")
    added = sign(envelope.payload_type, envelope.payload_bytes(), [key])
    return msgspec.structs.replace(envelope, signatures=(*envelope.signatures, *added.signatures))


def _ids(root: Root) -> set[str]:
    return {key_id(read_key(each)) for each in root.keys}


def read_root(envelope: Envelope) -> Root:
    """A root or the draft of one; not believed."""
    return decode_closed(envelope.payload_bytes(), Root)


def read_delegation(envelope: Envelope) -> Delegation:
    """A delegation or the draft of one; not believed."""
    return decode_closed(envelope.payload_bytes(), Delegation)


def signings(envelope: Envelope, by: Sequence[Root]) -> list[Signing]:
    """How far the draft is with each of the roots that must sign it."""
    found = []
    for root in by:
        keys = {key_id(read_key(each)): read_key(each) for each in root.keys}
        _, signed_by = verify(envelope, envelope.payload_type, keys, threshold=0)
        found.append(Signing(f"keys of root {root.version}", len(signed_by), root.threshold))
    return found


def signers_of_root(roots: Sequence[Envelope], version: int) -> list[Root]:
    """The roots whose thresholds root `version` needs: its own, and the one before."""
    return [read_root(each) for each in roots[max(0, version - 2) : version]]


# -- the folder's -------------------------------------------------------------------------------------


def known_good(folder: VendorFolder, stolen: Sequence[str]) -> tuple[str, ...]:
    """What the log says was truly signed by these keys: SHA-256s for the next root's `known_good`.

    A stolen root key may have vouched for any key: then it is all that is in the log.
    """
    vouched = any(set(stolen) & _ids(read_root(each)) for each in folder.roots())
    lines: list[Issued | Activated] = [*folder.issued(), *folder.activated()]
    return tuple(sorted({each.sha256 for each in lines if vouched or each.key_id in stolen}))


def complete_chain(folder: VendorFolder) -> Trust:
    """All roots of the folder, the newest too. Raises LicenseError when the newest is a draft still."""
    trust, roots = folder.trust(), folder.roots()
    if trust.root.version < len(roots):
        open_ones = "; ".join(
            str(each)
            for each in signings(roots[-1], signers_of_root(roots, len(roots)))
            if not each.is_complete
        )
        raise LicenseError("root", f"root {len(roots)} is not signed enough: {open_ones}")
    return trust
