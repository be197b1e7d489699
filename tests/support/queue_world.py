"""A world for the scheduler and the governor: a disk, a network and a clock of its own, all in memory, nothing mocked.

It carries out actions as the dispatcher does, keeps the spool's promises (reads and writes in order, each row found once until it
is evicted), and answers late. `check` states the laws that must hold at any moment.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mta.model.envelope import Entry, Message, Priority, QueueKey
from mta.model.outcome import Deferred, Delivered, Extent, Failed, Outcome
from mta.model.reply import a_reply
from mta.model.units import Rate
from mta.policy.rules import BUILT_IN, Demand, Place, QueuePolicy, VmtaRules
from mta.queue import actions
from mta.queue.actions import Candidate, QueueState, Route
from mta.queue.answers import Wait
from mta.queue.priority import merge_classes
from mta.queue.purse import Purse
from mta.queue.queue import Disk, entry_id
from mta.queue.scheduler import Options, Scheduler
from mta.runtime.governor import Governor

START = 1_700_000_000.0
OK = Delivered(a_reply(250, "2.0.0", "taken"))
CLOSING = Deferred(a_reply(421, "4.7.0", "try again later"), Extent.CONNECTION)
DEAD = Deferred(a_reply(451, "4.4.1", "no answer"), Extent.CONNECTION, local=True)
NO_DNS = Deferred(a_reply(451, "4.4.3", "no answer from DNS"), Extent.SITE, local=True)
NO_SUCH_DOMAIN = Failed(a_reply(550, "5.1.2", "no such domain"), Extent.SITE, local=True)
GREYLISTED = Deferred(a_reply(450, "4.7.1", "greylisted"))
NO_SUCH_USER = Failed(a_reply(550, "5.1.1", "no such user"))
PLACE = Place("conf.d/providers.toml", "site.google")


@dataclass
class FakeBook:
    """The contract of `mta.policy.book.Book`, with one policy for all."""

    queue_policy: QueuePolicy = field(default_factory=QueuePolicy)
    server_total: int | None = None
    sites: dict[str, str] = field(default_factory=dict)  # domain → site
    vmtas: frozenset[str] = frozenset({"default", "a", "b"})

    def policy(self, key: QueueKey, site: str) -> QueuePolicy:
        return self.queue_policy

    def vmta(self, name: str) -> VmtaRules | None:
        return VmtaRules(name) if name in self.vmtas else None

    def vmta_place(self, name: str) -> Place:
        return Place("sluice.toml", f"vmta.{name}")

    def site_for(self, domain: str, mx_hosts: Sequence[str]) -> str:
        return self.sites.get(domain, domain)

    def demand(self, key: QueueKey, site: str, unproven: bool) -> Demand:
        keys: list[tuple[str, int]] = []
        if self.queue_policy.max_connections is not None:
            keys.append((f"site:{site}|{key.vmta}", self.queue_policy.max_connections))
        if self.server_total is not None:
            keys.append(("server", self.server_total))
            if unproven:
                keys.append(("server|unproven", max(1, self.server_total // 3)))
        return tuple(keys)

    def rate_keys(self, key: QueueKey, site: str) -> tuple[tuple[str, Rate, Place], ...]:
        rate = self.queue_policy.message_rate
        return ((f"message_rate:site:{site}|{key.vmta}", rate, PLACE),) if rate else ()

    def connection_rate_keys(self, key: QueueKey, site: str) -> tuple[tuple[str, Rate, Place], ...]:
        rate = self.queue_policy.connection_rate
        return ((f"connection_rate:site:{site}|{key.vmta}", rate, PLACE),) if rate else ()

    def limit_places(self, key: QueueKey, site: str) -> dict[str, Place]:
        return {name: BUILT_IN for name, _ in self.demand(key, site, True)}


@dataclass
class Temper:
    """How a domain behaves."""

    connect_s: float = 0.02
    serve_s: float = 0.01  # a transaction
    dns: Route | Deferred | Failed | None = None  # None: its route
    connect: Deferred | None = None  # None: it answers
    hangs: bool = False  # connecting ends with the time-out only
    outcome: Callable[[Entry], Outcome] = lambda entry: OK


@dataclass
class Row:
    """An entry on disk."""

    message: Message
    key: QueueKey
    number: int
    due: float
    attempts: int = 0
    first_attempt: float = 0.0


class World:
    """One worker, its spool and its destinations."""

    def __init__(
        self,
        book: FakeBook | None = None,
        options: Options | None = None,
        *,
        disk_s: float = 0.002,
        dns_s: float = 0.005,
    ) -> None:
        self.book = book or FakeBook()
        self.time = START
        self.disk_s, self.dns_s = disk_s, dns_s
        self.scheduler = Scheduler(self.book, options)
        self.governor = Governor(clock=self, post=self.soon, call_at=self.at)
        self.governor.on_wanted(
            lambda key, waiting, yielding: self.scheduler.wanted(key, self.time, waiting, yielding)
        )
        self.tempers: defaultdict[str, Temper] = defaultdict(Temper)
        self.rows: dict[int, Row] = {}
        self._of_queue: defaultdict[QueueKey, dict[int, Row]] = defaultdict(dict)
        self.states: dict[QueueKey, QueueState] = {}
        self.dues: dict[QueueKey, float] = {}  # the queue rows
        self._rests: dict[QueueKey, float] = {}  # the longest rest its site ever had
        self.handed_out: set[QueueKey] = set()
        self.leases: dict[int, int] = {}  # connection → lease
        self.keys: dict[int, QueueKey] = {}
        self.requests: dict[int, int] = {}
        self.busy: set[int] = set()
        self.closing: set[int] = set()
        self.delivered: dict[int, int] = defaultdict(int)  # entry → times
        self.delivered_at: dict[int, float] = {}
        self.gone: dict[int, str] = {}
        self.attempts: list[tuple[float, QueueKey, int]] = []
        self.connects: list[tuple[float, QueueKey]] = []
        self.postponed: list[actions.Postpone] = []
        self.evicted: list[actions.Evict] = []
        self.told: list[actions.Tell] = []
        self.closed: list[tuple[float, QueueKey, str]] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._numbers = 0
        self._disk_free = START
        self._wake = float("inf")
        self.after_each: Callable[[], None] | None = None
        self.is_held = False  # the licence holds: spools say that nothing is due
        self.emails: int | None = None  # of the licence's volume, with nobody; None: not metered
        self.emails_taken = 0  # in transactions
        self.emails_used = 0
        self.kick()

    # The clock and the loop

    def now(self) -> float:
        return self.time

    def at(self, when: float, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.time), self._count, do))

    def soon(self, do: Callable[[], None]) -> None:
        self.at(self.time, do)

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self.at(self.time + seconds, do)

    def on_disk(self, do: Callable[[], None]) -> None:
        """In order, each a little later than the one before."""
        self._disk_free = max(self._disk_free, self.time + self.disk_s)
        self.at(self._disk_free, do)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        end = self.time + seconds
        self.kick()
        while self._heap and self._heap[0][0] <= end:
            self.time, _, do = heapq.heappop(self._heap)
            do()
            self.kick()
            if self.after_each is not None:
                self.after_each()
            if until is not None and until():
                return
        self.time = end

    def kick(self) -> None:
        for action in self.scheduler.next_actions(self.time):
            self._do(action)

    # Mail

    def accept(
        self,
        domain: str,
        recipients: int = 1,
        vmta: str = "default",
        age: float = 0.0,
        priority: Priority = Priority.NORMAL,
    ) -> list[int]:
        self._numbers += 1
        message = Message(0, self._numbers, "a@example.com", 1000, self.time - age, vmta)
        message.priority = priority
        key = QueueKey(domain, vmta)
        entries = []
        for _ in range(recipients):
            self._numbers += 1
            entries.append(Entry(message, key, f"r{self._numbers}@{domain}", number=self._numbers))

        def commit() -> None:
            for entry in entries:
                self._insert(Row(message, key, entry.number, self.time))
            self.dues[key] = 0.0
            self.handed_out.discard(key)
            self.soon(lambda: self.scheduler.add(entries, self.time))

        self.on_disk(commit)
        return [entry.number for entry in entries]

    def put_on_disk(self, domain: str, count: int, vmta: str = "default", age: float = 0.0) -> None:
        """What an earlier run left behind."""
        key = QueueKey(domain, vmta)
        for _ in range(count):
            self._numbers += 1
            message = Message(0, self._numbers, "", 100, self.time - age, vmta)
            self._numbers += 1
            self._insert(Row(message, key, self._numbers, self.time - age))
        self.dues[key] = 0.0

    def delete(self, numbers: list[int]) -> None:
        """The operator deletes: on disk first, then the scheduler hears."""

        def commit() -> None:
            rows = [self._remove(number) for number in numbers if number in self.rows]
            for row in rows:
                self.gone[row.number] = "deleted"
            self.soon(lambda: self.scheduler.forget([self._entry(row) for row in rows]))

        self.on_disk(commit)

    def _insert(self, row: Row) -> None:
        self.rows[row.number] = self._of_queue[row.key][row.number] = row

    def _remove(self, number: int) -> Row:
        row = self.rows.pop(number)
        return self._of_queue[row.key].pop(number)

    # Virtual MTAs

    def stop(self, *vmtas: str) -> None:
        """These are out of service, and no others: the queues of those that are not any more are woken on disk."""
        self.scheduler.stop({vmta: Wait("stopped", "by the operator") for vmta in vmtas})

        def wake() -> None:
            for key, due in self.dues.items():
                if due >= actions.NEVER and key.vmta not in vmtas:
                    self.dues[key] = self.time
                    self.handed_out.discard(key)
            self.soon(lambda: self.scheduler.look_for_due(self.time))

        self.on_disk(wake)
        self.kick()

    def reroute(self, source: QueueKey, target: QueueKey) -> None:
        """What is not being delivered goes to another queue: the scheduler lets go of it, then it is moved on disk."""
        queue = self.scheduler._queues.get(source)
        busy = queue.known - set(map(entry_id, queue.ready)) if queue is not None else set()
        rows = [row for row in self._of_queue[source].values() if row.number << 8 not in busy]
        self.scheduler.forget([self._entry(row) for row in rows])

        def commit() -> None:
            for row in rows:
                if row.number in self.rows:
                    self._remove(row.number)
                    row.key = target
                    self._insert(row)
            self.dues[target] = 0.0
            self.handed_out.discard(target)
            if self.dues.get(source, 0.0) >= actions.NEVER:
                self.dues[source] = self.time
                self.handed_out.discard(source)
                self.soon(lambda: self.scheduler.look_for_due(self.time))
            self.soon(lambda: self.scheduler.moved([target], self.time))

        if rows:
            self.on_disk(commit)
        self.kick()

    # The licence

    def hold(self) -> None:
        self.is_held = True
        self.scheduler.hold("no licence")
        self.kick()

    def release(self) -> None:
        if self.is_held:
            self.is_held = False
            self.scheduler.release(self.time)
            self.kick()

    def meter(self, emails: int | None) -> None:
        """So many Emails may be delivered from now on; None: any number."""
        before, self.emails = self.emails, emails
        if emails is None:
            self.scheduler.use_purse(None)
        elif before is None:
            self.emails_taken = self.emails_used = 0
            self._emails_in_all = emails
            self._purse = Purse(self._ask_emails, self._emails_come_back)
            self.scheduler.use_purse(self._purse)
            self._unpaid = set(self._flying_numbers())
            self._look_at_purse(self._purse)
        else:
            self.emails = before + emails
            self._emails_in_all += emails
        self.kick()

    def _ask_emails(self, count: int) -> None:
        purse = self._purse

        def answer() -> None:
            if self.emails is None or purse is not self._purse:
                return
            given = min(count, self.emails)
            self.emails -= given
            purse.given(given)
            self.scheduler.paid()

        self.after(0.001, answer)

    def _emails_come_back(self, count: int) -> None:
        assert self.emails is not None
        self.emails += count

    def _look_at_purse(self, purse: Purse) -> None:
        if self.emails is None or purse is not self._purse:
            return
        purse.look(self.time)
        if self.scheduler.lacks_emails:
            purse.want()
        self.after(0.5, lambda: self._look_at_purse(purse))

    def _flying_numbers(self) -> list[int]:
        return [entry.number for q in self.scheduler._queues.values() for entry in q.flying]

    # Actions

    def _do(self, action: actions.Action) -> None:
        getattr(self, f"_{type(action).__name__.lower()}")(action)

    def _resolve(self, action: actions.Resolve) -> None:
        def answer() -> None:
            domain = action.key.domain
            site = self.book.site_for(domain, ())
            route = Route(site, (Candidate(f"mx.{domain}", "192.0.2.1", 25),))
            self.scheduler.resolved(action.key, self.tempers[domain].dns or route, self.time)

        self.after(self.dns_s, answer)

    def _requestlease(self, action: actions.RequestLease) -> None:
        def granted(lease: int) -> None:
            self.requests.pop(action.request, None)
            self.scheduler.granted(action.request, lease, self.time)

        assert len(self.requests) < 64, "a worker posts at most 64 requests"
        self.requests[action.request] = self.governor.request(
            str(action.key), action.demand, granted, rates=action.rates
        )

    def _withdrawrequest(self, action: actions.WithdrawRequest) -> None:
        number = self.requests.pop(action.request, None)
        if number is not None:
            self.governor.withdraw(number)

    def _releaselease(self, action: actions.ReleaseLease) -> None:
        self.governor.release(action.lease, False)

    def _openconnection(self, action: actions.OpenConnection) -> None:
        assert not self.is_held, "nobody is called while the licence holds"
        number, temper = action.connection, self.tempers[action.key.domain]
        self.leases[number], self.keys[number] = action.lease, action.key
        self.connects.append((self.time, action.key))
        if temper.hangs:
            self.after(action.connect_timeout, lambda: self._lost(number, DEAD))
        elif temper.connect is not None:
            self.after(
                temper.connect_s,
                lambda: self._lost(number, self.tempers[action.key.domain].connect or DEAD),
            )
        else:
            self.after(temper.connect_s, lambda: self._connected(number))

    def _hurryconnect(self, action: actions.HurryConnect) -> None:
        number = action.connection
        assert number in self.keys, "only a connect that runs is hurried"
        if self.tempers[self.keys[number].domain].hangs:
            self.after(action.connect_timeout, lambda: self._lost(number, DEAD))

    def _connected(self, number: int) -> None:
        self.governor.connected(self.leases[number])
        self.scheduler.opened(number, self.time)

    def _lost(self, number: int, why: Deferred | None) -> None:
        lease = self.leases.pop(number, None)
        if lease is None:
            return
        del self.keys[number]
        self.closing.discard(number)
        self.soon(lambda: self.governor.release(lease, True))
        self.scheduler.closed(number, why, self.time)

    def _deliver(self, action: actions.Deliver) -> None:
        if action.connection in self.leases and action.connection not in self.closing:
            self._feed(action.connection)

    def _feed(self, number: int) -> None:
        assert number not in self.busy
        batch = self.scheduler.next_batch(number, self.time)
        if batch is None:
            return
        assert not self.is_held, "nothing is begun while the licence holds"
        self.busy.add(number)
        entries = batch.entries
        self.emails_taken += len(entries) if self.emails is not None else 0
        assert len({entry.message.number for entry in entries}) == 1
        assert len(entries) <= self.book.queue_policy.max_recipients_per_message
        for entry in entries:
            assert entry.number not in self.gone or self.gone[entry.number] == "deleted"
            self.attempts.append((self.time, entry.key, entry.number))
        self.after(
            self.tempers[entries[0].key.domain].serve_s, lambda: self._served(number, entries)
        )

    def _served(self, number: int, entries: list[Entry]) -> None:
        self.busy.discard(number)
        lost: Outcome | None = None
        for entry in entries:
            outcome = self.tempers[entry.key.domain].outcome(entry)
            if outcome is CLOSING or outcome is DEAD:
                lost = outcome
            if self.emails is not None and entry.number in self._unpaid:
                self._unpaid.discard(entry.number)
            elif self.emails is not None:
                self.emails_taken -= 1
                self.emails_used += isinstance(outcome, Delivered)
            if isinstance(outcome, Delivered):
                self.delivered[entry.number] += 1
                self.delivered_at[entry.number] = self.time
            self._settle(entry, outcome)
        if isinstance(lost, Deferred):
            self._lost(number, lost)
        else:
            self._feed(number)

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        decision = self.scheduler.settle(entry, outcome, self.time)
        if decision is None:
            return

        def commit() -> None:
            row = self.rows.get(entry.number)
            if row is not None and decision.due is None:
                self._remove(entry.number)
                self.gone[entry.number] = decision.by or type(outcome).__name__
            elif row is not None:
                assert decision.due is not None
                row.due, row.attempts = decision.due, entry.attempts
            self.soon(lambda: self.scheduler.settled([entry], self.time))

        self.on_disk(commit)

    def _closeconnection(self, action: actions.CloseConnection) -> None:
        number = action.connection
        assert number not in self.busy, "a connection in a transaction is not closed"
        self.closed.append((self.time, self.keys[number], action.reason))
        self.closing.add(number)
        self.after(0.005, lambda: self._lost(number, None))

    def _asktokens(self, action: actions.AskTokens) -> None:
        self.governor.tokens(
            action.rates,
            action.count,
            lambda count, until: self.scheduler.tokens(action.ask, count, until, self.time),
        )

    def _returntokens(self, action: actions.ReturnTokens) -> None:
        self.governor.return_tokens(action.rates, action.count, action.until)

    def _recall(self, action: actions.Recall) -> None:
        def read() -> None:
            state = self.states.get(action.key, QueueState(action.key))
            self.soon(lambda: self.scheduler.recalled(state, self.time))

        self.on_disk(read)

    def _refill(self, action: actions.Refill) -> None:
        is_held = self.is_held

        def read() -> None:
            rows = sorted(
                self._of_queue[action.key].values(),
                key=lambda row: (row.due, row.number),
            )
            ripe = [row for row in rows if row.due <= self.time]
            normal, high, low = (
                [row for row in ripe if row.message.priority is each] for each in Priority
            )
            due = merge_classes(normal, high, low, action.limit)[: action.limit]
            later = next((row.due for row in rows if row.due > self.time), None)
            if is_held:
                due, later = [], None
            entries = [self._entry(row) for row in due]
            # Later than settles that are committed after it: what it shows may be gone.
            self.after(
                4 * self.disk_s,
                lambda: self.scheduler.refilled(action.key, entries, later, self.time),
            )

        self.on_disk(read)

    def _entry(self, row: Row) -> Entry:
        return Entry(
            row.message,
            row.key,
            "r@x",
            number=row.number,
            due=row.due,
            attempts=row.attempts,
            first_attempt=row.first_attempt,
        )

    def _finddue(self, action: actions.FindDue) -> None:
        if self.is_held:
            self.on_disk(lambda: self.soon(lambda: self.scheduler.found([], None, self.time)))
            return

        def read() -> None:
            rows = sorted(
                (due, key)
                for key, due in self.dues.items()
                if key not in self.handed_out and not self.states.get(key, QueueState(key)).paused
            )
            due = [key for at, key in rows if at <= self.time][: action.limit]
            self.handed_out.update(due)
            rest = [at for at, key in rows if key not in self.handed_out]
            states = [self.states.get(key, QueueState(key)) for key in due]
            self.soon(lambda: self.scheduler.found(states, min(rest, default=None), self.time))

        self.on_disk(read)

    def _postpone(self, action: actions.Postpone) -> None:
        self.postponed.append(action)

        def commit() -> None:
            self.states[action.state.key] = action.state
            self.dues.setdefault(action.state.key, 0.0)

        self.on_disk(commit)

    def _evict(self, action: actions.Evict) -> None:
        rest = self._site_until(action.key)
        self._rests[action.key] = max(self._rests.get(action.key, 0.0), rest)
        self.evicted.append(action)

        def commit() -> None:
            self.handed_out.discard(action.key)
            if action.due is None:
                state = self.states.get(action.key)
                if state is None or state.mode == "normal":
                    self.dues.pop(action.key, None)
            else:
                self.dues[action.key] = action.due

        self.on_disk(commit)

    def _giveup(self, action: actions.GiveUp) -> None:
        for entry in action.entries:
            self._settle(entry, action.outcome)

    def _tell(self, action: actions.Tell) -> None:
        self.told.append(action)

    def _wakeat(self, action: actions.WakeAt) -> None:
        assert action.at >= self.time - 1.0
        self._wake = action.at
        self.at(action.at, lambda: None)  # every event ends in a kick

    # Laws

    def check(self) -> None:
        """What must hold at every moment between two events."""
        self._check_limits()
        self._check_emails()
        for row in self.rows.values():
            self._rests[row.key] = max(self._rests.get(row.key, 0.0), self._site_until(row.key))
        queues = self.scheduler._queues
        for queue in queues.values():
            assert len(queue.known) <= self.scheduler._window
            ready = [entry_id(entry) for entry in queue.ready]
            assert len(set(ready)) == len(ready) and queue.known.issuperset(ready)
            assert queue.groups <= len(ready) and (queue.groups > 0) == bool(ready)
            if queue.ready:
                assert self.scheduler.explain(queue.key, self.time), queue.key

    def _check_limits(self) -> None:
        open_now: dict[str, int] = defaultdict(int)
        for key in self.keys.values():
            open_now[f"site:{self.book.site_for(key.domain, ())}|{key.vmta}"] += 1
        policy = self.book.queue_policy
        for name, count in open_now.items():
            assert policy.max_connections is None or count <= policy.max_connections, name
        total = self.book.server_total
        assert total is None or len(self.keys) <= total
        for name in ("server", "server|unproven"):
            assert total is None or self.governor.used(name) <= total

    def _check_emails(self) -> None:
        if self.emails is not None:
            assert self.emails >= 0 and self._purse.left >= 0 and self.emails_taken >= 0
            known = self.emails + self._purse.left + self.emails_taken + self.emails_used
            assert known == self._emails_in_all, "an Email is in one place"

    def check_nothing_forgotten(self) -> None:
        """With the disk at rest: every entry has somebody who will look at it."""
        finder = self.scheduler._finder
        for row in self.rows.values():
            queue = self.scheduler._queues.get(row.key)
            if queue is None:
                state = self.states.get(row.key, QueueState(row.key))
                if not state.paused:
                    due = self.dues[row.key]
                    assert due <= max(
                        row.due, state.next_at, self._rests.get(row.key, 0.0), self.time
                    ), row
                    assert row.key not in self.handed_out
                    assert finder._is_asked or (
                        finder.due is not None and finder.due <= max(due, self.time)
                    ), (due, finder.due)
            elif row.number << 8 not in queue.known:
                is_sought = queue.disk is not Disk.KNOWN or queue.is_refilling or queue.is_recalling
                assert is_sought or (queue.next_due is not None and queue.next_due <= row.due), row

    def _site_until(self, key: QueueKey) -> float:
        """How long the site rests now. A queue that left memory keeps the end it was told, though the operator may have
        ended the rest for another queue of the site meanwhile: at most a rest later than need be, so `_rests` has the longest."""
        site = self.book.site_for(key.domain, ())
        return self.scheduler._destinations.of(site, key).until

    def heal(self) -> None:
        """Everything works from now on."""
        self.tempers = defaultdict(Temper)
