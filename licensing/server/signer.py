"""The server's own signature: a `server-online` key with its delegation. A licence-signing key is refused at the start.

Everything it signs carries the delegation, so that a node needs nothing but the vendor's root to believe it.
"""

import base64
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from licensing.envelope import (
    Envelope,
    Signature,
    decode_closed,
    decode_envelope,
    encode_envelope,
    key_id,
    pae,
    parse_armour,
    raw_key,
)
from licensing.errors import LicenseError
from licensing.model.fields import ACTIVATION, LICENSE, REWIND_GRANT, USAGE_ACK
from licensing.model.trust import Delegation

MAX_ROOTS_BYTES = 8 * 1024  # beside every answer; longer ones are fetched (`/v1/trust/N.root.json`)
MUST_SIGN = (ACTIVATION, USAGE_ACK, REWIND_GRANT)


class Signer:
    """Signs what the server says. `valid_until`: seconds; after it nodes believe nothing of it any more."""

    def __init__(
        self, key: Ed25519PrivateKey, delegation: Envelope, roots: Sequence[Envelope] = ()
    ) -> None:
        """Raises LicenseError when the delegation is for another key or another role."""
        terms = decode_closed(delegation.payload_bytes(), Delegation)
        if base64.b64decode(terms.key) != raw_key(key.public_key()):
            raise LicenseError(
                "delegation", "the delegation is for another key: give the one made with this key"
            )
        missing = [each for each in MUST_SIGN if each not in terms.payload_types]
        if terms.role != "server-online" or LICENSE in terms.payload_types or missing:
            raise LicenseError(
                "delegation",
                f"this key is delegated as {terms.role}; the server needs one delegated as server-online (and never one that"
                " may sign licences)",
            )
        self._key = key
        self._delegation = delegation
        # For nodes whose built-in root is older than the delegation.
        is_short = sum(len(encode_envelope(root)) for root in roots) <= MAX_ROOTS_BYTES
        self._roots = tuple(roots) if is_short else ()
        self.key_id = key_id(key.public_key())
        self.valid_from = terms.not_before.timestamp()
        self.valid_until = terms.not_after.timestamp()

    def sign(self, payload_type: str, statement: msgspec.Struct) -> bytes:
        """The statement as the JSON of a signed envelope."""
        payload = msgspec.json.encode(statement)
        # As `licensing.envelope.sign`, which asks the key for its id each time: a tenth of the work of an answer.
        signature = Signature(
            keyid=self.key_id,
            sig=base64.b64encode(self._key.sign(pae(payload_type, payload))).decode("ascii"),
        )
        return encode_envelope(
            Envelope(
                payload_type=payload_type,
                payload=base64.b64encode(payload).decode("ascii"),
                signatures=(signature,),
                roots=self._roots,
                delegation=self._delegation,
            )
        )

    def is_valid(self, now: float) -> bool:
        """Whether nodes believe what is signed now."""
        return self.valid_from <= now < self.valid_until


def load_signer(
    key: Path, delegation: Path, passphrase: str | None = None, roots: Sequence[Envelope] = ()
) -> Signer:
    """From a PKCS8 PEM file (a systemd credential, usually) and its delegation. Raises LicenseError with what to do."""
    try:
        if stat.S_IMODE(key.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH):
            raise LicenseError("key", f"{key} can be read by everybody: chmod 600 {key}")
        private = load_pem_private_key(key.read_bytes(), (passphrase or "").encode() or None)
        text = delegation.read_bytes()
    except (OSError, ValueError, TypeError) as error:
        raise LicenseError("key", f"the key {key} cannot be read: {error}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise LicenseError("key", f"{key} is no Ed25519 key")
    return Signer(private, read_envelope(text), roots)


def read_envelope(text: bytes) -> Envelope:
    """An envelope as a file has it: armoured, or bare JSON. Raises EnvelopeError."""
    if text.lstrip().startswith(b"{"):
        return decode_envelope(text)
    return parse_armour(text)


def credential(name: str) -> Path | None:
    """Where systemd put a credential of this name, if it did."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / name if folder else None
    return path if path is not None and path.exists() else None
