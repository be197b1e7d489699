"""Names for new licences and activations: a letter and a ULID, which sorts by time and is never given twice.

https://github.com/ulid/spec: 48 bits of milliseconds, 80 random bits, in Crockford's base 32.
"""

import secrets

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(prefix: str, at: float) -> str:
    """`prefix` and 26 characters. `at`: seconds since 1970."""
    number = (int(at * 1000) & (2**48 - 1)) << 80 | secrets.randbits(80)
    return prefix + "".join(ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
