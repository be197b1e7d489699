"""The SMTP listener's side of a connection: moves bytes between a transport and `ServerSession`, keeps time, asks the gate.

The rules stand elsewhere: the dialogue in `mta.smtp.server`, admission in `mta.ingress.gate` and `mta.policy.admission`, the
message in `mta.ingress.intake`. Every question may be answered later; until then the session takes no further command and its
bounded buffer holds what a pipelining client has sent ahead.

RFC 5321; RFC 3030 (BDAT); RFC 3207 (STARTTLS); RFC 4954 (AUTH); RFC 8314 (implicit TLS). Behind a proxy the client is the one
its PROXY header names (`mta.smtp.proxy`).
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import structlog

from mta.ingress.gate import Client, Gate, release_wanted
from mta.ingress.intake import Arrival, Intake, Submission
from mta.ingress.listener import Listener, read_preface
from mta.ingress.refusals import RefusalLog
from mta.io.deadlines import Deadlines
from mta.io.tls import certificate_names
from mta.metrics.counts import Counts
from mta.metrics.timings import Timings
from mta.model.errors import ProtocolError
from mta.model.reply import Reply, a_reply
from mta.policy.admission import Admission, Peer
from mta.policy.rules import ListenerRules
from mta.smtp import replies
from mta.smtp.dots import DataFault
from mta.smtp.grammar import Auth, Bdat, Data, Hello, MailFrom, Quit, RcptTo, Reset, StartTls
from mta.smtp.proxy import NOBODY, Proxied
from mta.smtp.server import NEED_DATA, Chunk, EndOfBdat, EndOfData, ServerSession

logger = structlog.get_logger()

# A client gets this long to begin, or as long as it may be silent if that is less, before `min_data_rate` is held against it.
RATE_GRACE_S = 60.0
# Our own answer (a commit, a signature, the governor) may take this long; after that something of ours is stuck.
ANSWER_TIMEOUT_S = 120.0
TLS_HANDSHAKE_TIMEOUT_S = 30.0

TOO_SLOW = a_reply(421, "4.4.2", "The message comes too slowly, closing")


class SmtpService:
    """All SMTP clients of a worker."""

    def __init__(
        self,
        *,
        intake: Intake,
        gate: Gate,
        deadlines: Deadlines,
        counts: Counts,
        timings: Timings | None = None,
    ) -> None:
        self.timings = timings or Timings()
        self.refusals = RefusalLog(time.monotonic)
        self.intake = intake
        self.gate = gate
        self.deadlines = deadlines
        self.counts = counts
        self.connections: set[SmtpConnection] = set()
        self.is_stopping = False
        self._arriving: set[asyncio.Task[None]] = set()

    def adopt(self, sock: socket.socket, listener: Listener) -> None:
        """Serve an accepted socket from here on."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._adopt(sock, listener))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        task.add_done_callback(_log_failure)

    async def _adopt(self, sock: socket.socket, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        context = listener.context if listener.implicit_tls else None
        proxied: Proxied | None = None
        try:
            if listener.rules.proxy_from:
                proxied = await read_preface(sock, listener, self.counts, self.refusals)
                if proxied is None:
                    sock.close()
                    return
            await loop.connect_accepted_socket(
                lambda: SmtpConnection(self, listener, proxied),
                sock,
                ssl=context,
                ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S if context else None,
            )
        except (OSError, ssl.SSLError) as error:
            sock.close()  # the client went, or its handshake failed: nothing was promised
            listener.tell_of_handshake(error)
        except asyncio.CancelledError:
            sock.close()
            raise

    def take_no_more(self) -> None:
        """Begin no new transaction: those that run may end, all other clients hear 421 now."""
        self.is_stopping = True
        for connection in list(self.connections):
            connection.stop_when_idle()

    async def stop(self, within_s: float) -> None:
        """Let running transactions finish, at most `within_s`; then close what is left."""
        loop = asyncio.get_running_loop()
        self.take_no_more()
        until = loop.time() + within_s
        while self.connections and loop.time() < until:
            await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.close_with(replies.SHUTTING_DOWN)
        for task in list(self._arriving):
            task.cancel()


class SmtpConnection(asyncio.Protocol):
    """One client. Every event of its session gets exactly one reply, in order."""

    __slots__ = (
        "__weakref__",
        "_arrival",
        "_client",
        "_data_ended",
        "_data_started",
        "_is_held",
        "_listener",
        "_loop",
        "_mail",
        "_proxied",
        "_pumping",
        "_recipients",
        "_service",
        "_session",
        "_transaction_deadline",
        "_transport",
        "deadline",
    )

    def __init__(
        self, service: SmtpService, listener: Listener, proxied: Proxied | None = None
    ) -> None:
        """`proxied`: what the PROXY header says, where the listener takes them."""
        self.deadline = float("inf")
        self._service = service
        self._listener = listener
        self._proxied = proxied
        self._loop = asyncio.get_running_loop()
        self._session = ServerSession(listener.offer, in_tls=listener.implicit_tls)
        self._transport: asyncio.Transport | None = None
        self._client = _NOBODY
        self._mail: MailFrom | None = None
        self._recipients: list[RcptTo] = []
        self._arrival: Arrival | None = None
        self._data_started = 0.0
        self._data_ended = 0.0  # on the monotonic clock
        self._transaction_deadline = float("inf")
        self._pumping = False
        self._is_held = True  # not read from: not yet admitted, or in a TLS handshake

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._service.is_stopping:
            self.close_with(replies.SHUTTING_DOWN)
            return
        client = self._client = self._client_at(transport)
        service = self._service
        service.connections.add(self)
        service.counts.connections_in += 1
        service.counts.connections_in_tls += self._listener.implicit_tls
        service.deadlines.watch(self)
        self.deadline = self._loop.time() + ANSWER_TIMEOUT_S
        transport.pause_reading()
        service.gate.connect(client, self._admitted)

    def _client_at(self, transport: asyncio.Transport) -> Client:
        """Who is at the other end, or behind the proxy there."""
        address: str = transport.get_extra_info("peername")[0]
        local: str = transport.get_extra_info("sockname")[0]
        proxied = self._proxied
        if proxied is not None and proxied != NOBODY:
            address, local = proxied
        admission = self._listener.admission
        peer = admission.peer(address)
        if proxied == NOBODY:
            peer.is_listed = False  # whoever it is, the proxy's own address gives it no rights
        client = Client(admission, peer, local_ip=local)
        self._look_at_certificate(client, transport)
        return client

    def _look_at_certificate(self, client: Client, transport: asyncio.Transport) -> None:
        """In TLS: a name in the client's certificate may stand for a user; AUTH may name another."""
        names = certificate_names(transport.get_extra_info("peercert"))
        client.peer.user = client.admission.certified_user(names)

    def data_received(self, data: bytes) -> None:
        try:
            self._session.receive(data)
            self._pump()
        except ProtocolError:
            self._break_off()
        except Exception:  # the task border of this connection (architecture.md section 7)
            logger.exception(
                "a fault of ours in a client's session", peer=self._client.peer.address
            )
            self.close_with(replies.LOCAL_ERROR)

    def connection_lost(self, exc: Exception | None) -> None:
        service = self._service
        if self not in service.connections:
            return
        service.connections.discard(self)
        service.deadlines.forget(self)
        service.gate.disconnect(self._client)
        if self._arrival is not None:
            self._arrival.discard()
            self._arrival = None
        self._transport = None

    def pause_writing(self) -> None:
        # A client that does not read its replies gets no more of them: nothing new is read meanwhile.
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def on_deadline(self) -> None:
        """The client, or we, took too long."""
        self._service.counts.connections_in_timed_out += 1
        slow = self._arrival is not None and self._loop.time() > self._rate_deadline()
        if slow:
            self._service.refusals.note(self._client, "DATA", TOO_SLOW)
        self.close_with(TOO_SLOW if slow else replies.TIMED_OUT)

    # -- closing ------------------------------------------------------------------------------------------------

    def close_with(self, reply: Reply) -> None:
        """Say `reply` and hang up."""
        transport = self._transport
        if transport is None:
            return
        self._session.close(reply)
        transport.write(self._session.take_outgoing())
        transport.close()

    def _break_off(self) -> None:
        """The client broke the protocol: commands in the clear behind STARTTLS (RFC 3207 §4.2)."""
        self._service.counts.protocol_errors_in += 1
        self._service.refusals.note(self._client, "STARTTLS", replies.TLS_PIPELINED)
        self.close_with(replies.TLS_PIPELINED)

    def stop_when_idle(self) -> None:
        """The server is stopping: go now if no transaction runs, else once it is over.

        While a message is being committed its client must hear of it: after a 421 it would send it again.
        """
        session = self._session
        if self._mail is None and not session.awaits_reply and not session.should_close:
            self.close_with(replies.SHUTTING_DOWN)

    # -- the dialogue -------------------------------------------------------------------------------------------

    def _admitted(self, refusal: Reply | None) -> None:
        if self._transport is None:
            return
        if refusal is not None:
            self._service.counts.connections_in_refused += 1
            self._service.refusals.note(self._client, "connect", refusal)
            self.close_with(refusal)
            return
        self._is_held = False
        self._session.greeting()
        self.data_received(b"")  # what a hasty client said before the greeting waits in the session

    def _pump(self) -> None:
        """Take every event the session has; stop at one that must be answered first."""
        session = self._session
        moved = False
        self._pumping = True
        try:
            while (event := session.next_event()) is not NEED_DATA:
                moved = True
                _TAKE[type(event)](self, event)
        finally:
            self._pumping = False
        self._flush(moved)
        if self._service.is_stopping:
            self.stop_when_idle()

    def _answer(self, reply: Reply) -> None:
        """Answer the event the session waits with; go on with what the client has sent meanwhile."""
        if self._transport is None:
            return
        try:
            self._session.reply(reply)
            if not self._pumping:
                self._pump()
        except ProtocolError:
            self._break_off()
        except Exception:  # a task border: answers come from commits and threads, too
            logger.exception(
                "a fault of ours in a client's session", peer=self._client.peer.address
            )
            self.close_with(replies.LOCAL_ERROR)

    def _flush(self, moved: bool = True) -> None:
        """Send what is to be said, read on or not; the client has new time only if the dialogue has `moved`."""
        transport = self._transport
        if transport is None:
            return
        session = self._session
        outgoing = session.take_outgoing()
        if outgoing:
            transport.write(outgoing)
        if session.should_close:
            transport.close()
            return
        # Bytes that end no command buy no time: who sends one a minute would stay for ever.
        if moved or outgoing:
            self._renew_deadline()
        if session.awaits_reply and not session.wants_read:
            transport.pause_reading()
            return
        held = self._is_held or self._service.intake.memory.is_full
        if not held and not transport.is_reading():
            transport.resume_reading()

    def _renew_deadline(self) -> None:
        now = self._loop.time()
        if self._session.awaits_reply:
            self.deadline = now + ANSWER_TIMEOUT_S
            return
        deadline = now + self._listener.rules.command_timeout
        if self._arrival is not None:
            deadline = min(deadline, self._rate_deadline())
        self.deadline = min(deadline, self._transaction_deadline)

    def _rate_deadline(self) -> float:
        assert self._arrival is not None
        return (
            self._data_started
            + min(RATE_GRACE_S, self._listener.rules.command_timeout)
            + self._arrival.size / self._listener.rules.min_data_rate
        )

    # -- events -------------------------------------------------------------------------------------------------

    def _take_hello(self, event: Hello) -> None:
        self._client.name = event.name
        self._forget_transaction()
        self._session.reply(self._session.hello_reply(self._service.intake.clock.wall()))

    def _take_start_tls(self, event: StartTls) -> None:
        del event
        transport = self._transport
        context = self._listener.context
        assert transport is not None
        assert context is not None
        # Not read before the handshake owns the socket: the ClientHello would reach the plain protocol.
        transport.pause_reading()
        self._is_held = True
        self._session.reply(replies.START_TLS)
        transport.write(self._session.take_outgoing())
        self._session.start_tls()
        self._forget_transaction()
        self._client.peer.user = ""
        task = self._loop.create_task(self._start_tls(transport, context))
        task.add_done_callback(_log_failure)

    async def _start_tls(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            secured = await self._loop.start_tls(
                transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S,
            )
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            transport.abort()
            self._listener.tell_of_handshake(error, self._client.peer.address)
            # Cut in the middle of the handshake, the layer between may leave nobody to tell us: the client's place is free now.
            self._loop.call_soon(self.connection_lost, None)
            return
        if secured is None:
            return
        self._service.counts.connections_in_tls += 1
        self._transport = secured
        self._look_at_certificate(self._client, secured)
        self._is_held = False
        self._flush()

    def _take_auth(self, event: Auth) -> None:
        def answered(reply: Reply) -> None:
            counts = self._service.counts
            if reply.code == 235:
                self._client.peer.user = event.user
                counts.auth_succeeded += 1
            else:
                counts.auth_failed += reply is not replies.AUTH_BUSY  # there we did not look
            self._answer(reply)

        self._service.gate.authenticate(self._client, event.user, event.password, answered)

    def _take_mail(self, event: MailFrom) -> None:
        def answered(refusal: Reply | None) -> None:
            if refusal is None:
                self._mail = event
                self._transaction_deadline = (
                    self._loop.time() + self._listener.rules.transaction_timeout
                )
            else:
                self._command_refused("MAIL", refusal, sender=event.sender)
            self._answer(refusal or replies.SENDER_OK)

        self._service.gate.mail(self._client, event, answered)

    def _take_rcpt(self, event: RcptTo) -> None:
        def answered(refusal: Reply | None) -> None:
            if refusal is None:
                self._recipients.append(event)
            else:
                self._command_refused("RCPT", refusal, recipient=event.address)
            self._answer(refusal or replies.RECIPIENT_OK)

        self._service.gate.rcpt(self._client, event, len(self._recipients), answered)

    def _command_refused(self, step: str, reply: Reply, **about: str) -> None:
        self._service.counts.commands_in_refused += 1
        if reply.is_permanent:  # what is refused for now is a limit's or the house's matter
            self._service.refusals.note(self._client, step, reply, **about)

    def _take_data(self, event: Data) -> None:
        del event
        self._begin_message()
        self._session.reply(replies.START_MAIL)

    def _take_bdat(self, event: Bdat) -> None:
        del event
        if self._arrival is None:  # the first of the message
            self._begin_message()

    def _begin_message(self) -> None:
        mail, client = self._mail, self._client
        assert mail is not None
        self._data_started = self._loop.time()
        clock = self._service.intake.clock
        self._arrival = self._service.intake.begin(
            Submission(
                client.admission,
                client.peer,
                mail.sender,
                mail.domain,
                self._recipients,
                ret=mail.ret,
                envid=mail.envid,
                local_ip=client.local_ip,
                source_name=client.name,
                protocol=self._session.protocol,
                release_at=release_wanted(mail, clock.now(), clock.wall()),
                utf8=mail.utf8,
            )
        )

    def _take_chunk(self, event: Chunk) -> None:
        assert self._arrival is not None
        self._arrival.add(event.data)
        memory = self._service.intake.memory
        if memory.is_full and self._transport is not None:
            self._transport.pause_reading()
            memory.wait(self._resume_reading)

    def _take_end_of_bdat(self, event: EndOfBdat) -> None:
        if event.fault is None:
            self._session.reply(replies.BDAT_TAKEN)
        else:
            self._refuse_message(event.fault)
            self._forget_transaction()
            self._session.reply(event.fault.reply)

    def _take_end_of_data(self, event: EndOfData) -> None:
        arrival, self._arrival = self._arrival, None
        assert arrival is not None
        self._mail = None
        self._recipients = []
        self._transaction_deadline = float("inf")
        if event.fault is not None:
            arrival.discard()
            self._refuse_message(event.fault)
            self._answer(event.fault.reply)
        else:
            self._data_ended = time.monotonic()
            arrival.finish(self._stored)

    def _refuse_message(self, fault: DataFault) -> None:
        counts = self._service.counts
        counts.messages_in_refused += 1
        counts.data_faults += fault in (DataFault.BARE_NEWLINE, DataFault.NUL)
        self._service.refusals.note(self._client, "DATA", fault.reply)

    def _stored(self, reply: Reply) -> None:
        counts = self._service.counts
        if reply.code == 250:
            counts.messages_in += 1
            self._service.timings.accept.observe(time.monotonic() - self._data_ended)
        elif reply.code >= 500:
            counts.messages_in_refused += 1
        else:
            counts.messages_in_deferred += 1
        self._answer(reply)
        if self._service.is_stopping:
            self.close_with(replies.SHUTTING_DOWN)

    def _take_reset(self, event: Reset) -> None:
        del event
        self._forget_transaction()

    def _take_quit(self, event: Quit) -> None:
        del event

    def _forget_transaction(self) -> None:
        if self._arrival is not None:  # between two BDATs
            self._arrival.discard()
            self._arrival = None
        self._mail = None
        self._recipients = []
        self._transaction_deadline = float("inf")

    def _resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()


# Stands in until the transport tells who it is.
_NOBODY = Client(Admission(ListenerRules("127.0.0.1:0"), ()), Peer("", "", False))

_TAKE: dict[type, Callable[[SmtpConnection, Any], None]] = {
    Hello: SmtpConnection._take_hello,
    StartTls: SmtpConnection._take_start_tls,
    Auth: SmtpConnection._take_auth,
    MailFrom: SmtpConnection._take_mail,
    RcptTo: SmtpConnection._take_rcpt,
    Data: SmtpConnection._take_data,
    Bdat: SmtpConnection._take_bdat,
    Chunk: SmtpConnection._take_chunk,
    EndOfBdat: SmtpConnection._take_end_of_bdat,
    EndOfData: SmtpConnection._take_end_of_data,
    Reset: SmtpConnection._take_reset,
    Quit: SmtpConnection._take_quit,
}


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a fault of ours in a connection's task", exc_info=error)
