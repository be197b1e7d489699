"""Passwords of submitting users: hashing and checking with scrypt (RFC 7914), as pure CPU work.

A hash is written `scrypt$N$r$p$salt$hash`, salt and hash in base64. One check costs about 0.2 s of
CPU with our parameters (OWASP's equal of 128 MB once, spread over 5 passes of 16 MB), so callers
run it in a bounded thread pool; hashlib releases the GIL meanwhile. The salt is the caller's: this
floor makes no random numbers.
"""

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import NamedTuple

COST_N = 1 << 14
COST_R = 8
COST_P = 5
HASH_BYTES = 32
MIN_SALT = 8
# A hash in a file may name its own cost; past this one login attempt would be an attack on
# ourselves.
MAX_MEMORY = 256 << 20
MAX_WORK = 1 << 26  # N·r·p, 100 times ours


class _Parts(NamedTuple):
    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes


_NOBODY = _Parts(COST_N, COST_R, COST_P, bytes(16), bytes(HASH_BYTES))


def hash_password(password: str, salt: bytes) -> str:
    """The hash to write into the users file. `salt`: at least 8, better 16 random bytes."""
    if len(salt) < MIN_SALT:
        raise ValueError(f"the salt must have at least {MIN_SALT} bytes")
    digest = _scrypt(password, _Parts(COST_N, COST_R, COST_P, salt, bytes(HASH_BYTES)))
    cost = f"{COST_N}${COST_R}${COST_P}"
    return f"scrypt${cost}${b64encode(salt).decode()}${b64encode(digest).decode()}"


def verify_password(stored: str | None, password: str) -> bool:
    """Whether `password` belongs to `stored`; `None` (no such user) takes as long and is never
    true.

    Raises ValueError for a `stored` that `check_hash` refuses.
    """
    parts = _NOBODY if stored is None else _parse_hash(stored)
    matches = hmac.compare_digest(_scrypt(password, parts), parts.digest)
    return matches and stored is not None


def check_hash(stored: str) -> None:
    """Raise ValueError, saying what to do, unless `verify_password` can use this hash."""
    _parse_hash(stored)


def _parse_hash(stored: str) -> _Parts:
    fields = stored.split("$")
    if len(fields) != 6 or fields[0] != "scrypt":
        raise ValueError(
            "is no hash of the form scrypt$N$r$p$salt$hash; make one with `sluice config password`"
        )
    try:
        n, r, p = (int(number) for number in fields[1:4])
        salt, digest = (b64decode(text, validate=True) for text in fields[4:])
    except (ValueError, binascii.Error):
        raise ValueError(
            "the hash is damaged; make a new one with `sluice config password`"
        ) from None
    if n < 2 or n & (n - 1) or r < 1 or p < 1 or len(salt) < MIN_SALT or len(digest) < 16:
        raise ValueError("the hash's cost, salt or length is not usable; make a new one")
    if 128 * n * r > MAX_MEMORY or n * r * p > MAX_WORK:
        raise ValueError("the hash costs too much memory or time to check; make a new one")
    return _Parts(n, r, p, salt, digest)


def _scrypt(password: str, parts: _Parts) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=parts.salt,
        n=parts.n,
        r=parts.r,
        p=parts.p,
        maxmem=128 * parts.r * (parts.n + parts.p + 2)
        + (1 << 20),  # what OpenSSL asks for, and some
        dklen=len(parts.digest),
    )
