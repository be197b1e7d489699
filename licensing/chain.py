"""The hash chain of the ledger's records, and how a run of them is packed. Pure.

A record's hash covers the record and the hash before it, so the hash of the last one vouches for all. Records are much alike: a
thousand of them, compressed together, take an eighth of the room. A pack keeps the hash it ends with in full and of each hash
within four bytes: the first proves a change, the others say where it is. Design 3.7.
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MARK_BYTES = 4  # of the hash of each packed record: they locate, the hash at the end proves
MAX_PACK_BYTES = 64 * 1024 * 1024  # unpacked; a thousand records have half a megabyte


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain does not hold: the first record that cannot be believed, and why."""

    seq: int
    why: str


@dataclass(frozen=True, slots=True)
class Pack:
    """The records `first` to `last`, one after another: compressed, with their marks, and the hashes before and at the end."""

    first: int
    last: int
    records: bytes
    marks: bytes
    prev: str
    hash: str


def chain_hash(prev: str, record: bytes) -> str:
    """The hash of a record that follows the one with the hash `prev` (design 3.7)."""
    return hashlib.sha256(b"sluice-ledger-v1" + prev.encode() + record).hexdigest()


def genesis(activation_id: str, node_pub: str, reason: str) -> str:
    """What the first record of a chain follows."""
    return hashlib.sha256(f"{activation_id}{node_pub}{reason}".encode()).hexdigest()


def pack(first: int, prev: str, records: Sequence[bytes]) -> Pack:
    """Pack these records, which follow the hash `prev`. They are lines of JSON: no record holds a line's end."""
    marks, digest = bytearray(), prev
    for record in records:
        digest = chain_hash(digest, record)
        marks += bytes.fromhex(digest)[:MARK_BYTES]
    packed = zlib.compress(b"\n".join(records), 9)
    return Pack(first, first + len(records) - 1, packed, bytes(marks), prev, digest)


def unpack(packed: Pack) -> list[bytes]:
    """The records of a pack, as they were. Raises ValueError where these bytes are no pack of so many."""
    reader = zlib.decompressobj()
    try:
        data = reader.decompress(packed.records, MAX_PACK_BYTES)
    except zlib.error as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error
    records = data.split(b"\n")
    if not reader.eof or len(records) != packed.last - packed.first + 1:
        raise ValueError("it is not whole")
    return records


def digests(packed: Pack, records: Sequence[bytes]) -> Iterator[str | Break]:
    """The hash of each of its records; a Break, and nothing more, at the first that was changed."""
    digest = packed.prev
    for place, record in enumerate(records):
        digest = chain_hash(digest, record)
        mark = packed.marks[place * MARK_BYTES : (place + 1) * MARK_BYTES]
        if bytes.fromhex(digest)[:MARK_BYTES] != mark:
            yield Break(packed.first + place, "the record was changed")
            return
        yield digest
    if digest != packed.hash:
        yield Break(packed.last, f"a record from {packed.first} on was changed")
