"""Laws of both sessions: no cut of the stream changes anything; no text becomes a command; no body ends early."""

from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from mta.model.errors import ProtocolError
from mta.smtp.client import ClientSession, ReplyTo
from mta.smtp.dots import DotReader, DotWriter, stuff, unstuff
from mta.smtp.extensions import ServerOffer
from mta.smtp.grammar import Reset, parse_command
from mta.smtp.replies import Refused
from mta.smtp.server import Chunk, EndOfBdat, EndOfData, Event
from mta.smtp.steps import Step
from tests.support.session_pair import SessionPair, a_server, drive, merged, pieces

# What dialogues are made of: sense, nonsense, and every piece an end of data could be mistaken for.
WORDS = [
    b"EHLO c.example\r\n", b"HELO c.example\r\n", b"MAIL FROM:<a@b.example>\r\n",
    b"MAIL FROM:<a@b.example> SIZE=99999999999\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n",
    b"DATA\r\nSubject: x\r\n\r\n..y\r\n.\r\n", b"RSET\r\n", b"NOOP\r\n", b"VRFY x\r\n", b"QUIT\r\n",
    b"AUTH PLAIN\r\n", b"AUTH PLAIN AGEAYg==\r\n", b"AGEAYg==\r\n", b"AUTH LOGIN\r\n", b"AUTH LOGIN YQ==\r\n",
    b"YQ==\r\n", b"*\r\n", b"STARTTLS\r\n",
    b"\r\n.\r\n", b".\r\n", b"..", b".", b"\r", b"\n", b"\r\n", b"\0", b"\xff", b" ", b"x" * 600,
    b"x" * 2_100, b"BDAT 0\r\n", b"BDAT 3\r\n", b"BDAT 5 LAST\r\n", b"BDAT 700\r\n", b"BDAT 2000\r\n",
    "MAIL FROM:<é@é> SMTPUTF8\r\n".encode(), "RCPT TO:<é@é>\r\n".encode(), b"BDAT x\r\n", b"BDAT 17\r\nRCPT TO:<c@d.e>\r\n",
]  # fmt: skip
dialogues = st.lists(st.sampled_from(WORDS), max_size=25).map(b"".join)
# Whole transactions by BDAT, of chunks that fit their sizes: what they hold, and whether they are the last.
bdats = st.lists(
    st.tuples(
        st.lists(st.sampled_from(WORDS), max_size=4).map(b"".join), st.sampled_from([b"", b" LAST"])
    ),
    max_size=8,
).map(
    lambda chunks: (
        b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
        + b"".join(b"BDAT %d%s\r\n%s" % (len(text), last, text) for text, last in chunks)
        + b"RSET\r\n"
    )
)
messages = st.lists(
    st.sampled_from(
        [b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"]
    )
    | st.sampled_from(WORDS[19:]),
    max_size=25,
).map(b"".join)
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=20)

texts = st.lists(
    st.sampled_from([b"a", b".", b"..", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"x" * 300]), max_size=20
)
clean_bodies = texts.map(b"".join).filter(lambda body: max(map(len, body.split(b"\r\n"))) <= 998)

OFFERS = [
    ServerOffer(
        "mx.example.com", max_size=1_500, max_junk=12, tls_available=True, auth_available=True
    ),
    ServerOffer("mx.example.com", max_size=1_500, max_recipients=2, normalize=True),
]


def heard(
    offer: ServerOffer, dialogue: bytes, cuts: list[int], *, in_tls: bool
) -> tuple[list[Event], bytes]:
    """What the driver is told and what the client hears, for one way of cutting."""
    session = a_server(offer, in_tls=in_tls)
    events = [event for piece in pieces(dialogue, cycle(cuts)) for event in drive(session, piece)]
    return merged(events), session.take_outgoing()


@given(st.sampled_from(OFFERS), dialogues | messages | bdats, sizes, st.booleans())
def test_however_the_stream_is_cut_the_server_understands_the_same(
    offer: ServerOffer, dialogue: bytes, cuts: list[int], in_tls: bool
) -> None:
    whole = heard(offer, dialogue, [len(dialogue) + 1], in_tls=in_tls)
    assert heard(offer, dialogue, cuts, in_tls=in_tls) == whole
    assert heard(offer, dialogue, [1], in_tls=in_tls) == whole


@given(st.binary(max_size=300), sizes)
def test_any_bytes_leave_the_server_standing(data: bytes, cuts: list[int]) -> None:
    whole = heard(OFFERS[0], data, [len(data) + 1], in_tls=True)
    assert heard(OFFERS[0], data, cuts, in_tls=True) == whole


REPLIES = [
    b"250 2.1.0 Ok\r\n", b"250-a\r\n250 b\r\n", b"250-a\r\n", b"354 go\r\n", b"421 bye\r\n", b"550 5.1.1 no\n",
    b"250\r\n", b"x\r\n", b"\r\n", b"25", b"0 y\r\n", b"451-4.2.0 z\r\n451 4.2.0 z\r\n",
]  # fmt: skip


def read(wire: bytes, cuts: list[int]) -> tuple[list[ReplyTo], bool]:
    """The replies a client with work for all steps reads, and whether the dialogue broke."""
    session = ClientSession()
    session.ehlo("c.example")
    session.mail("a@b.example")
    session.rcpt("c@d.example", tag=1)
    session.data()
    session.rset()
    answers: list[ReplyTo] = []
    try:
        for piece in pieces(wire, cycle(cuts)):
            answers.extend(session.receive(piece))
    except ProtocolError:
        return answers, True
    return answers, False


@given(st.lists(st.sampled_from(REPLIES), max_size=12).map(b"".join), sizes)
def test_however_the_stream_is_cut_the_client_reads_the_same_replies(
    wire: bytes, cuts: list[int]
) -> None:
    whole = read(wire, [len(wire) + 1])
    assert read(wire, cuts) == whole
    assert read(wire, [1]) == whole


@given(st.lists(clean_bodies, min_size=1, max_size=3), sizes, st.booleans())
def test_client_and_server_agree_under_any_fragmentation(
    bodies: list[bytes], cuts: list[int], with_tls: bool
) -> None:
    pair = SessionPair(cuts=cuts)
    pair.client.ehlo("client.example")
    pair.run()
    if with_tls:
        pair.client.start_tls_command()
        assert [answer.reply.code for answer in pair.run()] == [220]
        pair.client.ehlo("client.example")
        pair.run()
    for number, body in enumerate(bodies):
        pair.client.mail("a@b.example", size=len(body))
        pair.client.rcpt("c@d.example", tag=number)
        pair.client.data()
        assert [a.step for a in pair.run()] == [Step.MAIL, Step.RCPT, Step.DATA]
        pair.client.body(body, last=True, tag=number)
        assert [(a.step, a.reply.code, a.tag) for a in pair.run()] == [
            (Step.END_OF_DATA, 250, number)
        ]
    understood = [event for event in merged(pair.events) if isinstance(event, Chunk | EndOfData)]
    stored = [body if not body or body.endswith(b"\r\n") else body + b"\r\n" for body in bodies]
    assert understood == [
        event for body in stored for event in (Chunk(body), EndOfData(None, len(body)))
    ]


@given(
    st.lists(texts.map(b"".join) | st.sampled_from([b"\r", b"\n", b"\0"]), max_size=6),
    st.sampled_from(OFFERS),
    sizes,
)
def test_what_comes_by_bdat_is_the_message_that_comes_by_data(
    chunks: list[bytes], offer: ServerOffer, cuts: list[int]
) -> None:
    """However it is shared out to BDATs: the same text or a fault, and the session stands where it would."""
    envelope = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
    body = b"".join(chunks)
    whole = body if not body or body.endswith(b"\r\n") else body + b"\r\n"
    by_data = envelope + b"DATA\r\n" + (b"\r\n" + whole).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    by_bdat = envelope + b"".join(b"BDAT %d\r\n%s" % (len(each), each) for each in chunks)
    events, _ = heard(offer, by_bdat + b"BDAT 0 LAST\r\nRSET\r\nNOOP\r\n", cuts, in_tls=False)
    is_clean = body.count(b"\r") == body.count(b"\n") == body.count(b"\r\n") and b"\0" not in body
    text = b"".join(event.data for event in events if isinstance(event, Chunk))
    ends = [event for event in events if isinstance(event, EndOfBdat | EndOfData)]
    if is_clean:
        wanted, _ = heard(offer, by_data, cuts, in_tls=False)
        end = wanted[-1]
        assert isinstance(end, EndOfData)
        if end.fault is None:
            assert (text, ends[-1]) == (whole, end)
        elif len(body) != 1_499:  # there the CRLF that we add is not held against the client
            assert ends[-1].fault is not None  # of several, BDAT tells the one that comes first
    elif not offer.normalize or b"\0" in body:
        assert any(end.fault is not None for end in ends)
    # A BDAT behind a fault is out of place; octets beyond what any message may have are not read off.
    assert events[-1] == Reset() or any(len(each) > offer.max_size for each in chunks)


@given(clean_bodies)
def test_unstuffing_undoes_stuffing(body: bytes) -> None:
    assert unstuff(stuff(body)) == (body if not body or body.endswith(b"\r\n") else body + b"\r\n")


@given(st.binary(max_size=60) | texts.map(b"".join))
def test_no_body_can_end_data_early(body: bytes) -> None:
    try:
        wire = stuff(body)
    except ValueError:
        return
    assert (b"\r\n" + wire).find(b"\r\n.\r\n") == len(wire) - 3
    assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")


@given(st.lists(texts.map(b"".join) | st.binary(max_size=40), max_size=6))
def test_a_body_in_pieces_goes_out_as_in_one(parts: list[bytes]) -> None:
    def in_pieces() -> bytes:
        writer = DotWriter()
        return b"".join(writer.write(part, last=False) for part in parts) + writer.write(
            b"", last=True
        )

    try:
        whole = stuff(b"".join(parts))
    except ValueError:
        whole = b""
    try:
        wire = in_pieces()
    except ValueError:
        wire = b""
    assert wire == whole


awkward = st.lists(
    st.sampled_from([b"a", b".", b"\r", b"\n", b"\r\n", b"\r\n.", b"\0", b"x" * 500]), max_size=20
).map(b"".join)


@given(awkward, sizes, st.booleans())
def test_what_a_reader_gives_out_is_clean_and_no_cut_changes_it(
    wire: bytes, cuts: list[int], normalize: bool
) -> None:
    def read_in(sizes: list[int]) -> tuple[object, ...]:
        reader = DotReader(2_000, normalize=normalize)
        text = rest = b""
        for piece in pieces(wire, cycle(sizes)):
            if reader.is_over:
                rest += piece
            else:
                more, rest = reader.feed(piece)
                text += more
        return (
            reader.is_over,
            reader.fault,
            reader.fault or reader.size,
            reader.fault or text,
            rest,
        )

    whole = read_in([len(wire) + 1])
    assert read_in([1]) == read_in(cuts)
    if whole[0]:
        assert read_in(cuts) == whole
        if whole[1] is None:
            text = whole[3]
            assert isinstance(text, bytes)
            assert text.count(b"\r") == text.count(b"\n") == text.count(b"\r\n")
            assert b"\0" not in text
            assert unstuff(stuff(text)) == text


@given(st.text(max_size=80), st.text(max_size=80), st.integers(0, 5))
def test_any_text_makes_one_command_or_a_value_error(text: str, other: str, which: int) -> None:
    session = ClientSession()
    list(session.receive(b"220 x\r\n"))
    session.extensions = {"DSN": "", "SIZE": ""}
    try:
        match which:
            case 0:
                session.ehlo(text)
            case 1:
                session.helo(text)
            case 2:
                session.mail(text, envid=other)
            case 3:
                session.rcpt(text, notify=other)
            case 4:
                session.mail("a@b.example", ret=text, envid=other)
            case _:
                session.rcpt("a@b.example", notify=text, orcpt=other)
    except ValueError:
        assert session.take_outgoing() == b""
        assert not session.awaiting
        return
    wire = session.take_outgoing()
    assert wire.endswith(b"\r\n")
    assert wire.count(b"\r") == wire.count(b"\n") == 1
    assert wire[:-2].decode("ascii").isprintable()
    assert len(session.awaiting) == 1


almost_commands = st.tuples(
    st.sampled_from([b"", b"MAIL FROM:<", b"RCPT TO:<a@", b"EHLO "]), st.binary(max_size=80)
).map(b"".join)


@given(almost_commands)
def test_any_line_is_a_command_or_refused(line: bytes) -> None:
    try:
        parse_command(line)
    except Refused as refused:
        assert refused.reply.code >= 500
