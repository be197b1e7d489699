"""Whatever happens on the way, a pool is not overdrawn and no Email is counted twice or lost (A10, A29's base, A30).

A world of nodes on one volume licence: they want, deliver, report; reports are lost before or after the server took them, come
twice, come late and out of order; nodes crash and come again from their journal; time passes into the next period. After every
step the books must hold; at the end, when all have reported, the server's total is the nodes' total to the Email.
"""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from licensing.envelope import Envelope
from licensing.server.pool import ceiling, day_at, period_at
from tests.support.licence_office import DAY_S, Office, Twin, a_volume
from tests.support.vendor import Vendor

QUOTA = 5_000
MAX_NODES = 8
MAX_LATE = 32  # captured reports that may still arrive


class World:
    """Nodes, an office, and a network that does to reports what networks do."""

    def __init__(self, vendor: Vendor, quota: int = QUOTA, overage_pct: int = 0) -> None:
        overage = {"on_exhausted": "overage", "overage_pct": overage_pct} if overage_pct else {}
        self.license = a_volume(vendor, quota, **overage)
        assert self.license.limits.volume is not None
        self.terms = self.license.limits.volume
        self.office = Office(self.license, vendor=vendor)
        self.nodes: list[Twin] = []
        self.late: list[tuple[Envelope, str]] = []
        self.delivered: dict[str, int] = {}

    def join(self) -> Twin:
        node = Twin(self.license, self.office.sha256(self.license.license_id))
        assert node.activate(self.office).status == 200
        self.nodes.append(node)
        return node

    def deliver(self, node: Twin, emails: int) -> None:
        sent = node.deliver(emails, self.office.now)
        period = period_at(self.terms, day_at(self.office.now)).name
        self.delivered[period] = self.delivered.get(period, 0) + sent

    def lose_request(self, node: Twin, want: int) -> None:
        node.write(self.office.now, want)

    def lose_answer(self, node: Twin, want: int) -> None:
        report = node.write(self.office.now, want)
        self.office.report(report, node.key.id)
        self._capture(report, node)

    def report(self, node: Twin, want: int) -> None:
        report = node.write(self.office.now, want)
        self._capture(report, node)
        answer = self.office.report(report, node.key.id)
        assert answer.status == 200, answer.body
        node.take(answer)

    def replay(self, which: int) -> None:
        """A proxy sends an old report again: the same answer or a conflict, never an effect."""
        if self.late:
            report, node_id = self.late[which % len(self.late)]
            before = self.office.total(self.license.license_id)
            assert self.office.report(report, node_id).status in (200, 409)
            assert self.office.total(self.license.license_id) == before

    def pass_time(self, seconds: int) -> None:
        self.office.now += seconds

    def _capture(self, report: Envelope, node: Twin) -> None:
        self.late.append((report, node.key.id))
        del self.late[:-MAX_LATE]

    # -- laws

    def check(self) -> None:
        """What must hold after every step."""
        store, name = self.office.store, self.license.license_id
        most = ceiling(self.terms)
        reserved: dict[str, int] = {}
        for lease in store.leases(name, 10**6):
            reserved[lease.period] = reserved.get(lease.period, 0) + lease.rest
        for period, sent in self.delivered.items():
            pool = store.pool(name, period)
            assert pool.used + pool.reserved <= most, "the pool is overdrawn"
            assert pool.reserved == reserved.get(period, 0), "the books of a pool do not add up"
            assert sent <= most, "more was delivered than was bought"

    def settle(self) -> None:
        """All report; then both sides have one figure."""
        for node in self.nodes:
            self.report(node, 0)  # what was in flight
            self.report(node, 0)  # and what came since
        total = sum(node.disk.cum for node in self.nodes)
        assert self.office.total(self.license.license_id) == total
        assert sum(self.delivered.values()) == total
        used = {p: self.office.store.pool(self.license.license_id, p).used for p in self.delivered}
        assert sum(used.values()) == total


VENDOR = Vendor()  # keys are slow to make, and it is never changed


class PoolMachine(RuleBasedStateMachine):
    """Hypothesis chooses what happens."""

    @initialize(overage=st.sampled_from([0, 10]))
    def begin(self, overage: int) -> None:
        self.world = World(VENDOR, overage_pct=overage)
        self.world.join()

    def _node(self, which: int) -> Twin:
        return self.world.nodes[which % len(self.world.nodes)]

    @rule()
    def a_node_joins(self) -> None:
        if len(self.world.nodes) < MAX_NODES:
            self.world.join()

    @rule(which=st.integers(0, 7), emails=st.integers(1, 2_000))
    def a_node_delivers(self, which: int, emails: int) -> None:
        self.world.deliver(self._node(which), emails)

    @rule(which=st.integers(0, 7), want=st.integers(0, 3_000))
    def a_node_reports(self, which: int, want: int) -> None:
        self.world.report(self._node(which), want)

    @rule(which=st.integers(0, 7), want=st.integers(0, 3_000))
    def a_request_is_lost(self, which: int, want: int) -> None:
        self.world.lose_request(self._node(which), want)

    @rule(which=st.integers(0, 7), want=st.integers(0, 3_000))
    def an_answer_is_lost(self, which: int, want: int) -> None:
        self.world.lose_answer(self._node(which), want)

    @rule(which=st.integers(0, 31))
    def an_old_report_comes_again(self, which: int) -> None:
        self.world.replay(which)

    @rule(seconds=st.sampled_from([1, 600, DAY_S, 15 * DAY_S, 31 * DAY_S]))
    def time_passes(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    @invariant()
    def the_books_hold(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()
            self.world.check()


TestPoolLaws = PoolMachine.TestCase
TestPoolLaws.settings = settings(max_examples=40, stateful_step_count=60)


def walk(seed: int, steps: int) -> int:
    """A long random walk, with weights that bring a pool to its end and over it; the Emails delivered."""
    chance = random.Random(seed)
    world = World(Vendor(), quota=20_000)
    for _ in range(MAX_NODES):
        world.join()
    for step in range(steps):
        node = chance.choice(world.nodes)
        happens = chance.random()
        if happens < 0.40:
            world.deliver(node, chance.randrange(1, 300))
        elif happens < 0.75:
            world.report(node, 1_000 if node.left < 100 else 0)
        elif happens < 0.82:
            world.lose_answer(node, 1_000)
        elif happens < 0.86:
            world.lose_request(node, 1_000)
        elif happens < 0.93:
            world.replay(chance.randrange(MAX_LATE))
        else:
            world.pass_time(chance.choice([1, 60, 3_600, DAY_S]))
        if step % 50 == 0:
            world.check()
    world.settle()
    world.check()
    return sum(world.delivered.values())


def test_over_ten_thousand_steps_no_pool_is_overdrawn_and_no_email_lost() -> None:
    assert walk(seed=1, steps=10_000) > 20_000


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_over_a_million_steps_no_pool_is_overdrawn_and_no_email_lost() -> None:
    assert sum(walk(seed, 10_000) for seed in range(100)) > 1_000_000
