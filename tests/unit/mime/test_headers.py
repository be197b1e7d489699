"""Header fields: found, counted, stripped and written; odd and hostile blocks included."""

import pytest

from mta.mime.headers import (
    HeaderIndex,
    count_field,
    field,
    find_field,
    fold,
    iter_fields,
    split_message,
    strip_fields,
)

BLOCK = (
    b"From: Shop <news@shop.example>\r\n"
    b"X-Job: weekly\r\n"
    b"Subject: folded\r\n over\r\n\tthree lines \r\n"
    b"X-JOB: again\r\n"
    b"To:\r\n"
)


def test_a_message_is_split_before_its_blank_line() -> None:
    assert split_message(b"A: 1\r\n\r\nbody\r\n\r\n") == (b"A: 1\r\n", b"\r\nbody\r\n\r\n")


def test_a_message_that_starts_with_a_blank_line_has_no_header() -> None:
    assert split_message(b"\r\nA: 1\r\n\r\n") == (b"", b"\r\nA: 1\r\n\r\n")


def test_a_message_without_a_blank_line_is_all_header() -> None:
    assert split_message(b"A: 1\r\nB: 2\r\n") == (b"A: 1\r\nB: 2\r\n", b"")


def test_a_field_is_found_in_any_case_and_its_value_unfolded() -> None:
    assert find_field(BLOCK, b"SUBJECT") == b"folded over\tthree lines"
    assert HeaderIndex(BLOCK).find(b"from") == b"Shop <news@shop.example>"


def test_an_empty_field_is_there_and_an_absent_one_is_not() -> None:
    index = HeaderIndex(BLOCK)
    assert index.find(b"to") == b""
    assert index.find(b"cc") is None
    assert index.has(b"to")
    assert not index.has(b"cc")


def test_fields_are_counted_and_all_their_values_given_in_order() -> None:
    assert count_field(BLOCK, b"X-Job") == 2
    assert HeaderIndex(BLOCK).values(b"x-job") == [b"weekly", b"again"]


def test_a_name_within_a_value_or_a_longer_name_is_no_field() -> None:
    block = b"X-From: a\r\nSubject: from: b\r\n from: c\r\nFromage: d\r\n"
    assert count_field(block, b"From") == 0


def test_stripping_takes_every_instance_with_its_continuation_and_nothing_else() -> None:
    left = strip_fields(BLOCK, [b"X-Job", b"Subject"])
    assert left == b"From: Shop <news@shop.example>\r\nTo:\r\n"


def test_stripping_what_is_not_there_copies_nothing() -> None:
    index = HeaderIndex(BLOCK)
    assert index.strip((b"x-virtual-mta",)) is index.block


def test_obsolete_blanks_before_the_colon_hide_no_field() -> None:
    index = HeaderIndex(b"From: a@x.example\r\nFrom \t : b@y.example\r\nTo: c\r\n")
    assert index.count(b"from") == 2
    assert index.values(b"from") == [b"a@x.example", b"b@y.example"]
    assert index.strip((b"from",)) == b"To: c\r\n"
    assert index.broken_at == -1


@pytest.mark.parametrize(
    ("block", "broken_at"),
    [
        (b"", -1),
        (b"A: 1\r\nB:\r\n \r\n", -1),
        (b"Hello, this is a body\r\n", 0),
        (b"From a@b Mon Nov 23 07:41:00 2026\r\nA: 1\r\n", 0),
        (b" leading continuation\r\nA: 1\r\n", 0),
        (b"A: 1\r\nno colon here\r\nB: 2\r\n", 6),
        (b"A: 1\r\nN\xc3\xa4me: 2\r\n", 6),
        (b"A: 1\r\n: no name\r\n", 6),
        (b"A: 1\r\nB: cut", 6),
    ],
)
def test_the_first_line_that_is_no_field_is_known(block: bytes, broken_at: int) -> None:
    assert HeaderIndex(block).broken_at == broken_at


def test_fields_are_listed_as_written() -> None:
    assert list(iter_fields(b"A: 1\r\n 2\r\nb :3\r\n\r\nC: 4\r\n")) == [
        (b"A", b"A: 1\r\n 2\r\n"),
        (b"b", b"b :3\r\n"),
    ]


def test_lines_are_counted_folded_ones_each() -> None:
    assert HeaderIndex(BLOCK).line_count == 7


def test_a_short_field_is_not_folded() -> None:
    assert fold(b"Subject", b"hello") == b"Subject: hello\r\n"


def test_a_long_field_is_folded_before_spaces_and_no_line_is_too_long() -> None:
    value = b"word " * 60 + b"end"
    folded = fold(b"Subject", value)
    assert max(map(len, folded.split(b"\r\n"))) <= 78
    assert folded.replace(b"\r\n", b"") == b"Subject: " + value


def test_a_value_is_never_folded_right_after_its_name_nor_into_a_blank_line() -> None:
    folded = fold(b"X", b"a" * 100 + b"   " + b"b" * 10 + b" " * 90)
    assert folded.startswith(b"X: aaa")
    assert all(line.strip() for line in folded.removesuffix(b"\r\n").split(b"\r\n"))


@pytest.mark.parametrize("control", [*map(chr, range(32)), "\x7f", "\x85", "\u2028"])
def test_no_control_character_enters_a_field(control: str) -> None:
    if control == "\t":
        return
    with pytest.raises(ValueError, match="control"):
        field("Subject", f"a{control}b", utf8=True)


@pytest.mark.parametrize("name", ["", "A B", "A:", "A\r\nB", "Ä", "A\n"])
def test_no_bad_name_enters_a_field(name: str) -> None:
    with pytest.raises(ValueError, match="no header field name"):
        field(name, "x")


def test_text_beyond_ascii_needs_to_be_asked_for() -> None:
    with pytest.raises(ValueError, match="text"):
        field("Subject", "grün")
    assert field("Subject", "grün", utf8=True) == "Subject: grün\r\n".encode()
    with pytest.raises(ValueError, match="text"):
        field("Subject", "\ud800", utf8=True)


def test_a_word_longer_than_a_line_is_refused() -> None:
    with pytest.raises(ValueError, match="998"):
        field("X", "a" * 999)


def test_a_huge_header_is_read_in_one_sweep() -> None:
    block = b"A:\r\n" * 60_000 + b"a \t:\r\n" + b"X: y\r\n" + b" z\r\n" * 10_000
    index = HeaderIndex(block)
    assert index.count(b"a") == 60_001
    assert index.broken_at == -1
