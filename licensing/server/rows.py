"""What the server keeps of licences, nodes and leases: plain values, as the storage gives and takes them. Times in seconds."""

from typing import Literal

from msgspec import Struct


class LicenseRow(Struct, frozen=True):
    """One revision of a licence, as it was imported; `envelope` is JSON."""

    license_id: str
    revision: int
    sha256: str
    envelope: bytes
    imported_at: int


class Account(Struct, frozen=True):
    """What belongs to a licence over all its revisions: the last fence given, seats ever taken, nodes that count now."""

    license_id: str
    fence: int = 0
    taken: int = 0
    nodes: int = 0


class ActivationRow(Struct, frozen=True):
    """A node on a licence. `released_at` None: it has its seats. `offer_*`: the epoch it may open next, 0 for none.

    `asked_sha256` and `asked_wall` are of the last activation request, `left_sha256` of the last deactivation: both are answered
    again when they come again, and neither undoes the other when it is replayed.
    """

    activation_id: str
    license_id: str
    node_id: str
    node_pub: bytes
    server_class: str
    role: str
    seats: int
    label: str
    fp: str
    version: str
    activated_at: int
    valid_until: int
    last_seen: int
    heard: bool
    asked_sha256: str
    asked_wall: int
    released_at: int | None = None
    left_sha256: str = ""
    offer_epoch: int = 0
    offer_token: str = ""
    offer_reason: str = ""


class EpochRow(Struct, frozen=True):
    """The last report that was counted of a node in one epoch."""

    activation_id: str
    epoch: int
    seq: int
    cum: int
    token: str
    head: str
    answered_sha256: str  # of the last report that was counted: the key of its stored answer
    opened_at: int
    reported_at: int


class AnswerRow(Struct, frozen=True):
    """The last answer to a node's report, by the hash of the report's payload, and that report as it came."""

    activation_id: str
    request_sha256: str
    status: int
    body: bytes
    envelope: bytes


class PoolRow(Struct, frozen=True):
    """One period of a licence: Emails confirmed as used, and Emails that lie in open leases and are not used yet."""

    license_id: str
    period: str
    used: int = 0
    reserved: int = 0


LeaseState = Literal["open", "closed", "assumed"]


class LeaseRow(Struct, frozen=True):
    """A block of Emails in a node's hands. `assumed`: the vendor took the rest for used without having heard so."""

    id: str
    license_id: str
    activation_id: str
    epoch: int
    fence: int
    period: str
    emails: int
    used: int
    use_until: int
    state: LeaseState = "open"

    @property
    def rest(self) -> int:
        """Emails of the pool that this lease keeps from all others."""
        return self.emails - self.used if self.state == "open" else 0


class FindingRow(Struct, frozen=True):
    """Something that does not fit: one row while it is open, however often it was seen."""

    id: int
    license_id: str
    activation_id: str
    code: str
    detail: str
    first_at: int
    last_at: int
    times: int
    cleared_at: int | None
    cleared_by: str


class LetterRow(Struct, frozen=True):
    """A notice on its way to one recipient, or arrived: `settled_at` is when it was taken over, or (`failure`) given up."""

    notice: str
    recipient: str
    license_id: str
    subject: str
    body: str
    made_at: int
    next_at: int
    tries: int = 0
    settled_at: int | None = None
    failure: str = ""


class UsageRow(Struct, frozen=True):
    """Emails of one node in one epoch on one UTC day."""

    license_id: str
    activation_id: str
    epoch: int
    day: str
    emails: int


class AuditRow(Struct, frozen=True):
    """One line of the audit log; `hash` covers `prev` and `record`."""

    number: int
    record: bytes
    prev: str
    hash: str
