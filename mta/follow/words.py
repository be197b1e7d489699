"""What a worker and the follower process say to each other over their link; each a line on the wire, decoded by its tag.

Events travel as the bytes that stand in the spool's rows: the worker encodes none of them again, and joins those of a commit
into one array (`joined`). Spools go by their numbers; ids of events rise within one.
"""

import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from mta.model.event import Event

_ARRAY = struct.Struct(">BI")
_ARRAY_32 = 0xDD  # MessagePack's mark for an array with a length of 4 bytes


class _Word(msgspec.Struct, tag=True, array_like=True, gc=False):
    """Each kind is an array with its name first."""


# -- worker → follower


class Hello(_Word):
    """The first word: the spools whose events come here, (number, UUID)."""

    spools: tuple[tuple[int, str], ...]


class Committed(_Word):
    """The events of a commit, numbered from `first`."""

    spool: int
    first: int
    events: list[Event]


class CommittedBytes(_Word, tag="Committed"):
    """`Committed` as it is sent; `events` are `joined`."""

    spool: int
    first: int
    events: msgspec.Raw


class Missed(_Word):
    """Events were not sent, since too much waited here; from now on they are again. Those between stand in the table."""

    spool: int


class Rows(_Word):
    """The answer to `ReadRows`: event ids and bytes. Fewer than asked for does not mean that it was the last."""

    spool: int
    number: int
    rows: list[tuple[int, bytes]]


class Unread(_Word):
    """`ReadRows` could not be answered."""

    spool: int
    number: int
    reason: str


# -- follower → worker


class ReadRows(_Word):
    """Read up to `limit` events after `cursor` from the table; answer under this number."""

    spool: int
    number: int
    cursor: int
    limit: int


class PruneRows(_Word):
    """Nobody needs the events up to this one any more."""

    spool: int
    up_to: int


of_worker: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(
    Hello | Committed | Missed | Rows | Unread
)
of_follower: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(ReadRows | PruneRows)


def joined(datas: Sequence[bytes]) -> msgspec.Raw:
    """Encoded values as one encoded array of them: 35 ns an event in a commit of 64; to encode them again took 250."""
    return msgspec.Raw(_ARRAY.pack(_ARRAY_32, len(datas)) + b"".join(datas))
