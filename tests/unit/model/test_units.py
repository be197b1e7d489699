"""Durations, sizes and rates: what an operator may write, and what is written back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.model.units import (
    Rate,
    format_duration,
    format_size,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("4d12h", 388800),
        ("1.5s", 1.5),
        ("1w", 604800),
        (" 4d 12h ", 388800),
        (30, 30),
        (0, 0),
        (0.5, 0.5),
    ],
)
def test_a_duration_is_read(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "5 minutes", "m5", "-5m", "1h1h", -1, math.nan, math.inf, True]
)
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(min_value=1, max_value=10**9))
def test_a_duration_written_is_read_again(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (2.54, "2.5s"),
        (59.7, "1m"),
        (5400, "1h30m"),
        (-60, "-1m"),
        (math.inf, "for ever"),
    ],
)
def test_a_duration_is_written_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("250M", 262144000),
        ("64k", 65536),
        ("1.5G", 1610612736),
        ("10 MB", 10 << 20),
        (7, 7),
        ("2MiB", 2 << 20),
        ("0", 0),
    ],
)
def test_a_size_is_read(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "10X", -1, True])
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


def test_a_size_is_written_for_people() -> None:
    assert [format_size(size) for size in (0, 1023, 1536, 3 << 30, 5 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 kB",
        "3.0 GB",
        "5120.0 GB",
    ]


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("600/min", Rate(600, 60)),
        ("10/s", Rate(10, 1)),
        ("5/10s", Rate(5, 10)),
        ("1/h", Rate(1, 3600)),
        ("7/2d", Rate(7, 172800)),
        (" 600 / min ", Rate(600, 60)),
    ],
)
def test_a_rate_is_read_and_read_again_when_written(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize("text", ["", "600", "600/", "/min", "1.5/s", "600/fortnight", "-1/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["0/min", "5/0s"])
def test_a_rate_that_stops_all_mail_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(ValueError, match="pause the queue"):
        parse_rate(text)


def test_a_rate_tells_how_many_a_second() -> None:
    assert Rate(600, 60.0).per_second == 10


def test_a_share_is_a_float_and_a_size_an_int() -> None:
    assert parse_share("10%") == 0.1
    assert isinstance(parse_share("0%"), float)
    assert parse_share("5G") == 5 << 30
    assert isinstance(parse_share("1"), int)


@pytest.mark.parametrize("text", ["100%", "-1%", "x%", "%", 0.1, "nan%"])
def test_what_is_no_share_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="share"):
        parse_share(text)
