"""Who may sign what, and which licences are taken back: roots, delegations, revocations."""

from typing import Literal

from msgspec import Struct

from licensing.model.fields import Hash, Moment, Name, Positive
from licensing.model.license import Kind


class Root(Struct, frozen=True, kw_only=True):
    """`trust-root.v1`: who may delegate. Version N+1 is signed by the threshold of N and by its own (TUF's rule)."""

    v: Literal[1] = 1
    version: Positive
    issued_at: Moment
    expires_at: Moment
    production: bool  # a root that is not validates Development licences only
    threshold: Positive
    keys: tuple[str, ...]  # base64 of raw Ed25519 public keys
    revoked_after: dict[str, Moment] = {}  # key id → no statement issued later is believed
    compromised: tuple[str, ...] = ()  # key ids: believed only for payloads in known_good
    known_good: tuple[Hash, ...] = ()


class Delegation(Struct, frozen=True, kw_only=True):
    """`delegation.v1`: a key that may sign these payload types (and, of licences, these kinds) in this window."""

    v: Literal[1] = 1
    key: str  # base64 of the raw Ed25519 public key
    role: Literal["license-signing", "server-online", "revocation"]
    payload_types: tuple[str, ...]
    kinds: tuple[Kind, ...] = ()
    not_before: Moment
    not_after: Moment
    issued_at: Moment


class Revocation(Struct, frozen=True, kw_only=True):
    """One licence taken back, from a moment on, for a reason (C2: never at once)."""

    license_id: str
    effective_at: Moment
    reason: Name


class Revocations(Struct, frozen=True, kw_only=True):
    """`revocations.v1`: all of them, with a number that only rises."""

    v: Literal[1] = 1
    number: Positive
    issued_at: Moment
    revoked: tuple[Revocation, ...] = ()
