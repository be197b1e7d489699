"""Dots and faults in the body, both ways (RFC 5321 §4.5.2, reliability S1, S4, S7)."""

import pytest

from mta.smtp.dots import DataFault, DotReader, DotWriter, stuff, unstuff

# Everything that some server somewhere took for the end of data, and that is not <CRLF>.<CRLF>.
FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r",
    b"\n.\r\n",
    b"\n\r.\n",
    b"\n\r.\r\n",
    b"\r.\r",
    b"\r.\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\0\n",
    b"\r\0\n.\r\n",
    b"\0\r\n.\n",
    b"\r\r\n.\r\r\n",
    b"\r\r\n.\n",
    b"\n\n.\n\n",
    b"\r\n\r.\r\n",
    b"\r\n\n.\n",
    b"\x85.\x85",
    b"\x0b.\x0b",
    b"\x0c.\x0c",
    b"\r\n.\x85",
    b"\r\n. \r\n",
    b"\r\n.\t\r\n",
    b"\r\n .\r\n",
]


@pytest.mark.parametrize("false_end", FALSE_ENDS)
def test_nothing_but_crlf_dot_crlf_ends_a_message(false_end: bytes) -> None:
    reader = DotReader(10_000)
    reader.feed(b"one" + false_end + b"MAIL FROM:<smuggled@example.com>\r\n")
    assert not reader.is_over
    _, rest = reader.feed(b"two\r\n.\r\nQUIT\r\n")
    assert reader.is_over
    assert rest == b"QUIT\r\n"


@pytest.mark.parametrize("false_end", FALSE_ENDS)
def test_a_message_with_a_bare_newline_or_nul_carries_a_fault(false_end: bytes) -> None:
    is_clean = not (
        b"\0" in false_end or false_end.replace(b"\r\n", b"").strip(b".\x85\x0b\x0c \t")
    )
    reader = DotReader(10_000)
    text, _ = reader.feed(b"one" + false_end + b"two\r\n.\r\n")
    assert (reader.fault is None) == is_clean == bool(text)


@pytest.mark.parametrize(
    "bare", [b"a\nb", b"a\rb", b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"a\rb\nc", b"\n\r"]
)
def test_bare_newlines_are_found(bare: bytes) -> None:
    reader = DotReader(10_000)
    assert reader.feed(bare + b"\r\n.\r\n")[0] == b""
    assert reader.fault is DataFault.BARE_NEWLINE
    with pytest.raises(ValueError, match="bare CR or LF"):
        stuff(bare + b"\r\n")


def test_normalizing_makes_every_newline_crlf_and_still_only_crlf_dot_crlf_ends_it() -> None:
    reader = DotReader(10_000, normalize=True)
    text, rest = reader.feed(b"a\n.\nb\rc\r\n..d\r\r\n\r\n.\r\nQUIT\r\n")
    assert text == b"a\r\n.\r\nb\r\nc\r\n.d\r\n\r\n\r\n"
    assert (reader.fault, reader.size, rest) == (None, len(text), b"QUIT\r\n")


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".a\r\n..b\r\n.\r\n", b"a\r\n.b\r\n"),
        (b"...\r\n\r\n..\r\n.\r\n", b"..\r\n\r\n.\r\n"),
        (b"a.\r\nb.c\r\n.\r\n", b"a.\r\nb.c\r\n"),
    ],
)
def test_dots_at_the_start_of_a_line_are_unstuffed(wire: bytes, text: bytes) -> None:
    assert unstuff(wire) == text


def test_a_line_of_998_bytes_is_taken_and_one_of_999_is_a_fault() -> None:
    longest = b"x" * 998 + b"\r\n"
    assert unstuff(stuff(longest * 3)) == longest * 3
    # A stuffed dot is not counted (RFC 5321 §4.5.3.1.6).
    dotted = b"." + b"x" * 997 + b"\r\n"
    assert unstuff(stuff(dotted)) == dotted
    reader = DotReader(10_000)
    reader.feed(b"x" * 600)
    reader.feed(b"x" * 399)
    reader.feed(b"\r\n.\r\n")
    assert reader.fault is DataFault.LONG_LINE
    with pytest.raises(ValueError, match="998"):
        stuff(b"x" * 999)


def test_beyond_the_size_limit_nothing_is_given_out_and_the_end_is_still_found() -> None:
    reader = DotReader(1_000)
    line = b"x" * 98 + b"\r\n"
    given = [reader.feed(line)[0] for _ in range(50)]
    assert len(b"".join(given)) <= 1_000
    assert reader.feed(b".\r\nQUIT\r\n")[1] == b"QUIT\r\n"
    assert (reader.fault, reader.size) == (DataFault.TOO_BIG, 5_000)


def test_a_message_as_big_as_the_limit_is_taken() -> None:
    reader = DotReader(10)
    assert reader.feed(b"12345678\r\n.\r\n")[0] == b"12345678\r\n"
    assert reader.fault is None


def test_of_many_faults_the_worst_is_told() -> None:
    reader = DotReader(10)
    reader.feed(b"\0" + b"x" * 2_000 + b"\r\n")
    assert reader.fault is DataFault.TOO_BIG
    reader = DotReader(10_000)
    reader.feed(b"\0" + b"x" * 2_000 + b"\n\r\n\r\n")
    assert reader.fault is DataFault.BARE_NEWLINE


def test_a_body_that_does_not_end_with_crlf_gets_one_before_the_dot() -> None:
    assert stuff(b"a") == b"a\r\n.\r\n"
    assert stuff(b"a\r\n") == b"a\r\n.\r\n"
    assert stuff(b"") == b".\r\n"
    assert stuff(b".") == b"..\r\n.\r\n"


def test_a_body_in_pieces_goes_out_as_in_one() -> None:
    writer = DotWriter()
    parts = [b"Received: x\r\n", b".dot\r", b"\n.", b"two\r\n", b"", b".\r\n"]
    wire = b"".join(writer.write(part, last=False) for part in parts) + writer.write(b"", last=True)
    assert wire == b"Received: x\r\n..dot\r\n..two\r\n..\r\n.\r\n" == stuff(b"".join(parts))


def test_a_cr_at_the_very_end_is_bare() -> None:
    writer = DotWriter()
    writer.write(b"a\r", last=False)
    with pytest.raises(ValueError, match="bare"):
        writer.write(b"", last=True)


def test_checked_lines_are_stuffed_like_any_others() -> None:
    text = b".a\r\n..\r\nb\r\n"
    writer = DotWriter()
    assert writer.write(text, last=True, is_checked=True) == stuff(text)


@pytest.mark.parametrize("text", [b"no line end", b"a\nb"])
def test_checked_text_that_is_no_whole_lines_is_looked_at_all_the_same(text: bytes) -> None:
    writer = DotWriter()
    with pytest.raises(ValueError, match=r"bare CR|998"):
        writer.write(text + b"x" * 999, last=True, is_checked=True)
