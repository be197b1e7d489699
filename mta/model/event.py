"""The facts we write once: events of the outbox, encoded with msgspec (arrays of fields: small and fast).

An event is written in the same transaction as the state it tells of, and read by the followers. Fields are only ever
appended, so that a newer release reads an older outbox.
"""

import msgspec

from mta.model.envelope import Entry


class Received(msgspec.Struct, array_like=True, tag="r", gc=False):
    """A message was accepted; one event a message."""

    at: float
    message: int
    sender: str
    recipients: int
    size: int
    vmta: str
    job: str
    envid: str
    source_kind: str
    source_ip: str
    source_name: str
    user: str
    local_ip: str = ""


class Attempt(msgspec.Struct, array_like=True, tag="a", gc=False):
    """An attempt for one recipient ended. `kind`: d delivered, b bounced (or expired, or deleted), t deferred."""

    kind: str
    at: float
    message: int
    entry: int
    sender: str
    recipient: str
    orcpt: str
    domain: str
    vmta: str
    job: str
    envid: str
    size: int
    queued_at: float
    first_attempt: float
    attempts: int
    code: int
    enhanced: str
    text: str  # the reply's text, control characters escaped when shown, never here
    local: bool  # we said it ourselves, not the remote host
    category: str
    source_kind: str
    source_name: str
    source_feeder_ip: str
    user: str
    remote_name: str = ""  # MX host name
    remote_ip: str = ""
    local_ip: str = ""
    extensions: str = ""  # ESMTP extensions the host offered, comma separated
    tls_protocol: str = ""
    tls_cipher: str = ""
    may_repeat: bool = False
    site: str = ""
    by: str = ""  # who removed it: "" an attempt, "expired", "administrator"
    verdict: str = ""  # what to do about a refusal, and whose matter it is (`mta.bounce`)
    fault: str = ""


def local_attempt(
    entry: Entry, kind: str, at: float, *, enhanced: str, text: str, code: int = 0, by: str = ""
) -> Attempt:
    """What we say of an entry ourselves, without a connection."""
    message = entry.message
    return Attempt(
        kind=kind,
        at=at,
        message=message.number,
        entry=entry.number,
        sender=message.sender,
        recipient=entry.address,
        orcpt=entry.orcpt,
        domain=entry.key.domain,
        vmta=entry.key.vmta,
        job=message.job,
        envid=message.envid,
        size=message.size,
        queued_at=message.received_at,
        first_attempt=entry.first_attempt,
        attempts=entry.attempts,
        code=code,
        enhanced=enhanced,
        text=text,
        local=True,
        category="other",
        source_kind=message.source_kind,
        source_name=message.source_name,
        source_feeder_ip=message.source_ip,
        user=message.user,
        may_repeat=entry.may_repeat,
        by=by,
    )


class QueueDeferred(msgspec.Struct, array_like=True, tag="q", gc=False):
    """A failure of a connection, a site or DNS postponed a whole queue; no entry was touched."""

    at: float
    domain: str
    vmta: str
    code: int
    enhanced: str
    text: str
    local: bool
    category: str
    attempts: int
    next_at: float
    remote_name: str = ""
    remote_ip: str = ""
    local_ip: str = ""
    site: str = ""
    verdict: str = ""
    fault: str = ""


class Gap(msgspec.Struct, array_like=True, tag="g", gc=False):
    """A follower with a permitted lag skipped this many events."""

    at: float
    follower: str
    skipped: int


Event = Received | Attempt | QueueDeferred | Gap

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """The event as bytes for the outbox."""
    return _encoder.encode(event)


def decode_event(data: bytes) -> Event:
    """The event of an outbox row. Raises msgspec.DecodeError on bytes that are none."""
    return _decoder.decode(data)
