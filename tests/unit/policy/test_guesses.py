"""Failed logins: guessing becomes slow, and nobody is locked out by others (reliability S12; RFC 4954 §9)."""

from collections.abc import Iterator

import pytest

from mta.policy.guesses import (
    FORGOTTEN_AFTER_S,
    FREE_OF_SOURCE,
    FREE_OF_USER,
    LONGEST_WAIT_S,
    MAX_ENTRIES,
    Guesses,
)

THIEF, OWNER = "203.0.113.9", "192.0.2.7"


def fail(guesses: Guesses, source: str, user: str, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        guesses.failed(source, user, now)


def sources() -> Iterator[str]:
    yield from (f"198.51.{n // 256}.{n % 256}" for n in range(60_000))


def test_a_few_failures_cost_nothing() -> None:
    guesses = Guesses()
    fail(guesses, OWNER, "ada", FREE_OF_SOURCE - 1)
    assert guesses.wait(OWNER, "ada", 0.0) == 0.0


def test_a_source_that_goes_on_waits_longer_and_longer_whoever_it_names() -> None:
    guesses = Guesses()
    fail(guesses, THIEF, "ada", FREE_OF_SOURCE)
    waits = []
    now = 0.0
    for user in ("ada", "bob", "eve", "root"):
        waits.append(guesses.wait(THIEF, user, now))
        now += waits[-1]
        assert guesses.wait(THIEF, user, now) == 0.0
        guesses.failed(THIEF, user, now)
    assert waits == [2.0, 4.0, 8.0, 16.0]
    fail(guesses, THIEF, "ada", 1_000, now)
    assert guesses.wait(THIEF, "ada", now) == LONGEST_WAIT_S


def test_a_thousand_guesses_take_days() -> None:
    guesses, now = Guesses(), 0.0
    for _ in range(1_000):
        while wait := guesses.wait(THIEF, "ada", now):
            now += wait
        guesses.failed(THIEF, "ada", now)
    assert now > 3 * 86_400


def test_a_hundred_attempts_at_once_are_one() -> None:
    guesses = Guesses()
    fail(guesses, THIEF, "ada", FREE_OF_SOURCE + 2)
    now = guesses.wait(THIEF, "ada", 0.0)
    assert [guesses.wait(THIEF, "ada", now) for _ in range(100)].count(0.0) == 1


def test_the_owner_of_a_name_that_is_guessed_at_is_never_kept_out() -> None:
    guesses = Guesses()
    for source, _ in zip(sources(), range(500), strict=False):
        fail(guesses, source, "ada", FREE_OF_SOURCE)
    assert guesses.wait(OWNER, "ada", 1.0) == 0.0  # it never failed
    guesses.succeeded(OWNER, "ada", 1.0)
    guesses.failed(OWNER, "ada", 2.0)  # mistyped, once: still a known address
    assert guesses.wait(OWNER, "ada", 2.0) == 0.0


def test_a_name_that_is_guessed_at_is_slow_for_all_that_have_failed() -> None:
    guesses = Guesses()
    found = sources()
    for _ in range(FREE_OF_USER + 3):
        guesses.failed(next(found), "ada", 0.0)
    other = next(found)
    guesses.failed(other, "bob", 0.0)
    assert guesses.wait(other, "ada", 0.0) == 16.0
    assert guesses.wait(other, "bob", 0.0) == 0.0


def test_a_success_ends_the_wait_but_forgives_nothing() -> None:
    guesses = Guesses()
    fail(guesses, THIEF, "ada", FREE_OF_SOURCE + 3)
    now = guesses.wait(THIEF, "eve", 0.0)
    assert guesses.wait(THIEF, "eve", now) == 0.0
    guesses.succeeded(THIEF, "eve", now)
    assert guesses.wait(THIEF, "ada", now) == 0.0
    guesses.failed(THIEF, "ada", now)
    assert guesses.wait(THIEF, "ada", now) == 32.0


def test_what_we_could_not_look_at_costs_nobody_anything() -> None:
    guesses = Guesses()
    fail(guesses, OWNER, "ada", FREE_OF_SOURCE + 2)
    now = guesses.wait(OWNER, "ada", 0.0)
    assert guesses.wait(OWNER, "ada", now) == 0.0
    guesses.unanswered(OWNER, "ada", now)
    assert guesses.wait(OWNER, "ada", now) == 0.0


def test_failures_are_forgotten_after_an_hour_of_peace() -> None:
    guesses = Guesses()
    fail(guesses, OWNER, "ada", 1_000)
    later = FORGOTTEN_AFTER_S + 1.0
    assert guesses.wait(OWNER, "ada", later) == 0.0
    guesses.failed(OWNER, "ada", later)
    assert guesses.wait(OWNER, "ada", later) == 0.0


@pytest.mark.parametrize("what", ["failed", "succeeded"])
def test_memory_is_bounded_and_the_newest_are_kept(what: str) -> None:
    guesses = Guesses()
    fail(guesses, THIEF, "ada", 50, now=1.0)
    for source, number in zip(sources(), range(MAX_ENTRIES + 500), strict=False):
        getattr(guesses, what)(source, f"user{number}", 1.0)
        if number % 5_000 == 0:
            guesses.failed(THIEF, "ada", 1.0)  # whoever goes on is not forgotten
    assert guesses.size <= 3 * MAX_ENTRIES
    assert guesses.wait(THIEF, "ada", 1.0) > 0.0
