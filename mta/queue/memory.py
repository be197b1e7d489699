"""What the scheduler holds in memory: queues, marks, alarms, the tries of destinations. The lowest of its four layers.

`Memory` keeps, `Trouble` (trouble.py) weighs failures, `Connecting` (connecting.py) wants and uses connections, `Scheduler`
(scheduler.py) hears facts and attends to queues. Each layer calls only itself and those below.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mta.model.envelope import Entry, QueueKey
from mta.queue import actions
from mta.queue.actions import Action, QueueState, RateDemand
from mta.queue.alarms import Alarms
from mta.queue.answers import Wait
from mta.queue.finding import Finder, ResolveLanes
from mta.queue.leases import LeaseDesk
from mta.queue.purse import Purse
from mta.queue.queue import NO_LIMIT, Connection, PolicySource, Queue
from mta.queue.window import Destination, Destinations

TIMER_EARLY_S = 0.005  # a loop's timer may fire this early


@dataclass(frozen=True, slots=True)
class Options:
    """Bounds of what stands in memory."""

    window: int = 1000  # entries of one queue
    max_active: int = 4000  # queues
    max_resolving: int = 200


class Memory:
    """Every queue in it is held once, and is marked, timed or waits for an answer while it has anything to do."""

    def __init__(self, book: PolicySource, options: Options | None = None) -> None:
        options = options or Options()
        self.steps = 0  # queues attended to and alarms that rang, ever
        # (spool, now) → the total of its licence holds: time that does not count for expiry
        self.licence_held_s: Callable[[int, float], float] = lambda _spool, _now: 0.0
        self.held_for = ""  # why the licence holds all delivery; "": it does not
        self._stops: Mapping[str, Wait] = {}  # virtual MTAs out of service, each with the reason
        self.purse: Purse | None = None  # under a volume licence
        self._penniless: dict[Queue, None] = {}  # queues with work, but no Email to deliver
        self._unpaid: set[int] = set()  # entries in flight since before there was a purse
        self._book = book
        self._generation = 0
        self._window = options.window
        self._low = options.window // 4  # a refill is asked when no more than this is ready …
        self._fits = options.window * 3 // 4  # … and no more than this is in memory
        self._max_active = options.max_active
        self._queues: dict[QueueKey, Queue] = {}
        self._connections: dict[int, Connection] = {}
        self._next_connection = 1
        self._asks: dict[int, tuple[Queue, RateDemand]] = {}
        self._next_ask = 1
        self._destinations = Destinations()
        self._desk = LeaseDesk()
        self._finder = Finder(options.max_active)
        self._resolves = ResolveLanes(options.max_resolving)
        self.dns_is_down = False  # as the resolver says: no server answers anybody
        self._dns_failures = 0  # in a row
        self._evicted_lately: dict[QueueKey, None] = {}
        self._alarms = Alarms()
        self._dirty: list[Queue] = []
        self._sweep: list[Queue] = []
        self._actions: list[Action] = []
        self._wake_at: float | None = None

    # Into memory and out of it

    def _activate(self, state: QueueState, *, is_from_disk: bool) -> Queue:
        key = state.key
        queue = self._queues[key] = Queue(key, state, self._book.policy(key, ""))
        queue.generation = self._generation
        queue.is_from_disk = is_from_disk
        if is_from_disk:
            self._finder.active += 1
        return queue

    def _activate_fresh(self, key: QueueKey, now: float) -> Queue | None:
        """A queue that mail came for; its durable row is read first, for it may rest or be paused."""
        if len(self._queues) >= self._max_active:
            return None
        queue = self._activate(QueueState(key), is_from_disk=False)
        queue.is_recalling = True
        queue.enough = NO_LIMIT
        self._actions.append(actions.Recall(key))
        return queue

    def _stay_on_disk(self, entry: Entry) -> None:
        """Memory is full of queues. Its row says it is due – unless our Evict was written between that and now."""
        self._finder.note(entry.due)
        if self._evicted_lately.pop(entry.key, 0) is None:
            self._put_row_right(entry.key, entry.due)

    def _evict(self, queue: Queue, due: float | None) -> None:
        key = queue.key
        del self._queues[key]
        if queue.is_from_disk:
            self._finder.active -= 1
        self._drop_alarm(queue)
        self._leave_probe(queue)
        self._penniless.pop(queue, None)
        self._put_row_right(key, due)

    def _put_row_right(self, key: QueueKey, due: float | None) -> None:
        self._actions.append(actions.Evict(key, due))
        self._finder.note(due)
        # A commit on its way may have lowered the row just before this raises it; `add` then comes and looks here.
        self._evicted_lately[key] = None
        if len(self._evicted_lately) > self._max_active:
            del self._evicted_lately[next(iter(self._evicted_lately))]

    def _find(self, now: float) -> None:
        if self.held_for:
            return  # the spools would say that nothing is due
        at = self._finder.next_at(len(self._queues))
        if at is not None and at <= now:
            self._actions.append(self._finder.ask(len(self._queues), self._queues))

    # Policy

    def _go_to(self, queue: Queue, site: str) -> None:
        """The route is known, hence the site: the values that depend on it."""
        key = queue.key
        if site != queue.site:
            if queue.destination is not None:
                self._quit_probe(queue, queue.destination)
            queue.site = site
            queue.destination = self._destinations.of(site, key)
        queue.policy = policy = self._book.policy(key, site)
        queue.max_messages = policy.max_messages_per_connection
        queue.max_recipients = policy.max_recipients_per_message
        if not site:
            return  # not known yet
        rates = tuple((name, rate) for name, rate, _ in self._book.rate_keys(key, site))
        if rates != queue.attempt_rates and queue.tokens:
            self._return_tokens(queue)
        queue.attempt_rates = rates
        queue.connect_rates = tuple(
            (name, rate) for name, rate, _ in self._book.connection_rate_keys(key, site)
        )

    def _learn_book(self, queue: Queue) -> None:
        queue.generation = self._generation
        queue.route = queue.verdict = (
            None  # another book may see another site behind the same hosts
        )
        self._go_to(queue, queue.site)

    def _return_tokens(self, queue: Queue) -> None:
        rates, until = queue.attempt_rates, queue.tokens_until
        self._actions.append(actions.ReturnTokens(rates, queue.tokens, until))
        queue.tokens = 0

    def stop_of(self, vmta: str) -> Wait | None:
        """Why nothing goes out from this virtual MTA, whatever the destination; None: it does."""
        stop = self._stops.get(vmta)
        if stop is None and self._book.vmta(vmta) is None:
            detail = f"there is no {vmta} in the configuration: reroute its mail, or put it back"
            return Wait("virtual MTA gone", detail, 0.0, self._book.vmta_place(vmta))
        return stop

    # The one queue that tries a destination

    def _leave_probe(self, queue: Queue) -> None:
        destination = queue.destination
        if destination is not None and not queue.connections and not queue.requests:
            self._quit_probe(queue, destination)

    def _quit_probe(self, queue: Queue, destination: Destination) -> None:
        destination.waiting.pop(queue, None)
        if destination.prober is queue:
            self._end_probe(destination)

    def _end_probe(self, destination: Destination) -> None:
        destination.prober = None
        waiting, destination.waiting = destination.waiting, {}
        self._mark_all(waiting)

    # Marks and alarms

    def _mark(self, queue: Queue) -> None:
        if not queue.is_dirty:
            queue.is_dirty = True
            self._dirty.append(queue)

    def _mark_all(self, queues: Iterable[Queue]) -> None:
        for queue in queues:
            self._mark(queue)

    def _set_alarm(self, queue: Queue, at: float) -> None:
        if at < queue.alarm:
            self._drop_alarm(queue)
            queue.alarm = at
            self._alarms.add(at, queue)

    def _drop_alarm(self, queue: Queue) -> None:
        if queue.alarm < float("inf"):
            queue.alarm = float("inf")
            self._alarms.note_stale()

    def _set_wake(self, now: float) -> None:
        found_at = None if self.held_for else self._finder.next_at(len(self._queues))
        times = (self._alarms.next_at(), found_at)
        wake = min((at for at in times if at is not None), default=None)
        if self._sweep:
            wake = now
        if wake is None:
            return
        fired = self._wake_at is not None and self._wake_at <= now + TIMER_EARLY_S
        if wake != self._wake_at or fired:
            self._wake_at = wake
            self._actions.append(actions.WakeAt(wake))
