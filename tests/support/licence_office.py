"""The licence server's clerks over books in memory, and nodes that talk to them: no network, no clock, no loop.

`Office` is the server without HTTP; `Twin` is a node as the protocol knows it: cumulative counts, a number, a token, one report
in flight that is sent again byte for byte. A twin can lose its answer, be set back to an earlier state, and be copied.
"""

import base64
import copy
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licensing.envelope import Envelope, decode_closed, decode_envelope, encode_envelope
from licensing.model.activation import Activation, ActivationRequest, Deactivation
from licensing.model.fields import ACTIVATION_REQUEST, DEACTIVATION, REWIND_GRANT, USAGE_REPORT
from licensing.model.license import Kind, License, VolumeLimit
from licensing.model.usage import LeaseUse, RewindGrant, UsageAck, UsageReport, Want
from licensing.nodekey import NodeKey, node_id
from licensing.server.activating import SeatClerk
from licensing.server.answers import Answer
from licensing.server.book import Book, verify_license
from licensing.server.counting import Received, ReportClerk
from licensing.server.db_open import open_books
from licensing.server.db_sqlite import SqliteStore
from licensing.server.desk import Desk
from licensing.server.signer import Signer
from tests.support.vendor import STARTS, Vendor

BEGAN = int(STARTS.timestamp()) + 3_600  # an hour into the term of every licence
DAY_S = 86_400


def a_signer(vendor: Vendor) -> Signer:
    """The online key of a vendor."""
    return Signer(vendor.keys["server-online"], vendor.delegations["server-online"])


def a_volume(vendor: Vendor, emails: int, *, period: str = "month", **changes: Any) -> License:
    """A volume licence of so many Emails a period; changes are of its VolumeLimit."""
    plain = vendor.license(Kind.VOLUME)
    assert plain.limits.volume is not None
    limit: VolumeLimit = msgspec.structs.replace(
        plain.limits.volume, emails=emails, period=period, **changes
    )
    return msgspec.structs.replace(
        plain, limits=msgspec.structs.replace(plain.limits, volume=limit)
    )


class Office:
    """A licence server's rules and books, at a time that a test moves."""

    def __init__(self, *licenses: License, vendor: Vendor | None = None) -> None:
        self.vendor = vendor or Vendor()
        self.now = BEGAN
        self.store = SqliteStore(open_books(":memory:"))
        self.book = Book()
        self.desk = Desk(self.book, a_signer(self.vendor), self.vendor.trust)
        self.seats = SeatClerk(self.desk)
        self.reports = ReportClerk(self.desk)
        for license in licenses:
            self.learn(license)

    def learn(self, license: License) -> str:
        """Import a licence; its SHA-256."""
        known = verify_license(self.vendor.sign_license(license), self.vendor.trust)
        self.book.add(known)
        return known.sha256

    def sha256(self, license_id: str) -> str:
        """Of the newest revision of a licence."""
        known = self.book.newest(license_id)
        assert known is not None
        return known.sha256

    def activate(self, request: Envelope) -> Answer:
        """POST /v1/activations."""
        asked = decode_closed(request.payload_bytes(), ActivationRequest)
        raw = base64.b64decode(asked.node_pub)
        return self._in_transaction(
            lambda: self.seats.activate(
                self.store, asked, request.payload_sha256(), raw, node_id(raw), self.now
            )
        )

    def deactivate(self, request: Envelope, node_id: str) -> Answer:
        """DELETE /v1/activations/{id}."""
        asked = decode_closed(request.payload_bytes(), Deactivation)
        return self._in_transaction(
            lambda: self.seats.deactivate(
                self.store, asked, request.payload_sha256(), node_id, self.now
            )
        )

    def report(self, report: Envelope, node_id: str, shown: UsageAck | None = None) -> Answer:
        """POST /v1/reports, signed by the node of this id."""
        received = Received(
            decode_closed(report.payload_bytes(), UsageReport),
            report.payload_sha256(),
            encode_envelope(report),
            node_id,
            shown,
        )
        return self._in_transaction(lambda: self.reports.take(self.store, received, self.now))

    def sweep(self) -> int:
        """What the server does each minute."""
        self.store.begin()
        freed = self.seats.sweep(self.store, self.now)
        self.store.commit()
        return freed

    def _in_transaction(self, act: Any) -> Answer:
        self.store.begin()
        answer: Answer = act()
        self.store.commit()
        return answer

    # -- what the books say

    def total(self, license_id: str) -> int:
        """Emails of a licence over all days, nodes and epochs: the billing figure (C27)."""
        return sum(row.emails for row in self.store.usage(license_id, "", "9999", 10**6))

    def codes(self, license_id: str | None = None) -> list[str]:
        """The codes of all open findings."""
        found = self.store.findings(license_id, 10_000)
        return sorted(each.code for each in found if each.cleared_at is None)


@dataclass
class Holding:
    """A lease in a node's hands."""

    emails: int
    fence: int
    until: int
    used: int = 0


@dataclass
class State:
    """What a node has on its disk: what a snapshot sets back and a clone copies."""

    activation_id: str = ""
    epoch: int = 1
    seq: int = 0
    token: str = ""
    cum: int = 0
    acked: int = 0
    days: dict[str, int] = field(default_factory=dict)
    leases: dict[str, Holding] = field(default_factory=dict)
    outbox: Envelope | None = None
    last_ack: UsageAck | None = None


class Twin:
    """A node: its key, and a state that can be copied."""

    def __init__(self, license: License, sha256: str, label: str = "") -> None:
        self.key = NodeKey(Ed25519PrivateKey.generate())
        self.license = license
        self.sha256 = sha256
        self.label = label
        self.disk = State()
        self.lacks = 0  # Emails it could not send for want of a lease

    def clone(self) -> "Twin":
        """A copy of the whole machine."""
        other = copy.copy(self)
        other.disk = copy.deepcopy(self.disk)
        return other

    # -- activation

    def request(self, now: int, **changes: Any) -> Envelope:
        """An activation request."""
        plain = ActivationRequest(
            license_sha256=self.sha256,
            license_id=self.license.license_id,
            revision=self.license.revision,
            node_pub=self.key.public,
            fp={},
            server_class="vm",
            label=self.label,
            version="0.2.0",
            nonce="0123456789abcdef",
            wall=now,
        )
        asked = msgspec.structs.replace(plain, **changes)
        return self.key.sign(ACTIVATION_REQUEST, msgspec.json.encode(asked))

    def activate(self, office: Office, **changes: Any) -> Answer:
        """Ask for seats, and take what is answered."""
        answer = office.activate(self.request(office.now, **changes))
        if answer.status == 200:
            self.take_activation(answer.body)
        return answer

    def take_activation(self, body: bytes) -> Activation:
        """Begin with what the server gave."""
        given = opened(body, Activation)
        disk = self.disk
        disk.activation_id, disk.token, disk.epoch = given.activation_id, given.token, given.epoch
        return given

    def farewell(self, now: int) -> Envelope:
        """A deactivation."""
        asked = Deactivation(
            activation_id=self.disk.activation_id,
            node_id=self.key.id,
            wall=now,
            nonce="0123456789abcdef",
        )
        return self.key.sign(DEACTIVATION, msgspec.json.encode(asked))

    # -- sending mail

    @property
    def left(self) -> int:
        """Emails it may still send."""
        return sum(each.emails - each.used for each in self.disk.leases.values())

    def deliver(self, emails: int, now: int) -> int:
        """Send as many as the leases allow, oldest first; how many went."""
        sent = 0
        for lease in sorted(self.disk.leases.values(), key=lambda each: each.fence):
            part = min(emails - sent, lease.emails - lease.used) if now < lease.until else 0
            lease.used += part
            sent += part
        self._count(sent, now)
        self.lacks += emails - sent
        return sent

    def deliver_anyway(self, emails: int, now: int) -> None:
        """Count deliveries, leased or not: a start block, credit, or a licence of another kind."""
        self._count(emails, now)

    def _count(self, emails: int, now: int) -> None:
        day = datetime.fromtimestamp(now, UTC).date().isoformat()
        self.disk.days[day] = self.disk.days.get(day, 0) + emails
        self.disk.cum += emails

    # -- reports

    def write(self, now: int, want: int = 0, **changes: Any) -> Envelope:
        """The report in flight, or the next one."""
        disk = self.disk
        if disk.outbox is None:
            disk.seq += 1
            disk.outbox = self.key.sign(
                USAGE_REPORT, msgspec.json.encode(self._report(now, want, changes))
            )
        return disk.outbox

    def _report(self, now: int, want: int, changes: dict[str, Any]) -> UsageReport:
        disk, is_volume = self.disk, self.license.limits.volume is not None
        plain = UsageReport(
            license_id=self.license.license_id,
            revision=self.license.revision,
            activation_id=disk.activation_id,
            node_id=self.key.id,
            epoch=disk.epoch,
            seq=disk.seq,
            token=disk.token,
            cum=disk.cum if is_volume else None,
            days=dict(disk.days) if is_volume else None,
            leases=self._uses() if is_volume else None,
            want=Want(emails=want, rate_1h=0) if want else None,
            role="primary",
            seats=1,
            conn_peak=0,
            prev="0" * 64,
            head=hashlib.sha256(f"{disk.epoch}/{disk.seq}/{disk.cum}".encode()).hexdigest(),
            fp_match="3/3",
            boot="0" * 32,
            wall=now,
            version="0.2.0",
        )
        return msgspec.structs.replace(plain, **changes)

    def _uses(self) -> tuple[LeaseUse, ...]:
        return tuple(
            LeaseUse(id=name, fence=each.fence, used=each.used)
            for name, each in self.disk.leases.items()
        )

    def report(self, office: Office, want: int = 0, **changes: Any) -> Answer:
        """Send what is in flight or new, and take the answer."""
        answer = office.report(self.write(office.now, want, **changes), self.key.id)
        self.take(answer)
        return answer

    def take(self, answer: Answer) -> None:
        """What the server said; refusals leave the report in flight."""
        if answer.is_envelope and answer.status == 200:
            self._take_ack(opened(answer.body, UsageAck))
        elif answer.is_envelope and answer.status == 409:
            self.take_grant(opened(answer.body, RewindGrant))

    def _take_ack(self, ack: UsageAck) -> None:
        disk = self.disk
        disk.outbox, disk.last_ack, disk.token = None, ack, ack.token
        disk.acked = disk.cum if ack.ack.cum is None else ack.ack.cum
        told = {lease.id: lease for lease in ack.leases}
        for name in [name for name in disk.leases if name not in told]:
            if disk.leases[name].used == disk.leases[name].emails:
                del disk.leases[name]
        for lease in ack.leases:
            held = disk.leases.setdefault(
                lease.id, Holding(lease.emails, lease.fence, lease.use_until)
            )
            held.until = max(held.until, lease.use_until)

    def take_grant(self, grant: RewindGrant) -> None:
        """Go on in a new epoch with what was not acknowledged; the leases of the old one are gone."""
        disk = self.disk
        unacked = disk.cum - disk.acked
        disk.epoch, disk.token, disk.seq = grant.new_epoch, grant.token, 0
        day = datetime.fromtimestamp(grant.server_time, UTC).date().isoformat()
        disk.cum, disk.acked, disk.days = unacked, 0, {day: unacked}
        disk.leases, disk.outbox = {}, None


def opened(body: bytes, kind: type[Any]) -> Any:
    """The statement in an answer; whether its signature holds is looked at where a test is about that."""
    return decode_closed(decode_envelope(body).payload_bytes(), kind)


def grant_of(answer: Answer) -> RewindGrant:
    """The grant in a 409."""
    envelope = decode_envelope(answer.body)
    assert (answer.status, envelope.payload_type) == (409, REWIND_GRANT)
    return decode_closed(envelope.payload_bytes(), RewindGrant)


def renewed(license: License, **changes: Any) -> License:
    """The next revision."""
    return msgspec.structs.replace(license, revision=license.revision + 1, **changes)
