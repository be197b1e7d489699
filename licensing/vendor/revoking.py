"""Taking a licence back: a signed list with a rising number, a reason, and a moment that is never now (C2)."""

from datetime import datetime, timedelta

from licensing.envelope import Envelope, decode_closed
from licensing.errors import LicenseError
from licensing.model.fields import REVOCATIONS
from licensing.model.trust import Revocation, Revocations
from licensing.vendor.ceremony import complete_chain
from licensing.vendor.folder import VendorFolder
from licensing.vendor.issuing import Signer

# C2: no remote kill switch. The terms know no shorter notice than one business day (9.7).
MIN_NOTICE = timedelta(days=1)


def revoke(
    folder: VendorFolder,
    signer: Signer,
    license_id: str,
    *,
    effective_at: datetime,
    reason: str,
    now: datetime,
) -> Envelope:
    """The list with this licence in it, kept in the folder. Raises LicenseError."""
    folder.revisions(license_id)
    if effective_at < now + MIN_NOTICE:
        raise LicenseError(
            "notice",
            f"a revocation takes effect {MIN_NOTICE.days} day(s) from now at the earliest: not before"
            f" {now + MIN_NOTICE:%Y-%m-%dT%H:%M:%SZ}",
        )
    if not reason.strip():
        raise LicenseError("reason", "a revocation says why: --reason")
    before = folder.revocations()
    others = [each for each in before.revoked if each.license_id != license_id] if before else []
    new = Revocation(license_id=license_id, effective_at=effective_at, reason=reason)
    listed = Revocations(
        number=before.number + 1 if before else 1, issued_at=now, revoked=(*others, new)
    )
    envelope = signer.sign(folder, REVOCATIONS, listed)
    opened = complete_chain(folder).open(envelope, REVOCATIONS)
    decode_closed(opened.payload, Revocations)  # as a customer's machine reads it
    folder.put_revocations(envelope)
    return envelope
