"""Names chosen by patterns: the first that matches decides."""

import time

import pytest

from mta.follow.patterns import Patterns


@pytest.mark.parametrize(
    ("patterns", "chosen", "left_out"),
    [
        ([], ["", "a"], []),
        (["a", "b-*"], ["a", "b-1", "A"], ["", "ab", "b"]),
        (["!test-*"], ["", "news"], ["test-1", "TEST-2"]),
        (["!news-test", "news-*"], ["news-1"], ["news-test", "other"]),
        (["*.example.com"], ["a.example.com"], ["example.com", "a.exampleXcom", "a.example.com.x"]),
        (["a.b", "[c]?"], ["a.b", "[c]?"], ["axb", "cd", "c"]),
    ],
)
def test_the_first_pattern_that_matches_decides(
    patterns: list[str], chosen: list[str], left_out: list[str]
) -> None:
    names = Patterns(patterns)
    assert [name for name in chosen if not names.choose(name)] == []
    assert [name for name in left_out if names.choose(name)] == []


def test_many_names_do_not_grow_the_memory() -> None:
    names = Patterns(["!job-7"])
    assert [n for n in range(10_000) if not names.choose(f"job-{n}")] == [7]
    assert len(names._remembered) <= 4096


def test_a_long_name_of_a_stranger_takes_no_time() -> None:
    names = Patterns(["*a*a*b"])
    started = time.monotonic()
    assert not names.choose("a" * 1000)
    assert time.monotonic() - started < 1
