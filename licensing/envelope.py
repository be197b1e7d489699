"""DSSE envelopes: signed bytes, never canonical JSON.

What is signed is PAE(payload type, payload), so that one kind of statement can never be presented as another (abuse case A4).
`keyid` is only a hint for people: every trusted key is tried. Nothing of the payload is parsed before a signature holds.
DSSE v1.0.2, https://github.com/secure-systems-lab/dsse (protocol.md, envelope.md).
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from licensing.errors import EnvelopeError, SignatureError

MAX_ENVELOPE_BYTES = 64 * 1024
MAX_SIGNATURES = 16  # a root is signed by a handful of people

BEGIN, END = "-----BEGIN SLUICE LICENSE-----", "-----END SLUICE LICENSE-----"

MEDIA_TYPE = "application/vnd.dsse+json"  # of an envelope on its way over HTTP

T = TypeVar("T")


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature; `keyid` says whose it claims to be."""

    keyid: str = ""
    sig: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A signed statement. `roots` and `delegation` bring the keys that are needed to believe it, each signed itself."""

    payload_type: str
    payload: str
    signatures: tuple[Signature, ...]
    roots: tuple["Envelope", ...] = ()
    delegation: "Envelope | None" = None

    def payload_bytes(self) -> bytes:
        """The exact signed bytes. Raises EnvelopeError when they are not base64."""
        return _from_base64(self.payload)

    def payload_sha256(self) -> str:
        """Hex SHA-256 of the signed bytes: the name of a statement everywhere."""
        return hashlib.sha256(self.payload_bytes()).hexdigest()


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what is signed in truth (DSSE protocol.md)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(key: Ed25519PublicKey) -> str:
    """What a key is called: `sha256:` and the hex digest of its 32 raw bytes."""
    return "sha256:" + hashlib.sha256(raw_key(key)).hexdigest()


def raw_key(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of RFC 8032."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(
    payload_type: str,
    payload: bytes,
    keys: Iterable[Ed25519PrivateKey],
    *,
    roots: Sequence[Envelope] = (),
    delegation: Envelope | None = None,
) -> Envelope:
    """An envelope of these bytes, signed by each of the keys."""
    message = pae(payload_type, payload)
    signatures = tuple(
        Signature(
            keyid=key_id(key.public_key()), sig=base64.b64encode(key.sign(message)).decode("ascii")
        )
        for key in keys
    )
    return Envelope(
        payload_type=payload_type,
        payload=base64.b64encode(payload).decode("ascii"),
        signatures=signatures,
        roots=tuple(roots),
        delegation=delegation,
    )


def verify(
    envelope: Envelope,
    payload_type: str,
    keys: Mapping[str, Ed25519PublicKey],
    *,
    threshold: int = 1,
) -> tuple[bytes, frozenset[str]]:
    """The payload and the ids of the keys that signed it. Raises SignatureError, EnvelopeError.

    `keys` are those trusted for this payload type, by id. Two signatures of one key count once (A6); a forged or missing
    `keyid` changes nothing (A5).
    """
    if envelope.payload_type != payload_type:
        raise SignatureError(f"a {envelope.payload_type} stands where a {payload_type} belongs")
    payload = envelope.payload_bytes()
    message = pae(payload_type, payload)
    signed_by: set[str] = set()
    for signature in envelope.signatures[:MAX_SIGNATURES]:
        raw = _from_base64(signature.sig)
        signed_by.update(name for name, key in keys.items() if _holds(key, raw, message))
    if len(signed_by) < threshold:
        raise SignatureError(
            f"signature does not match: {len(signed_by)} of {threshold} trusted keys signed these bytes"
        )
    return payload, frozenset(signed_by)


def _holds(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


# -- text ---------------------------------------------------------------------------------------------


def encode_envelope(envelope: Envelope) -> bytes:
    """As it travels over HTTP and lies in databases."""
    return msgspec.json.encode(envelope)


def decode_envelope(data: bytes, *, max_bytes: int = MAX_ENVELOPE_BYTES) -> Envelope:
    """Read what a stranger sent. Raises EnvelopeError."""
    if len(data) > max_bytes:
        raise EnvelopeError(f"an envelope has at most {max_bytes} bytes, this has {len(data)}")
    return decode_closed(data, Envelope)


def format_armour(envelope: Envelope) -> str:
    """As a licence file: no unsigned header line, for those mislead."""
    text = base64.b64encode(encode_envelope(envelope)).decode("ascii")
    lines = [text[start : start + 76] for start in range(0, len(text), 76)]
    return "\n".join((BEGIN, *lines, END, ""))


def parse_armour(text: str | bytes) -> Envelope:
    """Read a licence file. Raises EnvelopeError, with what is wrong with it."""
    if len(text) > MAX_ENVELOPE_BYTES * 2:
        raise EnvelopeError(f"a licence file has at most {MAX_ENVELOPE_BYTES * 2} bytes")
    try:
        lines = (text.decode("ascii") if isinstance(text, bytes) else text).split()
    except UnicodeDecodeError:
        raise EnvelopeError(
            "this is not a licence file: it holds bytes that are not text"
        ) from None
    joined = " ".join(lines)
    if not (joined.startswith(BEGIN) and joined.endswith(END)):
        raise EnvelopeError(f"this is not a licence file: it does not begin with {BEGIN}")
    return decode_envelope(_from_base64("".join(joined[len(BEGIN) : -len(END)].split())))


def decode_closed(data: bytes, kind: type[T]) -> T:
    """JSON in which no object has a key twice, as a struct of this kind. Raises EnvelopeError.

    msgspec alone takes the last of two equal keys, and another reader the first: the two would disagree about what was signed.
    """
    try:
        return msgspec.convert(
            json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant), kind
        )
    except (ValueError, RecursionError) as error:  # msgspec's and json's own are ValueErrors
        raise EnvelopeError(f"not what was expected: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EnvelopeError("this is not base64") from None
