"""Laws of the scheduler and the governor together, over a world where anything may happen in any order.

No limit is ever exceeded, no lease leaks, no entry is lost or delivered twice, every queue that waits says why; and when the
world is well again, everything is delivered.
"""

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mta.model.envelope import QueueKey
from mta.model.units import Rate
from mta.policy.rules import QueuePolicy
from mta.queue.scheduler import Options
from tests.support.queue_world import (
    CLOSING,
    DEAD,
    GREYLISTED,
    NO_DNS,
    NO_SUCH_USER,
    OK,
    FakeBook,
    Temper,
    World,
)

DOMAINS = ["one.test", "two.test", "three.test", "four.test", "five.test", "six.test"]
VMTAS = ["a", "b"]
TEMPERS = {
    "polite": Temper,
    "slow": lambda: Temper(serve_s=3.0),
    "dead": lambda: Temper(connect=DEAD),
    "black hole": lambda: Temper(hangs=True),
    "421": lambda: Temper(outcome=lambda entry: CLOSING),
    "hangs up": lambda: Temper(outcome=lambda entry: DEAD),
    "421 sometimes": lambda: Temper(outcome=lambda entry: CLOSING if entry.number % 3 else OK),
    "greylists": lambda: Temper(outcome=lambda entry: OK if entry.attempts else GREYLISTED),
    "refuses": lambda: Temper(outcome=lambda entry: NO_SUCH_USER if entry.number % 2 else OK),
    "no DNS": lambda: Temper(dns=NO_DNS),
}
domains, vmtas = st.sampled_from(DOMAINS), st.sampled_from(VMTAS)


class Scheduling(RuleBasedStateMachine):
    """One worker under whatever may come."""

    @initialize(
        total=st.sampled_from([None, 1, 3, 10]),
        most=st.sampled_from([None, 1, 2, 5]),
        window=st.sampled_from([4, 12, 1000]),
        max_active=st.sampled_from([2, 5, 4000]),
        rate=st.sampled_from([None, None, Rate(5, 1.0), Rate(100, 1.0), Rate(20, 60.0)]),
    )
    def build(
        self, total: int | None, most: int | None, window: int, max_active: int, rate: Rate | None
    ) -> None:
        policy = QueuePolicy(
            max_connections=most,
            message_rate=rate,
            max_recipients_per_message=3,
            max_messages_per_connection=20,
            backoff_cap=300.0,
            retry=(60.0, 120.0),
        )
        shared = {"one.test": "shared", "two.test": "shared"}
        self.world = World(
            FakeBook(policy, total, shared), Options(window=window, max_active=max_active)
        )
        self.accepted: list[int] = []
        self.deleted: set[int] = set()

    @rule(domain=domains, vmta=vmtas, messages=st.integers(1, 12), recipients=st.integers(1, 5))
    def mail_comes(self, domain: str, vmta: str, messages: int, recipients: int) -> None:
        for _ in range(messages):
            self.accepted += self.world.accept(domain, recipients, vmta)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.01, 0.05, 0.3, 1.0, 7.0, 70.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.after_each = self.world.check if seconds < 1 else None
        self.world.run(seconds)

    @rule(domain=domains, temper=st.sampled_from(sorted(TEMPERS)))
    def a_domain_changes(self, domain: str, temper: str) -> None:
        self.world.tempers[domain] = TEMPERS[temper]()

    @rule(domain=domains, vmta=vmtas, what=st.sampled_from(["pause", "resume", "retry"]))
    def the_operator_acts(self, domain: str, vmta: str, what: str) -> None:
        getattr(self.world.scheduler, what)(QueueKey(domain, vmta), self.world.time)

    @rule(data=st.data())
    def the_operator_deletes(self, data: st.DataObject) -> None:
        if self.accepted:
            number = data.draw(st.sampled_from(self.accepted))
            self.deleted.add(number)
            self.world.delete([number])

    @rule(stopped=st.sets(vmtas))
    def virtual_mtas_go_out_of_service_or_come_back(self, stopped: set[str]) -> None:
        self.world.stop(*stopped)

    @rule(domain=domains, source=vmtas, to=vmtas)
    def the_operator_moves_mail(self, domain: str, source: str, to: str) -> None:
        if source != to:
            self.world.reroute(QueueKey(domain, source), QueueKey(domain, to))

    @rule(seen=st.booleans())
    def the_configuration_changes(self, seen: bool) -> None:
        book = self.world.book
        policy = replace(book.queue_policy, max_recipients_per_message=2 if seen else 3)
        self.world.book = replace(book, queue_policy=policy)
        self.world.scheduler.new_book(self.world.book, self.world.time)
        self.world.kick()

    @rule(holds=st.booleans())
    def the_licence_holds_or_releases(self, holds: bool) -> None:
        if holds:
            self.world.hold()
        else:
            self.world.release()

    @rule(emails=st.sampled_from([None, 0, 1, 7, 500]))
    def the_licence_is_metered_or_not(self, emails: int | None) -> None:
        self.world.meter(emails)

    @invariant()
    def laws_hold(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.after_each = None
        world.release()
        world.run(1.0)
        world.stop()
        world.run(1.0)
        world.meter(None)
        world.run(1.0)
        world.check_nothing_forgotten()
        world.heal()
        for domain in DOMAINS:
            for vmta in VMTAS:
                world.scheduler.resume(QueueKey(domain, vmta), world.time)
        world.run(40_000.0, until=lambda: not world.rows)
        assert not world.rows, f"{len(world.rows)} entries were forgotten"
        world.run(700.0)
        assert not len(world.scheduler), "idle queues leave memory"
        assert not world.leases and world.governor.waiting == 0
        assert len(world.governor._limits) == 0, "no lease is leaked"
        assert not world.scheduler._desk.cells and not len(world.scheduler._resolves)
        for number in self.accepted:
            assert world.delivered[number] <= 1
            assert world.delivered[number] or number in world.gone
        world.check()


TestScheduling = Scheduling.TestCase
TestScheduling.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
