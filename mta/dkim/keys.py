"""Keys: loaded, generated, published; and the ring that finds the signers of a message (RFC 6376
§3.6, 8301, 8463).

A key object is loaded once and kept, with all that a signature needs: signing is one call into
`cryptography`. Messages of ValueError are for the operator: what is wrong with the file, and what
to do.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mta.dkim.signer import Signer

MIN_RSA_BITS = 1024  # RFC 8301 §3.2: signers MUST NOT use less
MAX_RSA_BITS = 4096  # RFC 8301 §3.2: verifiers need not take more
DEFAULT_RSA_BITS = 2048
RSA_2048_S = 0.0003  # CPU of one signature; it grows with the cube of the bits
TXT_STRING = 255  # RFC 1035 §3.3.14: a TXT record is strings of at most 255 bytes
_GENERATE = "make one with `sluice dkim generate`"


class RsaKey:
    """An RSA private key; `sign` takes about 0.3 ms with 2048 bits and releases the GIL."""

    algorithm = "rsa-sha256"
    record_type = "rsa"

    def __init__(self, key: RSAPrivateKey) -> None:
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise ValueError(
                f"an RSA key of {key.key_size} bits is not accepted by receivers (RFC 8301: "
                f"{MIN_RSA_BITS} to {MAX_RSA_BITS}); {_GENERATE} ({DEFAULT_RSA_BITS} bits)"
            )
        self._key = key
        self.bits = key.key_size
        self.cost_s = RSA_2048_S * (key.key_size / 2048) ** 3
        self._padding = PKCS1v15()
        self._hash = hashes.SHA256()

    def sign(self, data: bytes) -> bytes:
        """The PKCS #1 v1.5 signature over SHA-256 of the data."""
        return self._key.sign(data, self._padding, self._hash)

    def public_bytes(self) -> bytes:
        """The `p=` value: a SubjectPublicKeyInfo, as everybody publishes it (RFC 6376 §3.6.1)."""
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class Ed25519Key:
    """An Ed25519 private key (RFC 8463); `sign` takes some 50 µs, less than a hop to a thread."""

    algorithm = "ed25519-sha256"
    record_type = "ed25519"
    cost_s = 0.00005
    bits = 256

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def sign(self, data: bytes) -> bytes:
        """The signature over the SHA-256 of the data (RFC 8463 §3: PureEdDSA over the hash)."""
        return self._key.sign(hashlib.sha256(data).digest())

    def public_bytes(self) -> bytes:
        """The `p=` value: the 32 bytes themselves (RFC 8463 §4)."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


DkimKey = RsaKey | Ed25519Key


def load_key(pem: bytes) -> DkimKey:
    """The key of a PEM file. Raises ValueError that says what is wrong with it and what to do."""
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError(
            "the key is protected by a password; a server has nobody to ask: "
            "remove it with `openssl pkey -in KEY -out PLAIN`"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        found = "a public key" if b"PUBLIC KEY" in pem else "no private key in PEM form"
        raise ValueError(f"this is {found}; {_GENERATE}") from error
    if isinstance(key, RSAPrivateKey):
        return RsaKey(key)
    if isinstance(key, Ed25519PrivateKey):
        return Ed25519Key(key)
    raise ValueError(f"{type(key).__name__} does not sign DKIM: RSA and Ed25519 do; {_GENERATE}")


def generate(algorithm: str = "rsa", bits: int = DEFAULT_RSA_BITS) -> bytes:
    """A new private key (PKCS #8, PEM, not encrypted): `rsa` of that many bits, or `ed25519`.
    Raises ValueError.
    """
    key: RSAPrivateKey | Ed25519PrivateKey
    match algorithm.lower().removesuffix("-sha256"):
        case "ed25519":
            key = Ed25519PrivateKey.generate()
        case "rsa":
            if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
                raise ValueError(
                    f"RSA keys have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits (RFC 8301), not {bits}"
                )
            key = generate_private_key(public_exponent=65537, key_size=bits)
        case _:
            raise ValueError(f"{algorithm!r} does not sign DKIM: choose rsa or ed25519")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def dns_record(key: DkimKey) -> str:
    """The TXT record's text for the key (RFC 6376 §3.6.1)."""
    public = b64encode(key.public_bytes()).decode("ascii")
    return f"v=DKIM1; k={key.record_type}; p={public}"


def record_name(domain: str, selector: str) -> str:
    """Where the record stands, without a final dot (RFC 6376 §3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def bind_record(name: str, text: str) -> str:
    """The record as a line of a zone file, the text split into strings a TXT record can hold."""
    pieces = [text[at : at + TXT_STRING] for at in range(0, len(text), TXT_STRING)]
    quoted = [f'"{piece}"' for piece in pieces]
    if len(quoted) == 1:
        return f"{name}. IN TXT {quoted[0]}"
    lines = "\n".join(f"    {piece}" for piece in quoted)
    return f"{name}. IN TXT (\n{lines}\n)"


class KeyRing:
    """All signers, by the domains whose mail they sign; swapped whole when the configuration
    changes.

    A pattern is a domain, or `*.example.com` for every domain below it, however deep. More than one
    signer may have the same pattern (RSA and Ed25519): then all of them sign.
    """

    def __init__(self, signers: Iterable[tuple[str, Signer]] = ()) -> None:
        """Pairs of pattern and signer, in the order their fields shall stand. Raises ValueError."""
        exact: dict[str, list[Signer]] = {}
        wildcards: dict[str, list[Signer]] = {}
        for pattern, signer in signers:
            name = pattern.lower().rstrip(".")
            below = name.removeprefix("*.")
            if not below or "*" in below:
                raise ValueError(
                    f"{pattern!r} names no domain: write example.com or *.example.com for all below"
                )
            table = exact if below == name else wildcards
            table.setdefault(below, []).append(signer)
        self._exact = {name: tuple(found) for name, found in exact.items()}
        self._wildcards = {name: tuple(found) for name, found in wildcards.items()}

    def __bool__(self) -> bool:
        return bool(self._exact or self._wildcards)

    def signers_for(self, from_domain: str, sender_domain: str) -> tuple[Signer, ...]:
        """Who signs: by the From domain, exact, then the nearest wildcard; then so by the envelope
        sender's.

        Both in lower case, A-labels, "" where there is none. Empty when nobody does.
        """
        return (
            self._exact.get(from_domain)
            or self._below(from_domain)
            or self._exact.get(sender_domain)
            or self._below(sender_domain)
        )

    def _below(self, domain: str) -> tuple[Signer, ...]:
        if self._wildcards:
            parent = domain.partition(".")[2]
            while parent:
                found = self._wildcards.get(parent)
                if found:
                    return found
                parent = parent.partition(".")[2]
        return ()
