"""Offline activation: a request carried here by hand, and the certificate that is carried back (3.4).

The seats are those of the offline log only; a vendor who also runs the licence server activates there, or sees to it that a
licence is activated in one of the two. Answering the same node again gives it no second seat.
"""

import base64
import secrets
from datetime import datetime, timedelta

from licensing.envelope import Envelope, decode_closed, decode_envelope, parse_armour, verify
from licensing.errors import LicenseError, SignatureError
from licensing.ids import new_id
from licensing.model.activation import Activation, ActivationRequest
from licensing.model.fields import ACTIVATION, ACTIVATION_REQUEST
from licensing.model.license import Kind, License
from licensing.nodekey import node_id
from licensing.trust import read_key
from licensing.vendor.ceremony import complete_chain
from licensing.vendor.folder import Activated, VendorFolder
from licensing.vendor.issuing import Signer

VOLUME_DAYS = timedelta(days=35)  # then a volume node must have been heard of again (3.4)


def read_request(data: bytes) -> tuple[ActivationRequest, Envelope]:
    """A request that its own node key has signed. Raises LicenseError."""
    envelope = decode_envelope(data) if data.lstrip()[:1] == b"{" else parse_armour(data)
    if envelope.payload_type != ACTIVATION_REQUEST:
        raise SignatureError(f"this is a {envelope.payload_type}, not a request for activation")
    request = decode_closed(envelope.payload_bytes(), ActivationRequest)
    key = read_key(request.node_pub)
    verify(envelope, ACTIVATION_REQUEST, {"node": key})
    return request, envelope


def activate_offline(folder: VendorFolder, signer: Signer, data: bytes, now: datetime) -> Envelope:
    """The certificate for this request, logged. Raises LicenseError."""
    request, envelope = read_request(data)
    found = _license(folder, request)
    _refuse(found, request, now)
    node = node_id(base64.b64decode(request.node_pub))
    standing = [each for each in _standing(folder, found.license_id) if each.node_id == node]
    _refuse_seats(folder, found, request, node)
    activation_id = standing[0].activation_id if standing else new_id("A", now.timestamp())
    activation = Activation(
        activation_id=activation_id,
        license_id=found.license_id,
        node_id=node,
        seats=request.seats,
        role="standby" if found.kind is Kind.HOT_BACKUP else "primary",
        epoch=1,
        token="t_" + secrets.token_urlsafe(18),
        valid_until=int(_valid_until(found, now).timestamp()),
        fp=request.fp,
        server_time=int(now.timestamp()),
        in_reply_to=envelope.payload_sha256(),
    )
    signed = signer.sign(folder, ACTIVATION, activation)
    opened = complete_chain(folder).open(signed, ACTIVATION, kind=found.kind)
    folder.put_activated(
        Activated(
            at=now.timestamp(),
            sha256=opened.sha256,
            key_id=opened.key_id,
            activation_id=activation_id,
            license_id=found.license_id,
            node_id=node,
            seats=request.seats,
        )
    )
    return signed


def release(folder: VendorFolder, activation_id: str, now: datetime) -> None:
    """Give the seat of an offline activation back; the vendor has the customer's word for it. Raises LicenseError."""
    known = [each for each in folder.activated() if each.activation_id == activation_id]
    if not known:
        raise LicenseError(
            "unknown_activation", f"{activation_id} is not in the log of activations"
        )
    last = known[-1]
    folder.put_activated(
        Activated(
            at=now.timestamp(),
            sha256=last.sha256,
            key_id=last.key_id,
            activation_id=activation_id,
            license_id=last.license_id,
            node_id=last.node_id,
            seats=0,
        )
    )


def _license(folder: VendorFolder, request: ActivationRequest) -> License:
    for line, found in folder.revisions(request.license_id):
        if line.sha256 == request.license_sha256:
            return found
    raise LicenseError(
        "unknown_license", f"this file of {request.license_id} was never issued here: it is forged"
    )


def _refuse(found: License, request: ActivationRequest, now: datetime) -> None:
    if request.server_class not in found.binding.allow:
        raise LicenseError(
            "server_class",
            f"the licence allows {', '.join(found.binding.allow)}, not a {request.server_class}",
        )
    if now > found.terminate_at:
        raise LicenseError("ended", f"{found.license_id} is past its term and its grace")


def _standing(folder: VendorFolder, license_id: str) -> list[Activated]:
    """The activations of a licence that were not given back: the newest line of each."""
    last = {
        each.activation_id: each for each in folder.activated() if each.license_id == license_id
    }
    return [each for each in last.values() if each.seats]


def _refuse_seats(
    folder: VendorFolder, found: License, request: ActivationRequest, node: str
) -> None:
    if found.limits.max_nodes is None:
        return
    taken = [each for each in _standing(folder, found.license_id) if each.node_id != node]
    free = found.quantity - sum(each.seats for each in taken)
    if request.seats > free:
        names = ", ".join(f"{each.activation_id} (node {each.node_id})" for each in taken)
        raise LicenseError(
            "seat_limit",
            f"{request.seats} seat(s) asked for, {max(free, 0)} of {found.quantity} free; taken by: {names}."
            " Free one with `sluice-license activate-offline --release ACTIVATION`",
        )


def _valid_until(found: License, now: datetime) -> datetime:
    """The whole term where no contact is owed; a volume licence that must report is heard of again before (3.4)."""
    if found.kind is Kind.VOLUME and not found.reporting.offline_allowed:
        return min(now + VOLUME_DAYS, found.terminate_at)
    return found.terminate_at
