"""The transactions of one connection: MAIL, RCPT, DATA, the body, and what the host answered to each.

At most two are under way: one that waits for the reply to its dot, and the next, sent behind the dot in the same write (RFC 2920
§3.1 allows it by name; it saves a round trip, a write and a read a message). Replies come in the order of the commands, so
whatever answers a MAIL, RCPT or DATA belongs to the youngest, and the reply to a dot to the oldest.

RFC 5321 §3.3, RFC 2920 (pipelining), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 3461 (DSN parameters),
RFC 6531 (SMTPUTF8).
"""

import asyncio
import os
import time
from collections import deque
from typing import TYPE_CHECKING

from mta.egress.spoken import decide_spoken
from mta.egress.transaction import Transaction
from mta.model.envelope import Content, Entry, Message, SpillFile
from mta.model.errors import AddressError, Unsayable
from mta.model.outcome import Deferred, Delivered, Extent, Failed, Outcome
from mta.model.reply import Reply, a_reply
from mta.policy.reaction import outcome_of
from mta.smtp.client import ClientSession, ReplyTo
from mta.smtp.steps import Step

if TYPE_CHECKING:
    from mta.egress.session import OutboundSession

STREAM_CHUNK = 131_072

STEPS = frozenset({Step.MAIL, Step.RCPT, Step.DATA, Step.END_OF_DATA, Step.RSET})


class Deliveries:
    """Every entry of every transaction begun here gets exactly one outcome."""

    def __init__(self, session: ClientSession, line: "OutboundSession") -> None:
        self._session = session
        self._line = line
        self._can_pipeline = "PIPELINING" in session.extensions
        self._running: deque[Transaction] = deque()
        self._is_resetting = False
        self._stream_task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Something is under way."""
        return bool(self._running) or self._is_resetting

    @property
    def messages(self) -> list[Message]:
        """What is under way."""
        return [each.entries[0].message for each in self._running if each.entries]

    @property
    def is_streaming(self) -> bool:
        """A body is on its way from its file, in pieces."""
        return self._stream_task is not None and not self._stream_task.done()

    def answered(self, answer: ReplyTo) -> None:
        """A reply to one of `STEPS`; never 421."""
        step, reply = answer.step, answer.reply
        if step is Step.END_OF_DATA:
            self._line.timings.data.observe(time.monotonic() - self._running[0].began_at)
            self._finish(Delivered(reply) if reply.code == 250 else outcome_of(step, reply))
        elif step is Step.RCPT:
            self._rcpt_answered(answer.tag, reply)
        elif step is Step.MAIL:
            self._mail_answered(reply)
        elif step is Step.DATA:
            self._data_answered(reply)
        else:
            self._reset()

    def sent_away(self, answer: ReplyTo) -> None:
        """421 to one of `STEPS`: what it says of the transaction; the connection closes (RFC 5321 §3.8)."""
        outcome = outcome_of(answer.step, answer.reply)
        if answer.step is Step.RCPT:
            self._running[-1].refuse(answer.tag, outcome)
        elif answer.step is Step.END_OF_DATA:
            self._finish(outcome, is_free=False)

    def stop(self) -> None:
        """The connection is gone: nothing more is streamed."""
        if self._stream_task is not None:
            self._stream_task.cancel()

    def begin(self, transaction: Transaction) -> bool:
        """Put down MAIL and, pipelined, RCPT and DATA; False: it fails here, its outcome is reported."""
        # First: whatever goes wrong from here on is told of it.
        self._running.append(transaction)
        refusal = self._unbearable(transaction)
        session = self._session
        before = session.checkpoint()
        if refusal is None:
            try:
                self._put_envelope(transaction)
                if not transaction.is_refused_whole:
                    return True
                refusal = transaction.refused[transaction.entries[0]]
            except (AddressError, Unsayable) as error:
                # What cannot be said cleanly is not said (RFC 5321 §4.1.2); nothing of it was sent.
                refusal = _unsayable(error, Extent.MESSAGE)
            session.rollback(before)
        self.report(transaction, refusal)
        self._running.pop()
        return False

    def _put_envelope(self, transaction: Transaction) -> None:
        session, message = self._session, transaction.entries[0].message
        spoken = transaction.spoken
        session.mail(
            message.sender if spoken is None else spoken.sender,
            size=message.size,
            eight_bit=bool(message.content and message.content & Content.EIGHT_BIT),
            ret=message.ret,
            envid=message.envid,
            utf8=spoken is not None and spoken.utf8,
        )
        if self._can_pipeline:
            for entry in transaction.entries:
                if entry not in transaction.refused:
                    self._put_recipient(transaction, entry)
            session.data()

    def _put_recipient(self, transaction: Transaction, entry: Entry) -> bool:
        """RCPT, in UTF-8 where it is spoken; False: it cannot be said, and this recipient alone fails of that."""
        spoken = transaction.spoken
        try:
            self._session.rcpt(
                entry.address if spoken is None else spoken.recipients.get(entry, entry.address),
                notify=entry.notify,
                orcpt=entry.orcpt,
                utf8=spoken is not None and spoken.utf8,
                tag=entry,
            )
        except (AddressError, Unsayable) as error:
            transaction.refuse(entry, _unsayable(error, Extent.RECIPIENT))
            return False
        return True

    def _unbearable(self, transaction: Transaction) -> Outcome | None:
        """What this host can never take of the message, known before a byte is sent."""
        offered = self._session.extensions
        message = transaction.entries[0].message
        # Asked first whether it is anything but plain: `&` of two flags is Python code, 0.6 µs.
        content = message.content
        if content and content & Content.EIGHT_BIT and "8BITMIME" not in offered:
            # RFC 6152 §3; converting would break the signature, so it fails.
            reply = a_reply(554, "5.6.3", "the message is 8-bit and the host takes only 7-bit")
            return Failed(reply, Extent.MESSAGE, local=True)
        limit = offered.get("SIZE", "")
        if limit.isascii() and limit.isdigit() and 0 < int(limit) < message.size:
            reply = a_reply(552, "5.3.4", f"{message.size} bytes; the host takes at most {limit}")
            return Failed(reply, Extent.MESSAGE, local=True)
        if content and content & Content.UTF8:
            spoken = decide_spoken(transaction, offered)
            if isinstance(spoken, Failed):
                return spoken
            transaction.spoken = spoken
            if transaction.is_refused_whole:
                return transaction.refused[transaction.entries[0]]
        return None

    def _mail_answered(self, reply: Reply) -> None:
        transaction = self._running[-1]
        if reply.code == 250:
            transaction.mail_taken = True
            if not self._can_pipeline:
                self._next_rcpt()
            return
        outcome = outcome_of(Step.MAIL, reply)
        transaction.refuse_all(outcome)
        if not self._can_pipeline:
            self._finish(outcome)

    def _next_rcpt(self) -> None:
        """Without pipelining: one command, one reply."""
        transaction = self._running[-1]
        while (entry := transaction.next_named()) is not None:
            if self._put_recipient(transaction, entry):
                self._line.send(Step.RCPT)
                return
        if transaction.is_refused_whole:
            self._finish(next(iter(transaction.refused.values())))
        else:
            self._session.data()
            self._line.send(Step.DATA)

    def _rcpt_answered(self, entry: Entry, reply: Reply) -> None:
        if reply.code not in (250, 251):
            self._running[-1].refuse(entry, outcome_of(Step.RCPT, reply))
        if not self._can_pipeline:
            self._next_rcpt()

    def _data_answered(self, reply: Reply) -> None:
        transaction = self._running[-1]
        if reply.code != 354:
            self._finish(outcome_of(Step.DATA, reply))
        elif transaction.is_refused_whole:
            # RFC 2920 §3.1: a host that says 354 although it refused every recipient wants a dot all the same.
            transaction.began_at = time.monotonic()
            self._session.body(b"", last=True)
            transaction.dot_sent = True
            self._line.send(Step.END_OF_DATA)
        elif isinstance(transaction.body, SpillFile):
            self._stream_task = asyncio.get_running_loop().create_task(
                self._stream(transaction, transaction.body)
            )
        else:
            self._send_body(transaction, transaction.body)

    def _send_body(self, transaction: Transaction, body: bytes) -> None:
        transaction.body_begun = True
        transaction.began_at = time.monotonic()
        try:
            self._session.body(transaction.prefix, last=False)
            self._session.body(body, last=True, is_checked=transaction.is_checked)
        except Unsayable as error:
            self._cannot_send(error)
            return
        transaction.dot_sent = True
        if self._can_pipeline and not self._line.is_to_close:
            following = self._line.owner.session_next(self._line)
            if following is not None:
                self.begin(following)
        self._line.send(Step.END_OF_DATA)

    def _cannot_send(self, error: Unsayable) -> None:
        """The body is not clean (CR, LF, NUL, over-long line): in DATA there is no way back but to hang up."""
        reply = a_reply(554, "5.6.0", f"not sent: {error}")
        self._finish(Failed(reply, Extent.MESSAGE, local=True), is_free=False)
        self._line.hang_up(None)

    async def _stream(self, transaction: Transaction, body: SpillFile) -> None:
        """A body from its file, chunk by chunk, no faster than the host takes it."""
        transaction.body_begun = True
        transaction.began_at = time.monotonic()
        try:
            file = await asyncio.to_thread(open, body.path, "rb")
            with file:
                found = os.fstat(file.fileno()).st_size
                if found != body.size:  # torn: to send it would pass it off as the message
                    raise OSError(f"{body.path} has {found} bytes instead of {body.size}")
                self._session.body(transaction.prefix, last=False)
                while chunk := await asyncio.to_thread(file.read, STREAM_CHUNK):
                    self._session.body(chunk, last=False)
                    self._line.send(Step.BODY)
                    await self._line.writable.wait()
                    if self._line.is_lost:
                        return
            self._session.body(b"", last=True)
        except OSError as error:
            reply = a_reply(451, "4.3.0", f"the stored body cannot be read: {error}")
            self._line.hang_up(Deferred(reply, Extent.MESSAGE, local=True))
            return
        except Unsayable as error:
            self._cannot_send(error)
            return
        transaction.dot_sent = True
        self._line.send(Step.END_OF_DATA)

    def _finish(self, outcome: Outcome, *, is_free: bool = True) -> None:
        """The oldest transaction is over: each entry gets its own refusal, or else `outcome`."""
        self.report(self._running[0], outcome)
        transaction = self._running.popleft()
        if self._running:
            self._line.wait_for(Step.MAIL)  # the next was sent behind the dot
            return
        self._line.wait_for(None)
        if not is_free or self._line.is_lost:
            return
        if transaction.mail_taken and not transaction.dot_sent:
            # The host still has the sender. Pipelined, RSET goes out with the next MAIL.
            self._session.rset()
            if not self._can_pipeline:
                self._is_resetting = True
                self._line.send(Step.RSET)
                return
        self._line.free()

    def _reset(self) -> None:
        if self._is_resetting:
            self._is_resetting = False
            self._line.wait_for(None)
            self._line.free()

    def report(self, transaction: Transaction, outcome: Outcome) -> None:
        line, refused, entries = self._line, transaction.refused, transaction.entries
        report = line.owner.session_outcome
        try:
            for entry in entries:
                report(line, entry, refused.get(entry, outcome) if refused else outcome)
        except BaseException:  # raised again: who has its outcome is not told another
            transaction.entries = entries[entries.index(entry) :]
            raise

    def fail(self, why: Deferred | None) -> None:
        """The connection went while transactions ran."""
        reply = a_reply(451, "4.4.2", "connection closed")
        why = why or Deferred(reply, Extent.CONNECTION, local=True)
        while self._running:
            transaction = self._running[0]
            try:
                self._finish(transaction.lost(why), is_free=False)
            except Exception as error:  # a task border: one entry's fault must not keep the others
                self._line.owner.session_fault(self._line, error)
                # It stays in flight, and is tried again after a restart: what became of it cannot be written.
                transaction.entries = transaction.entries[1:]
                if not transaction.entries:
                    self._running.popleft()


def _unsayable(error: ValueError, extent: Extent) -> Failed:
    return Failed(a_reply(550, "5.6.0", str(error)), extent, local=True)
