"""The purse: never more is taken than was given, blocks follow the pace, and what nobody uses goes back."""

from hypothesis import given
from hypothesis import strategies as st

from mta.queue.purse import LOOK_S, Purse


class Pool:
    """Whoever gives: all that is asked for, at most `limit` in all."""

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.out = 0
        self.asks: list[int] = []
        self.purse = Purse(self.asks.append, self._back)

    def answer(self) -> None:
        while self.asks:
            given = max(0, min(self.asks.pop(0), self.limit - self.out))
            self.out += given
            self.purse.given(given)

    def _back(self, count: int) -> None:
        self.out -= count


def spend(pool: Pool, count: int) -> int:
    """Take one by one, as long as there are any."""
    spent = 0
    for _ in range(count):
        if not pool.purse.left:
            pool.purse.want()
            pool.answer()
        if pool.purse.left:
            pool.purse.take(1)
            spent += 1
        pool.answer()
    return spent


def test_blocks_grow_while_they_are_used_and_never_exceed_what_was_used_lately() -> None:
    pool = Pool()
    assert spend(pool, 2_000) == 2_000
    assert 100 < pool.purse.left <= 1.5 * 2_000
    pool.purse.look(1.0)
    assert spend(pool, 3) == 3
    pool.purse.look(2.0)
    pool.purse.look(3.0)
    assert not pool.purse.left
    assert spend(pool, 3_000) == 3_000
    assert pool.out <= 5_003 + 1.5 * 3_000


def test_what_lies_idle_for_a_second_is_returned() -> None:
    pool = Pool()
    spend(pool, 100)
    assert pool.purse.left
    pool.purse.look(10.0)
    pool.purse.look(10.0 + LOOK_S)
    assert not pool.purse.left
    assert pool.out == 100


def test_the_last_emails_are_spent_to_the_last_and_not_one_more() -> None:
    pool = Pool(limit=777)
    assert spend(pool, 10_000) == 777
    assert pool.purse.is_dry
    pool.limit += 1
    pool.purse.want()
    pool.answer()
    assert spend(pool, 5) == 1


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "fail", "look", "answer"]), st.integers(1, 40))
    ),
    limit=st.integers(0, 300),
)
def test_whatever_happens_what_is_out_is_in_hand_in_flight_or_spent(
    steps: list[tuple[str, int]], limit: int
) -> None:
    pool = Pool(limit)
    now, flying = 0.0, 0
    for what, count in steps:
        now += 0.3
        if what == "take":
            taken = min(count, pool.purse.left)
            if taken:
                pool.purse.take(taken)
            else:
                pool.purse.want()
            flying += taken
        elif what == "fail":
            failed = min(count, flying)
            pool.purse.put_back(failed)
            flying -= failed
        elif what == "look":
            pool.purse.look(now)
        else:
            pool.answer()
        assert pool.out == pool.purse.left + flying <= limit
        assert pool.purse.left >= 0
