"""A dialogue as it is shown: each line once however it is cut, bodies counted, secrets left out, nothing drives a terminal."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.dialogue import MAX_LINE, Dialogue

BODY = b"Subject: x\r\n\r\nsecret of a body\r\n..dots\r\n.\r\n"


def test_commands_and_replies_are_shown_and_bodies_counted() -> None:
    each = Dialogue()
    assert each.received(b"220-one\r\n220 two\r\n") == ["220-one", "220 two"]
    assert each.sent(b"MAIL FROM:<a@b.example>\r\nDATA\r\n") == [
        "MAIL FROM:<a@b.example>",
        "DATA",
    ]
    assert each.received(b"250 ok\r\n354 go\r\n") == ["250 ok", "354 go"]
    # The next envelope goes out behind the dot, in the same write.
    assert each.sent(BODY + b"RSET\r\n") == [
        f"({len(BODY)} bytes of message, with its dot)",
        "RSET",
    ]
    assert each.sent(b"QUIT\r\n") == ["QUIT"]


def test_an_empty_body_ends_with_its_dot() -> None:
    each = Dialogue()
    each.received(b"354 go\r\n")
    assert each.sent(b".\r\nQUIT\r\n") == ["(3 bytes of message, with its dot)", "QUIT"]


def test_what_is_secret_is_not_shown() -> None:
    each = Dialogue()
    assert each.sent(b"AUTH PLAIN dGVzdA==\r\n") == ["AUTH PLAIN (secret)"]
    each.received(b"235 ok\r\n")
    assert each.sent(b"auth login\r\n") == ["AUTH login"]
    each.received(b"334 VXNlcm5hbWU6\r\n")
    assert each.sent(b"dGVzdA==\r\n") == ["(secret)"]
    each.received(b"334 UGFzc3dvcmQ6\r\n")
    assert each.sent(b"cGFzc3dvcmQ=\r\n") == ["(secret)"]
    each.received(b"235 ok\r\n")
    assert each.sent(b"NOOP\r\n") == ["NOOP"]


def test_what_a_host_says_cannot_drive_a_terminal_and_is_bounded() -> None:
    each = Dialogue()
    assert each.received(b"250 \x1b[2Jgone\xff\r\n") == ["250 \\x1b[2Jgone\\xff"]
    (line,) = each.received(b"x" * 100_000 + b"\r\n")
    assert len(line) < MAX_LINE + 10
    assert each.received(b"250 after\r\n") == ["250 after"]


@given(cuts=st.lists(st.integers(0, 100)).map(sorted))
def test_however_the_bytes_are_cut_the_lines_are_the_same(cuts: list[int]) -> None:
    def shown(pieces: list[bytes]) -> list[str]:
        each = Dialogue()
        each.received(b"354 go\r\n")
        return [line for piece in pieces for line in each.sent(piece)]

    whole = BODY + b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
    edges = [0, *cuts, len(whole)]
    pieces = [whole[a:b] for a, b in itertools.pairwise(edges)]
    assert shown(pieces) == shown([whole])


@given(data=st.binary(max_size=3000), of_host=st.booleans())
def test_whatever_comes_is_shown_safely(data: bytes, of_host: bool) -> None:
    each = Dialogue()
    lines = each.received(data + b"\n") if of_host else each.sent(data + b"\n")
    assert (
        all(line.isprintable() or "\u200c" in line or "\u200d" in line for line in lines) or lines
    )
    assert all("\n" not in line and "\x1b" not in line for line in lines)
