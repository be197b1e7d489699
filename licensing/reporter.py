"""Reports to the vendor and takes the answers: cumulative figures, one report in flight, the same bytes until acknowledged.

A report stands in the outbox, in the transaction of its ledger record, before its first byte leaves; it goes out again, byte for
byte, until a signed answer to exactly these bytes is stored. So nothing that the network loses, doubles or reorders can change a
total, and after any silence one stored and one fresh report go out. An answer that is not signed for this report changes
nothing (A20, A21). A refusal that grants a new epoch opens it: only what was not acknowledged is carried over (A26). A server
that fell behind its own word is shown it (A27). Never blocks mail: nobody waits for this but its own task. Design 3.5.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from licensing.books import AckedFigures, Books, Times, unacknowledged_days
from licensing.envelope import Envelope, decode_closed, decode_envelope, encode_envelope
from licensing.errors import LicenseError
from licensing.installation import Installation
from licensing.lease import Allowance, Need
from licensing.ledger import LedgerThread, Outgoing
from licensing.ledger_file import LedgerError
from licensing.model.bodies import Presented, Refusal
from licensing.model.fields import REWIND_GRANT, USAGE_ACK, USAGE_REPORT
from licensing.model.license import Kind, License
from licensing.model.usage import RewindGrant, UsageAck, UsageReport
from licensing.trust import Opened
from licensing.wire import MAX_ANSWER_BYTES, Answer, NodeIdentity, Unreachable, Wire, backoff

REPORTS = "/v1/reports"
HEARTBEAT_S = 86_400.0  # of server kinds: once a day
URGENT_EVERY_S = 5.0
MOST_AHEAD_S = 86_400.0  # no report is ever due later than in a day
NO_HEAD = "0" * 64  # before the first acknowledgement


class Opener(Protocol):
    """Who verifies (`licensing.trust.Trust`)."""

    def open(
        self, envelope: Envelope, payload_type: str, *, kind: Kind | None = None
    ) -> Opened: ...


class Keeper(Protocol):
    """Where reports and answers are kept, durably (`licensing.ledger.Ledger`). All of it is called in the ledger's thread."""

    def outgoing(self) -> Outgoing | None: ...
    def put_report(
        self, books: Books, times: Times, build: Callable[[str], tuple[bytes, str]]
    ) -> Outgoing: ...
    def settle(self, books: Books, answer: bytes) -> None: ...
    def open_epoch(self, books: Books, reason: str, times: Times) -> str: ...
    def last_ack(self) -> bytes | None: ...


class Outcome(StrEnum):
    """What came of a turn."""

    NOTHING_DUE = "nothing due"
    ACKED = "acknowledged"
    NEW_EPOCH = "new epoch"
    BEHIND = "the server is behind"  # it will be shown its own last word
    REFUSED = "refused"
    UNKNOWN = "activation unknown"  # 401: activate again
    UNREACHABLE = "unreachable"
    NOT_BELIEVED = "answer not believed"
    NOT_STORED = "not stored"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a report says beside the books; none of it names the host. `boot`: hex of an HMAC. `times` of this moment."""

    license: License
    seats: int
    fp_match: str
    boot: str
    times: Times
    flags: tuple[str, ...]
    version: str
    final: bool = False


class Reporter:
    """One chain of reports: from the books to the vendor and back. `turn` is called by one task only."""

    def __init__(
        self,
        books: Books,
        ledger: Keeper,
        thread: LedgerThread,
        *,
        wire: Wire,
        key: NodeIdentity,
        opener: Callable[[], Opener],
        allowance: Allowance | None,
        signed_time: Callable[[float, float], float],
        chance: random.Random,
        told: Callable[[str, str], None],
    ) -> None:
        """`signed_time(t, asked_at)` tells the clock the vendor's time and gives the trusted one; `told` hears of events."""
        self._books, self._ledger, self._thread = books, ledger, thread
        self._wire, self._key, self._opener = wire, key, opener
        self._allowance = allowance
        self._signed_time = signed_time
        self._chance = chance
        self._told = told
        self._outgoing: Outgoing | None = None
        self._present: bytes | None = None  # the ack to show to a server that is behind
        self._retry_at = 0.0
        self._asked_at = 0.0  # when the last report was built
        self._fruitless = 0  # urgent asks in a row that brought no lease
        self.tries = 0  # of the report under way
        self.acked: tuple[UsageAck, UsageReport] | None = None  # the last of this run
        self.failure = ""  # why the last try failed, "" it did not

    async def load(self) -> None:
        """Take up the report that a crash or a restart left under way. Raises LedgerError."""
        self._outgoing = await self._thread.run(self._ledger.outgoing)

    @property
    def is_under_way(self) -> bool:
        """Whether a report waits for its acknowledgement."""
        return self._outgoing is not None

    def next_at(self, now: float) -> float:
        """When `turn` has something to do (trusted time)."""
        at = self._retry_at if self._outgoing is not None else self._books.next_report_at
        if at > now + MOST_AHEAD_S:
            return now  # the trusted time was set back since
        if self._outgoing is None and self._wants_urgently(now):
            return min(at, self._asked_at + URGENT_EVERY_S * (1 << min(self._fruitless, 8)))
        return at

    def _wants_urgently(self, now: float) -> bool:
        return self._allowance is not None and self._allowance.need(now) is Need.URGENT

    async def turn(self, here: Circumstances, *, now_please: bool = False) -> Outcome:
        """Send what is due. `now_please`: an operator asks, neither back-off nor interval counts."""
        now = here.times.trusted
        if not now_please and now < self.next_at(now):
            return Outcome.NOTHING_DUE
        try:
            if self._outgoing is None:
                await self._build(here)
            return await self._send(here)
        except LedgerError as error:
            self._fail(now, str(error))
            return Outcome.NOT_STORED

    async def export(self, here: Circumstances) -> bytes:
        """The report under way, or a new one, to be carried by hand. Raises LedgerError."""
        if self._outgoing is None:
            await self._build(here)
        assert self._outgoing is not None
        return self._outgoing.data

    async def take_answer(self, answer: Envelope, here: Circumstances) -> Outcome:
        """An acknowledgement or a grant that was carried by hand. Raises LicenseError; nothing has changed then."""
        if self._outgoing is None:
            raise LicenseError("reply", "no report waits for an acknowledgement")
        if answer.payload_type == REWIND_GRANT:
            return await self._take_grant(answer, here, may_present=False)
        return await self._take_ack(answer, here)

    # -- out ------------------------------------------------------------------------------------------

    async def _build(self, here: Circumstances) -> None:
        # A write that was given up on may have come to its end since.
        self._outgoing = await self._thread.run(self._ledger.outgoing)
        if self._outgoing is not None:
            return
        books = self._books
        books.seq += 1
        want = None
        if self._allowance is not None:
            want = self._allowance.want(here.times.trusted)
        copy = books.copy()
        leases = self._allowance.uses() if self._allowance is not None else None

        def build(head: str) -> tuple[bytes, str]:
            is_counted = self._allowance is not None
            report = UsageReport(
                license_id=here.license.license_id,
                revision=here.license.revision,
                activation_id=copy.activation_id,
                node_id=self._key.id,
                epoch=copy.epoch,
                seq=copy.seq,
                token=copy.token,
                cum=copy.cum if is_counted else None,
                days=unacknowledged_days(copy) if is_counted else None,
                leases=leases,
                want=want,
                role=copy.role,
                seats=here.seats,
                conn_peak=copy.conn_peak,
                prev=copy.acked.head or NO_HEAD,
                head=head,
                fp_match=here.fp_match,
                boot=here.boot,
                wall=int(here.times.wall),
                flags=here.flags,
                version=here.version,
                final=here.final,
            )
            envelope = self._key.sign(USAGE_REPORT, msgspec.json.encode(report))
            return encode_envelope(envelope), envelope.payload_sha256()

        # A number that was given away is never given again, whether this write succeeds or not.
        self._outgoing = await self._thread.run(self._ledger.put_report, copy, here.times, build)
        self._asked_at = here.times.trusted
        self.tries = 0

    async def _send(self, here: Circumstances) -> Outcome:
        outgoing, now = self._outgoing, here.times.trusted
        assert outgoing is not None
        body = outgoing.data
        if self._present is not None:
            body = msgspec.json.encode(
                Presented(
                    report=decode_envelope(outgoing.data), last_ack=decode_envelope(self._present)
                )
            )
        self.tries += 1
        try:
            answer = await self._wire.send(REPORTS, body, now)
        except Unreachable as error:
            self._fail(now, str(error))
            return Outcome.UNREACHABLE
        try:
            return await self._judge(answer, here)
        except LedgerError:
            raise
        except LicenseError as error:
            self._fail(now, f"the answer of {self._wire.endpoint} is not believed: {error}")
            self._told("answer_not_believed", self.failure)
            return Outcome.NOT_BELIEVED

    async def _judge(self, answer: Answer, here: Circumstances) -> Outcome:
        if answer.status == 200:
            return await self._take_ack(_envelope(answer.body), here)
        if answer.status == 409:
            return await self._take_grant(_envelope(answer.body), here, may_present=True)
        refusal = read_refusal(answer)
        wait = answer.retry_after if answer.retry_after is not None else refusal.retry_after_s
        self._fail(here.times.trusted, f"the vendor refuses: {refusal.text}", wait)
        if answer.status == 401:
            return Outcome.UNKNOWN
        if answer.status not in (429, 503):
            self._told("report_refused", f"{refusal.error}: {refusal.text}")
        return Outcome.REFUSED

    def _fail(self, now: float, why: str, wait: float | None = None) -> None:
        self.failure = why
        pause = backoff(self.tries, self._chance)
        self._retry_at = now + (max(wait, pause) if wait is not None else pause)

    # -- in -------------------------------------------------------------------------------------------

    async def _take_ack(self, envelope: Envelope, here: Circumstances) -> Outcome:
        outgoing, books = self._outgoing, self._books
        assert outgoing is not None
        opened = self._opener().open(envelope, USAGE_ACK, kind=here.license.kind)
        ack = decode_closed(opened.payload, UsageAck)
        report = _reported(outgoing)
        if ack.in_reply_to != outgoing.sha256 or (ack.ack.epoch, ack.ack.seq) != (
            report.epoch,
            report.seq,
        ):
            raise LicenseError("reply", "this is the acknowledgement of another report")
        now = self._signed_time(ack.server_time, self._asked_at)
        before = books.acked.days if books.acked.epoch == report.epoch else {}
        days = {**before, **(report.days or {})}
        books.acked = AckedFigures(
            epoch=report.epoch,
            seq=report.seq,
            cum=report.cum or 0,
            days={day: days[day] for day in books.days if day in days},
            head=report.head,
            at=now,
        )
        books.token = ack.token
        books.contact_at = now
        books.activation_until = float(ack.activation_until)
        books.role = ack.role
        was_late = self.tries > 1
        pause = float(ack.next_report_s) if self._allowance is not None else HEARTBEAT_S
        # After a silence the figures of the stored report are old: a fresh one follows at once (A18).
        books.next_report_at = now if was_late else now + pause
        books.conn_peak = 0
        if self._allowance is not None:
            self._fruitless = 0 if ack.leases else self._fruitless + 1
            self._allowance.settle(report.leases or (), ack.leases, ack.pool, now)
        await self._thread.run(self._ledger.settle, books.copy(), encode_envelope(envelope))
        self._outgoing, self._present = None, None
        self.tries, self.failure = 0, ""
        self.acked = (ack, report)
        return Outcome.ACKED

    async def _take_grant(
        self, envelope: Envelope, here: Circumstances, *, may_present: bool
    ) -> Outcome:
        outgoing, books = self._outgoing, self._books
        assert outgoing is not None
        opened = self._opener().open(envelope, REWIND_GRANT, kind=here.license.kind)
        grant = decode_closed(opened.payload, RewindGrant)
        if grant.in_reply_to != outgoing.sha256 or grant.new_epoch <= books.epoch:
            raise LicenseError("reply", "this grants an epoch for another report")
        closed, acked = grant.closed, books.acked
        is_behind = (closed.epoch, closed.seq) < (acked.epoch, acked.seq)
        if may_present and is_behind and self._present is None:
            self._present = await self._thread.run(self._ledger.last_ack)
            if self._present is not None:
                self._retry_at = here.times.trusted
                return Outcome.BEHIND
        now = self._signed_time(grant.server_time, self._asked_at)
        self._told(
            "new_epoch",
            f"{grant.reason}: the vendor had counted {closed.cum} up to report {closed.seq} of epoch {closed.epoch};"
            f" {max(0, books.cum - acked.cum)} Emails that were not acknowledged are carried over",
        )
        carry_over(books, grant.new_epoch, grant.token)
        books.contact_at = books.next_report_at = now
        if self._allowance is not None:
            self._allowance.forget(now)
        await self._thread.run(self._ledger.open_epoch, books.copy(), grant.reason, here.times)
        self._outgoing, self._present = None, None
        self.tries, self.failure = 0, ""
        return Outcome.NEW_EPOCH


async def open_reporter(
    home: Installation,
    books: Books,
    keeper: Keeper,
    *,
    wire: Wire,
    allowance: Allowance | None,
    chance: random.Random,
    told: Callable[[str, str], None],
) -> Reporter:
    """A reporter of this installation, with what was left under way. Raises LedgerError."""
    reporter = Reporter(
        books,
        keeper,
        home.thread,
        wire=wire,
        key=home.key,
        opener=lambda: home.store.trust,
        allowance=allowance,
        signed_time=home.signed_time,
        chance=chance,
        told=told,
    )
    await reporter.load()
    return reporter


def carry_over(books: Books, epoch: int, token: str) -> None:
    """Begin an epoch with what was not acknowledged in the old one, day by day, and nothing else."""
    acked = books.acked_here
    days = {day: emails - acked.days.get(day, 0) for day, emails in books.days.items()}
    books.days = {day: emails for day, emails in days.items() if emails > 0}
    books.cum -= acked.cum
    books.epoch, books.seq, books.token = epoch, 0, token
    books.acked = AckedFigures(epoch=epoch, head=books.acked.head, at=books.acked.at)


def read_refusal(answer: Answer) -> Refusal:
    """What the server says of a request it did not take; of an answer that is none of ours, its status."""
    try:
        return decode_closed(answer.body, Refusal)
    except LicenseError:
        return Refusal(error=f"http_{answer.status}", text=f"HTTP status {answer.status}")


def _envelope(body: bytes) -> Envelope:
    return decode_envelope(body, max_bytes=MAX_ANSWER_BYTES)


def _reported(outgoing: Outgoing) -> UsageReport:
    return decode_closed(decode_envelope(outgoing.data).payload_bytes(), UsageReport)
