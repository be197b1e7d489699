"""The server's side: what is answered when, and what the driver is told (reliability S4–S7, S11, S14, T1, L3)."""

import base64
import tracemalloc

import pytest

from mta.model.errors import ProtocolError
from mta.model.reply import Reply
from mta.smtp import replies
from mta.smtp.dots import DataFault
from mta.smtp.extensions import ServerOffer
from mta.smtp.grammar import Auth, Data, Hello, MailFrom, Quit, RcptTo, Reset, StartTls
from mta.smtp.server import (
    MAX_WAITING,
    NEED_DATA,
    TRANSITIONS,
    Chunk,
    EndOfData,
    Event,
    ServerSession,
    State,
)
from tests.support.session_pair import OFFER, Answer, a_server, drive, merged, polite

HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<a@b.example>\r\n"
RCPT = b"RCPT TO:<c@d.example>\r\n"
CREDENTIALS = base64.b64encode(b"\0user\0password")


def codes(session: ServerSession) -> list[str]:
    """Code and enhanced status of every reply that waits."""
    lines = session.take_outgoing().decode().splitlines()
    return [
        " ".join(line.split()[: 2 if line[4:5].isdigit() else 1])
        for line in lines
        if line[3:4] != "-"
    ]


def answers(session: ServerSession, data: bytes) -> list[str]:
    """What a polite driver's session says to one segment."""
    drive(session, data)
    return codes(session)


def refusing(kind: type, reply: Reply) -> Answer:
    """A driver who answers events of this kind so, and all others politely."""
    return lambda session, event: reply if isinstance(event, kind) else polite(session, event)


def a_ready_server(offer: ServerOffer = OFFER, *, in_tls: bool = False) -> ServerSession:
    session = a_server(offer, in_tls=in_tls)
    drive(session, HELLO)
    session.take_outgoing()
    return session


def test_every_state_has_its_row_in_the_table() -> None:
    assert set(TRANSITIONS) == set(State)


def test_before_the_greeting_nothing_is_read() -> None:
    session = ServerSession(OFFER)
    session.receive(HELLO)
    assert session.next_event() is NEED_DATA
    session.greeting()
    assert session.take_outgoing() == b"220 mx.example.com ESMTP Sluice\r\n"
    assert session.next_event() == Hello("client.example", True)


def test_a_message_comes_in_as_one_chunk() -> None:
    session = a_ready_server()
    assert drive(session, MAIL) == [MailFrom("a@b.example", "b.example")]
    assert session.take_outgoing() == b"250 2.1.0 Ok\r\n"
    assert drive(session, RCPT) == [RcptTo("c@d.example", "d.example")]
    assert session.take_outgoing() == b"250 2.1.5 Ok\r\n"
    assert drive(session, b"DATA\r\n") == [Data()]
    assert session.take_outgoing() == b"354 End data with <CR><LF>.<CR><LF>\r\n"
    events = drive(session, b"Subject: x\r\n\r\n..dot\r\n.\r\n")
    assert events == [Chunk(b"Subject: x\r\n\r\n.dot\r\n"), EndOfData(None, 20)]
    assert session.take_outgoing() == b"250 2.0.0 Ok\r\n"


def test_a_group_of_commands_is_answered_in_one_write() -> None:
    session = a_ready_server()
    events = drive(session, MAIL + RCPT + RCPT + b"DATA\r\n")
    assert len(events) == 4
    assert codes(session) == ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354"]
    events = drive(session, b"x\r\n.\r\n" + MAIL + RCPT + b"DATA\r\ny\r\n.\r\nQUIT\r\n")
    assert [event.data for event in events if isinstance(event, Chunk)] == [b"x\r\n", b"y\r\n"]
    assert session.should_close


def test_while_an_answer_is_owed_the_pipelined_rest_waits() -> None:
    session = a_ready_server()
    session.receive(MAIL + RCPT)
    assert isinstance(session.next_event(), MailFrom)
    assert session.next_event() is NEED_DATA
    assert session.take_outgoing() == b""
    session.reply(replies.SENDER_OK)
    assert isinstance(session.next_event(), RcptTo)


def test_input_that_waits_is_bounded() -> None:
    session = a_ready_server()
    session.receive(MAIL)
    session.next_event()
    assert session.wants_read
    session.receive(b"NOOP\r\n" * (MAX_WAITING // 6 + 1))
    assert not session.wants_read


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (MAIL, "503 5.5.1"),
        (RCPT, "503 5.5.1"),
        (b"DATA\r\n", "503 5.5.1"),
        (b"STARTTLS\r\n", "503 5.5.1"),
        (b"AUTH PLAIN\r\n", "503 5.5.1"),
        (b"RSET\r\n", "250 2.0.0"),
        (b"NOOP\r\n", "250 2.0.0"),
        (b"VRFY root\r\n", "252 2.0.0"),
        (b"EXPN all\r\n", "502 5.5.1"),
        (b"HELP\r\n", "214 2.0.0"),
        (b"QUIT\r\n", "221 2.0.0"),
        (b"XYZZY\r\n", "500 5.5.2"),
        (b"\r\n", "500 5.5.2"),
        (b"NOOP\n", "500 5.5.2"),
        (b"\xff\xfe\r\n", "501 5.5.2"),
    ],
)
def test_a_stranger_hears(line: bytes, answer: str) -> None:
    assert answers(a_server(), line) == [answer]


def test_commands_out_of_order_are_refused_and_the_session_lives() -> None:
    session = a_ready_server()
    assert answers(session, RCPT + b"DATA\r\n") == ["503 5.5.1", "503 5.5.1"]
    assert answers(session, MAIL + MAIL + b"DATA\r\n") == ["250 2.1.0", "503 5.5.1", "554 5.5.1"]
    assert answers(session, RCPT + MAIL + b"STARTTLS\r\n") == [
        "250 2.1.5",
        "503 5.5.1",
        "503 5.5.1",
    ]
    assert answers(session, b"DATA\r\nx\r\n.\r\n") == ["354", "250 2.0.0"]


@pytest.mark.parametrize("ending", [b"RSET\r\n", HELLO, b"HELO c.example\r\n"])
def test_rset_and_ehlo_end_a_transaction(ending: bytes) -> None:
    session = a_ready_server()
    drive(session, MAIL + RCPT + ending)
    session.take_outgoing()
    assert answers(session, RCPT + MAIL) == ["503 5.5.1", "250 2.1.0"]


def test_rset_and_quit_are_told_and_need_no_answer() -> None:
    session = a_ready_server()
    assert drive(session, b"RSET\r\nQUIT\r\nNOOP\r\n") == [Reset(), Quit()]
    assert codes(session) == ["250 2.0.0", "221 2.0.0"]
    assert session.should_close and not session.wants_read


def test_a_refused_command_leaves_the_transaction_as_it_was() -> None:
    def refuse_first(session: ServerSession, event: Event) -> Reply:
        if isinstance(event, RcptTo) and event.address.startswith("bad"):
            return replies.RELAY_DENIED
        return polite(session, event)

    session = a_ready_server()
    drive(session, MAIL + b"RCPT TO:<bad@d.example>\r\nDATA\r\n" + RCPT + b"DATA\r\n", refuse_first)
    assert codes(session) == ["250 2.1.0", "550 5.7.1", "554 5.5.1", "250 2.1.5", "354"]


def test_a_refused_message_ends_its_transaction() -> None:
    session = a_ready_server()
    drive(session, MAIL + RCPT + b"DATA\r\nx\r\n.\r\n", refusing(EndOfData, replies.LOCAL_ERROR))
    assert codes(session)[-1] == "451 4.3.0"
    assert answers(session, RCPT + MAIL) == ["503 5.5.1", "250 2.1.0"]


def test_a_refused_data_is_followed_by_commands() -> None:
    session = a_ready_server()
    drive(session, MAIL + RCPT + b"DATA\r\nRSET\r\n", refusing(Data, replies.NO_SPACE))
    assert codes(session)[-2:] == ["452 4.3.1", "250 2.0.0"]


def test_a_declared_size_over_the_limit_is_refused_at_mail() -> None:
    session = a_ready_server(ServerOffer("mx.example.com", max_size=1_000))
    assert answers(session, b"MAIL FROM:<a@b.example> SIZE=1001\r\n") == ["552 5.3.4"]
    assert answers(session, b"MAIL FROM:<a@b.example> SIZE=1000\r\n") == ["250 2.1.0"]


def test_a_message_over_the_limit_is_swallowed_and_refused() -> None:
    session = a_ready_server(ServerOffer("mx.example.com", max_size=1_000))
    drive(session, MAIL + RCPT + b"DATA\r\n")
    session.take_outgoing()
    events = merged(drive(session, b"x\r\n" * 1_000 + b".\r\nNOOP\r\n"))
    assert events == [EndOfData(DataFault.TOO_BIG, 3_000)]
    assert codes(session) == ["552 5.3.4", "250 2.0.0"]


def test_a_message_with_a_bare_newline_is_swallowed_and_refused() -> None:
    session = a_ready_server()
    wire = MAIL + RCPT + b"DATA\r\nx\n.\r\nMAIL FROM:<smuggled@x.example>\r\n.\r\n"
    events = merged(drive(session, wire))
    assert isinstance(events[-1], EndOfData)
    assert events[-1].fault is DataFault.BARE_NEWLINE
    assert codes(session)[-1] == "550 5.6.0"


def test_where_it_is_allowed_a_bare_newline_is_normalized() -> None:
    session = a_ready_server(ServerOffer("mx.example.com", normalize=True))
    events = merged(drive(session, MAIL + RCPT + b"DATA\r\nx\n.\ny\r\n.\r\n"))
    assert events[-2:] == [Chunk(b"x\r\n.\r\ny\r\n"), EndOfData(None, 9)]


def test_recipients_beyond_the_limit_are_put_off_and_the_rest_is_taken() -> None:
    session = a_ready_server(ServerOffer("mx.example.com", max_recipients=2))
    for _ in range(2):
        assert answers(session, MAIL + RCPT * 4)[1:] == ["250 2.1.5"] * 2 + ["452 4.5.3"] * 2
        assert answers(session, b"DATA\r\nx\r\n.\r\n") == ["354", "250 2.0.0"]


def test_postmaster_without_a_domain_is_ours() -> None:
    events = drive(a_ready_server(), MAIL + b"RCPT TO:<Postmaster>\r\n")
    assert events[-1] == RcptTo("Postmaster@mx.example.com", "mx.example.com")


def test_a_command_without_end_keeps_memory_flat_and_is_refused_once() -> None:
    session = a_ready_server()
    segment = b"x" * 65_536
    tracemalloc.start()
    for _ in range(1_600):  # 100 MB
        assert drive(session, segment) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000
    assert answers(session, b"\r\nNOOP\r\n") == ["500 5.5.2", "250 2.0.0"]


def test_too_many_idle_commands_end_the_session() -> None:
    session = a_ready_server(ServerOffer("mx.example.com", max_junk=10))
    said = answers(session, b"NOOP\r\n" * 50)
    assert said == ["250 2.0.0"] * 10 + ["421 4.7.0"]
    assert session.should_close
    session.receive(b"NOOP\r\n")
    assert session.next_event() is NEED_DATA


@pytest.mark.parametrize(
    "junk", [b"XYZZY\r\n", b"RSET\r\n", HELLO, b"NOOP\n", b"\xff\r\n", RCPT, b"x" * 3_000 + b"\r\n"]
)
def test_junk_of_every_kind_is_counted(junk: bytes) -> None:
    session = a_ready_server(ServerOffer("mx.example.com", max_junk=10))
    assert answers(session, junk * 30)[-1] == "421 4.7.0"


def test_an_accepted_message_forgives_what_came_before() -> None:
    session = a_ready_server(ServerOffer("mx.example.com", max_junk=10))
    for _ in range(5):
        said = answers(session, b"RSET\r\n" * 8 + MAIL + RCPT + b"DATA\r\nx\r\n.\r\n")
        assert said[-1] == "250 2.0.0"


def test_ehlo_offers_starttls_in_the_clear_and_auth_inside_tls() -> None:
    session = a_server()
    drive(session, HELLO)
    assert session.take_outgoing() == (
        b"250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-SMTPUTF8\r\n"
        b"250-ENHANCEDSTATUSCODES\r\n250 STARTTLS\r\n"
    )
    session = a_server(in_tls=True)
    drive(session, HELLO)
    assert session.take_outgoing().endswith(b"250 AUTH PLAIN LOGIN\r\n")
    drive(session, b"AUTH PLAIN " + CREDENTIALS + b"\r\n" + HELLO)
    assert session.take_outgoing().endswith(b"250 ENHANCEDSTATUSCODES\r\n")


def test_helo_is_answered_in_one_line() -> None:
    session = a_server()
    drive(session, b"HELO client.example\r\n")
    assert session.take_outgoing() == b"250 mx.example.com\r\n"
    assert session.protocol == "SMTP"


def test_the_protocol_word_tells_of_tls_and_auth() -> None:
    session = a_ready_server(in_tls=True)
    assert session.protocol == "ESMTPS"
    drive(session, b"AUTH PLAIN " + CREDENTIALS + b"\r\n")
    assert session.protocol == "ESMTPSA"
    assert a_ready_server().protocol == "ESMTP"


def test_after_starttls_everything_is_forgotten() -> None:
    session = a_ready_server()
    assert drive(session, b"STARTTLS\r\n") == [StartTls()]
    assert codes(session) == ["220 2.0.0"]
    assert not session.wants_read
    session.start_tls()
    assert session.wants_read and session.in_tls and session.hello is None
    assert answers(session, MAIL + HELLO + b"STARTTLS\r\n") == ["503 5.5.1", "250", "503 5.5.1"]


@pytest.mark.parametrize("leftover", [b"MAIL FROM:<x@y.example>\r\n", b"x", b"x" * 5_000, b"\r\n"])
def test_what_follows_starttls_in_the_clear_breaks_the_session(leftover: bytes) -> None:
    for segments in ([b"STARTTLS\r\n" + leftover], [b"STARTTLS\r\n", leftover]):
        session = a_ready_server()
        for segment in segments:
            assert drive(session, segment) in ([StartTls()], [])
        assert codes(session) == ["220 2.0.0"]
        with pytest.raises(ProtocolError):
            session.start_tls()
        assert session.should_close
        assert session.take_outgoing() == b""


def test_starttls_that_was_refused_is_followed_by_commands() -> None:
    session = a_ready_server()
    drive(session, b"STARTTLS\r\nNOOP\r\n", lambda s, e: replies.TLS_NOT_AVAILABLE)
    assert codes(session) == ["454 4.7.0", "250 2.0.0"]
    assert answers(a_ready_server(ServerOffer("mx.example.com")), b"STARTTLS\r\n") == ["503 5.5.1"]


def test_auth_before_tls_is_refused() -> None:
    assert answers(a_ready_server(), b"AUTH PLAIN " + CREDENTIALS + b"\r\n") == ["538 5.7.11"]
    no_tls = ServerOffer("mx.example.com", auth_available=True)
    assert answers(a_ready_server(no_tls), b"AUTH PLAIN\r\n") == ["503 5.5.1"]


def test_auth_plain_with_and_without_an_initial_response() -> None:
    for segments in (
        [b"AUTH PLAIN " + CREDENTIALS + b"\r\n"],
        [b"AUTH PLAIN\r\n", CREDENTIALS + b"\r\n"],
    ):
        session = a_ready_server(in_tls=True)
        events = [event for segment in segments for event in drive(session, segment)]
        assert events == [Auth("PLAIN", "user", "password")]
        assert codes(session)[-1] == "235 2.7.0"
        assert session.is_authenticated
        assert answers(session, b"AUTH PLAIN\r\n") == ["503 5.5.1"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"*", "501 5.7.0"),
        (b"!!!", "501 5.5.2"),
        (b"", "501 5.5.2"),
        (b"\xff\xff", "501 5.5.2"),
        (b"A" * 1_600, "501 5.5.2"),
        (b"A" * 3_000, "500 5.5.6"),
        (base64.b64encode(b"root\0user\0password"), "535 5.7.8"),
    ],
)
def test_a_bad_response_to_auth_is_refused_and_commands_go_on(line: bytes, answer: str) -> None:
    session = a_ready_server(in_tls=True)
    assert answers(session, b"AUTH PLAIN\r\n" + line + b"\r\n" + MAIL) == [
        "334",
        answer,
        "250 2.1.0",
    ]


def test_auth_that_fails_may_be_tried_again() -> None:
    session = a_ready_server(in_tls=True)
    auth = b"AUTH PLAIN\r\n" + CREDENTIALS + b"\r\n"
    drive(session, auth, lambda s, e: replies.BAD_CREDENTIALS)
    assert codes(session) == ["334", "535 5.7.8"]
    assert not session.is_authenticated
    assert answers(session, auth) == ["334", "235 2.7.0"]


@pytest.mark.parametrize("first", [b"AUTH LOGIN\r\ndXNlcg==\r\n", b"AUTH login dXNlcg==\r\n"])
def test_auth_login_asks_for_user_and_password(first: bytes) -> None:
    session = a_ready_server(in_tls=True)
    session.receive(first + b"cGFzc3dvcmQ=\r\n")
    assert session.next_event() == Auth("LOGIN", "user", "password")
    session.reply(replies.AUTHENTICATED)
    asked = session.take_outgoing()
    assert asked.endswith(b"334 UGFzc3dvcmQ6\r\n235 2.7.0 Authentication succeeded\r\n")
    assert asked.startswith(b"334 VXNlcm5hbWU6\r\n") == first.startswith(b"AUTH LOGIN\r\n")


@pytest.mark.parametrize(
    "lines",
    [
        [b"*"],
        [b"dXNlcg==", b"*"],
        [b"!"],
        [b"dXNlcg==", b"!"],
        [b""],
        [b"dXNlcg==", b""],
        [b"AA=="],
        [b"A" * 400],
    ],
)
def test_a_bad_response_to_auth_login_ends_it_and_commands_go_on(lines: list[bytes]) -> None:
    session = a_ready_server(in_tls=True)
    wire = b"AUTH LOGIN\r\n" + b"".join(line + b"\r\n" for line in lines)
    assert answers(session, wire + MAIL)[len(lines) :] == [
        "501 5.7.0" if lines[-1] == b"*" else "501 5.5.2",
        "250 2.1.0",
    ]
    # Nothing is left of the user that was named: the next AUTH begins anew.
    assert answers(session, b"RSET\r\nAUTH LOGIN\r\n") == ["250 2.0.0", "334"]
    session.receive(b"Ym9i\r\ncHc=\r\n")
    assert session.next_event() == Auth("LOGIN", "bob", "pw")


def test_auth_by_other_mechanisms_or_within_a_transaction_is_refused() -> None:
    session = a_ready_server(in_tls=True)
    assert answers(session, b"AUTH CRAM-MD5\r\n" + MAIL + b"AUTH PLAIN\r\n") == [
        "504 5.5.4",
        "250 2.1.0",
        "503 5.5.1",
    ]


def test_421_as_an_answer_ends_the_session() -> None:
    session = a_ready_server()
    drive(session, MAIL + RCPT, lambda s, e: replies.SHUTTING_DOWN)
    assert codes(session) == ["421 4.3.2"]
    assert session.should_close


def test_a_session_closed_from_above_says_so_once_and_takes_no_late_answer() -> None:
    session = a_ready_server()
    session.receive(MAIL)
    session.next_event()
    session.close(replies.TIMED_OUT)
    session.close(replies.SHUTTING_DOWN)
    session.reply(replies.SENDER_OK)
    assert codes(session) == ["421 4.4.2"]


def test_no_text_can_add_a_line_to_a_reply() -> None:
    session = a_ready_server()
    session.receive(MAIL)
    session.next_event()
    session.reply(Reply(550, "5.7.1", ("no\r\n250 yes", "two\x00")))
    assert session.take_outgoing() == b"550-5.7.1 no??250 yes\r\n550 5.7.1 two?\r\n"


def test_an_address_in_utf8_needs_smtputf8_of_this_mail() -> None:
    rcpt = "RCPT TO:<jörg@d.example>\r\n".encode()
    session = a_ready_server()
    assert answers(session, MAIL + rcpt + RCPT) == ["250 2.1.0", "553 5.6.7", "250 2.1.5"]
    assert session.protocol == "ESMTP"
    utf8 = b"RSET\r\nMAIL FROM:<a@b.example> SMTPUTF8\r\n"
    assert answers(session, utf8 + rcpt) == ["250 2.0.0", "250 2.1.0", "250 2.1.5"]
    assert session.protocol == "UTF8SMTP"
    assert answers(session, b"RSET\r\n" + MAIL + rcpt) == ["250 2.0.0", "250 2.1.0", "553 5.6.7"]
