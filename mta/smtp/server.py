"""The server's side of an SMTP session: bytes in, events out, replies in, bytes to send.

All of the protocol's order stands in `TRANSITIONS`. An event that needs an answer stops the reading
until `reply` is called, be it at once or much later; what the client pipelined meanwhile waits, and
`wants_read` says when it is enough. Replies collect, so that a group of commands is answered in one
write (RFC 2920 §3.2).

The law: events and replies do not depend on how the stream was cut. So there is no rule here
against text that comes after DATA and before the 354 (RFC 2920 §3.1): without a clock, early and on
time are the same bytes. What comes before the greeting is likewise the driver's to judge. What
follows STARTTLS in the clear is judged, in `start_tls`.

BDAT is read by counting. The octets of one that is refused are taken off the stream all the same,
for they are the client's message and never commands; where their number is not known, or is more
than any message has, the session ends.

RFC 5321, RFC 2920, RFC 3030 §2, RFC 3207 §4, RFC 4954 §4.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from mta.model.errors import ProtocolError
from mta.model.reply import Reply
from mta.smtp import replies
from mta.smtp.dots import DataFault, DotReader
from mta.smtp.extensions import ServerOffer, format_greeting, format_hello
from mta.smtp.grammar import (
    Auth,
    AuthRequest,
    Bdat,
    Command,
    Courtesy,
    Data,
    Hello,
    MailFrom,
    Quit,
    RcptTo,
    Reset,
    StartTls,
    parse_command,
    parse_login,
    parse_plain,
)
from mta.smtp.lines import BareLineFeed, LineReader, LineTooLong
from mta.smtp.octets import OctetReader
from mta.smtp.replies import Refused, encode_reply

MAX_COMMAND = (
    2048  # bytes with CRLF: 512 (RFC 5321 §4.5.3.1.4) and room for the parameters of its extensions
)
MAX_WAITING = 65_536  # bytes of pipelined input while an answer is owed


@dataclass(slots=True)
class Chunk:
    """A piece of the message, unstuffed; never empty."""

    data: bytes


@dataclass(slots=True)
class EndOfData:
    """The final dot, or the end of the last BDAT.

    With a fault the message was not given out whole and must be forgotten.
    """

    fault: DataFault | None
    size: int  # bytes, unstuffed


@dataclass(slots=True)
class EndOfBdat:
    """The end of a BDAT that is not the last. With a fault the message must be forgotten."""

    fault: DataFault | None
    is_empty: bool


class NeedData(Enum):
    """The type of NEED_DATA."""

    NEED_DATA = "nothing to do until more is received, or the last event is answered"


NEED_DATA: Final = NeedData.NEED_DATA

Event = (
    Hello
    | StartTls
    | Auth
    | MailFrom
    | RcptTo
    | Data
    | Bdat
    | Chunk
    | EndOfBdat
    | EndOfData
    | Reset
    | Quit
)


class State(Enum):
    """Where the dialogue stands."""

    CONNECTED = "the greeting is not sent"
    STRANGER = "no EHLO yet"
    READY = "between transactions"
    MAIL = "the sender is accepted"
    RCPT = "a recipient is accepted"
    CREDENTIALS = "the next line is a response to AUTH"
    BODY = "the message is coming"
    OCTETS = "the octets of a BDAT are coming"
    LAST_OCTETS = "the octets of the last BDAT are coming"
    CHUNKS = "a BDAT was taken, and not the last"
    SPOILT = "a BDAT was refused, and the message with it"
    SKIP = "the octets of a BDAT out of place are thrown away"
    TLS = "the next bytes are a handshake"
    CLOSED = "nothing more is read"

    # Enum hashes a member by its name, in Python; a member is one object, and states are looked up eight times a message.
    __hash__ = object.__hash__


# Which command may come when, and where it leads once answered with 2xx or 3xx. Whatever is not
# here is out of place.
TRANSITIONS: Final[dict[State, dict[type, State]]] = {
    State.CONNECTED: {},
    State.STRANGER: {
        Hello: State.READY,
        Reset: State.STRANGER,
        Quit: State.CLOSED,
    },
    State.READY: {
        Hello: State.READY,
        StartTls: State.TLS,
        AuthRequest: State.CREDENTIALS,
        Auth: State.READY,
        MailFrom: State.MAIL,
        Reset: State.READY,
        Quit: State.CLOSED,
    },
    State.MAIL: {
        Hello: State.READY,  # RFC 5321 §4.1.4: EHLO ends a transaction as RSET does
        RcptTo: State.RCPT,
        Reset: State.READY,
        Quit: State.CLOSED,
    },
    State.RCPT: {
        Hello: State.READY,
        RcptTo: State.RCPT,
        Data: State.BODY,
        Bdat: State.OCTETS,
        Reset: State.READY,
        Quit: State.CLOSED,
    },
    State.CHUNKS: {
        Hello: State.READY,
        Bdat: State.OCTETS,
        Reset: State.READY,
        Quit: State.CLOSED,
    },
    State.SPOILT: {
        Hello: State.READY,
        Reset: State.READY,
        Quit: State.CLOSED,
    },
    State.CREDENTIALS: {Auth: State.READY},
    State.BODY: {EndOfData: State.READY},
    State.OCTETS: {EndOfBdat: State.CHUNKS},
    State.LAST_OCTETS: {EndOfData: State.READY},
    State.SKIP: {},
    State.TLS: {},
    State.CLOSED: {},
}
# A refused command leaves the dialogue where it stands, but for these.
WHEN_REFUSED: Final = {
    State.CREDENTIALS: State.READY,
    State.BODY: State.READY,
    State.OCTETS: State.SPOILT,
    State.LAST_OCTETS: State.READY,
}

OUT_OF_PLACE: Final[dict[tuple[State, type], Reply]] = {
    (State.READY, RcptTo): replies.MAIL_FIRST,
    (State.READY, Data): replies.MAIL_FIRST,
    (State.READY, Bdat): replies.MAIL_FIRST,
    (State.MAIL, MailFrom): replies.NESTED_MAIL,
    (State.MAIL, Data): replies.NO_RECIPIENTS,
    (State.MAIL, Bdat): replies.NO_RECIPIENTS,
    (State.RCPT, MailFrom): replies.NESTED_MAIL,
    (State.CHUNKS, MailFrom): replies.NESTED_MAIL,
    (State.CHUNKS, Data): replies.DATA_AFTER_BDAT,
    (State.SPOILT, MailFrom): replies.BDAT_REFUSED,
    (State.SPOILT, RcptTo): replies.BDAT_REFUSED,
    (State.SPOILT, Data): replies.BDAT_REFUSED,
    (State.SPOILT, Bdat): replies.BDAT_REFUSED,
}


class ServerSession:
    """One client's dialogue. Invariant: while an answer is owed, nothing more is read."""

    def __init__(self, offer: ServerOffer, *, in_tls: bool = False) -> None:
        self.offer = offer
        self.in_tls = in_tls
        self.is_authenticated = False
        self.hello: Hello | None = None  # the last one accepted
        self._lines = LineReader(MAX_COMMAND)
        self._outgoing: list[bytes] = []
        self._owed: Event | None = None  # the event that waits for reply()
        self._recipients = 0
        self._is_utf8 = False  # MAIL said SMTPUTF8
        self._junk = 0
        self._body = DotReader(0)
        self._octets = OctetReader(0)
        self._mechanism = ""  # of the AUTH under way
        self._user = ""  # named by AUTH LOGIN, which asks for the password next
        self._left = 0  # octets of a BDAT that are still to come
        self._is_empty = False  # that BDAT has none
        self._after_skip = State.CONNECTED, replies.OK
        self._state = State.CONNECTED
        self._may = TRANSITIONS[State.CONNECTED]

    # What drivers ask.

    @property
    def should_close(self) -> bool:
        """Whether to close once what take_outgoing() gives is written."""
        return self._state is State.CLOSED

    @property
    def awaits_reply(self) -> bool:
        """Whether an event waits for reply(): the next move is ours, not the client's."""
        return self._owed is not None

    @property
    def wants_read(self) -> bool:
        """Whether to go on reading from the socket.

        Not while too much waits for an answer, and not between the 220 to STARTTLS and start_tls().
        """
        if self._state is State.TLS or self._state is State.CLOSED:
            return False
        return len(self._lines) < MAX_WAITING

    @property
    def protocol(self) -> str:
        """The word for the Received field (RFC 3848): SMTP, ESMTP, ESMTPS, ESMTPA or ESMTPSA; UTF8SMTP… (RFC 6531 §4.3)."""
        if self.hello is not None and not self.hello.esmtp:
            return "SMTP"
        return (
            ("UTF8SMTP" if self._is_utf8 else "ESMTP")
            + "S" * self.in_tls
            + "A" * self.is_authenticated
        )

    # Bytes in, events out.

    def receive(self, data: bytes) -> None:
        """Take what was read from the socket; next_event() tells what it means."""
        if self._state is not State.CLOSED:
            self._lines.feed(data)

    def next_event(self) -> Event | NeedData:
        """The next thing the client wants, or NEED_DATA; to be asked until it says so.

        Hello, StartTls, Auth, MailFrom, RcptTo, Data, EndOfBdat and EndOfData each need one
        reply(); Bdat, Chunk, Reset and Quit need none.
        """
        while self._owed is None:
            state = self._state
            if state is State.BODY:
                event = self._read_body()
            elif state is State.OCTETS or state is State.LAST_OCTETS:
                event = self._read_octets()
            elif state is State.SKIP:
                event = self._skip_octets()
            elif self._may:
                event = self._read_line()
            else:
                return NEED_DATA
            if event is not None:
                return event
        return NEED_DATA

    def _read_line(self) -> Event | NeedData | None:
        """The next line's event; None if it was answered here."""
        line: bytes | None = None
        try:
            line = self._lines.next_line()
            if line is None:
                return NEED_DATA
            if self._state is State.CREDENTIALS:
                return self._read_credentials(line)
            return self._admit(parse_command(line))
        except Refused as refused:
            if (
                line is not None
                and line[:4].upper() == b"BDAT"
                and self._state is not State.CREDENTIALS
            ):
                self.close(refused.reply)  # nobody knows how many octets follow
            else:
                self._refuse(refused.reply)
        except LineTooLong:
            in_auth = self._state is State.CREDENTIALS
            self._refuse(replies.AUTH_LINE_TOO_LONG if in_auth else replies.LINE_TOO_LONG)
        except BareLineFeed:
            self._refuse(replies.BARE_LINE_FEED)
        return None

    def _admit(self, command: Command) -> Event | None:
        """Check the command against the table and the offer.

        Answer it here where nobody above is needed.
        """
        if isinstance(command, Courtesy):
            self._answer_idle(command.reply)
            return None
        kind = type(command)
        if kind not in self._may:
            default = replies.EHLO_FIRST if self._state is State.STRANGER else replies.NOT_NOW
            reply = OUT_OF_PLACE.get((self._state, kind), default)
            if isinstance(command, Bdat):
                self._begin_skip(command, reply)
                return None
            raise Refused(reply)
        if isinstance(command, Data):
            self._owed = command
            return command
        self._object(command)
        match command:
            case MailFrom():
                self._owed = command
            case RcptTo():
                if not command.domain:
                    # RFC 5321 §4.5.1: <Postmaster> without a domain is ours.
                    command.domain = self.offer.hostname.lower()
                    command.address += f"@{self.offer.hostname}"
                self._owed = command
            case Bdat():
                self._begin_octets(command)
            case AuthRequest():
                return self._begin_auth(command)
            case Reset():
                self._enter(self._may[Reset])
                self._answer_idle(replies.OK)
            case Quit():
                self._say(replies.GOODBYE)
                self._enter(self._may[Quit])
            case _:
                self._owed = command
        return command

    def _object(self, command: Command) -> None:
        """Refuse what the offer rules out, whoever asks. Raises Refused."""
        offer = self.offer
        match command:
            case MailFrom():
                if offer.tls_required and not self.in_tls:
                    raise Refused(replies.TLS_FIRST)
                if command.size > offer.max_size:
                    raise Refused(replies.MESSAGE_TOO_BIG)  # RFC 1870 §6.1
            case RcptTo():
                if self._recipients >= offer.max_recipients:
                    raise Refused(replies.TOO_MANY_RECIPIENTS)
                if not (self._is_utf8 or command.address.isascii()):
                    raise Refused(replies.NO_SMTPUTF8)
            case StartTls() if self.in_tls:
                raise Refused(replies.ALREADY_TLS)
            case StartTls() if not offer.tls_available:
                raise Refused(replies.NOT_OFFERED)
            case AuthRequest() if self.is_authenticated:
                raise Refused(replies.ALREADY_AUTHENTICATED)  # RFC 4954 §4
            case AuthRequest() if not self.in_tls and offer.auth_available and offer.tls_available:
                raise Refused(replies.ENCRYPTION_REQUIRED)
            case AuthRequest() if not self.in_tls or not offer.auth_available:
                raise Refused(replies.NOT_OFFERED)
            case AuthRequest(mechanism=mechanism) if mechanism not in ("PLAIN", "LOGIN"):
                raise Refused(replies.UNKNOWN_MECHANISM)

    def _begin_auth(self, request: AuthRequest) -> Auth | None:
        """Credentials at once, or 334 and they come in a line of their own (RFC 4954 §4)."""
        self._mechanism = request.mechanism
        self._user = ""
        is_login = request.mechanism == "LOGIN"
        if request.initial is None:
            self._say(replies.SEND_USER if is_login else replies.SEND_CREDENTIALS)
        elif is_login:
            self._user = parse_login(request.initial)
            self._say(replies.SEND_PASSWORD)
        else:
            self._owed = auth = parse_plain(request.initial)
            return auth
        self._enter(self._may[AuthRequest])
        return None

    def _read_credentials(self, line: bytes) -> Auth | None:
        """What answers our 334; None while there is one more to come."""
        if line == b"*":
            raise Refused(replies.AUTH_CANCELLED)
        text = line.decode("ascii", "replace")
        if self._mechanism == "PLAIN":
            auth = parse_plain(text)
        elif not self._user:
            self._user = parse_login(text)
            self._say(replies.SEND_PASSWORD)
            return None
        else:
            auth = Auth("LOGIN", self._user, parse_login(text))
        self._owed = auth
        return auth

    def _read_body(self) -> Event | NeedData | None:
        """The next piece of the message, or its end."""
        body = self._body
        if body.is_over:
            self._owed = end = EndOfData(body.fault, body.size)
            return end
        data = self._lines.take_all()
        if not data:
            return NEED_DATA
        text, rest = body.feed(data)
        if rest:
            self._lines.feed(rest)
        return Chunk(text) if text else None

    def _begin_octets(self, command: Bdat) -> None:
        """Octets of the message follow (RFC 3030 §2)."""
        if self._state is State.RCPT:
            self._octets = OctetReader(self.offer.max_size, normalize=self.offer.normalize)
        self._octets.announce(command.size)
        self._left = command.size
        self._is_empty = not command.size
        self._enter(State.LAST_OCTETS if command.is_last else self._may[Bdat])

    def _read_octets(self) -> Event | NeedData | None:
        """The next piece of the message, or the end of this BDAT."""
        octets = self._octets
        if self._left:
            data = self._lines.take(self._left)
            if not data:
                return NEED_DATA
            self._left -= len(data)
            text = octets.feed(data)
            return Chunk(text) if text else None
        end: EndOfData | EndOfBdat
        if self._state is State.LAST_OCTETS:
            if text := octets.finish():
                return Chunk(text)
            end = EndOfData(octets.fault, octets.size)
        else:
            end = EndOfBdat(octets.fault, self._is_empty)
        self._owed = end
        return end

    def _begin_skip(self, command: Bdat, reply: Reply) -> None:
        """The client may have sent the octets already: they go the way of their command."""
        if command.size > self.offer.max_size:
            self.close(reply)  # nobody reads so much for nothing
            return
        self._left = command.size
        self._after_skip = self._state, reply
        self._enter(State.SKIP)

    def _skip_octets(self) -> NeedData | None:
        """Throw away what is here of them; answer after the last."""
        self._left -= len(self._lines.take(self._left))
        if self._left:
            return NEED_DATA
        state, reply = self._after_skip
        self._enter(state)
        self._refuse(reply)
        return None

    # Replies in, bytes out.

    def greeting(self) -> None:
        """Say 220; from here on commands are read."""
        self._say(format_greeting(self.offer))
        self._enter(State.STRANGER)

    def hello_reply(self, wall: float = 0.0) -> Reply:
        """The positive answer to the Hello that waits: our name, and to EHLO what we offer at `wall`, by the clock."""
        assert isinstance(self._owed, Hello), "no EHLO waits for an answer"
        return format_hello(
            self.offer,
            esmtp=self._owed.esmtp,
            in_tls=self.in_tls,
            is_authenticated=self.is_authenticated,
            wall=wall,
        )

    def reply(self, reply: Reply) -> None:
        """Answer the event that waits; with 421 the session is over.

        After close() it is too late, and nothing is said.
        """
        if self._state is State.CLOSED:
            return
        event = self._owed
        assert event is not None, f"{reply} answers nothing"
        self._owed = None
        self._say(reply)
        if reply.code == 421:
            self._enter(State.CLOSED)
        elif reply.code < 400:
            self._accepted(event)
        elif self._state in WHEN_REFUSED:
            self._enter(WHEN_REFUSED[self._state])

    def close(self, reply: Reply) -> None:
        """Say this unasked (421: time is up, we stop; 554: not you) and be done (RFC 5321 §3.8)."""
        if self._state is not State.CLOSED:
            self._say(reply)
            self._enter(State.CLOSED)

    def take_outgoing(self) -> bytes:
        """All that is to be sent now, for one write; b"" for nothing."""
        outgoing = self._outgoing
        if not outgoing:
            return b""
        wire = outgoing[0] if len(outgoing) == 1 else b"".join(outgoing)
        outgoing.clear()
        return wire

    def start_tls(self) -> None:
        """The 220 to STARTTLS is sent, the handshake begins: forget everything (RFC 3207 §4.2).

        Raises ProtocolError if anything came behind STARTTLS in the clear: it would be read as if
        it were protected. The driver closes then, without a word.
        """
        assert self._state is State.TLS, "nobody asked for TLS"
        if self._lines.is_busy:
            self._enter(State.CLOSED)
            raise ProtocolError("data after STARTTLS, before the handshake")
        self.in_tls = True
        self.is_authenticated = False
        self.hello = None
        self._enter(State.STRANGER)

    def _accepted(self, event: Event) -> None:
        """What a positive answer changes."""
        match event:
            case MailFrom():
                self._recipients = 0
                self._is_utf8 = event.utf8
            case RcptTo():
                self._recipients += 1
            case Data():
                self._body = DotReader(self.offer.max_size, normalize=self.offer.normalize)
            case EndOfData():
                self._junk = 0
            case EndOfBdat(is_empty=True):
                self._count_junk()
            case Hello():
                self.hello = event
                self._count_junk()
            case Auth():
                self.is_authenticated = True
        if self._state is not State.CLOSED:
            self._enter(self._may[type(event)])

    def _answer_idle(self, reply: Reply) -> None:
        """Answer a command that moves nothing."""
        self._say(reply)
        self._count_junk()

    def _refuse(self, reply: Reply) -> None:
        """Answer what was not a command, or not one for now."""
        self._say(reply)
        if self._state in WHEN_REFUSED:
            self._enter(WHEN_REFUSED[self._state])
        if reply.is_permanent:
            self._count_junk()

    def _count_junk(self) -> None:
        """One more command that brings no message nearer; too many in a row end the session."""
        self._junk += 1
        if self._junk > self.offer.max_junk:
            self.close(replies.TOO_MUCH_JUNK)

    def _say(self, reply: Reply) -> None:
        self._outgoing.append(encode_reply(reply))

    def _enter(self, state: State) -> None:
        self._state = state
        self._may = TRANSITIONS[state]
        if state is State.CLOSED:
            self._owed = None
            self._lines.take_all()
