"""Licences: issued, renewed, upgraded. Each is checked as a customer's daemon would check it before it leaves, and logged first.

A renewal continues the term where it ends; an upgrade changes what was bought within the term. Both are the next revision of the
same licence. What `check_license` refuses is refused here, with all mistakes at once (C5).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licensing.envelope import (
    MAX_ENVELOPE_BYTES,
    Envelope,
    decode_closed,
    encode_envelope,
    sign,
)
from licensing.errors import LicenseError
from licensing.ids import new_id
from licensing.model.fields import LICENSE
from licensing.model.license import License, check_license
from licensing.trust import Opened
from licensing.vendor.ceremony import complete_chain
from licensing.vendor.folder import Issued, VendorFolder
from licensing.vendor.terms import Order, draw_up


@dataclass(frozen=True, slots=True)
class Signer:
    """A delegated key and what proves that it may sign."""

    key: Ed25519PrivateKey
    delegation: Envelope

    def sign(self, folder: VendorFolder, payload_type: str, statement: msgspec.Struct) -> Envelope:
        """The statement as customers believe it, with the roots that came after the first. Raises LicenseError.

        A root that names very many known good licences after a theft has no room in a file: it travels by itself then.
        """
        envelope = sign(
            payload_type, msgspec.json.encode(statement), [self.key], delegation=self.delegation
        )
        roots = complete_chain(folder).roots_after(1)
        complete = msgspec.structs.replace(envelope, roots=roots)
        return complete if len(encode_envelope(complete)) <= MAX_ENVELOPE_BYTES else envelope


def issue(folder: VendorFolder, signer: Signer, order: Order, now: datetime) -> Envelope:
    """A new licence for this order, in the log and in `issued/`. Raises LicenseError; nothing is written then."""
    license_id = new_id("L", now.timestamp())
    return _put(folder, signer, draw_up(order, issued_at=now, license_id=license_id))


def renew(
    folder: VendorFolder, signer: Signer, license_id: str, now: datetime, **changes: Any
) -> Envelope:
    """The next revision: the term goes on where the newest ends, to `ends`. Changes are of the Order. Raises LicenseError."""
    _, newest = folder.revisions(license_id)[-1]
    order = replace(order_of(newest), starts=newest.expires_at)
    return _revise(folder, signer, newest, replace(order, **changes), now)


def upgrade(
    folder: VendorFolder, signer: Signer, license_id: str, now: datetime, **changes: Any
) -> Envelope:
    """The next revision: the same term with something else bought. Changes are of the Order. Raises LicenseError.

    It is built on the revision whose term runs now, so that a renewal that waits is not begun too early; that renewal has a lower
    revision then, and is issued again by `renew`.
    """
    every = [found for _, found in folder.revisions(license_id)]
    begun = [found for found in every if found.not_before <= now]
    if not changes:
        raise LicenseError("fields", "an upgrade changes something: say what was bought")
    basis = begun[-1] if begun else every[0]
    return _revise(folder, signer, every[-1], replace(order_of(basis), **changes), now)


def order_of(found: License) -> Order:
    """The order that buys what this licence says."""
    volume, dev = found.limits.volume, found.limits.dev
    return Order(
        kind=found.kind,
        licensee=found.licensee.name,
        customer_id=found.licensee.customer_id,
        order_ref=found.order_ref,
        starts=found.not_before,
        ends=found.expires_at,
        quantity=found.quantity,
        grace_days=(found.terminate_at - found.expires_at).days,
        emails=volume.emails if volume else None,
        period=volume.period if volume else "month",
        overage_pct=volume.overage_pct if volume and volume.on_exhausted == "overage" else None,
        recipients=dev.recipients if dev else (),
        pair_group=found.pair_group,
        endpoints=found.reporting.endpoints,
        offline_reports=found.reporting.offline_allowed,
        features=found.features,
        supersedes=found.supersedes,
    )


def checked(found: License) -> None:
    """Raises LicenseError with every mistake: of the fields one by one, and between them."""
    mistakes = []
    try:
        # A struct that is built is not validated; one that is read is.
        decode_closed(msgspec.json.encode(found), License)
    except LicenseError as error:
        mistakes.append(str(error))
    try:
        check_license(found)
    except LicenseError as error:
        mistakes.append(str(error))
    if mistakes:
        raise LicenseError("fields", "; ".join(mistakes))


def open_issued(folder: VendorFolder, envelope: Envelope) -> tuple[License, Opened]:
    """As a customer's machine would, with the folder's roots. Raises LicenseError."""
    return complete_chain(folder).open_license(envelope)


def _revise(
    folder: VendorFolder, signer: Signer, newest: License, order: Order, now: datetime
) -> Envelope:
    revision = newest.revision + 1
    drawn = draw_up(order, issued_at=now, license_id=newest.license_id, revision=revision)
    return _put(folder, signer, drawn)


def _put(folder: VendorFolder, signer: Signer, found: License) -> Envelope:
    checked(found)
    envelope = signer.sign(folder, LICENSE, found)
    _, opened = open_issued(folder, envelope)
    line = Issued(
        at=found.issued_at.timestamp(),
        sha256=opened.sha256,
        license_id=found.license_id,
        revision=found.revision,
        key_id=opened.key_id,
        kind=found.kind,
        order_ref=found.order_ref,
    )
    folder.put_issued(line, envelope)
    return envelope
