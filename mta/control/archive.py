"""What an export holds of a message beside its bytes: the envelope, as JSON. The server and the command line share it.

A message in an export is two files: `ID.eml`, byte for byte what would have gone out, and `ID.json`, an `Envelope`. The id is
that of the spool it lay in; an import goes by it, so that nothing is taken twice.
"""

import msgspec

PART = 262_144  # bytes of a message in one line; base64 makes a third more of it
MAX_MESSAGE = 134_217_728  # bytes of a message that can be imported


class ArchivedRecipient(msgspec.Struct, forbid_unknown_fields=True):
    """A recipient that was not done with. `held`: the reason, "" if it was not held."""

    address: str
    domain: str
    notify: str = ""
    orcpt: str = ""
    attempts: int = 0
    held: str | None = None
    last_reply: str = ""


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """All of a message but its bytes. `received_at`: seconds since the epoch; it ages from then on."""

    id: str
    sender: str
    recipients: list[ArchivedRecipient]
    size: int
    vmta: str
    received_at: float
    job: str = ""
    envid: str = ""
    ret: str = ""
    content: int = 0
    source_kind: str = ""
    source_ip: str = ""
    source_name: str = ""
    user: str = ""
    release_at: float = 0.0  # not before
    priority: int = 0


class Parcel(msgspec.Struct, forbid_unknown_fields=True):
    """A message on its way in or out: `data` from byte `offset` on. Without an envelope it goes on with the last one's bytes."""

    id: str
    offset: int
    data: bytes
    envelope: Envelope | None = None
    is_last: bool = True


class Page(msgspec.Struct):
    """What a worker exports in one go. Small messages come with their bytes; the place says where to go on, None at the end."""

    spool: int
    parcels: list[Parcel]
    place: tuple[int, int] | None


class Taken(msgspec.Struct):
    """What became of a message in an import: why it was not taken, "" if it was."""

    id: str
    refused: str = ""
