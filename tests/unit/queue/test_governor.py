"""The governor: answers come later, leases and tokens come back, counts survive a restart."""

import heapq
from collections.abc import Callable

from mta.model.units import Rate
from mta.runtime.governor import Governor


class Loop:
    """A clock, the posts of this turn and the timers."""

    def __init__(self) -> None:
        self.time = 1.7e9
        self.posts: list[Callable[[], None]] = []
        self.timers: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def post(self, do: Callable[[], None]) -> None:
        self.posts.append(do)

    def call_at(self, at: float, do: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (at, len(self.timers), do))

    def turn(self) -> None:
        while self.posts:
            posts, self.posts = self.posts, []
            for do in posts:
                do()

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        self.turn()
        while self.timers and self.timers[0][0] <= end:
            self.time, _, do = heapq.heappop(self.timers)
            do()
            self.turn()
        self.time = end


def a_governor() -> tuple[Governor, Loop]:
    loop = Loop()
    return Governor(clock=loop, post=loop.post, call_at=loop.call_at), loop


def test_nobody_is_answered_before_the_call_returned() -> None:
    governor, loop = a_governor()
    got: list[int] = []
    governor.request("d", (("k", 1),), got.append)
    assert not got
    loop.turn()
    assert len(got) == 1


def test_a_lease_withdrawn_while_its_answer_is_on_the_way_is_released() -> None:
    governor, loop = a_governor()
    got: list[int] = []
    governor.withdraw(governor.request("d", (("k", 1),), got.append))
    loop.turn()
    assert not got and governor.used("k") == 0


def test_without_limits_a_request_is_granted() -> None:
    governor, loop = a_governor()
    got: list[int] = []
    governor.request("d", (), got.append)
    loop.turn()
    governor.release(got[0], True)
    governor.release(got[0], True)
    assert governor.used("k") == 0


def test_a_destination_with_its_share_makes_nobody_yield() -> None:
    governor, loop = a_governor()
    said: list[tuple[str, int, int]] = []
    governor.on_wanted(lambda *how: said.append(how))
    for _ in range(5):
        governor.request("big", (("k", 3),), lambda lease: None)
    loop.turn()
    assert said == [("k", 2, 0)]
    governor.request("small", (("k", 3),), lambda lease: None)
    loop.turn()
    assert said[-1] == ("k", 3, 1)


def test_the_unproven_hold_a_third_together_until_they_answer() -> None:
    governor, loop = a_governor()
    got: list[int] = []
    demand = (("server", 3), ("server|unproven", 1))
    for destination in "abc":
        governor.request(destination, demand, got.append)
    loop.turn()
    assert len(got) == 1
    governor.connected(got[0])
    loop.turn()
    assert len(got) == 2 and governor.used("server") == 2


def test_a_stuck_destination_does_not_keep_the_slots_of_others() -> None:
    governor, loop = a_governor()
    stuck: list[int] = []
    for _ in range(3):
        governor.request("x", (("vmta:a", 1), ("server", 2)), stuck.append)
    loop.turn()
    for n in range(100):
        got: list[int] = []
        governor.request(f"d{n}", (("server", 2),), got.append)
        loop.turn()
        assert got, "the second slot of the server goes round"
        governor.release(got[0], True)
        loop.turn()
    assert len(stuck) == 1


def test_a_changed_limit_grants_what_waits() -> None:
    governor, loop = a_governor()
    got: list[int] = []
    for destination in "abcd":
        governor.request(destination, (("k", 1),), got.append)
    loop.turn()
    governor.limits({"k": 3})
    loop.turn()
    assert len(got) == 3


def test_tokens_come_at_their_rate_and_those_returned_come_again() -> None:
    governor, loop = a_governor()
    got: list[tuple[float, int]] = []
    rates = (("k", Rate(10, 1.0)),)
    for _ in range(21):
        governor.tokens(rates, 1, lambda n, until: got.append((loop.time, n)))
    loop.run(1.0)
    assert 10 <= len(got) <= 11
    governor.return_tokens(rates, 1, loop.time - 0.01)
    loop.turn()
    assert 10 <= len(got) <= 11, "too late: what came since was spaced as if it had been used"
    governor.return_tokens(rates, 1, loop.time)
    loop.turn()
    assert 11 <= len(got) <= 12
    loop.run(5.0)
    assert len(got) == 21


def test_a_slow_rate_does_not_use_up_a_fast_one_that_others_wait_for() -> None:
    governor, loop = a_governor()
    slow, fast = ("slow", Rate(1, 60.0)), ("fast", Rate(5, 1.0))
    counts = {"slow": 0, "fast": 0}

    def take(name: str) -> Callable[[int, float], None]:
        def taken(n: int, until: float) -> None:
            counts[name] += n

        return taken

    for _ in range(3):
        governor.tokens((slow, fast), 1, take("slow"))
    for _ in range(50):
        governor.tokens((fast,), 1, take("fast"))
    loop.run(5.0)
    assert counts["slow"] == 1 and 24 <= counts["fast"] <= 25


def test_a_request_waits_for_its_connection_rate_and_holds_nothing_meanwhile() -> None:
    governor, loop = a_governor()
    got: list[tuple[float, int]] = []
    rates = (("cr", Rate(1, 10.0)),)
    start = loop.time
    for _ in range(3):
        governor.request(
            "d", (("k", 5),), lambda n: got.append((loop.time - start, n)), rates=rates
        )
    loop.run(5.0)
    assert len(got) == 1 and governor.used("k") == 1
    loop.run(30.0)
    assert [round(at) for at, _ in got] == [0, 10, 20]


def test_quotas_are_taken_all_or_none_and_survive_a_restart() -> None:
    governor, loop = a_governor()
    answers: list[bool] = []
    wanted = (("hour", Rate(5, 3600.0)), ("day", Rate(3, 86_400.0)))
    for _ in range(4):
        governor.quotas(wanted, answers.append)
    loop.turn()
    assert answers == [True, True, True, False]
    second, loop2 = a_governor()
    second.restore(governor.snapshot())
    second.quota("hour", 5, 3600.0, 2, answers.append)
    second.quota("hour", 5, 3600.0, 1, answers.append)
    second.quotas(wanted, answers.append)
    loop2.turn()
    assert answers[4:] == [True, False, False]
    loop2.time += 86_400.0
    second.quotas(wanted, answers.append)
    loop2.turn()
    assert answers[-1]


def test_what_nobody_uses_is_forgotten() -> None:
    governor, loop = a_governor()
    for n in range(1000):
        got: list[int] = []
        governor.request(f"d{n}", ((f"k{n}", 1),), got.append)
        governor.tokens(((f"r{n}", Rate(1000, 1.0)),), 1, lambda n, until: None)
        governor.quota(f"q{n}", 5, 1.0, 1, lambda ok: None)
        loop.turn()
        governor.release(got[0], True)
        loop.run(2.0)
    assert len(governor._limits) <= 1 and len(governor._lines) <= 3 and len(governor._quotas) <= 3
