"""Limits hold over processes: workers ask one governor by messages that are on their way for a while, and die at any time.

The law: what all workers together believe to hold of a key never exceeds its limit, nothing leaks when a worker dies, and when
everything has come to rest with room left, nobody waits.
"""

from collections import deque
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mta.runtime.desk import Desk
from mta.runtime.governor import Governor
from mta.runtime.messages import Granted, GrantedTokens, QuotaAnswer, Wanted, of_process
from mta.runtime.messages import of_supervisor as of_governor
from mta.runtime.remote_governor import RemoteGovernor

LIMITS = {"server": 4, "site:a": 2, "site:b": 3}
DEMANDS = [
    (("site:a", 2), ("server", 4)),
    (("site:b", 3), ("server", 4)),
    (("server", 4),),
]


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at


class Wire:
    """One direction of a link: what is sent is encoded at once and read when the test says so."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()

    def send(self, message: object) -> None:
        self.frames.append(msgspec.msgpack.encode(message))


class Worker:
    """What a worker believes: the leases it was granted and has not released."""

    def __init__(self, governor: Governor, number: int = 0) -> None:
        self.up, self.down = Wire(), Wire()
        self.governor = RemoteGovernor(self.up)  # type: ignore[arg-type]
        self.desk = Desk(governor, self.down, number)
        self.held: dict[int, tuple[tuple[str, int], ...]] = {}
        self.asked: dict[int, tuple[tuple[str, int], ...]] = {}

    def ask(self, demand: tuple[tuple[str, int], ...]) -> None:
        def granted(lease: int) -> None:
            self.held[lease] = self.asked.pop(lease)

        number = self.governor.request(f"queue {demand[0][0]}", demand, granted)
        self.asked[number] = demand

    def hear(self) -> None:
        message: Any = of_governor.decode(self.down.frames.popleft())
        match message:
            case Granted():
                self.governor.granted(message)
            case GrantedTokens():
                self.governor.granted_tokens(message)
            case QuotaAnswer():
                self.governor.answered_quota(message)
            case Wanted():
                self.governor.wanted(message)

    def tell(self) -> None:
        message: Any = of_process.decode(self.up.frames.popleft())
        self.desk.takes[type(message)](message)

    def die(self) -> None:
        self.held, self.asked = {}, {}
        self.up.frames.clear()
        self.down.frames.clear()
        self.desk.close()


SLOT = st.integers(0, 1)


class Processes(RuleBasedStateMachine):
    """Any interleaving of requests, releases, messages and deaths of two workers."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: deque[Any] = deque()
        self.governor = Governor(
            clock=Time(), post=self.posted.append, call_at=lambda at, work: None
        )
        self.governor.on_wanted(self._wanted)
        self.all = [Worker(self.governor, slot) for slot in range(2)]

    def _wanted(self, key: str, waiting: int, yielding: int) -> None:
        for worker in self.all:
            worker.desk.wanted(key, waiting, yielding)

    @rule(slot=SLOT, demand=st.sampled_from(DEMANDS), count=st.integers(1, 3))
    def ask(self, slot: int, demand: tuple[tuple[str, int], ...], count: int) -> None:
        for _ in range(count):
            self.all[slot].ask(demand)

    @rule(slot=SLOT, data=st.data())
    def withdraw(self, slot: int, data: st.DataObject) -> None:
        worker = self.all[slot]
        if worker.asked:
            number = data.draw(st.sampled_from(sorted(worker.asked)))
            del worker.asked[number]
            worker.governor.withdraw(number)

    @rule(slot=SLOT, data=st.data())
    def release(self, slot: int, data: st.DataObject) -> None:
        worker = self.all[slot]
        if worker.held:
            lease = data.draw(st.sampled_from(sorted(worker.held)))
            del worker.held[lease]
            worker.governor.release(lease, True)

    @rule(slot=SLOT, count=st.integers(1, 4))
    def messages_arrive_at_the_worker(self, slot: int, count: int) -> None:
        for _ in range(min(count, len(self.all[slot].down.frames))):
            self.all[slot].hear()

    @rule(slot=SLOT, count=st.integers(1, 4))
    def messages_arrive_at_the_governor(self, slot: int, count: int) -> None:
        for _ in range(min(count, len(self.all[slot].up.frames))):
            self.all[slot].tell()
        while self.posted:
            self.posted.popleft()()

    @rule(slot=SLOT)
    def one_dies_and_another_takes_its_place(self, slot: int) -> None:
        self.all[slot].die()
        self.all[slot] = Worker(self.governor, slot)

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        for key, limit in LIMITS.items():
            held = [d for w in self.all for d in w.held.values() if key in dict(d)]
            assert len(held) <= limit, key

    def teardown(self) -> None:
        self._come_to_rest()
        for key, limit in LIMITS.items():
            believed = sum(key in dict(d) for w in self.all for d in w.held.values())
            assert self.governor.used(key) == believed, "nothing has leaked"
            assert believed <= limit
        waiting = [demand for w in self.all for demand in w.asked.values()]
        stuck = [d for d in waiting if any(self.governor.used(key) >= limit for key, limit in d)]
        for demand in waiting:
            # A place may be kept for one whose patience is over and who is short of another key.
            assert any(
                self.governor.used(key) + sum(key in dict(other) for other in stuck) >= limit
                for key, limit in demand
            ), demand
        for worker in self.all:
            worker.die()
        self._come_to_rest()
        assert not any(self.governor.used(key) for key in LIMITS)
        assert not self.governor.waiting

    def _come_to_rest(self) -> None:
        while self.posted or any(w.up.frames or w.down.frames for w in self.all):
            while self.posted:
                self.posted.popleft()()
            for worker in self.all:
                while worker.up.frames:
                    worker.tell()
                while worker.down.frames:
                    worker.hear()


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(max_examples=100, stateful_step_count=50)
