"""The vendor's private keys: Ed25519 as PKCS8 PEM, 0600, under a passphrase if one is given.

A key is written once and never over another. Its public half lies beside it (`NAME.pub`, base64 of 32 bytes): that is what a
ceremony or a delegation needs, so that a root key can stay on the stick it was made on.
"""

import base64
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from licensing.envelope import raw_key
from licensing.errors import LicenseError
from licensing.files import make_private_folder, read_bounded, read_private, write_atomically
from licensing.trust import read_key

MAX_KEY_BYTES = 4096

Passphrase = Callable[[Path], str]  # asked only for a key that has one


def public_text(key: Ed25519PrivateKey) -> str:
    """The base64 of the raw public key, as statements carry it."""
    return base64.b64encode(raw_key(key.public_key())).decode("ascii")


def new_key(path: Path, passphrase: str | None) -> str:
    """Make a key at `path` (.pem) and its public half beside it. The public half. Raises LicenseError, OSError."""
    public = path.with_suffix(".pub")
    for each in (path, public):
        if each.exists():
            raise LicenseError("key", f"{each} is there already: a key is never written over")
    key = Ed25519PrivateKey.generate()
    lock: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    )
    make_private_folder(path.parent)
    write_atomically(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    write_atomically(public, public_text(key).encode() + b"\n", mode=0o644)
    return public_text(key)


def load_key(path: Path, passphrase: Passphrase) -> Ed25519PrivateKey:
    """Read a private key that only its owner can read. Raises LicenseError, OSError."""
    data = read_private(path, MAX_KEY_BYTES)
    secret = passphrase(path).encode() if b"ENCRYPTED" in data else None
    try:
        key = load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise LicenseError(
            "key", f"{path} cannot be opened: a wrong passphrase, or no key in PKCS8 PEM"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise LicenseError("key", f"{path} is not an Ed25519 key")
    return key


def load_public(path: Path) -> str:
    """The base64 of a public key, checked. Raises LicenseError, OSError."""
    text = read_bounded(path, MAX_KEY_BYTES).decode("ascii", "replace").strip()
    try:
        read_key(text)
    except LicenseError as error:
        raise LicenseError(
            "key", f"{path}: {error}; a .pub file of `sluice-license key new` is wanted"
        ) from None
    return text
