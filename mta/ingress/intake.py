"""The single door: here a message gets its number, trace fields, virtual MTA, queues and signatures, and is committed.

An `Arrival` is one message on its way: `add` its bytes, then `finish`; the reply comes when the message is on stable
storage, or says why it is not taken. The order of the finished message is: DKIM-Signature, Received, fields we add, then
what was received, less the control fields (`X-Virtual-MTA`, `X-Job`, `X-Deliver-After`, `X-Priority-Class`). Only the last
part is the spool's `body`; it never changes.

RFC 5321 §4.4 (trace), §6.3 (loops); RFC 6409 §8 (Message-ID, Date); RFC 6376 (signatures).
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from mta.dkim.canonical import BodyHasher, body_hash
from mta.dkim.keys import KeyRing
from mta.dkim.signer import Signer
from mta.ingress.collect import Collector, IntakeMemory, Spill
from mta.io.clock import Clock
from mta.io.threads import Workshop
from mta.mime.author import author_domain
from mta.mime.headers import CRLF, HeaderIndex, header_length, split_message
from mta.mime.headers import field as header_field
from mta.mime.trace import date_field, message_id, received_field
from mta.model.envelope import (
    Content,
    Draft,
    Entry,
    Message,
    Priority,
    QueueKey,
    SpillFile,
    format_message_id,
)
from mta.model.errors import SpoolError
from mta.model.event import Received
from mta.model.reply import Reply, a_reply
from mta.policy.admission import BAD_PRIORITY, BAD_TIME, Admission, Peer
from mta.policy.pools import Pools
from mta.policy.schedule import parse_time
from mta.queue.priority import parse_priority
from mta.smtp import replies
from mta.smtp.grammar import RcptTo
from mta.spool.bodies import BodyCache

logger = structlog.get_logger()

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # of space or of inodes
MAX_HEADER_BYTES = 262_144  # reliability: 256 kB–1 MB in all; nothing legitimate comes near
MAX_HEADER_LINES = 1000
SIGN_ON_LOOP_S = 0.0001  # two of Ed25519: less than the hop to a thread and back
# Where every core has a worker of its own, threads share nothing out: with RSA-2048 on the loop, a message of 4 KB cost 556 µs
# of CPU and 591 with two threads. Of RSA-4096 that would be 2.4 ms in one piece: it stays in its thread.
SIGN_ON_LOOP_ALONE_S = 0.0007
MAX_RECEIVED = 50  # RFC 5321 §6.3 wants a large number; Postfix's hopcount_limit

TWO_AUTHORS = a_reply(550, "5.6.0", "more than one From field (RFC 5322 section 3.6)")
NOT_UTF8 = a_reply(550, "5.6.0", "the header is not UTF-8, as SMTPUTF8 says it is (RFC 6532)")
DRAINED = a_reply(451, "4.3.2", "mail of this job is not taken now; send it again later")
QUEUE_DRAINED = a_reply(451, "4.3.2", "mail of this queue is not taken now; send it again later")
VMTA_GONE = a_reply(
    451, "4.3.5", "the virtual MTA or pool was taken out of the configuration; connect again"
)
TOO_BUSY = a_reply(451, "4.3.2", "too many messages are being signed; send it again later")

Done = Callable[[Reply], None]


class AcceptingSpool(Protocol):
    """What the intake needs of the spool."""

    @property
    def uuid(self) -> str: ...

    @property
    def number(self) -> int: ...

    def next_message_number(self) -> int: ...

    def accept(self, draft: Draft, done: Callable[[SpoolError | None], None]) -> None: ...

    def new_spill(self) -> Spill: ...


@dataclass(slots=True)
class Submission:
    """The envelope of a message and who hands it in."""

    admission: Admission
    peer: Peer
    sender: str
    sender_domain: str
    recipients: list[RcptTo]
    ret: str = ""
    envid: str = ""
    source_kind: str = "smtp"
    local_ip: str = ""
    source_name: str = ""
    protocol: str = "ESMTP"  # RFC 3848
    release_at: float = 0.0  # by MAIL: not before; 0.0: at once
    answers: tuple[int, list[int]] | None = None  # of a notice: see `Draft`
    utf8: bool = False  # it said SMTPUTF8


@dataclass(slots=True)
class _Examined:
    """What the header said."""

    kept: bytes  # the header block without control fields
    index: HeaderIndex
    vmta: str
    job: str
    signers: Sequence[Signer]
    release_at: float = 0.0  # by its header: not before
    priority: Priority = Priority.NORMAL
    is_headerless: bool = False  # it begins with its body: the blank line must be put in front
    hashers: dict[str, BodyHasher] = field(
        default_factory=dict
    )  # by canonicalisation; for spilled bodies


class Intake:
    """Takes messages for one spool."""

    def __init__(
        self,
        *,
        spool: AcceptingSpool,
        bodies: BodyCache,
        memory: IntakeMemory,
        workshop: Workshop,
        clock: Clock,
        hostname: str,
        lab: bool,
        on_accepted: Callable[[Draft], None],
        sign_on_loop_s: float = SIGN_ON_LOOP_S,
    ) -> None:
        """`sign_on_loop_s`: signatures of a message that cost no more are made on the loop, others in the workshop."""
        self.spool = spool
        self.memory = memory
        self.clock = clock
        self.keyring = KeyRing([])
        self.pools = Pools()
        self.licence_held_s: Callable[[], float] = lambda: 0.0
        self.is_drained: Callable[[str], bool] = lambda _job: False
        self.drained_queues: frozenset[QueueKey] = frozenset()
        self._bodies = bodies
        self._workshop = workshop
        self._hostname = hostname
        self._stamp = (
            header_field("X-Sluice-Lab", "this message was sent in lab mode") if lab else b""
        )
        self._on_accepted = on_accepted
        self._sign_on_loop_s = sign_on_loop_s

    def begin(self, submission: Submission) -> "Arrival":
        """A message whose bytes follow."""
        return Arrival(self, submission)

    # -- what an Arrival asks -----------------------------------------------------------------------------------

    def examine(self, block: bytes, submission: Submission) -> _Examined | Reply:
        """Read the header once: control fields, hops, author. A Reply refuses the message."""
        if len(block) > MAX_HEADER_BYTES or block.count(CRLF) > MAX_HEADER_LINES:
            return replies.HEADER_TOO_BIG
        index = HeaderIndex(block)
        is_headerless = index.broken_at == 0
        if is_headerless:
            block = b""
            index = HeaderIndex(block)
        if index.count(b"received") > MAX_RECEIVED:
            return replies.TOO_MANY_HOPS
        if index.count(b"from") > 1:
            return TWO_AUTHORS
        if index.broken_at > 0:
            return a_reply(550, "5.6.0", "a line of the header is no field (RFC 5322 section 2.2)")
        if submission.utf8 and not _is_utf8(block):
            return NOT_UTF8
        controls = submission.admission.control_fields
        asked = index.find(controls[0])
        wanted = "" if asked is None else asked.decode("ascii", "replace")
        named_vmta = submission.admission.choose_vmta(submission.peer, wanted, submission.sender)
        if isinstance(named_vmta, Reply):
            return named_vmta
        named = index.find(controls[1])
        job = "" if named is None else _shown(named.decode("utf-8", "replace").strip())
        timed = index.find(controls[2])
        release_at = 0.0 if timed is None else self._release_at(timed, submission)
        if isinstance(release_at, Reply):
            return release_at
        ranked = index.find(controls[3])
        priority = Priority.NORMAL
        if ranked is not None:
            try:
                priority = parse_priority(ranked.decode("ascii", "replace"))
            except ValueError:
                return BAD_PRIORITY
        if job and self.is_drained(job):
            return DRAINED
        vmta = self.pools.choose(named_vmta, job)
        if vmta is None:
            return VMTA_GONE
        if self.drained_queues and self._enters_drained(vmta, submission.recipients):
            return QUEUE_DRAINED
        kept = block
        if not (asked is named is timed is ranked is None):
            kept = index.strip(controls)
            index = HeaderIndex(kept)
        author = index.find(b"from")
        from_domain = author_domain(author) if author is not None else ""
        signers = self.keyring.signers_for(from_domain, submission.sender_domain)
        return _Examined(kept, index, vmta, job, signers, release_at, priority, is_headerless)

    def _enters_drained(self, vmta: str, recipients: list[RcptTo]) -> bool:
        """Whether any of these would enter a queue that is drained."""
        return any(QueueKey(each.domain, vmta) in self.drained_queues for each in recipients)

    def _release_at(self, value: bytes, submission: Submission) -> float | Reply:
        """The time that `X-Deliver-After` names."""
        now, wall = self.clock.now(), self.clock.wall()
        try:
            wanted = now + parse_time(value.decode("ascii", "replace")) - wall
        except (ValueError, OverflowError):
            return BAD_TIME
        return submission.admission.release_at(wanted, now)

    def store(
        self,
        submission: Submission,
        examined: _Examined,
        body: bytes | SpillFile,
        hashed: Callable[[str], bytes],
        content: Content,
        done: Done,
    ) -> None:
        """Name, sign and commit the message. `hashed` gives the body hash of a canonicalisation."""
        now, wall = self.clock.now(), self.clock.wall()
        number = self.spool.next_message_number()
        token = format_message_id(self.spool.uuid, number)
        added = self._stamp
        if not examined.index.has(b"date"):
            added += date_field(wall)
        if not examined.index.has(b"message-id"):
            added += message_id(self._hostname, token)
        recipients = submission.recipients
        trace = received_field(
            helo=submission.source_name,
            ip=submission.peer.address,
            hostname=self._hostname,
            protocol=submission.protocol,
            token=token,
            # Not in UTF-8: it alone would keep the message from every host without SMTPUTF8.
            recipient=recipients[0].address
            if len(recipients) == 1 and recipients[0].address.isascii()
            else "",
            wall=wall,
        )
        # Without SMTPUTF8 bytes over 127 in a header are what they always were: 8-bit text that most hosts take.
        if submission.utf8 and not examined.kept.isascii():
            content |= Content.UTF8
        message = Message(
            self.spool.number,
            number,
            submission.sender,
            0,
            now,
            examined.vmta,
            job=examined.job,
            envid=submission.envid,
            ret=submission.ret,
            content=content,
            source_kind=submission.source_kind,
            source_ip=submission.peer.address,
            source_name=submission.source_name,
            user=submission.peer.user,
            licence_held_s=self.licence_held_s(),
            release_at=max(submission.release_at, examined.release_at),
            priority=examined.priority,
        )
        prefix = trace + added
        if not examined.signers:
            self._commit(submission, message, prefix, body, done)
            return
        header = HeaderIndex(added + examined.kept) if added else examined.index

        def sign() -> bytes:
            return b"".join(
                signer.sign(header, hashed(signer.canon[1]), wall) for signer in examined.signers
            )

        def signed(result: bytes | BaseException) -> None:
            if isinstance(result, BaseException):
                logger.error("signing failed", message=token, error=repr(result))
                done(replies.LOCAL_ERROR)
                return
            self._commit(submission, message, result + prefix, body, done)

        if sum([signer.cost_s for signer in examined.signers]) <= self._sign_on_loop_s:
            signed(sign())
        elif not self._workshop.submit(sign, signed):
            done(TOO_BUSY)

    def _commit(
        self,
        submission: Submission,
        message: Message,
        prefix: bytes,
        body: bytes | SpillFile,
        done: Done,
    ) -> None:
        body_size = len(body) if isinstance(body, bytes) else body.size
        message.size = len(prefix) + body_size
        vmta, now = message.vmta, message.received_at
        due = max(now, message.release_at)
        entries = [
            Entry(
                message,
                QueueKey(recipient.domain, vmta),
                recipient.address,
                notify=recipient.notify,
                orcpt=recipient.orcpt,
                due=due,
            )
            for recipient in submission.recipients
        ]
        if not (message.sender.isascii() and all(map(_is_ascii, entries))):
            message.content |= Content.UTF8
        event = Received(
            now,
            message.number,
            message.sender,
            len(entries),
            message.size,
            vmta,
            message.job,
            message.envid,
            message.source_kind,
            message.source_ip,
            message.source_name,
            message.user,
            submission.local_ip,
        )
        draft = Draft(message, entries, prefix, body, event, submission.answers)

        token = format_message_id(self.spool.uuid, message.number)

        def committed(error: SpoolError | None) -> None:
            if error is not None:
                done(replies.NO_SPACE if error.is_full else replies.LOCAL_ERROR)
                return
            if due <= now:
                self._bodies.put(message, prefix, body, len(entries))
            done(a_reply(250, "2.6.0", f"queued as {token}"))
            self._on_accepted(draft)

        self.spool.accept(draft, committed)


class Arrival:
    """One message on its way in: gathered, then stored or discarded, once."""

    __slots__ = ("_collector", "_content", "_examined", "_intake", "_refusal", "_submission")

    def __init__(self, intake: Intake, submission: Submission) -> None:
        self._intake = intake
        self._submission = submission
        self._collector = Collector(intake.memory, intake.spool.new_spill, self._spilled)
        self._examined: _Examined | None = None
        self._refusal: Reply | None = None
        self._content = Content.PLAIN

    @property
    def size(self) -> int:
        return self._collector.size

    def _is_refused(self) -> bool:
        return self._refusal is not None

    def add(self, chunk: bytes) -> None:
        """The next bytes; after a refusal they are only counted."""
        if not self._is_refused():
            self._collector.add(chunk)
            if self._is_refused():  # the header was read when the message began to spill
                self._collector.discard()

    def discard(self) -> None:
        """The client left, or the message is refused for what its bytes are."""
        self._collector.discard()

    def finish(self, done: Done) -> None:
        """All bytes are here: store the message; `done` is called with the reply, possibly at once."""
        if self._refusal is not None:
            done(self._refusal)
        elif self._collector.has_spilled:
            self._collector.finish(lambda result: self._finish_spilled(result, done))
        else:
            self._finish_small(done)

    def _finish_small(self, done: Done) -> None:
        data = self._collector.content()
        end = header_length(data)
        block = data[:end]
        self._collector.release()
        examined = self._intake.examine(block, self._submission)
        if isinstance(examined, Reply):
            done(examined)
            return
        kept = examined.kept
        if examined.is_headerless:
            whole = CRLF + data
        elif kept is block and end < len(data):
            whole = data  # nothing is copied, here and for the hash: a third less for 100 KB
        else:
            whole = kept + (data[end:] or CRLF)
        hashes: dict[str, bytes] = {}

        def hashed(canon: str) -> bytes:
            if canon not in hashes:
                hashes[canon] = body_hash(whole, canon, len(kept) + 2)
            return hashes[canon]

        content = Content.PLAIN if whole.isascii() else Content.EIGHT_BIT
        self._intake.store(self._submission, examined, whole, hashed, content, done)

    def _spilled(self, chunk: bytes) -> bytes:
        """What goes to the spill file: the first call has the whole header in it, if the header is of a bearable size."""
        if not chunk.isascii():
            self._content = Content.EIGHT_BIT
        if self._examined is not None:
            for hasher in self._examined.hashers.values():
                hasher.update(chunk)
            return chunk
        block, rest = split_message(chunk)
        examined = self._intake.examine(block, self._submission) if rest else replies.HEADER_TOO_BIG
        if isinstance(examined, Reply):
            self._refusal = examined
            return b""
        examined.hashers = {
            signer.canon[1]: BodyHasher(signer.canon[1]) for signer in examined.signers
        }
        if examined.is_headerless:
            rest = CRLF + chunk
        for hasher in examined.hashers.values():
            hasher.update(rest[2:])
        self._examined = examined
        return examined.kept + rest

    def _finish_spilled(self, result: SpillFile | BaseException, done: Done) -> None:
        if isinstance(result, BaseException):
            logger.error("a body could not be written", error=repr(result))
            is_full = isinstance(result, OSError) and result.errno in NO_ROOM
            done(replies.NO_SPACE if is_full else replies.LOCAL_ERROR)
            return
        examined = self._examined
        assert examined is not None
        digests = {canon: hasher.digest() for canon, hasher in examined.hashers.items()}
        self._intake.store(
            self._submission, examined, result, digests.__getitem__, self._content, done
        )


def _is_ascii(entry: Entry) -> bool:
    return entry.address.isascii()


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _shown(text: str) -> str:
    """A client's text, fit for a reply and a record: printable, at most 200 characters."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])
