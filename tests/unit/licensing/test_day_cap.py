"""A Development licence sends what its day allows, and not one Email more."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from licensing.day_cap import DayCap
from licensing.facts import say_day
from tests.support.license_facts import MIDDLE

DAY = 86_400.0


class Books:
    """What is counted, by day."""

    def __init__(self) -> None:
        self.days: Counter[str] = Counter()

    def counted(self, day: str) -> int:
        return self.days[day]


def test_a_day_gives_its_cap_and_the_next_day_gives_it_again() -> None:
    books = Books()
    cap = DayCap(1_000, books.counted)
    cap.advance(MIDDLE)
    assert [cap.take(600), cap.take(600), cap.take(1)] == [600, 400, 0]
    books.days[say_day(MIDDLE)] += 1_000
    cap.count(1_000, MIDDLE)
    assert cap.take(1) == 0
    assert cap.left_until is not None
    cap.advance(cap.left_until)
    assert cap.take(1_200) == 1_000


def test_what_was_counted_before_a_restart_is_gone_and_a_block_gives_nothing() -> None:
    books = Books()
    books.days[say_day(MIDDLE)] = 990
    cap = DayCap(1_000, books.counted)
    cap.block(True, MIDDLE)
    assert cap.take(5) == 0
    cap.block(False, MIDDLE)
    assert cap.take(50) == 10


ACTS = st.lists(
    st.tuples(st.sampled_from(["take", "refund", "count", "wait"]), st.integers(0, 80)),
    max_size=60,
)


@given(acts=ACTS)
def test_what_a_day_has_counted_and_what_is_under_way_never_exceed_its_cap(
    acts: list[tuple[str, int]],
) -> None:
    books, now = Books(), MIDDLE
    cap = DayCap(100, books.counted)
    cap.advance(now)
    for name, value in acts:
        if name == "take":
            cap.take(value)
        elif name == "refund":
            cap.refund(value)
        elif name == "count":
            emails = min(value, cap.taken)
            books.days[say_day(now)] += emails
            cap.count(emails, now)
        else:
            now += value * 600
            cap.advance(now)
        assert books.days[say_day(now)] + cap.taken <= 100
        assert 0 <= cap.free <= 100
