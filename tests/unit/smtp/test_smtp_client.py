"""The client's side: replies find their commands, or the session breaks (reliability S9, T2, Q9)."""

import pytest

from mta.model.errors import ProtocolError
from mta.model.reply import Reply
from mta.smtp.client import ClientSession, ReplyTo
from mta.smtp.steps import Step

EHLO_REPLY = b"250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-dsn\r\n250-AUTH=PLAIN\r\n250 8BITMIME\r\n"


def a_client(ehlo_reply: bytes = EHLO_REPLY) -> ClientSession:
    """A session that has read the greeting and the answer to its EHLO."""
    session = ClientSession()
    assert [r.step for r in session.receive(b"220 mx.example.com ESMTP\r\n")] == [Step.GREETING]
    session.ehlo("client.example")
    assert session.take_outgoing() == b"EHLO client.example\r\n"
    assert [r.step for r in session.receive(ehlo_reply)] == [Step.EHLO]
    return session


def a_client_after_354() -> ClientSession:
    session = a_client()
    session.mail("a@b.example")
    session.rcpt("c@d.example")
    session.data()
    session.take_outgoing()
    list(session.receive(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n"))
    return session


def test_the_offer_is_read_from_the_ehlo_reply() -> None:
    extensions = {"PIPELINING": "", "SIZE": "1000", "DSN": "", "AUTH": "PLAIN", "8BITMIME": ""}
    assert a_client().extensions == extensions
    session = a_client(b"502 what\r\n")
    assert session.extensions == {}
    session.helo("client.example")
    assert session.said_helo
    assert next(session.receive(b"250-mx\r\n250 SIZE 1000\r\n")).step is Step.EHLO
    assert session.extensions == {}


def test_pipelined_replies_find_their_commands_and_tags() -> None:
    session = a_client()
    session.mail("a@b.example", size=500, eight_bit=True, ret="HDRS", envid="x")
    session.rcpt("c@d.example", notify="NEVER", orcpt="rfc822;c@d.example", tag=1)
    session.rcpt('"c d"@d.example', tag=2)
    session.data()
    assert session.take_outgoing() == (
        b"MAIL FROM:<a@b.example> SIZE=500 BODY=8BITMIME RET=HDRS ENVID=x\r\n"
        b"RCPT TO:<c@d.example> NOTIFY=NEVER ORCPT=rfc822;c@d.example\r\n"
        b'RCPT TO:<"c d"@d.example>\r\nDATA\r\n'
    )
    assert session.take_outgoing() == b""
    answers = list(session.receive(b"250 2.1.0 Ok\r\n550 5.1.1 who\r\n250 2.1.5 Ok\r\n354 go\r\n"))
    assert answers == [
        ReplyTo(Step.MAIL, Reply(250, "2.1.0", ("Ok",)), None),
        ReplyTo(Step.RCPT, Reply(550, "5.1.1", ("who",)), 1),
        ReplyTo(Step.RCPT, Reply(250, "2.1.5", ("Ok",)), 2),
        ReplyTo(Step.DATA, Reply(354, "", ("go",)), None),
    ]


def test_parameters_go_only_to_hosts_that_offer_them() -> None:
    session = a_client(b"250 mx.example.com\r\n")
    session.mail("", size=500, ret="FULL", envid="x")
    session.rcpt("c@d.example", notify="NEVER", orcpt="rfc822;x")
    assert session.take_outgoing() == b"MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\n"
    with pytest.raises(ValueError, match="8BITMIME"):
        session.mail("a@b.example", eight_bit=True)


def test_body_dot_and_the_next_commands_stand_in_one_write() -> None:
    session = a_client_after_354()
    session.body(b"Subject: x\r\n\r\n.dot", last=True, tag="m1")
    session.mail("e@f.example")
    assert session.take_outgoing() == b"Subject: x\r\n\r\n..dot\r\n.\r\nMAIL FROM:<e@f.example>\r\n"
    answers = list(session.receive(b"250 2.0.0 queued\r\n250 2.1.0 Ok\r\n"))
    assert [(a.step, a.tag) for a in answers] == [(Step.END_OF_DATA, "m1"), (Step.MAIL, None)]


def test_a_body_that_is_not_clean_is_not_sent() -> None:
    session = a_client_after_354()
    with pytest.raises(ValueError, match="bare"):
        session.body(b"a\nb\r\n", last=True)
    assert session.take_outgoing() == b""
    assert not session.awaiting


def test_the_dot_alone_may_be_sent() -> None:
    session = a_client_after_354()
    session.body(b"", last=True)
    assert session.take_outgoing() == b".\r\n"


@pytest.mark.parametrize(
    "address",
    [
        "a@b.example> SIZE=1",
        "a@b.example>\r\nRCPT TO:<x@y.example",
        '"a\r\nRCPT TO:<x>"@d.example',
        "a@b.example\n",
        "a\0@b.example",
        "a b@c.example",
        "bücher@b.example",
        "@relay.example:a@b.example",
        "a",
        "",
    ],
)
def test_an_address_that_could_be_a_command_is_not_said(address: str) -> None:
    session = a_client()
    with pytest.raises(ValueError):
        session.rcpt(address)
    if address:
        with pytest.raises(ValueError):
            session.mail(address)
    assert session.take_outgoing() == b""
    assert not session.awaiting


@pytest.mark.parametrize("value", ["x y", "x=y", "x\r\nRSET", "ä", ">"[:0] + "\t"])
def test_a_parameter_that_could_be_another_is_not_said(value: str) -> None:
    session = a_client()
    with pytest.raises(ValueError):
        session.mail("a@b.example", envid=value)
    with pytest.raises(ValueError):
        session.rcpt("a@b.example", orcpt=value)
    with pytest.raises(ValueError):
        session.ehlo(value + "\n")
    assert session.take_outgoing() == b""


def test_421_may_come_at_any_time() -> None:
    session = a_client()
    assert list(session.receive(b"421 4.3.2 bye\r\n")) == [
        ReplyTo(Step.IDLE, Reply(421, "4.3.2", ("bye",)), None)
    ]
    session.mail("a@b.example")
    assert next(session.receive(b"421 4.3.2 bye\r\n")).step is Step.MAIL


@pytest.mark.parametrize(
    "wire",
    [
        b"250 for nothing\r\n",
        b"hello\r\n",
        b"25\r\n",
        b"\r\n",
        b"2500 x\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"\xb2\xb3\xb4 x\r\n",
        b"421-x\r\n250 y\r\n",
        b"421-" + b"x" * 70_000,
        b"421 " + b"x" * 70_000 + b"\r\n",
        b"421-x\r\n" * 101,
        (b"421-" + b"x" * 9_000 + b"\r\n") * 8,
        b"x" * 70_000 + b"\r\n",
    ],
)
def test_a_reply_that_answers_nothing_breaks_the_session(wire: bytes) -> None:
    session = a_client()
    with pytest.raises(ProtocolError):
        for _ in range(2):
            list(session.receive(wire))


@pytest.mark.parametrize(
    ("say", "wire"),
    [
        ("data", b"250 ok\r\n"),
        ("rset", b"354 go\r\n"),
        ("quit", b"334 x\r\n"),
    ],
)
def test_a_reply_of_the_wrong_kind_breaks_the_session(say: str, wire: bytes) -> None:
    session = a_client()
    getattr(session, say)()
    with pytest.raises(ProtocolError):
        list(session.receive(wire))


def test_replies_before_a_fault_are_given_before_it_is_raised() -> None:
    session = a_client_after_354()
    session.body(b"x", last=True)
    answers = []
    with pytest.raises(ProtocolError):
        for answer in session.receive(b"250 2.0.0 queued\r\n250 again\r\n"):
            answers.append(answer.step)  # noqa: PERF401
    assert answers == [Step.END_OF_DATA]


def test_a_reply_of_many_lines_is_one_reply() -> None:
    session = a_client()
    session.mail("a@b.example")
    wire = b"550-5.7.1 no\r\n550-5.7.1 never\n550\r\n"
    assert next(session.receive(wire)).reply == Reply(550, "5.7.1", ("no", "never", ""))


def test_bytes_behind_the_220_to_starttls_break_the_session() -> None:
    session = a_client()
    session.start_tls_command()
    with pytest.raises(ProtocolError):
        list(session.receive(b"220 go\r\n250 injected\r\n"))
    for leftover in (b"250 inj", b"250-injected\r\n", b"x"):
        session = a_client()
        session.start_tls_command()
        list(session.receive(b"220 go\r\n" + leftover))
        with pytest.raises(ProtocolError):
            session.start_tls()


def test_after_starttls_the_old_offer_is_forgotten() -> None:
    session = a_client()
    session.start_tls_command()
    assert next(session.receive(b"220 go\r\n")).step is Step.STARTTLS
    session.start_tls()
    assert session.extensions == {}


def test_every_step_has_its_own_words_and_a_timeout() -> None:
    assert len({step.words for step in Step}) == len(Step)
    assert all(step.timeout_s > 0 for step in Step)
    # RFC 5321 §4.5.3.2: what a client must at least grant.
    minutes = {
        Step.GREETING: 5,
        Step.MAIL: 5,
        Step.RCPT: 5,
        Step.DATA: 2,
        Step.BODY: 3,
        Step.END_OF_DATA: 10,
    }
    assert all(step.timeout_s >= 60 * least for step, least in minutes.items())
