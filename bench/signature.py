"""One DKIM key of each algorithm for all contestants, and the proof that what they send really is signed with it.

A contestant that did not sign would be fast: before and after a signed run is measured, messages are
taken at a port of their own (`check.example` is routed there) and dkimpy verifies them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from bench.processes import RunFailed

DOMAIN = "bench.example"
SELECTOR = "bench"
CHECK_DOMAIN = "check.example"
RSA_BITS = 2048
RSA, ED25519 = "rsa", "ed25519"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private key's file and what the DNS would say of it."""

    path: Path
    record: bytes


def make_keys(directory: Path) -> dict[str, SigningKey]:
    """Write a new key of each algorithm to `directory`, in the form OpenDKIM and Sluice both read."""
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    rsa_public = rsa_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    ed_key = ed25519.Ed25519PrivateKey.generate()
    # RFC 8463 §4: the 32 bytes of the key alone, where RSA has them wrapped.
    ed_public = ed_key.public_key().public_bytes_raw()
    return {
        RSA: _keep(directory / "rsa.pem", rsa_key, RSA, rsa_public),
        ED25519: _keep(directory / "ed25519.pem", ed_key, ED25519, ed_public),
    }


def _keep(
    path: Path,
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    kind: str,
    public: bytes,
) -> SigningKey:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return SigningKey(path, b"v=DKIM1; k=%s; p=%s" % (kind.encode(), base64.b64encode(public)))


def require_signed(message: bytes, key: SigningKey) -> None:
    """Raise RunFailed unless `message` carries a signature that verifies with `key`."""
    if b"dkim-signature:" not in message.lower():
        raise RunFailed("the message was not signed")

    def answer(name: bytes, timeout: int = 5) -> bytes:
        return key.record

    try:
        good = dkim.verify(message, dnsfunc=answer)  # type: ignore[no-untyped-call]
    except dkim.DKIMException as error:
        raise RunFailed(f"the signature does not verify: {error}") from error
    if not good:
        raise RunFailed("the signature does not verify")
