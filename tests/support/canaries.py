"""Random words that stand for what must not leave, and the search for them in whatever disguise."""

import base64
import binascii
import hashlib
import random
import re
import string
from collections.abc import Iterable, Iterator

LENGTH = 12
DEPTH = 4  # an envelope within an envelope within a body within a database
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){8,}")


def a_canary() -> str:
    """A word nobody else has, fit for an address, a name, a path."""
    return "".join(random.choices(string.ascii_lowercase, k=LENGTH))


def found(canaries: Iterable[str], data: bytes) -> set[str]:
    """Those of the canaries that are in the data: as they are, in other case, in hex, base64, or as a plain hash."""
    disguises = {canary: _disguises(canary) for canary in canaries}
    seen = set()
    for view in _views(data, DEPTH):
        lower = view.lower()
        for canary, (any_case, exact) in disguises.items():
            if any(each in lower for each in any_case) or any(each in view for each in exact):
                seen.add(canary)
    return seen


def _disguises(canary: str) -> tuple[list[bytes], list[bytes]]:
    word = canary.encode()
    any_case = [word, word[::-1], word.hex().encode()]
    hashes = [hashlib.new(name, word).digest() for name in ("md5", "sha1", "sha256")]
    any_case += [each.hex().encode()[:24] for each in hashes]
    exact = [each[:12] for each in hashes]
    # Of the three ways a word can lie in base64 only the inner letters are its own.
    exact += [base64.b64encode(b"\0" * shift + word)[4:-4] for shift in range(3)]
    return any_case, exact


def _views(data: bytes, depth: int) -> Iterator[bytes]:
    yield data
    if not depth:
        return
    for run in _BASE64.findall(data):
        text = run.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        try:
            yield from _views(base64.b64decode(text + b"=" * (-len(text) % 4)), depth - 1)
        except binascii.Error:
            continue
    for run in _HEX.findall(data):
        yield from _views(bytes.fromhex(run.decode("ascii")), depth - 1)
