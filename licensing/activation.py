"""Takes a seat for this server and gives it back, online or by files carried by hand. The guard keeps what comes of it.

A request names the licence, the node key and the machine's hashed components (C20), never the host. The answer is believed when
the vendor signed it for this node, this licence and one of the requests that were made here: an old answer cannot be played
again. Asking twice with one key takes no second seat. Design 3.4.
"""

import secrets
from collections.abc import Collection
from typing import Protocol

import msgspec

from licensing.calendar import say_time
from licensing.envelope import Envelope, decode_closed, decode_envelope, encode_envelope
from licensing.errors import LicenseError
from licensing.model.activation import (
    Activation,
    ActivationRequest,
    Deactivation,
    Fingerprint,
    ServerClass,
)
from licensing.model.bodies import Refusal
from licensing.model.fields import ACTIVATION, ACTIVATION_REQUEST, DEACTIVATION
from licensing.model.license import Kind, License
from licensing.trust import Opened
from licensing.wire import MAX_ANSWER_BYTES, Answer, NodeIdentity, Wire

ACTIVATIONS = "/v1/activations"
MAX_LABEL = 64


class Opener(Protocol):
    """Who verifies (`licensing.trust.Trust`)."""

    def open(
        self, envelope: Envelope, payload_type: str, *, kind: Kind | None = None
    ) -> Opened: ...


class ActivationRefused(LicenseError):
    """The vendor answered, and gives no seat. `retry_after`: seconds it asked to wait; `is_busy`: it has not decided."""

    def __init__(self, answer: Answer) -> None:
        refusal = _refusal(answer)
        super().__init__(refusal.error, _words(refusal))
        self.retry_after = answer.retry_after
        self.is_busy = answer.status == 429 or answer.status >= 500


def build_request(
    found: License,
    license_sha256: str,
    key: NodeIdentity,
    *,
    fingerprint: Fingerprint,
    server_class: ServerClass,
    label: str,
    version: str,
    wall: float,
) -> Envelope:
    """The signed request for the seats of this licence."""
    request = ActivationRequest(
        license_sha256=license_sha256,
        license_id=found.license_id,
        revision=found.revision,
        node_pub=key.public,
        fp=fingerprint,
        server_class="backup" if found.kind is Kind.HOT_BACKUP else server_class,
        role="standby" if found.kind is Kind.HOT_BACKUP else "primary",
        seats=found.quantity if found.kind is Kind.STANDARD_SERVER else 1,
        label=label[:MAX_LABEL],
        version=version,
        nonce=secrets.token_hex(16),
        wall=int(wall),
    )
    return key.sign(ACTIVATION_REQUEST, msgspec.json.encode(request))


async def ask_online(wire: Wire, request: Envelope, now: float) -> Envelope:
    """Send a request; the answer as it came, not verified yet. Raises ActivationRefused, Unreachable."""
    answer = await wire.send(ACTIVATIONS, encode_envelope(request), now)
    if answer.status != 200:
        raise ActivationRefused(answer)
    return decode_envelope(answer.body, max_bytes=MAX_ANSWER_BYTES)


def read_activation(
    envelope: Envelope,
    opener: Opener,
    found: License,
    node_id: str,
    asked: Collection[str] | None,
) -> Activation:
    """The activation, if it is for this node and licence. Raises LicenseError.

    `asked`: SHA-256 of the requests made here; None for one that was verified before and is read again from our own disk.
    """
    opened = opener.open(envelope, ACTIVATION, kind=found.kind)
    activation = decode_closed(opened.payload, Activation)
    if activation.license_id != found.license_id:
        raise LicenseError("reply", f"this activates the licence {activation.license_id}")
    if activation.node_id != node_id:
        raise LicenseError(
            "reply",
            f"this activates the node {activation.node_id}; this server is {node_id}: each server makes a request of its own"
            " (`sluice license request`)",
        )
    if asked is not None and activation.in_reply_to not in asked:
        raise LicenseError(
            "reply",
            "this answers no request that is open here: make one (`sluice license request`)",
        )
    return activation


async def give_back(
    wire: Wire, key: NodeIdentity, activation_id: str, *, wall: float, now: float
) -> None:
    """Free the seat. Raises ActivationRefused, Unreachable. A seat that is free already is as good."""
    statement = Deactivation(
        activation_id=activation_id, node_id=key.id, wall=int(wall), nonce=secrets.token_hex(16)
    )
    envelope = key.sign(DEACTIVATION, msgspec.json.encode(statement))
    answer = await wire.send(
        f"{ACTIVATIONS}/{activation_id}", encode_envelope(envelope), now, method="DELETE"
    )
    if answer.status not in (200, 204, 404, 410):
        raise ActivationRefused(answer)


def _refusal(answer: Answer) -> Refusal:
    try:
        return decode_closed(answer.body, Refusal)
    except LicenseError:
        return Refusal(
            error=f"http_{answer.status}",
            text=f"the licence server answered with HTTP status {answer.status}",
        )


def _words(refusal: Refusal) -> str:
    if not refusal.seats:
        return refusal.text
    seats = "; ".join(
        f"{seat.label or 'no label'} ({seat.server_class}, {seat.seats}, last seen {say_time(seat.last_seen)})"
        for seat in refusal.seats
    )
    return f"{refusal.text}. Seats taken: {seats}"
