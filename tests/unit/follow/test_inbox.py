"""The inbox: bounded, and none falls between memory and table."""

from mta.follow.inbox import Inbox, Numbered
from tests.support.fake_spool import an_attempt

EVENT = an_attempt()


def some(*numbers: int) -> list[Numbered]:
    return [(number, EVENT) for number in numbers]


def ids(events: list[Numbered]) -> list[int]:
    return [number for number, _ in events]


def test_at_first_the_table_is_read_and_what_is_offered_is_not_kept() -> None:
    inbox = Inbox(10)
    inbox.offer(some(1, 2))
    assert inbox.must_read
    assert inbox.waiting == 0


def test_memory_serves_once_the_table_had_nothing_more_and_nothing_was_offered_meanwhile() -> None:
    inbox = Inbox(10)
    inbox.offer(some(1, 2))
    inbox.has_read(1)
    assert inbox.must_read
    inbox.has_read(2)
    inbox.offer(some(3))
    assert not inbox.must_read
    assert ids(inbox.take(2, 100)) == [3]


def test_an_event_read_from_the_table_and_offered_afterwards_is_taken_once() -> None:
    inbox = Inbox(10)
    inbox.has_read(0)
    inbox.offer(some(3, 4, 5))
    assert ids(inbox.take(4, 100)) == [5]


def test_more_than_the_limit_is_not_kept_and_must_be_read_after_what_is_here() -> None:
    inbox = Inbox(3)
    inbox.has_read(0)
    inbox.offer(some(1, 2))
    inbox.offer(some(3, 4))
    inbox.offer(some(5))
    assert not inbox.must_read
    assert ids(inbox.take(0, 100)) == [1, 2]
    assert inbox.must_read
    inbox.has_read(5)
    inbox.offer(some(6))
    assert ids(inbox.take(5, 100)) == [6]


def test_whole_commits_are_taken_up_to_the_limit_and_one_at_least() -> None:
    inbox = Inbox(100)
    inbox.has_read(0)
    inbox.offer(some(1, 2, 3))
    inbox.offer(some(4))
    inbox.offer(some(5))
    assert ids(inbox.take(0, 2)) == [1, 2, 3]
    assert ids(inbox.take(3, 2)) == [4, 5]
    assert inbox.waiting == 0


def test_a_reset_forgets_what_is_here_and_reads_the_table() -> None:
    inbox = Inbox(10)
    inbox.has_read(0)
    inbox.offer(some(1))
    inbox.reset()
    assert inbox.must_read
    assert inbox.take(0, 10) == []
