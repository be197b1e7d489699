"""Replies: text for people, bytes for the wire, and the enhanced status taken off the lines."""

import pytest

from mta.model.reply import Reply, a_reply, split_enhanced


def test_a_reply_of_one_line_is_one_line_on_the_wire() -> None:
    assert a_reply(250, "2.0.0", "OK").encode() == b"250 2.0.0 OK\r\n"


def test_a_reply_of_several_lines_repeats_code_and_status() -> None:
    reply = Reply(550, "5.7.1", ("No.", "Really."))
    assert reply.encode() == b"550-5.7.1 No.\r\n550 5.7.1 Really.\r\n"
    assert str(reply) == "550 5.7.1 No. Really."


def test_a_reply_without_status_has_none_on_the_wire() -> None:
    assert Reply(220, "", ("mx.example ESMTP",)).encode() == b"220 mx.example ESMTP\r\n"


@pytest.mark.parametrize(
    ("code", "positive", "permanent"),
    [(250, True, False), (354, True, False), (451, False, False), (550, False, True)],
)
def test_a_reply_knows_its_class(code: int, positive: bool, permanent: bool) -> None:
    reply = Reply(code, "", ("x",))
    assert (reply.is_positive, reply.is_permanent) == (positive, permanent)


def test_the_enhanced_status_is_taken_off_every_line_that_repeats_it() -> None:
    reply = split_enhanced(550, ("5.1.1 No such", "5.1.1 user", "here"))
    assert reply == Reply(550, "5.1.1", ("No such", "user", "here"))


@pytest.mark.parametrize(
    "lines", [(), ("no status",), ("4.1.1 of another class",), ("5.1 short",), ("5.1.1.1 long",)]
)
def test_what_is_no_status_of_this_code_stays_text(lines: tuple[str, ...]) -> None:
    assert split_enhanced(550, lines) == Reply(550, "", lines)
