"""One DKIM key for all contestants, and the proof that what they send really is signed with it.

A contestant that did not sign would be fast: before a signed run is measured, one message is taken
at a port of its own (`check.example` is routed there) and dkimpy verifies it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.processes import RunFailed

DOMAIN = "bench.example"
SELECTOR = "bench"
CHECK_DOMAIN = "check.example"
RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private key's file and what the DNS would say of it."""

    path: Path
    record: bytes


def make_key(directory: Path) -> SigningKey:
    """Write a new RSA-2048 key to `directory`, in the form OpenDKIM and Sluice both read."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    path = directory / "bench.pem"
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return SigningKey(path, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public))


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
