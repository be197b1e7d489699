"""A client and a server session wired to each other, under any fragmentation; and one server driven by hand.

`drive` plays the server's driver for one segment; `SessionPair` carries what either side sends to the other in pieces whose
sizes come from the test. Nothing here knows a rule of SMTP: answers come from the test, too.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

from mta.model.reply import Reply
from mta.smtp import replies
from mta.smtp.client import ClientSession, ReplyTo
from mta.smtp.extensions import ServerOffer
from mta.smtp.grammar import Auth, Bdat, Data, Hello, MailFrom, Quit, RcptTo, Reset, StartTls
from mta.smtp.server import NEED_DATA, Chunk, EndOfBdat, EndOfData, Event, ServerSession
from mta.smtp.steps import Step

Answer = Callable[[ServerSession, Event], Reply]

OFFER = ServerOffer("mx.example.com", tls_available=True, auth_available=True)


def polite(session: ServerSession, event: Event) -> Reply:
    """Take everything that is without fault."""
    match event:
        case Hello():
            return session.hello_reply()
        case MailFrom():
            return replies.SENDER_OK
        case RcptTo():
            return replies.RECIPIENT_OK
        case Data():
            return replies.START_MAIL
        case StartTls():
            return replies.START_TLS
        case Auth():
            return replies.AUTHENTICATED
        case EndOfBdat(fault=None):
            return replies.BDAT_TAKEN
        case EndOfData(fault=None):
            return replies.OK
        case EndOfBdat(fault=fault) | EndOfData(fault=fault) if fault is not None:
            return fault.reply
    raise AssertionError(f"{event} needs no answer")


def a_server(offer: ServerOffer = OFFER, *, in_tls: bool = False) -> ServerSession:
    """A server session that has said its greeting, and had it taken."""
    session = ServerSession(offer, in_tls=in_tls)
    session.greeting()
    session.take_outgoing()
    return session


def drive(session: ServerSession, data: bytes, answer: Answer = polite) -> list[Event]:
    """Give the session one segment and answer what it asks; what it sends waits in it."""
    session.receive(data)
    events: list[Event] = []
    while (event := session.next_event()) is not NEED_DATA:
        assert not isinstance(event, type(NEED_DATA))
        events.append(event)
        if not isinstance(event, Bdat | Chunk | Reset | Quit):
            session.reply(answer(session, event))
    return events


def merged(events: Sequence[Event]) -> list[Event]:
    """Events as no fragmentation shows: the text up to each end as one, and none of what has a fault."""
    result: list[Event] = []
    body = b""
    for event in events:
        if isinstance(event, Chunk):
            body += event.data
            continue
        if isinstance(event, EndOfData | EndOfBdat):
            if event.fault is None:
                result.append(Chunk(body))
            body = b""
        result.append(event)
    return result


def pieces(data: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    """`data` cut into pieces of these sizes."""
    at = 0
    while at < len(data):
        size = next(sizes)
        yield data[at : at + size]
        at += size


class SessionPair:
    """Both sides of one dialogue; `events` and `replies` are what either side understood."""

    def __init__(
        self,
        offer: ServerOffer = OFFER,
        *,
        cuts: Sequence[int] = (1 << 30,),
        answer: Answer = polite,
    ) -> None:
        self.server = ServerSession(offer)
        self.client = ClientSession()
        self.events: list[Event] = []
        self.replies: list[ReplyTo] = []
        self._sizes = cycle(cuts)
        self._answer = answer
        self.server.greeting()
        self.run()

    def run(self) -> list[ReplyTo]:
        """Carry bytes both ways until both are silent; the replies of this turn."""
        before = len(self.replies)
        while self._to_client() or self._to_server():
            pass
        return self.replies[before:]

    def _to_client(self) -> bool:
        wire = self.server.take_outgoing()
        for piece in pieces(wire, self._sizes):
            for reply in self.client.receive(piece):
                self.replies.append(reply)
                if reply.step is Step.STARTTLS and reply.reply.code == 220:
                    self.server.start_tls()
                    self.client.start_tls()
        return bool(wire)

    def _to_server(self) -> bool:
        wire = self.client.take_outgoing()
        for piece in pieces(wire, self._sizes):
            self.events += drive(self.server, piece, self._answer)
        return bool(wire)
