"""A whole vendor in memory: three root keys (two must sign), and a key for each role. Nothing of it touches a disk.

`Vendor().issue(Kind.VOLUME)` is a licence file that `Vendor().trust` of the same vendor opens. Times are fixed, so that a test
says the moment it is about; keys are new each time.
"""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licensing.envelope import Envelope, encode_envelope, format_armour, key_id, raw_key, sign
from licensing.ids import new_id
from licensing.model.fields import (
    ACTIVATION,
    DELEGATION,
    LICENSE,
    REVOCATIONS,
    REWIND_GRANT,
    ROOT,
    USAGE_ACK,
)
from licensing.model.license import Kind, License
from licensing.model.trust import Delegation, Revocation, Revocations, Root
from licensing.trust import Trust
from licensing.vendor.terms import Order, draw_up

BORN = datetime(2026, 1, 1, tzinfo=UTC)  # of the vendor's first root and keys
STARTS = datetime(2026, 12, 1, tzinfo=UTC)  # of every licence, unless a test says otherwise
ENDS = datetime(2027, 12, 1, tzinfo=UTC)
ISSUED = datetime(2026, 11, 20, 9, tzinfo=UTC)

ROLES = {
    "license-signing": (LICENSE, ACTIVATION),
    "server-online": (ACTIVATION, USAGE_ACK, REWIND_GRANT),
    "revocation": (REVOCATIONS,),
}


def public(key: Ed25519PrivateKey) -> str:
    """The base64 of the raw public key, as statements carry it."""
    return base64.b64encode(raw_key(key.public_key())).decode("ascii")


class Vendor:
    """Three root keys, a chain of roots, one delegated key a role."""

    def __init__(self, *, production: bool = True) -> None:
        self.root_keys = [Ed25519PrivateKey.generate() for _ in range(3)]
        self.keys: dict[str, Ed25519PrivateKey] = {}
        self.delegations: dict[str, Envelope] = {}
        self.root = Root(
            version=1,
            issued_at=BORN,
            expires_at=BORN + timedelta(days=5 * 365),
            production=production,
            threshold=2,
            keys=tuple(map(public, self.root_keys)),
        )
        self.roots = [sign(ROOT, msgspec.json.encode(self.root), self.root_keys[:2])]
        for role in ROLES:
            self.delegate(role)

    @property
    def root_bytes(self) -> bytes:
        """The newest root with those before it, as `root.json` holds it."""
        *earlier, newest = self.roots
        return encode_envelope(msgspec.structs.replace(newest, roots=tuple(earlier)))

    @property
    def trust(self) -> Trust:
        """What a customer's machine believes that has this vendor's newest root built in."""
        return Trust.load(self.root_bytes)

    def key_id(self, role: str) -> str:
        """The id of the key that signs in this role now."""
        return key_id(self.keys[role].public_key())

    def delegate(self, role: str, **changes: Any) -> Envelope:
        """Give a role a new key, from now on used by `sign`; changes are of the Delegation."""
        key = Ed25519PrivateKey.generate()
        given = Delegation(
            key=public(key),
            role=role,  # type: ignore[arg-type]
            payload_types=ROLES[role],
            kinds=tuple(Kind) if role == "license-signing" else (),
            not_before=BORN,
            not_after=BORN + timedelta(days=5 * 365),
            issued_at=self.root.issued_at,
        )
        given = msgspec.structs.replace(given, **changes)
        self.keys[role] = key
        self.delegations[role] = sign(DELEGATION, msgspec.json.encode(given), self.root_keys[:2])
        return self.delegations[role]

    def rotate(self, *, new_keys: bool = False, **changes: Any) -> Envelope:
        """Root N+1, signed by two of the old keys and two of its own; changes are of the Root."""
        before = self.root_keys
        if new_keys:
            self.root_keys = [Ed25519PrivateKey.generate() for _ in range(3)]
        values: dict[str, Any] = {
            "version": self.root.version + 1,
            "issued_at": self.root.issued_at + timedelta(days=300),
            "expires_at": self.root.expires_at + timedelta(days=300),
            "keys": tuple(map(public, self.root_keys)),
        }
        self.root = msgspec.structs.replace(self.root, **(values | changes))
        signers = [*before[:2], *self.root_keys[:2]] if new_keys else before[:2]
        self.roots.append(sign(ROOT, msgspec.json.encode(self.root), signers))
        return self.roots[-1]

    def sign(
        self, payload_type: str, statement: msgspec.Struct, *, role: str = "server-online"
    ) -> Envelope:
        """The statement as this role signs it, with its delegation."""
        return sign(
            payload_type,
            msgspec.json.encode(statement),
            [self.keys[role]],
            delegation=self.delegations[role],
        )

    def license(self, kind: Kind, **changes: Any) -> License:
        """A licence with sensible values of its kind; changes are of the License."""
        order = Order(
            kind=kind,
            licensee="Example SA",
            customer_id="C-1042",
            order_ref="OF-2026-0117",
            starts=STARTS,
            ends=ENDS,
            emails=10_000_000 if kind is Kind.VOLUME else None,
            recipients=("@example.test",) if kind is Kind.DEVELOPMENT else (),
            pair_group="pair-1" if kind is Kind.HOT_BACKUP else None,
            endpoints=("https://license.vendor.example",),
        )
        plain = draw_up(order, issued_at=ISSUED, license_id=new_id("L", ISSUED.timestamp()))
        return msgspec.structs.replace(plain, **changes)

    def issue(self, kind: Kind, **changes: Any) -> Envelope:
        """The licence, signed."""
        return self.sign_license(self.license(kind, **changes))

    def sign_license(self, found: License) -> Envelope:
        """This licence, signed as it is; nothing is checked."""
        return self.sign(LICENSE, found, role="license-signing")

    def file(self, kind: Kind, **changes: Any) -> bytes:
        """The licence as a file."""
        return format_armour(self.issue(kind, **changes)).encode()

    def revocations(self, number: int, *revoked: Revocation) -> Envelope:
        """The signed list of what is taken back."""
        listed = Revocations(number=number, issued_at=ISSUED, revoked=revoked)
        return self.sign(REVOCATIONS, listed, role="revocation")
