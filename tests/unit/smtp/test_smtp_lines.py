"""Lines out of a stream: bounded, and the same however it is cut."""

import tracemalloc

import pytest

from mta.smtp.lines import BareLineFeed, LineReader, LineTooLong


def test_lines_come_whole_and_in_order() -> None:
    reader = LineReader(100)
    reader.feed(b"one\r\ntw")
    assert reader.next_line() == b"one"
    assert reader.next_line() is None
    reader.feed(b"o\r")
    assert reader.next_line() is None
    reader.feed(b"\n\r\n")
    assert [reader.next_line() for _ in range(3)] == [b"two", b"", None]


def test_a_line_as_long_as_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    reader = LineReader(10)
    reader.feed(b"12345678\r\n123456789\r\nok\r\n")
    assert reader.next_line() == b"12345678"
    with pytest.raises(LineTooLong):
        reader.next_line()
    assert reader.next_line() == b"ok"


def test_a_bare_line_feed_is_reported_and_the_next_line_is_read() -> None:
    reader = LineReader(100)
    reader.feed(b"one\ntwo\r\n\n")
    with pytest.raises(BareLineFeed):
        reader.next_line()
    assert reader.next_line() == b"two"
    with pytest.raises(BareLineFeed):
        reader.next_line()


def test_where_it_is_allowed_a_bare_line_feed_ends_a_line() -> None:
    reader = LineReader(100, takes_bare_lf=True)
    reader.feed(b"one\ntwo\r\n\n")
    assert [reader.next_line() for _ in range(3)] == [b"one", b"two", b""]


def test_take_all_gives_what_was_not_read() -> None:
    reader = LineReader(100)
    reader.feed(b"DATA\r\nbody ")
    assert reader.next_line() == b"DATA"
    assert reader.is_busy
    assert reader.take_all() == b"body "
    assert not reader.is_busy
    assert reader.take_all() == b""


def test_megabytes_without_an_end_of_line_keep_memory_flat_and_are_reported_once() -> None:
    reader = LineReader(2048)
    segment = b"x" * 65_536
    tracemalloc.start()
    for _ in range(1_600):  # 100 MB
        reader.feed(segment)
        assert reader.next_line() is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000
    assert reader.is_busy
    reader.feed(b"\r\nNOOP\r\n")
    with pytest.raises(LineTooLong):
        reader.next_line()
    assert reader.next_line() == b"NOOP"
