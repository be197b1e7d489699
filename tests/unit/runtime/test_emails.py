"""The till: who has how many Emails, what becomes of those of a dead worker, and that a fault of licensing stops nothing."""

from mta.runtime.emails import Till
from mta.runtime.license import Delivered


class Pool:
    """A guard's `take` and `refund`."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.is_broken = False

    def take(self, count: int) -> int:
        if self.is_broken:
            raise RuntimeError("a bug")
        given = min(count, self.left)
        self.left -= given
        return given

    def refund(self, count: int) -> None:
        self.left += count


class Clock:
    time = 100.0

    def now(self) -> float:
        return self.time


def delivered(spool: str, since: int, upto: int, emails: int) -> Delivered:
    """The last `emails` of these events are deliveries."""
    return Delivered(spool, since, upto, emails, tuple(range(upto - emails + 1, upto + 1)))


def a_till(left: int) -> tuple[Till, Pool, Clock]:
    pool, clock = Pool(left), Clock()
    return Till(pool, clock), pool, clock


def test_near_the_end_workers_get_one_at_a_time_until_there_is_more_again() -> None:
    till, pool, clock = a_till(50)
    assert till.take(0, 40) == 40
    assert till.take(1, 40) == 1
    assert till.take(2, 40) == 1
    assert pool.left == 8
    till.give_back(0, 40)
    assert till.take(1, 40) == 1
    clock.time += 10.0
    assert till.take(1, 40) == 40


def test_a_worker_cannot_return_more_than_it_has() -> None:
    till, pool, _ = a_till(10)
    till.take(0, 5)
    till.give_back(0, 9)
    assert pool.left == 10


def test_what_a_dead_worker_held_comes_back_only_when_its_events_are_counted_to_their_end() -> None:
    till, pool, _ = a_till(100)
    till.serves(0, {"s": 0})
    till.take(0, 30)
    till.counted([delivered("s", 0, 12, 10)])
    till.died(0)
    assert pool.left == 70
    till.serves(0, {"s": 20})  # events 13 to 20 were committed, and are not counted yet
    assert pool.left == 70
    till.counted([delivered("s", 12, 18, 5)])
    assert pool.left == 70
    till.counted([delivered("s", 18, 20, 2)])
    assert pool.left == 100 - 10 - 5 - 2
    assert till.held(0) == 0


def test_a_dead_worker_whose_events_were_all_counted_gives_back_at_its_next_start() -> None:
    till, pool, _ = a_till(100)
    till.serves(3, {"s": 0, "adopted": 0})
    till.take(3, 8)
    till.counted([delivered("s", 0, 9, 8)])
    till.take(3, 4)
    till.died(3)
    till.serves(3, {"s": 9, "adopted": 0})
    assert pool.left == 92


def test_a_worker_that_dies_twice_before_anything_is_counted_loses_nothing() -> None:
    till, pool, _ = a_till(100)
    till.serves(0, {"s": 0})
    till.take(0, 10)
    till.died(0)
    till.serves(0, {"s": 4})
    till.take(0, 10)
    till.died(0)
    till.serves(0, {"s": 8})
    till.counted([delivered("s", 0, 8, 8)])
    assert pool.left == 92


def test_a_fault_of_licensing_gives_what_was_asked_for() -> None:
    till, pool, _ = a_till(10)
    pool.is_broken = True
    assert till.take(0, 64) == 64
    pool.is_broken = False
    assert till.take(0, 2) == 2


def test_deliveries_of_two_lives_counted_in_one_go_are_told_apart() -> None:
    till, pool, _ = a_till(100)
    till.serves(0, {"s": 0})
    till.take(0, 10)
    till.died(0)
    till.take(0, 20)  # the next life asks before it has said where it begins
    till.counted([Delivered("s", 0, 9, 5, (2, 4, 7, 8, 9))])
    till.serves(0, {"s": 7})
    assert till.held(0) == 20 - 2
    assert pool.left == 100 - 20 - 3
    till.give_back(0, 18)
    assert pool.left == 100 - 5
