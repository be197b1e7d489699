"""A queue that stands still without a reason is found, once; one that has a reason is not."""

from mta.model.envelope import QueueKey
from mta.queue.answers import Wait
from mta.queue.stalls import STALL_S, Stalls

KEY = QueueKey("example.net", "default")


class Still:
    """A scheduler with one queue that says why it waits."""

    def __init__(self, *waits: Wait) -> None:
        self.waits = list(waits)
        self.begun = 7

    def due_work(self) -> list[tuple[QueueKey, int]]:
        return [(KEY, self.begun)]

    def explain(self, key: QueueKey, now: float) -> list[Wait]:
        return self.waits


def looks(stalls: Stalls, scheduler: Still, *times: float) -> list[int]:
    return [len(stalls.look(scheduler, now)) for now in times]


def test_a_queue_that_only_waits_for_its_next_turn_is_told_once_after_a_minute() -> None:
    stalls, scheduler = Stalls(), Still(Wait("the next turn", "5 ready"))
    assert looks(stalls, scheduler, 0, 30, STALL_S - 1, STALL_S, STALL_S + 10) == [0, 0, 0, 1, 0]
    assert stalls.count == 1


def test_a_queue_that_begins_something_meanwhile_starts_anew() -> None:
    stalls, scheduler = Stalls(), Still(Wait("the next turn", "5 ready"))
    assert looks(stalls, scheduler, 0, 50) == [0, 0]
    scheduler.begun += 1
    assert looks(stalls, scheduler, STALL_S, 2 * STALL_S - 1) == [0, 0]
    assert looks(stalls, scheduler, 2 * STALL_S) == [1]


def test_a_full_limit_is_a_reason() -> None:
    stalls, scheduler = Stalls(), Still(Wait("a free connection", "server: 3"))
    assert looks(stalls, scheduler, 0, STALL_S, 10 * STALL_S) == [0, 0, 0]


def test_one_that_works_again_is_forgotten() -> None:
    stalls, scheduler = Stalls(), Still(Wait("DNS", "is being looked up"))
    assert looks(stalls, scheduler, 0, STALL_S) == [0, 1]
    scheduler.begun += 1
    scheduler.due_work = list  # type: ignore[method-assign]
    assert looks(stalls, scheduler, STALL_S + 10) == [0]
    assert stalls.count == 0
