"""One connection to a receiving host: from the greeting to QUIT, one transaction after the other.

The driver of `ClientSession` on asyncio's callbacks: it moves bytes, keeps the deadline of each step, and turns replies into one
`Outcome` a recipient. It decides nothing about queues: what it learns goes to its `Owner`. No callback on the way of a
message makes a future or a task (a coroutine a message cost 40 % of the rate in the prototype).

RFC 5321 (dialogue, time-outs), RFC 2920 (pipelining), RFC 3207 (STARTTLS), RFC 3461 (DSN parameters).
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mta.egress.deliveries import STEPS, Deliveries
from mta.egress.tracer import Tap
from mta.egress.transaction import Transaction
from mta.io.deadlines import Deadlines
from mta.metrics.timings import Timings
from mta.model.envelope import Entry
from mta.model.errors import ProtocolError
from mta.model.outcome import Deferred, Extent, Failed, Outcome
from mta.model.reply import Reply, a_reply
from mta.policy.reaction import outcome_of
from mta.policy.rules import AuthRules, Tls
from mta.queue.actions import Candidate
from mta.smtp.client import ClientSession, ReplyTo
from mta.smtp.sasl import Login, choose_mechanism
from mta.smtp.steps import Step

GATHERED_BYTES = 32_768  # from here on a gathering write costs less than the copy it saves
QUIT_TIMEOUT_S = 5.0  # the work is done; a host that is slow to say goodbye is not waited for


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
    auth: AuthRules | None = None  # log in first


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


class OutboundSession(asyncio.Protocol):
    """One connection: greeted, perhaps encrypted, then at the service of its `Deliveries`; lost exactly once."""

    def __init__(
        self,
        number: int,
        owner: Owner,
        candidate: Candidate,
        manners: Manners,
        deadlines: Deadlines,
        *,
        site: str,
        timings: Timings | None = None,
    ) -> None:
        self.timings = timings or Timings()
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
        self._waiting_for = Step.GREETING
        self._deliveries: Deliveries | None = None  # once it is ready
        self._login: Login | None = None  # while we log in
        self.is_to_close = False  # once nothing runs
        self._closing = False
        self._is_over = False
        self.is_lost = False
        self._why: Deferred | None = None
        self._tls_task: asyncio.Task[None] | None = None
        self.tap: Tap | None = None  # somebody watches
        self.writable = asyncio.Event()
        self.writable.set()

    # -- what the owner asks ------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Ready, and no transaction runs."""
        return self.is_ready and not (
            self._is_busy or self._is_reserved or self._closing or self.is_lost
        )

    @property
    def peer(self) -> str:
        """Who is spoken with."""
        return f"{self.facts.remote_name} [{self.facts.remote_ip}]"

    @property
    def is_sending(self) -> bool:
        """A body is under way, or its end has not been written yet."""
        return self._deliveries is not None and self._deliveries.is_streaming

    def reserve(self) -> None:
        """Its next transaction is being fetched: it is not idle; `deliver` or `give_up` follows."""
        self._is_reserved = True

    def give_up(self, entries: list[Entry], outcome: Outcome) -> None:
        """The reserved transaction cannot be: report its outcome instead of delivering."""
        self._is_reserved = False
        for entry in entries:
            self.owner.session_outcome(self, entry, outcome)
        self._free_soon()

    def deliver(self, transaction: Transaction) -> None:
        """Start a transaction, on an idle connection or one reserved for it.

        Every entry's outcome is reported to the owner, then `session_free` or `session_lost`.
        """
        self._is_reserved = False
        assert self._deliveries is not None
        if self.is_lost or self._closing:
            lost = a_reply(451, "4.4.2", "connection lost while the message was read")
            self._deliveries.report(transaction, Deferred(lost, Extent.CONNECTION, local=True))
        elif self._deliveries.begin(transaction):
            self.send(Step.MAIL)
        else:
            self._free_soon()

    def close(self, reason: str) -> None:
        """Say QUIT and close, once what runs is over."""
        if self._closing or self.is_lost:
            return
        if not self.is_ready:
            self.hang_up(None)
        elif self._is_busy or self._is_reserved:
            self.is_to_close = True
        else:
            self._closing = True
            self._session.quit()
            self.send(Step.QUIT)
            self.deadline = self._loop.time() + QUIT_TIMEOUT_S

    def abort(self) -> None:
        """Close at once, whatever runs; entries in transaction are deferred."""
        self.hang_up(
            Deferred(a_reply(421, "4.3.2", "we are stopping"), Extent.CONNECTION, local=True)
        )

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        name = transport.get_extra_info("sockname")
        self.facts.local_ip = name[0] if name else ""
        self.deadline = self._loop.time() + self._timeout(Step.GREETING)
        self._deadlines.watch(self)

    def data_received(self, data: bytes) -> None:
        if self.tap is not None:
            self.tap.received(data)
        try:
            for reply in self._session.receive(data):
                if self._is_over:
                    return  # what a host says after it was hung up on answers nothing any more
                self._on_reply(reply)
        except ProtocolError as error:
            self.hang_up(
                Deferred(
                    a_reply(451, "4.5.0", f"protocol error: {error}"), Extent.CONNECTION, local=True
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._deadlines.forget(self)
        if self.is_lost:
            return
        self.is_lost = True
        if self._tls_task is not None:
            self._tls_task.cancel()
        if self._deliveries is not None:
            self._deliveries.stop()
        self.writable.set()
        why = self._why
        if why is None and (self._is_busy or not (self.is_ready or self._closing)):
            words = self._waiting_for.words
            text = f"connection lost while {words}" + (f" ({exc})" if exc else "")
            why = self._cut_short("4.4.2", text)
        if self.tap is not None:
            self.tap.note("closed" if why is None else f"lost: {why.reply}")
        if self._deliveries is not None:
            self._deliveries.fail(why)
        self.owner.session_lost(self, why)
        if not self._is_reserved:
            # They name each other: apart, both are freed now and not left to the collector, which comes rarely.
            self._deliveries = None

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def on_deadline(self) -> None:
        """The step took too long: the connection is worth nothing any more."""
        if self._closing:
            self.hang_up(None)
            return
        self.hang_up(self._cut_short("4.4.1", f"timed out while {self._waiting_for.words}"))

    def _cut_short(self, enhanced: str, text: str) -> Deferred:
        """Lost or too slow; in a TLS handshake that is a failure of TLS (`opportunistic` then tries without)."""
        reply = a_reply(451, "4.7.5" if self._is_shaking_hands else enhanced, text)
        return Deferred(reply, Extent.CONNECTION, local=True)

    # -- replies ------------------------------------------------------------------------------------------------

    def _on_reply(self, answer: ReplyTo) -> None:
        if answer.reply.code == 421:
            self._sent_away(answer)
        elif answer.step in STEPS and self._deliveries is not None:
            self._deliveries.answered(answer)
        elif answer.step is Step.QUIT:
            self.hang_up(None)
        else:
            self._opening_answered(answer.step, answer.reply)

    def _sent_away(self, answer: ReplyTo) -> None:
        """421: the host closes, whatever it answered (RFC 5321 §3.8)."""
        if self.is_ready and not self._is_busy:
            self.hang_up(None)  # an idle connection it no longer wants to keep
            return
        if self._deliveries is not None:
            self._deliveries.sent_away(answer)
        self._refuse_connection(answer.reply, answer.step)

    def _opening_answered(self, step: Step, reply: Reply) -> None:
        if step is Step.GREETING and reply.code == 220:
            self._session.ehlo(self._manners.ehlo_name)
            self.send(Step.EHLO)
        elif step is Step.EHLO and reply.code == 250:
            self._after_ehlo()
        elif (
            step is Step.EHLO
            and reply.code in (500, 501, 502, 504, 550)
            and not self._session.said_helo
        ):
            self._session.helo(self._manners.ehlo_name)
            self.send(Step.EHLO)
        elif step is Step.STARTTLS and reply.code == 220:
            self._tls_task = self._loop.create_task(self._start_tls())
        elif step is Step.STARTTLS and self._manners.tls is Tls.OPPORTUNISTIC:
            self._log_in()
        elif step is Step.AUTH:
            self._login_answered(reply)
        else:
            self._refuse_connection(reply, step)

    def _after_ehlo(self) -> None:
        wants = self._manners.tls is not Tls.NONE and not self.facts.tls_protocol
        if wants and "STARTTLS" in self._session.extensions:
            self._session.start_tls_command()
            self.send(Step.STARTTLS)
        elif wants and self._manners.tls is Tls.REQUIRE:
            reply = a_reply(454, "4.7.4", "TLS is required here and the host does not offer it")
            self._refuse_connection(reply, Step.STARTTLS, local=True)
        else:
            self._log_in()

    def _log_in(self) -> None:
        """RFC 4954, where the operator gave us a password for this host; TLS was seen to before."""
        auth = self._manners.auth
        if auth is None:
            self._become_ready()
            return
        in_tls = bool(self.facts.tls_protocol)
        mechanism = choose_mechanism(self._session.extensions.get("AUTH", ""), in_tls=in_tls)
        if not mechanism:
            text = "we are to log in here and the host offers none of PLAIN, LOGIN and CRAM-MD5"
            self._refuse_connection(a_reply(451, "4.7.0", text), Step.AUTH, local=True)
            return
        self._login = Login(mechanism, auth.user, auth.password)
        self._say_login(self._login.first())

    def _say_login(self, line: str) -> None:
        self._session.auth_line(line)
        self.send(Step.AUTH)

    def _login_answered(self, reply: Reply) -> None:
        login, auth = self._login, self._manners.auth
        assert login is not None
        assert auth is not None
        if reply.code == 235:
            self._login = None
            self._become_ready()
        elif reply.code == 334:
            try:
                self._say_login(login.answer(reply.text))
            except ValueError as error:
                why = a_reply(451, "4.7.0", f"cannot log in by {login.mechanism}: {error}")
                self._refuse_connection(why, Step.AUTH, local=True)
        else:
            # Our configuration is wrong, or theirs: no recipient is to blame (RFC 4954 §6).
            text = (
                f"the host refused our login as {auth.user} (see auth of its hosts): {reply.text}"
            )
            why = Reply(reply.code, reply.enhanced, (text,))
            self._refuse_connection(why, Step.AUTH)

    def _become_ready(self) -> None:
        self.facts.extensions = ",".join(self._session.extensions)
        self._deliveries = Deliveries(self._session, self)
        self.is_ready = True
        self.deadline = float("inf")
        self.owner.session_ready(self)

    async def _start_tls(self) -> None:
        transport = self._transport
        if self._is_over or transport is None:
            return  # what came behind the 220 in the same segment has ended it already
        began = time.monotonic()
        try:
            # Bytes behind the 220 came in the clear: `start_tls` refuses them (RFC 3207 §4.2).
            self._session.start_tls()
            secured = await self._loop.start_tls(
                transport,
                self,
                self._manners.context or ssl.create_default_context(),
                server_hostname=self.facts.remote_name,
                ssl_handshake_timeout=self._timeout(Step.STARTTLS),
            )
        except (OSError, ssl.SSLError, ProtocolError, ConnectionError) as error:
            reply = a_reply(454, "4.7.5", f"TLS handshake failed: {error}")
            self.hang_up(Deferred(reply, Extent.CONNECTION, local=True))
            return
        if secured is None or self.is_lost:
            return
        self.timings.tls_handshake.observe(time.monotonic() - began)
        self._transport = secured
        if self.tap is not None:
            self.tap.note("TLS begins")
        shown = secured.get_extra_info("ssl_object") or secured.get_extra_info("cipher")
        cipher = secured.get_extra_info("cipher")
        self.facts.tls_protocol = shown.version() if hasattr(shown, "version") else "TLS"
        self.facts.tls_cipher = cipher[0] if cipher else ""
        self._session.ehlo(self._manners.ehlo_name)
        self.send(Step.EHLO)

    # -- the wire -----------------------------------------------------------------------------------------------

    def send(self, step: Step) -> None:
        """Write what the session has put down; `step` is what is waited for now."""
        if self._transport is not None:
            pieces = self._session.take_pieces()
            if self.tap is not None:
                for piece in pieces:
                    self.tap.sent(piece)
            if sum(map(len, pieces)) > GATHERED_BYTES:
                self._transport.writelines(pieces)
            else:
                self._transport.write(b"".join(pieces))
            self.wait_for(step)

    def wait_for(self, step: Step | None) -> None:
        """The host owes the reply to this step, in its time; None: it owes nothing."""
        if step is None:
            self.deadline = float("inf")
        else:
            self._waiting_for = step
            self.deadline = self._loop.time() + self._timeout(step)

    def _timeout(self, step: Step) -> float:
        return self._manners.timeouts.get(step.key, step.timeout_s)

    def free(self) -> None:
        """Nothing runs: close if that was asked for, else take the next."""
        if self._is_reserved or self._is_busy or self.is_lost or self._closing:
            return
        if self.is_to_close:
            self.close("as asked")
        else:
            self.owner.session_free(self)

    def _free_soon(self) -> None:
        # Later: the next message may fail as well, and the next; none of them a call deeper.
        self._loop.call_soon(self.free)

    @property
    def _is_shaking_hands(self) -> bool:
        return self._tls_task is not None and not self.facts.tls_protocol

    @property
    def _is_busy(self) -> bool:
        return self._deliveries is not None and self._deliveries.is_busy

    def _refuse_connection(self, reply: Reply, step: Step, *, local: bool = False) -> None:
        outcome = outcome_of(step, reply, local=local)
        if isinstance(outcome, Deferred | Failed):
            self._why = Deferred(outcome.reply, Extent.CONNECTION, local=local)
            self.owner.session_refused(self, outcome)
        self.hang_up(self._why)

    def hang_up(self, why: Deferred | None) -> None:
        """Close at once; `why` becomes the reason for whatever ran, None: as asked."""
        self._is_over = True
        if self._why is None:
            self._why = why
        if why is None:
            self._closing = True
        if self._transport is not None:
            self._transport.abort()
            if self._is_shaking_hands:
                # A handshake that fails while the connection ends can leave nobody to tell us that it is lost: a fifth of those
                # that a host cut behind its 220 kept their lease for ever. After the transport's own word, if that comes.
                self._loop.call_soon(self.connection_lost, None)
        elif not self.is_lost:
            self.connection_lost(None)
