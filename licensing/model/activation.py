"""Seats: a node asks for one, has it, gives it back; and asks for the newest file of its licence."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from licensing.model.fields import Count, Hash, Positive

ServerClass = Literal["physical", "vm", "container", "backup"]
Role = Literal["primary", "standby", "active", "fenced"]
Fingerprint = dict[str, Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]]


class ActivationRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`activation-request.v1`, signed by the node key it carries. Nothing in it names the host."""

    v: Literal[1] = 1
    license_sha256: Hash
    license_id: str
    revision: Positive
    node_pub: str  # base64 of the raw key
    fp: Fingerprint
    server_class: ServerClass
    role: Role = "primary"
    seats: Positive = 1
    label: Annotated[str, Meta(max_length=64)] = ""  # only what the operator typed
    version: Annotated[str, Meta(max_length=32)]
    nonce: Annotated[str, Meta(min_length=16, max_length=64)]
    wall: Count


class Activation(Struct, frozen=True, kw_only=True):
    """`activation.v1`: this node has its seats until then."""

    v: Literal[1] = 1
    activation_id: Annotated[str, Meta(pattern="^A[0-9A-HJKMNP-TV-Z]{26}$")]
    license_id: str
    node_id: str
    seats: Positive
    role: Role
    fence: Count = 0
    epoch: Positive
    token: str
    valid_until: Count
    fp: Fingerprint
    server_time: Count
    in_reply_to: Hash


class Deactivation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`deactivation.v1`, signed by the node key: the seat is free again."""

    v: Literal[1] = 1
    activation_id: str
    node_id: str
    wall: Count
    nonce: str


class LicenseQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`license-query.v1`, signed by the node key: which file of this licence is the newest?"""

    v: Literal[1] = 1
    license_id: str
    activation_id: str
    node_id: str
    wall: Count
