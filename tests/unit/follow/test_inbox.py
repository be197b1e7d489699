"""The inbox: bounded, and none falls between memory and table."""

from mta.follow.inbox import Inbox, Numbered
from tests.support.fake_spool import an_attempt

EVENT = an_attempt()


def some(*numbers: int) -> list[Numbered]:
    return [(number, EVENT) for number in numbers]


def ids(events: list[Numbered]) -> list[int]:
    return [number for number, _ in events]


def an_inbox(limit: int) -> Inbox:
    """One that is served from memory."""
    inbox = Inbox(limit)
    inbox.has_read(inbox.last_offered, 0, found=False)
    return inbox


def test_at_first_the_table_is_read_whatever_is_offered() -> None:
    inbox = Inbox(10)
    inbox.offer(some(1, 2))
    assert inbox.must_read
    assert inbox.waiting == 0


def test_memory_serves_once_the_table_was_read_up_to_what_it_kept() -> None:
    inbox = Inbox(10)
    inbox.offer(some(5, 6))
    inbox.has_read(0, 3, found=True)
    assert inbox.must_read
    inbox.has_read(0, 4, found=True)
    inbox.offer(some(7))
    assert not inbox.must_read
    assert ids(inbox.take(4, 100)) == [5, 6, 7]


def test_memory_serves_once_nothing_was_found_and_nothing_was_offered_meanwhile() -> None:
    inbox = Inbox(10)
    inbox.has_read(0, 0, found=False)
    assert not inbox.must_read


def test_what_is_offered_during_a_read_is_not_passed_over() -> None:
    inbox = Inbox(10)
    mark = inbox.last_offered
    inbox.offer(some(3))
    inbox.has_read(mark, 1, found=False)
    assert inbox.must_read


def test_an_event_read_from_the_table_and_offered_afterwards_is_taken_once() -> None:
    inbox = an_inbox(10)
    inbox.offer(some(3, 4, 5))
    assert ids(inbox.take(4, 100)) == [5]


def test_more_than_the_limit_must_be_read_after_what_is_here() -> None:
    inbox = an_inbox(3)
    inbox.offer(some(1, 2))
    inbox.offer(some(3, 4))
    inbox.offer(some(5))
    assert not inbox.must_read
    assert ids(inbox.take(0, 100)) == [1, 2]
    assert inbox.must_read
    inbox.has_read(5, 5, found=True)
    inbox.offer(some(6))
    assert ids(inbox.take(5, 100)) == [6]


def test_all_that_is_kept_together_is_within_the_limit_but_for_one_batch() -> None:
    inbox = an_inbox(10)
    for first in range(1, 100, 3):
        inbox.offer(some(first, first + 1, first + 2))
    assert ids(inbox.take(0, 100)) == list(range(1, 10))
    inbox.has_read(99, 95, found=True)
    assert inbox.must_read
    inbox.has_read(99, 96, found=True)
    assert ids(inbox.take(96, 100)) == [97, 98, 99]


def test_whole_commits_are_taken_up_to_the_limit_and_one_at_least() -> None:
    inbox = an_inbox(100)
    inbox.offer(some(1, 2, 3))
    inbox.offer(some(4))
    inbox.offer(some(5))
    assert ids(inbox.take(0, 2)) == [1, 2, 3]
    assert ids(inbox.take(3, 2)) == [4, 5]
    assert inbox.waiting == 0


def test_a_reset_forgets_what_is_here_and_reads_the_table() -> None:
    inbox = an_inbox(10)
    inbox.offer(some(1))
    inbox.reset()
    assert inbox.must_read
    assert inbox.take(0, 10) == []


def test_an_empty_batch_is_a_reset() -> None:
    inbox = an_inbox(10)
    inbox.offer(some(1))
    inbox.offer([])
    assert inbox.must_read
    assert inbox.take(0, 10) == []


def test_a_reset_during_a_read_that_finds_nothing_is_not_lost() -> None:
    inbox = Inbox(10)
    inbox.reset()
    mark = inbox.last_offered
    inbox.offer([])
    inbox.has_read(mark, 0, found=False)
    assert inbox.must_read
