"""Whom we believe: a chain of roots, the keys they delegate to, and the one place where signed statements are opened.

A root of three keys (threshold two) delegates narrow keys: which statements, which kinds of licence, in which window. Root N+1
is believed when the threshold of N and its own have signed it (TUF's rule). A statement is judged at the moment it was issued,
so that a planned rotation leaves old licences valid; a stolen key can back-date, and therefore a key that the newest root calls
compromised is believed only for payloads in that root's `known_good`. Design 3.2, 3.14.

`root.json` beside this module is NOT the vendor's: it is a non-production root whose private keys were thrown away when it was
made, so that nothing at all can be signed under it. A release build puts the vendor's root there. A root that is not
production, or is named in configuration or on a command line, opens Development licences only.

Never reads a clock, never writes a file: `advance` gives a new Trust, and the store keeps the roots it was given.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from itertools import pairwise

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from licensing.envelope import (
    Envelope,
    decode_closed,
    decode_envelope,
    encode_envelope,
    key_id,
    verify,
)
from licensing.errors import EnvelopeError, LicenseError, SignatureError, UpgradeRequired
from licensing.model.fields import ACTIVATION, DELEGATION, LICENSE, REVOCATIONS, ROOT, Count, Moment
from licensing.model.license import KNOWN_CRIT, Kind, License, check_license
from licensing.model.trust import Delegation, Root

MAX_ROOT_BYTES = 1024 * 1024  # the list of known good licences after a theft is long
MAX_ROOTS = 64  # one a year, and room for accidents

# What a role may ever sign, whatever its delegation says. A stolen online key must not make licences (3.14).
OFFLINE_ONLY = frozenset({LICENSE, ROOT, DELEGATION, REVOCATIONS})
SIGNED_BY_ROLE = {
    "license-signing": frozenset({LICENSE, ACTIVATION}),
    "revocation": frozenset({REVOCATIONS}),
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A statement that was believed. `production`: the root behind it is the vendor's own, built in."""

    payload: bytes
    sha256: str  # hex, of the payload: its name everywhere
    key_id: str
    production: bool
    issued_at: float  # seconds since 1970; the statement's `issued_at` or `server_time`


class _Head(msgspec.Struct, frozen=True):
    """What must be known of any statement before it is read as what it is; unknown fields are left alone."""

    v: int = 1
    crit: tuple[str, ...] = ()
    kind: str = ""
    issued_at: Moment | None = None
    server_time: Count | None = None


class Trust:
    """A chain of roots, each believed because of the one before; the newest says which keys are withdrawn."""

    def __init__(
        self, chain: tuple[Root, ...], signed: tuple[Envelope, ...], *, is_named: bool
    ) -> None:
        self._chain = chain
        self._signed = signed
        self._is_named = is_named

    @classmethod
    def load(cls, root_bytes: bytes, *, is_named: bool = False) -> "Trust":
        """Believe this root: the JSON of an envelope, with the roots before it in `roots`. Raises LicenseError.

        `is_named`: it comes from configuration or a command line, and opens Development licences only.
        """
        first, *later = read_chain(root_bytes)
        root = _read_root(first)
        _signed_by(root, first)
        return cls((root,), (first,), is_named=is_named).advance(later)

    @classmethod
    def built_in(cls) -> "Trust":
        """The root this release was built with."""
        return cls.load(resources.files("licensing").joinpath("root.json").read_bytes())

    @property
    def root(self) -> Root:
        """The newest root."""
        return self._chain[-1]

    @property
    def production(self) -> bool:
        """Whether licences for real mail can be opened at all."""
        return self.root.production and not self._is_named

    def dump(self) -> bytes:
        """All roots as one file, in the form `load` reads."""
        *earlier, newest = self._signed
        return encode_envelope(msgspec.structs.replace(newest, roots=tuple(earlier)))

    def roots_after(self, version: int) -> tuple[Envelope, ...]:
        """The roots that someone who holds `version` lacks, ascending."""
        pairs = zip(self._chain, self._signed, strict=True)
        return tuple(signed for root, signed in pairs if root.version > version)

    def advance(self, roots: Sequence[Envelope]) -> "Trust":
        """Believe these newer roots too, ascending; those already held are passed over. Raises LicenseError."""
        chain, signed = list(self._chain), list(self._signed)
        if len(roots) > MAX_ROOTS:
            raise LicenseError("root", f"a file brings at most {MAX_ROOTS} roots")
        for envelope in roots:
            following = _read_root(envelope)
            if following.version <= chain[-1].version:
                continue
            _check_succession(chain[-1], following, envelope)
            chain.append(following)
            signed.append(msgspec.structs.replace(envelope, roots=()))
        return Trust(tuple(chain), tuple(signed), is_named=self._is_named)

    def is_compromised(self, name: str) -> bool:
        """Whether the newest root says that the key of this id was stolen."""
        return name in self.root.compromised

    def may_sign_at(self, name: str, at: datetime) -> bool:
        """Whether the key of this id is neither stolen nor withdrawn at this moment."""
        withdrawn = self.root.revoked_after.get(name)
        return not self.is_compromised(name) and (withdrawn is None or at < withdrawn)

    def open(self, envelope: Envelope, payload_type: str, *, kind: Kind | None = None) -> Opened:
        """The verified bytes of a statement of the vendor's. Raises LicenseError; nothing is parsed before a signature holds.

        `kind`: of the licence it is about. A licence says its kind itself, and it must then be this one.
        """
        trust = self.advance(envelope.roots)
        if envelope.delegation is None:
            raise SignatureError("it does not say by which delegation its key may sign")
        delegation, is_doubtful = trust._open_delegation(envelope.delegation)
        key = read_key(delegation.key)
        payload, _ = verify(envelope, payload_type, {key_id(key): key})
        head = _read_head(payload)
        opened = Opened(
            payload, envelope.payload_sha256(), key_id(key), trust.production, _moment(head)
        )
        if payload_type == LICENSE:
            kind = _kind_of(head, kind)
            if kind not in delegation.kinds:
                raise LicenseError("scope", f"the key {opened.key_id} may not sign {kind} licences")
        trust._judge(opened, delegation, payload_type)
        if is_doubtful or trust.is_compromised(opened.key_id):
            trust._refuse_unknown(opened)
        if not trust.production and kind not in (None, Kind.DEVELOPMENT):
            raise LicenseError(
                "not_production",
                f"its root is not the vendor's own and opens Development licences only, not {kind}",
            )
        return opened

    def open_license(self, envelope: Envelope) -> tuple[License, Opened]:
        """A licence whose signature, scope and fields hold. Raises LicenseError; UpgradeRequired when we are too old for it."""
        opened = self.open(envelope, LICENSE)
        found = decode_closed(opened.payload, License)
        check_license(found)
        return found, opened

    # -- inside ---------------------------------------------------------------------------------------

    def _open_delegation(self, envelope: Envelope) -> tuple[Delegation, bool]:
        """The delegation, and whether a stolen root key was needed for it: then only what is known to be good is believed."""
        stolen = frozenset(self.root.compromised)
        found = self._vouched_for(envelope, stolen)
        if found is not None:
            return found, False
        found = self._vouched_for(envelope, frozenset()) if stolen else None
        if found is not None:
            return found, True
        raise SignatureError(
            "signature does not match: no root we trust has signed its delegation in that root's time"
        )

    def _vouched_for(self, envelope: Envelope, without: frozenset[str]) -> Delegation | None:
        """By the root that was in force when it was signed: the newest or an earlier one."""
        ends = [following.issued_at for _, following in pairwise(self._chain)]
        for root, end in zip(reversed(self._chain), (None, *reversed(ends)), strict=True):
            keys = {name: key for name, key in _keys(root).items() if name not in without}
            try:
                payload, _ = verify(envelope, DELEGATION, keys, threshold=root.threshold)
            except SignatureError:
                continue
            found = decode_closed(payload, Delegation)
            # A root that has a successor vouches for nothing new, and a root for nothing that was before it.
            last = root.expires_at if end is None else min(end, root.expires_at)
            if root.issued_at <= found.issued_at <= last:
                return found
        return None

    def _judge(self, opened: Opened, delegation: Delegation, payload_type: str) -> None:
        """Scope, window, withdrawal: design 3.2's second half."""
        root, name = self.root, opened.key_id
        if payload_type not in delegation.payload_types or not _may_sign(
            delegation.role, payload_type
        ):
            raise LicenseError("scope", f"the key {name} may not sign a {payload_type}")
        window = delegation.not_before.timestamp(), delegation.not_after.timestamp()
        if not window[0] <= opened.issued_at < window[1]:
            raise LicenseError("window", f"the key {name} was not in its window at `issued_at`")
        withdrawn = root.revoked_after.get(name)
        if withdrawn is not None and opened.issued_at >= withdrawn.timestamp():
            raise LicenseError("revoked_key", f"the key {name} was withdrawn before `issued_at`")

    def _refuse_unknown(self, opened: Opened) -> None:
        if opened.sha256 not in self.root.known_good:
            raise LicenseError(
                "compromised_key",
                f"the key {opened.key_id}, or one that vouched for it, was stolen, and this is not among what the vendor"
                " signed with it: ask the vendor for a new file",
            )


def _may_sign(role: str, payload_type: str) -> bool:
    allowed = SIGNED_BY_ROLE.get(role)
    return payload_type not in OFFLINE_ONLY if allowed is None else payload_type in allowed


def _kind_of(head: _Head, expected: Kind | None) -> Kind:
    if head.kind not in set(Kind):
        raise UpgradeRequired(
            f"upgrade required: this version does not know licences of the kind {head.kind[:40]!r}"
        )
    kind = Kind(head.kind)
    if expected not in (None, kind):
        raise LicenseError("kind", f"a {kind} licence stands where a {expected} licence belongs")
    return kind


def _read_head(payload: bytes) -> _Head:
    head = decode_closed(payload, _Head)
    unknown = sorted(set(head.crit) - KNOWN_CRIT)
    if head.v != 1 or unknown:
        what = f"v{head.v}" if head.v != 1 else ", ".join(each[:40] for each in unknown[:5])
        raise UpgradeRequired(f"upgrade required: this version does not understand {what}")
    return head


def _moment(head: _Head) -> float:
    if head.issued_at is not None:
        return head.issued_at.timestamp()
    if head.server_time is not None:
        return float(head.server_time)
    raise EnvelopeError("a signed statement says when it was issued")


# -- roots --------------------------------------------------------------------------------------------


def read_chain(data: bytes) -> tuple[Envelope, ...]:
    """The roots of a file like `root.json`, ascending; none is believed yet. Raises LicenseError."""
    newest = decode_envelope(data, max_bytes=MAX_ROOT_BYTES)
    return (*newest.roots, msgspec.structs.replace(newest, roots=()))


def read_key(text: str) -> Ed25519PublicKey:
    """A public key from the base64 of its 32 bytes. Raises LicenseError."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise LicenseError("key", "this is not the base64 of an Ed25519 public key") from None


def _keys(root: Root) -> dict[str, Ed25519PublicKey]:
    """By id, so that a key that stands there twice counts once."""
    return {key_id(key): key for key in map(read_key, root.keys)}


def _read_root(envelope: Envelope) -> Root:
    """Not believed yet: which keys must have signed it stands in it."""
    if envelope.payload_type != ROOT:
        raise SignatureError(f"a {envelope.payload_type} stands where a root belongs")
    root = decode_closed(envelope.payload_bytes(), Root)
    if root.threshold > len(_keys(root)):
        raise LicenseError("root", f"root {root.version} has fewer keys than its threshold")
    return root


def _signed_by(root: Root, envelope: Envelope, without: Iterable[str] = ()) -> None:
    keys = {name: key for name, key in _keys(root).items() if name not in set(without)}
    verify(envelope, ROOT, keys, threshold=root.threshold)


def _check_succession(held: Root, following: Root, envelope: Envelope) -> None:
    if following.version != held.version + 1:
        raise LicenseError(
            "root",
            f"root {following.version} cannot follow root {held.version}: those between are missing",
        )
    if following.production != held.production:
        # Else a root for trials could be made one for real mail.
        raise LicenseError("root", "a root does not become production by rotation, nor lose it")
    if following.issued_at < held.issued_at:
        raise LicenseError("root", f"root {following.version} is older than the one before it")
    _signed_by(held, envelope)
    _signed_by(following, envelope, without=following.compromised)
