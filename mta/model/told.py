"""What a sender is told of one recipient: it failed, it still waits, or it was passed on to a host that confirms nothing.

What is owed stands in the spool as bytes: an `Attempt` as it is in the outbox, or a `Delay`.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from mta.model.event import Attempt, encode_event


class Action(StrEnum):
    """RFC 3464 §2.3.3; `delivered` and `expanded` are for hosts that have mailboxes."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"


class Delay(msgspec.Struct, array_like=True, tag="w", gc=False):
    """The recipient still waits, and will be tried until then. Not an event: no record tells of it."""

    attempt: Attempt
    until: float


class Told(NamedTuple):
    """One recipient in a notice."""

    action: Action
    attempt: Attempt
    until: float = 0.0  # of a delay: how long it will be tried


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Attempt | Delay] = msgspec.msgpack.Decoder(Attempt | Delay)


def encode_told(told: Told) -> bytes:
    """As it is kept in the spool."""
    if told.action is Action.DELAYED:
        return _encoder.encode(Delay(told.attempt, told.until))
    return encode_event(told.attempt)


def decode_told(data: bytes) -> Told:
    """The inverse. Raises msgspec.DecodeError on bytes that are none."""
    found = _decoder.decode(data)
    if isinstance(found, Delay):
        return Told(Action.DELAYED, found.attempt, found.until)
    return Told(Action.RELAYED if found.kind == "d" else Action.FAILED, found)
