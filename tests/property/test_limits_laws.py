"""Laws of leases and of token buckets: never more than the limit, nobody passed over for ever, no window over its rate."""

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mta.model.units import Rate
from mta.queue.limits import Limits
from mta.queue.rate import Bucket, TokenLines

KEYS = ["site:x", "site:y", "vmta:a", "server", "server|unproven"]


class Leasing(RuleBasedStateMachine):
    """Requests for any set of keys, in any order; nothing nested, so that two keys may never be free at once."""

    @initialize(sizes=st.lists(st.integers(1, 3), min_size=len(KEYS), max_size=len(KEYS)))
    def build(self, sizes: list[int]) -> None:
        self.limits = Limits()
        self.sizes = dict(zip(KEYS, sizes, strict=True))
        self.waiting: dict[int, tuple[str, list[str]]] = {}
        self.held: dict[int, list[str]] = {}
        self.passed: dict[tuple[int, str], int] = {}
        self.patience: dict[tuple[int, str], int] = {}
        self.standing: dict[str, tuple[int, int]] = {}
        self.number = 0

    @rule(
        destination=st.sampled_from("pqrst"),
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True),
    )
    def ask(self, destination: str, keys: list[str]) -> None:
        self.number += 1
        self.waiting[self.number] = destination, keys
        for key in keys:
            self.passed[self.number, key] = 0
        self.limits.request(self.number, destination, tuple((k, self.sizes[k]) for k in keys))
        self.collect()

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.held:
            number = data.draw(st.sampled_from(sorted(self.held)))
            del self.held[number]
            self.limits.release(number)
            self.collect()

    @rule(data=st.data())
    def prove(self, data: st.DataObject) -> None:
        if self.held:
            number = data.draw(st.sampled_from(sorted(self.held)))
            self.held[number] = [key for key in self.held[number] if not key.endswith("|unproven")]
            self.limits.connected(number)
            self.collect()

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        if self.waiting:
            number = data.draw(st.sampled_from(sorted(self.waiting)))
            del self.waiting[number]
            assert self.limits.withdraw(number)
            self.collect()

    @rule(key=st.sampled_from(KEYS), limit=st.integers(1, 3))
    def change(self, key: str, limit: int) -> None:
        self.sizes[key] = limit
        self.limits.set_limits(dict(self.sizes))
        self.collect()

    def collect(self) -> None:
        for number in self.limits.take_granted():
            _, keys = self.waiting.pop(number)
            self.held[number] = list(keys)
            for key in keys:
                assert self.used(key) <= self.sizes[key]
                for other, (_, wants) in self.waiting.items():
                    if other < number and key in wants:
                        self.passed[other, key] += 1
        for key, waiting, yielding in self.limits.take_wanted():
            # Beyond a limit that was lowered, holders go whether others wait or not.
            assert yielding <= max(waiting, self.used(key) - self.sizes[key])
            self.standing[key] = waiting, yielding

    def used(self, key: str) -> int:
        return sum(key in keys for keys in self.held.values())

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "limits"):
            return
        for key in KEYS:
            assert self.limits.used(key) == self.used(key)
            wants = sum(key in keys for _, keys in self.waiting.values())
            assert self.limits.waiters(key) == wants
            waiting, _ = self.standing.get(key, (0, 0))
            assert waiting <= wants and (not waiting or self.used(key) >= self.sizes[key])
        assert self.limits.waiting == len(self.waiting)

    @invariant()
    def nobody_is_passed_over_for_ever(self) -> None:
        if not hasattr(self, "limits"):
            return
        for number, (_, keys) in self.waiting.items():
            # Patience: as many grants as the key ever had waiters while it waited.
            for key in keys:
                mark = number, key
                seen = self.limits.waiters(key)
                self.patience[mark] = max(self.patience.get(mark, 1), seen)
            assert any(self.passed[number, key] <= self.patience[number, key] for key in keys), (
                number,
                keys,
            )

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        if not hasattr(self, "limits"):
            return
        for number, (destination, keys) in self.waiting.items():
            assert any(
                self.used(key) + self.kept(key, number) >= self.sizes[key]
                or self.stands_behind(key, number, destination)
                for key in keys
            )

    def stands_behind(self, key: str, number: int, destination: str) -> bool:
        """Whether an older request of the same destination waits for this key, too."""
        return any(
            other < number and whose == destination and key in keys
            for other, (whose, keys) in self.waiting.items()
        )

    def kept(self, key: str, number: int) -> int:
        """The most places that may be kept: one for each other that names it and is short of a full one."""
        return sum(
            key in keys and any(self.used(k) >= self.sizes[k] for k in keys)
            for other, (_, keys) in self.waiting.items()
            if other != number
        )

    def teardown(self) -> None:
        if not hasattr(self, "limits"):
            return
        for _ in range(10 * len(self.waiting) + 10):
            for number in list(self.held):
                del self.held[number]
                self.limits.release(number)
                self.collect()
        assert not self.waiting and not self.held
        assert len(self.limits) == 0, "a key nobody uses is forgotten"


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=80, stateful_step_count=40)


rates = st.builds(Rate, st.integers(1, 5000), st.sampled_from([1.0, 10.0, 60.0, 3600.0]))


@given(rate=rates, waits=st.lists(st.floats(0.0, 20.0), max_size=60), start=st.floats(0.0, 2e9))
def test_in_no_window_more_is_taken_than_rate_and_burst_allow(
    rate: Rate, waits: list[float], start: float
) -> None:
    bucket = Bucket(rate, start)
    now, taken = start, []
    for wait in waits:
        # Some at any time, some at the very moment the next token is there: the greediest taker.
        now = bucket.ready_at(now) if wait < 5 else now + wait
        count = bucket.available(now)
        if count:
            bucket.take(count, now)
            taken.append((now, count))
    burst = max(1.0, rate.per_second * 0.1)
    for first, (begin, _) in enumerate(taken):
        total = 0
        for end, count in taken[first:]:
            total += count
            assert total <= rate.per_second * (end - begin) + burst + 0.001 * total + 0.001


@given(rate=rates, waits=st.lists(st.integers(1, 50), min_size=20, max_size=40))
def test_a_greedy_taker_gets_its_rate(rate: Rate, waits: list[int]) -> None:
    bucket, now, total = Bucket(rate, 0.0), 0.0, 0
    for count in waits:
        now = bucket.ready_at(now, count)
        given_now = bucket.available(now)
        assert given_now >= 1
        bucket.take(given_now, now)
        total += given_now
    assert total >= rate.per_second * now - 1


@given(
    rates=st.lists(rates, min_size=1, max_size=3),
    asks=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 40)), min_size=1, max_size=40),
)
def test_everybody_who_asks_for_tokens_gets_some_and_no_key_gives_too_many(
    rates: list[Rate], asks: list[tuple[int, int]]
) -> None:
    lines = TokenLines(burst_s=0.1)
    now = 1.7e9
    given_at: dict[str, list[tuple[float, int]]] = {}
    wants: dict[int, tuple[tuple[str, Rate], ...]] = {}

    def note(number: int, count: int) -> None:
        for key, _ in wants.pop(number):
            given_at.setdefault(key, []).append((now, count))

    for number, (mask, count) in enumerate(asks, 1):
        wanted = tuple((f"k{n}", rate) for n, rate in enumerate(rates) if not mask >> n & 1)
        wants[number] = wanted
        got = lines.ask(number, wanted, count, now)
        assert got <= count
        if got:
            note(number, got)
    for _ in range(len(asks) * 4):
        at = lines.next_at(now)
        if at is None:
            break
        now = max(at, now + 0.001)
        for number, got in lines.serve(now):
            assert got >= 1
            note(number, got)
    assert not wants
    for n, rate in enumerate(rates):
        taken = given_at.get(f"k{n}", [])
        for first, (begin, _) in enumerate(taken):
            total = sum(count for _, count in taken[first:])
            end = taken[-1][0]
            assert total <= rate.per_second * (end - begin) + max(1.0, rate.per_second * 0.1) + 0.02
