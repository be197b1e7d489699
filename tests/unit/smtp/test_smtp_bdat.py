"""BDAT: octets are counted and never taken for commands, whatever becomes of the message (RFC 3030 §2; reliability S2, S3)."""

import tracemalloc

import pytest

from mta.model.reply import Reply, a_reply
from mta.smtp.dots import DataFault
from mta.smtp.extensions import ServerOffer
from mta.smtp.grammar import Bdat, Quit
from mta.smtp.server import Chunk, EndOfBdat, EndOfData, ServerSession
from tests.support.session_pair import a_server, drive, merged, polite

HELLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
OFFER = ServerOffer("mx.example.com", max_size=1_000, max_junk=10)


def a_transaction(offer: ServerOffer = OFFER) -> ServerSession:
    """A session that waits for a message."""
    session = a_server(offer)
    drive(session, HELLO + ENVELOPE)
    session.take_outgoing()
    return session


def answers(session: ServerSession, data: bytes) -> list[str]:
    """Code and enhanced status of what a polite driver's session says."""
    drive(session, data)
    return [line[:9] for line in session.take_outgoing().decode().splitlines() if line[3:4] == " "]


def bdat(text: bytes, *, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n%s" % (len(text), b" LAST" if last else b"", text)


def test_a_message_comes_in_chunks_each_answered() -> None:
    session = a_transaction()
    wire = bdat(b"Subject: x\r\n\r\n") + bdat(b".\r\n..\r\n") + bdat(b"end\r\n", last=True)
    assert merged(drive(session, wire)) == [
        Bdat(14, is_last=False),
        Chunk(b"Subject: x\r\n\r\n"),
        EndOfBdat(None, is_empty=False),
        Bdat(7, is_last=False),
        Chunk(b".\r\n..\r\n"),
        EndOfBdat(None, is_empty=False),
        Bdat(5, is_last=True),
        Chunk(b"end\r\n"),
        EndOfData(None, 26),
    ]
    assert session.take_outgoing().count(b"250 ") == 3
    assert answers(session, ENVELOPE + bdat(b"x\r\n", last=True)) == [
        "250 2.1.0",
        "250 2.1.5",
        "250 2.0.0",
    ]


def test_no_octet_of_a_chunk_is_a_command_or_an_end() -> None:
    session = a_transaction()
    text = b"a\r\n.\r\nMAIL FROM:<x@y.example>\r\nRSET\r\nQUIT\r\n"
    events = merged(drive(session, bdat(text, last=True)))
    assert events[1:] == [Chunk(text), EndOfData(None, len(text))]
    assert not session.should_close


def test_an_empty_last_chunk_ends_the_message() -> None:
    session = a_transaction()
    events = merged(drive(session, bdat(b"x\r\n") + bdat(b"", last=True)))
    assert events[-1] == EndOfData(None, 3)
    assert merged(drive(session, ENVELOPE + bdat(b"", last=True)))[-1] == EndOfData(None, 0)


def test_text_without_a_line_end_gets_one_at_its_very_end_only() -> None:
    session = a_transaction()
    events = drive(session, bdat(b"one") + bdat(b"two\r") + bdat(b"\nthree", last=True))
    text = b"".join(event.data for event in events if isinstance(event, Chunk))
    assert text == b"onetwo\r\nthree\r\n"
    assert events[-1] == EndOfData(None, len(text))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"a\nb\r\n", DataFault.BARE_NEWLINE),
        (b"a\rb\r\n", DataFault.BARE_NEWLINE),
        (b"a\r", DataFault.BARE_NEWLINE),
        (b"a\n.\r\n", DataFault.BARE_NEWLINE),
        (b"a\0b\r\n", DataFault.NUL),
        (b"x" * 999 + b"\r\n", DataFault.TOO_BIG),
    ],
)
def test_what_is_no_text_is_refused_as_after_data(text: bytes, fault: DataFault) -> None:
    session = a_transaction()
    events = drive(session, bdat(text, last=True))
    assert isinstance(events[-1], EndOfData)
    assert events[-1].fault is fault
    session.take_outgoing()
    assert answers(session, ENVELOPE) == ["250 2.1.0", "250 2.1.5"]


def test_a_long_line_is_refused_even_across_chunks() -> None:
    session = a_transaction(ServerOffer("mx.example.com"))
    assert answers(session, bdat(b"x" * 600) + bdat(b"x" * 399, last=True)) == [
        "250 2.0.0",
        "550 5.6.0",
    ]


def test_a_bare_newline_is_made_whole_where_the_listener_normalises() -> None:
    session = a_transaction(ServerOffer("mx.example.com", normalize=True))
    events = drive(session, bdat(b"a\nb\r") + bdat(b"\nc\r", last=True))
    assert b"".join(e.data for e in events if isinstance(e, Chunk)) == b"a\r\nb\r\nc\r\n"


def test_after_a_refused_chunk_everything_is_503_until_rset_and_its_octets_are_read_off() -> None:
    session = a_transaction()
    wire = (
        bdat(b"a\nb\r\n")
        + bdat(b"QUIT\r\n")
        + bdat(b"RSET\r\n", last=True)
        + ENVELOPE
        + b"DATA\r\n"
    )
    assert answers(session, wire) == ["550 5.6.0", *["503 5.5.1"] * 5]
    assert answers(session, b"RSET\r\n" + ENVELOPE + bdat(b"x\r\n", last=True))[-1] == "250 2.0.0"


def test_the_size_is_weighed_before_the_octets_are_here() -> None:
    session = a_transaction()
    assert answers(session, bdat(b"x\r\n" * 300)) == ["250 2.0.0"]
    events = drive(session, b"BDAT 200\r\n" + b"y" * 199)
    assert events == [Bdat(200, is_last=False)]  # none of it is given out
    assert answers(session, b"y") == ["552 5.3.4"]


def test_what_is_far_too_big_is_read_off_in_no_memory() -> None:
    session = a_transaction()
    size = 50_000_000
    drive(session, b"BDAT %d LAST\r\n" % size)
    tracemalloc.start()
    try:
        for _ in range(size // 100_000):
            assert answers(session, b"x" * 100_000) in ([], ["552 5.3.4"])
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert answers(session, b"NOOP\r\n") == ["250 2.0.0"]


def test_data_and_bdat_are_never_mixed() -> None:
    session = a_transaction()
    assert answers(session, bdat(b"x\r\n") + b"DATA\r\n") == ["250 2.0.0", "503 5.5.1"]
    assert answers(session, ENVELOPE) == ["503 5.5.1"] * 2
    assert answers(session, bdat(b"y\r\n", last=True)) == ["250 2.0.0"]


@pytest.mark.parametrize(
    ("before", "answer"),
    [
        (b"", "503 5.5.1"),
        (HELLO, "503 5.5.1"),
        (HELLO + b"MAIL FROM:<a@b.example>\r\n", "554 5.5.1"),
    ],
)
def test_out_of_place_its_octets_are_read_off_all_the_same(before: bytes, answer: str) -> None:
    session = a_server(OFFER)
    drive(session, before)
    session.take_outgoing()
    assert answers(session, b"BDAT 6 LAST\r\nQU") == []
    assert answers(session, b"IT\r\nNOOP\r\n") == [answer, "250 2.0.0"]


@pytest.mark.parametrize(
    "line", [b"BDAT", b"BDAT x", b"BDAT -5 LAST", b"bdat 5 \0", b"BDAT \xff", b"BDAT5"]
)
def test_octets_that_nobody_can_count_end_the_session(line: bytes) -> None:
    session = a_transaction()
    events = drive(session, line + b"\r\nMAIL FROM:<evil@x.example>\r\n")
    assert events == []
    assert session.should_close
    assert session.take_outgoing()[:2] == b"50"


def test_more_octets_than_any_message_has_are_not_read_off_out_of_place() -> None:
    session = a_server(OFFER)
    drive(session, HELLO)
    assert answers(session, b"BDAT 1001\r\n")[-1] == "503 5.5.1"
    assert session.should_close


def test_empty_chunks_are_idle_commands() -> None:
    session = a_transaction()
    assert answers(session, bdat(b"") * 10) == [
        *["250 2.0.0"] * 10,
        "421 4.7.0",
    ]  # EHLO was the first
    assert session.should_close


def test_a_message_that_is_not_kept_leaves_the_session_ready() -> None:
    def full(session: ServerSession, event: object) -> Reply:
        is_end = isinstance(event, EndOfData)
        return a_reply(452, "4.3.1", "full") if is_end else polite(session, event)  # type: ignore[arg-type]

    session = a_transaction()
    drive(session, bdat(b"x\r\n", last=True), full)
    session.take_outgoing()
    assert answers(session, ENVELOPE) == ["250 2.1.0", "250 2.1.5"]
    assert isinstance(drive(session, b"QUIT\r\n")[-1], Quit)
