"""One connection to a receiving host: from the greeting to QUIT, one transaction after the other.

The driver of `ClientSession` on asyncio's callbacks: it moves bytes, keeps the deadline of each step, and turns replies into one
`Outcome` a recipient. It decides nothing about queues: what it learns goes to its `Owner`. No callback on the way of a
message makes a future or a task (a coroutine a message cost 40 % of the rate in the prototype).

RFC 5321 (dialogue, time-outs), RFC 2920 (pipelining), RFC 3207 (STARTTLS), RFC 3461 (DSN parameters).
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mta.egress.transaction import Transaction
from mta.io.deadlines import Deadlines
from mta.model.envelope import Content, Entry, Message, SpillFile
from mta.model.errors import ProtocolError
from mta.model.outcome import Deferred, Delivered, Extent, Failed, Outcome
from mta.model.reply import Reply, a_reply
from mta.policy.reaction import outcome_of
from mta.policy.rules import Tls
from mta.queue.actions import Candidate
from mta.smtp.client import ClientSession, ReplyTo
from mta.smtp.steps import Step

QUIT_TIMEOUT_S = 5.0  # the work is done; a host that is slow to say goodbye is not waited for
STREAM_CHUNK = 131_072


@dataclass(slots=True)
class Facts:
    """What records tell of a connection."""

    remote_name: str = ""
    remote_ip: str = ""
    local_ip: str = ""
    extensions: str = ""
    tls_protocol: str = ""
    tls_cipher: str = ""
    site: str = ""


@dataclass(frozen=True, slots=True)
class Manners:
    """How to talk on one connection: resolved from policy when it is opened."""

    ehlo_name: str
    tls: Tls
    timeouts: Mapping[str, float]
    context: ssl.SSLContext | None


class Owner(Protocol):
    """Who the session reports to."""

    def session_ready(self, session: "OutboundSession") -> None:
        """EHLO (and TLS) are done: it may take work."""

    def session_free(self, session: "OutboundSession") -> None:
        """The transaction is over, every outcome was reported: it may take the next."""

    def session_next(self, session: "OutboundSession") -> Transaction | None:
        """The next transaction, if one is at hand: it goes out together with the body of the running one."""

    def session_outcome(self, session: "OutboundSession", entry: Entry, outcome: Outcome) -> None:
        """One recipient's outcome."""

    def session_refused(self, session: "OutboundSession", outcome: Deferred | Failed) -> None:
        """The host refused us, not a message (greeting, EHLO, MAIL, 421): the session closes by itself."""

    def session_lost(self, session: "OutboundSession", why: Deferred | None) -> None:
        """The connection is gone (None: as asked). Called exactly once, after all outcomes."""


_STEP_TIMEOUT = {step: step.timeout_s for step in Step}


class OutboundSession(asyncio.Protocol):
    """One connection. Every entry given to it gets exactly one outcome.

    `_running` holds the transactions under way, oldest first: one, or two while the first waits for the reply to its dot and
    the next was sent behind it in the same write (RFC 2920 §3.1 allows it by name; it saves a round trip, a write and
    a read a message).
    """

    def __init__(
        self,
        number: int,
        owner: Owner,
        candidate: Candidate,
        manners: Manners,
        deadlines: Deadlines,
        *,
        site: str,
    ) -> None:
        self.number = number
        self.facts = Facts(remote_name=candidate.host, remote_ip=candidate.address, site=site)
        self.deadline = float("inf")
        self.is_ready = False
        self.owner = owner  # its opener first, then the dispatcher
        self._is_reserved = False  # a body is being read for it
        self._manners = manners
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._session = ClientSession()
        self._transport: asyncio.Transport | None = None
        self._timeouts = {
            step: manners.timeouts.get(step.name.lower(), default)
            for step, default in _STEP_TIMEOUT.items()
        }
        self._waiting_for = Step.GREETING
        self._running: deque[Transaction] = deque()
        self._close_when_free = False
        self._closing = False
        self._is_over = False
        self._lost = False
        self._why: Deferred | None = None
        self._tls_task: asyncio.Task[None] | None = None
        self._stream_task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._can_pipeline = False

    # -- what the owner asks ------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Ready, and no transaction runs."""
        return self.is_ready and not (
            self._running or self._is_reserved or self._closing or self._lost
        )

    def reserve(self) -> None:
        """Its next transaction is being fetched: it is not idle; `deliver` or `give_up` follows."""
        self._is_reserved = True

    def give_up(self, entries: list[Entry], outcome: Outcome) -> None:
        """The reserved transaction cannot be: report its outcome instead of delivering."""
        self._is_reserved = False
        self._report(Transaction(entries, b"", b""), outcome)
        self._free_soon()

    def deliver(self, transaction: Transaction) -> None:
        """Start a transaction, on an idle connection or one reserved for it.

        Every entry's outcome is reported to the owner, then `session_free` or `session_lost`.
        """
        self._is_reserved = False
        if self._lost or self._closing:
            lost = a_reply(451, "4.4.2", "connection lost while the message was read")
            self._report(transaction, Deferred(lost, Extent.CONNECTION, local=True))
        elif self._say_envelope(transaction):
            self._send(Step.MAIL)
        else:
            self._free_soon()

    def close(self, reason: str) -> None:
        """Say QUIT and close, once what runs is over."""
        if self._closing or self._lost:
            return
        if not self.is_ready:
            self._abort(None)
        elif self._running or self._is_reserved:
            self._close_when_free = True
        else:
            self._closing = True
            self._session.quit()
            self._send(Step.QUIT)
            self.deadline = self._loop.time() + QUIT_TIMEOUT_S

    def abort(self) -> None:
        """Close at once, whatever runs; entries in transaction are deferred."""
        self._abort(
            Deferred(a_reply(421, "4.3.2", "we are stopping"), Extent.CONNECTION, local=True)
        )

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        name = transport.get_extra_info("sockname")
        self.facts.local_ip = name[0] if name else ""
        self.deadline = self._loop.time() + self._timeouts[Step.GREETING]
        self._deadlines.watch(self)

    def data_received(self, data: bytes) -> None:
        try:
            for reply in self._session.receive(data):
                if self._is_over:
                    return  # what a host says after it was hung up on answers nothing any more
                self._on_reply(reply)
        except ProtocolError as error:
            self._abort(
                Deferred(
                    a_reply(451, "4.5.0", f"protocol error: {error}"), Extent.CONNECTION, local=True
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._deadlines.forget(self)
        if self._lost:
            return
        self._lost = True
        for task in (self._tls_task, self._stream_task):
            if task is not None:
                task.cancel()
        self._writable.set()
        why = self._why
        if why is None and (self._running or not (self.is_ready or self._closing)):
            words = self._waiting_for.words
            text = f"connection lost while {words}" + (f" ({exc})" if exc else "")
            why = self._cut_short("4.4.2", text)
        self._fail_running(why)
        self.owner.session_lost(self, why)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def on_deadline(self) -> None:
        """The step took too long: the connection is worth nothing any more."""
        if self._closing:
            self._abort(None)
            return
        self._abort(self._cut_short("4.4.1", f"timed out while {self._waiting_for.words}"))

    def _cut_short(self, enhanced: str, text: str) -> Deferred:
        """Lost or too slow; in a TLS handshake that is a failure of TLS (`opportunistic` then tries without)."""
        shaking_hands = self._tls_task is not None and not self.facts.tls_protocol
        reply = a_reply(451, "4.7.5" if shaking_hands else enhanced, text)
        return Deferred(reply, Extent.CONNECTION, local=True)

    # -- replies ------------------------------------------------------------------------------------------------

    def _on_reply(self, answer: ReplyTo) -> None:
        step, reply = answer.step, answer.reply
        if reply.code == 421:
            self._sent_away(step, reply, answer.tag)
        elif step is Step.END_OF_DATA:
            self._finish(Delivered(reply) if reply.code == 250 else outcome_of(step, reply))
        elif step is Step.RCPT:
            self._rcpt_answered(answer.tag, reply)
        elif step is Step.MAIL:
            self._mail_answered(reply)
        elif step is Step.DATA:
            self._data_answered(reply)
        elif step is Step.RSET:
            self._rset_answered()
        elif step is Step.QUIT:
            self._abort(None)
        else:
            self._opening_answered(step, reply)

    def _sent_away(self, step: Step, reply: Reply, entry: Entry | None) -> None:
        """421: the host closes, whatever it answered (RFC 5321 §3.8)."""
        if self.is_ready and not self._running:
            self._abort(None)  # an idle connection it no longer wants to keep
            return
        if step is Step.RCPT and entry is not None:
            self._running[-1].refuse(entry, outcome_of(step, reply))
        elif step is Step.END_OF_DATA:
            self._finish(outcome_of(step, reply), is_free=False)
        self._refuse_connection(reply, step)

    def _opening_answered(self, step: Step, reply: Reply) -> None:
        if step is Step.GREETING and reply.code == 220:
            self._session.ehlo(self._manners.ehlo_name)
            self._send(Step.EHLO)
        elif step is Step.EHLO and reply.code == 250:
            self._after_ehlo()
        elif (
            step is Step.EHLO
            and reply.code in (500, 501, 502, 504, 550)
            and not self._session.said_helo
        ):
            self._session.helo(self._manners.ehlo_name)
            self._send(Step.EHLO)
        elif step is Step.STARTTLS and reply.code == 220:
            self._tls_task = self._loop.create_task(self._start_tls())
        elif step is Step.STARTTLS and self._manners.tls is Tls.OPPORTUNISTIC:
            self._become_ready()
        else:
            self._refuse_connection(reply, step)

    def _after_ehlo(self) -> None:
        wants = self._manners.tls is not Tls.NONE and not self.facts.tls_protocol
        if wants and "STARTTLS" in self._session.extensions:
            self._session.start_tls_command()
            self._send(Step.STARTTLS)
        elif wants and self._manners.tls is Tls.REQUIRE:
            reply = a_reply(454, "4.7.4", "TLS is required here and the host does not offer it")
            self._refuse_connection(reply, Step.STARTTLS, local=True)
        else:
            self._become_ready()

    def _become_ready(self) -> None:
        self.facts.extensions = ",".join(self._session.extensions)
        self._can_pipeline = "PIPELINING" in self._session.extensions
        self.is_ready = True
        self.deadline = float("inf")
        self.owner.session_ready(self)

    async def _start_tls(self) -> None:
        transport = self._transport
        assert transport is not None
        try:
            # Bytes behind the 220 came in the clear: `start_tls` refuses them (RFC 3207 §4.2).
            self._session.start_tls()
            secured = await self._loop.start_tls(
                transport,
                self,
                self._manners.context or ssl.create_default_context(),
                server_hostname=self.facts.remote_name,
                ssl_handshake_timeout=self._timeouts[Step.STARTTLS],
            )
        except (OSError, ssl.SSLError, ProtocolError, ConnectionError) as error:
            reply = a_reply(454, "4.7.5", f"TLS handshake failed: {error}")
            self._abort(Deferred(reply, Extent.CONNECTION, local=True))
            return
        if secured is None or self._lost:
            return
        self._transport = secured
        shown = secured.get_extra_info("ssl_object") or secured.get_extra_info("cipher")
        cipher = secured.get_extra_info("cipher")
        self.facts.tls_protocol = shown.version() if hasattr(shown, "version") else "TLS"
        self.facts.tls_cipher = cipher[0] if cipher else ""
        self._session.ehlo(self._manners.ehlo_name)
        self._send(Step.EHLO)

    # -- transactions ---------------------------------------------------------------------------

    def _say_envelope(self, transaction: Transaction) -> bool:
        """Put down MAIL and, pipelined, RCPT and DATA; False: it fails here, its outcome is reported."""
        refusal = self._unbearable(transaction.entries[0].message)
        session = self._session
        before = session.checkpoint()
        if refusal is None:
            try:
                self._put_envelope(transaction)
                self._running.append(transaction)
                return True
            except ValueError as error:
                # What cannot be said cleanly is not said (RFC 5321 §4.1.2); nothing of it was sent.
                session.rollback(before)
                reply = a_reply(550, "5.6.0", str(error))
                refusal = Failed(reply, Extent.MESSAGE, local=True)
        self._report(transaction, refusal)
        return False

    def _put_envelope(self, transaction: Transaction) -> None:
        session, message = self._session, transaction.entries[0].message
        session.mail(
            message.sender,
            size=message.size,
            eight_bit=bool(message.content & Content.EIGHT_BIT),
            ret=message.ret,
            envid=message.envid,
        )
        if self._can_pipeline:
            for entry in transaction.entries:
                session.rcpt(entry.address, notify=entry.notify, orcpt=entry.orcpt, tag=entry)
            session.data()

    def _unbearable(self, message: Message) -> Failed | None:
        """What this host can never take of the message, known before a byte is sent."""
        offered = self._session.extensions
        if message.content & Content.EIGHT_BIT and "8BITMIME" not in offered:
            # RFC 6152 §3; converting would break the signature, so it fails.
            reply = a_reply(554, "5.6.3", "the message is 8-bit and the host takes only 7-bit")
            return Failed(reply, Extent.MESSAGE, local=True)
        limit = offered.get("SIZE", "")
        if limit.isdigit() and 0 < int(limit) < message.size:
            reply = a_reply(552, "5.3.4", f"{message.size} bytes; the host takes at most {limit}")
            return Failed(reply, Extent.MESSAGE, local=True)
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
        if transaction.named < len(transaction.entries):
            entry = transaction.entries[transaction.named]
            transaction.named += 1
            self._session.rcpt(entry.address, notify=entry.notify, orcpt=entry.orcpt, tag=entry)
            self._send(Step.RCPT)
        elif transaction.is_refused_whole:
            self._finish(next(iter(transaction.refused.values())))
        else:
            self._session.data()
            self._send(Step.DATA)

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
            self._session.body(b"", last=True)
            transaction.dot_sent = True
            self._send(Step.END_OF_DATA)
        elif isinstance(transaction.body, SpillFile):
            self._stream_task = self._loop.create_task(self._stream(transaction, transaction.body))
        else:
            self._send_body(transaction, transaction.prefix + transaction.body)

    def _send_body(self, transaction: Transaction, content: bytes) -> None:
        transaction.body_begun = True
        try:
            self._session.body(content, last=True)
        except ValueError as error:
            self._cannot_send(error)
            return
        transaction.dot_sent = True
        if self._can_pipeline and not self._close_when_free:
            following = self.owner.session_next(self)
            if following is not None:
                self._say_envelope(following)
        self._send(Step.END_OF_DATA)

    def _cannot_send(self, error: ValueError) -> None:
        """The body is not clean (CR, LF, NUL, over-long line): in DATA there is no way back but to hang up."""
        reply = a_reply(554, "5.6.0", f"not sent: {error}")
        self._finish(Failed(reply, Extent.MESSAGE, local=True), is_free=False)
        self._abort(None)

    async def _stream(self, transaction: Transaction, body: SpillFile) -> None:
        """A body from its file, chunk by chunk, no faster than the host takes it."""
        transaction.body_begun = True
        try:
            file = await asyncio.to_thread(open, body.path, "rb")
            with file:
                self._session.body(transaction.prefix, last=False)
                while chunk := await asyncio.to_thread(file.read, STREAM_CHUNK):
                    self._session.body(chunk, last=False)
                    self._send(Step.BODY)
                    await self._writable.wait()
                    if self._lost:
                        return
            self._session.body(b"", last=True)
        except OSError as error:
            reply = a_reply(451, "4.3.0", f"the stored body cannot be read: {error}")
            self._abort(Deferred(reply, Extent.MESSAGE, local=True))
            return
        except ValueError as error:
            self._cannot_send(error)
            return
        transaction.dot_sent = True
        self._send(Step.END_OF_DATA)

    def _finish(self, outcome: Outcome, *, is_free: bool = True) -> None:
        """The oldest transaction is over: each entry gets its own refusal, or else `outcome`."""
        transaction = self._running.popleft()
        self._report(transaction, outcome)
        if self._running:
            self._wait_for(Step.MAIL)  # the next was sent behind the dot
            return
        self.deadline = float("inf")
        if not is_free or self._lost or self._closing:
            return
        if transaction.mail_taken and not transaction.dot_sent:
            # The host still has the sender. Pipelined, RSET goes out with the next MAIL.
            self._session.rset()
            if not self._can_pipeline:
                self._is_reserved = True
                self._send(Step.RSET)
                return
        self._free()

    def _rset_answered(self) -> None:
        if not self._can_pipeline:
            self._is_reserved = False
            self.deadline = float("inf")
            self._free()

    def _free(self) -> None:
        """Nothing runs: close if that was asked for, else take the next."""
        if self._is_reserved or self._running or self._lost or self._closing:
            return
        if self._close_when_free:
            self.close("as asked")
        else:
            self.owner.session_free(self)

    def _free_soon(self) -> None:
        # Later: the next message may fail as well, and the next; none of them a call deeper.
        self._loop.call_soon(self._free)

    def _report(self, transaction: Transaction, outcome: Outcome) -> None:
        report, refused = self.owner.session_outcome, transaction.refused
        for entry in transaction.entries:
            report(self, entry, refused.get(entry, outcome) if refused else outcome)

    def _fail_running(self, why: Deferred | None) -> None:
        """The connection went while transactions ran."""
        reply = a_reply(451, "4.4.2", "connection closed")
        why = why or Deferred(reply, Extent.CONNECTION, local=True)
        while self._running:
            self._finish(self._running[0].lost(why), is_free=False)

    # -- the wire -----------------------------------------------------------------------------------------------

    def _send(self, step: Step) -> None:
        if self._transport is not None:
            self._transport.write(self._session.take_outgoing())
            self._wait_for(step)

    def _wait_for(self, step: Step) -> None:
        self._waiting_for = step
        self.deadline = self._loop.time() + self._timeouts[step]

    def _refuse_connection(self, reply: Reply, step: Step, *, local: bool = False) -> None:
        outcome = outcome_of(step, reply, local=local)
        if isinstance(outcome, Deferred | Failed):
            self._why = Deferred(outcome.reply, Extent.CONNECTION, local=local)
            self.owner.session_refused(self, outcome)
        self._abort(self._why)

    def _abort(self, why: Deferred | None) -> None:
        self._is_over = True
        if self._why is None:
            self._why = why
        if why is None:
            self._closing = True
        if self._transport is not None:
            self._transport.abort()
        elif not self._lost:
            self.connection_lost(None)
