"""The scheduler: facts in, actions out. Which entry goes next over which connection, and when everything else is looked at again.

A fact touches its own queue and marks it; `next_actions` attends to the marked queues and to the alarms whose time has come, and
to nothing else, so the work is in proportion to what changed (`steps` counts it) and idle queues cost nothing. What stands in
memory is bounded: `window` entries a queue, `max_active` queues; the rest is on disk, found by `due`.

The life of a queue: recalled (its durable row is read: it may rest or be paused) → routed → leases asked → connections opened →
batches → idle → evicted. A failure of DNS or of the site rests the whole queue (`Postpone`) and touches no entry; a refusal of a
recipient touches that entry and nothing else. While a destination is unproven or in trouble, one connection of one of its queues
tries; the others wait for what it finds. Connections that work are never taken from a queue because another one was refused.

Nothing is forgotten: see `queue.Queue` on where an entry can be. Nothing is sent twice: what a read from disk repeats is known by
number, or was settled while the read ran.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from mta.model.envelope import NOTICE, Entry, Message, Priority, QueueKey
from mta.model.outcome import Deferred, Delivered, Failed, Outcome
from mta.policy.retry import is_expired, retry_delay
from mta.queue import actions
from mta.queue.actions import NEVER, Action, QueueState, Route
from mta.queue.alarms import Owner
from mta.queue.answers import EXPIRED, GONE, Batch, Decision, Wait
from mta.queue.connecting import Connecting
from mta.queue.explain import explain_evicted, explain_queue, explain_stopped
from mta.queue.memory import Options
from mta.queue.priority import HIGH_ROOM, HIGH_SHARE, MAX_JUMPS
from mta.queue.purse import Purse
from mta.queue.queue import Connection, Disk, PolicySource, Queue, entry_id
from mta.queue.trouble import EXPIRY_STATUS, is_of_the_queue

__all__ = ["Batch", "Decision", "Options", "Scheduler", "Wait"]

VERDICT_TTL_S = 60.0  # how long "this domain takes no mail" holds for what is read from disk
NO_PROGRESS_S = (
    1.0  # a read that brought nothing, though it said there was more, is not repeated at once
)
STOP_LOOK_S = 30.0  # how soon a queue on disk goes on after the end of an order
SWEEP = 100  # queues that learn of a new book in one turn


class Scheduler(Connecting):
    """No entry is lost or in flight twice, and every queue that waits can say why."""

    # What the dispatcher may ask

    def __len__(self) -> int:
        return len(self._queues)

    def __contains__(self, key: QueueKey) -> bool:
        return key in self._queues

    @property
    def connections(self) -> int:
        """Leases held: connections opening, open and closing."""
        return len(self._connections)

    def entries_in_memory(self, key: QueueKey) -> tuple[int, int]:
        """(ready, in flight or being settled) of a queue; both 0 where it is not in memory."""
        queue = self._queues.get(key)
        return (len(queue.ready), len(queue.known) - len(queue.ready)) if queue else (0, 0)

    def site(self, key: QueueKey) -> str:
        """The site of a queue, "" while its route is not known."""
        queue = self._queues.get(key)
        return queue.site if queue else ""

    def sites(self) -> Iterator[tuple[str, str]]:
        """(domain, site) of every queue in memory whose route is known."""
        return ((key.domain, queue.site) for key, queue in self._queues.items() if queue.site)

    def connections_of(self, key: QueueKey) -> int:
        """Leases this queue holds."""
        queue = self._queues.get(key)
        return len(queue.connections) if queue else 0

    def explain(
        self, key: QueueKey, now: float, stored: QueueState | None = None, site: str = ""
    ) -> list[Wait]:
        """Every reason why this queue waits; `stored` and `site`: its durable row and site, for one that is not in memory."""
        queue, stop = self._queues.get(key), self.stop_of(key.vmta)
        if queue is None and stop is not None:
            found = explain_stopped(key, stored, stop, self._book, now)
        elif queue is None:
            found = explain_evicted(key, stored, self._book, site, now)
        else:
            found = explain_queue(queue, self._book, self._desk, self._resolves, now)
            if stop is not None:
                found.insert(0, stop)
            if queue in self._penniless:
                found.append(Wait("an Email", "none of the licence's volume is at hand"))
        if self.held_for and (queue is not None or stored is not None):
            return [Wait(f"licence hold: {self.held_for}"), *found]
        return found

    def due_work(self) -> Iterator[tuple[QueueKey, int]]:
        """See `mta.queue.stalls`."""
        for queue in self._queues.values():
            if queue.ready and not queue.flying:
                yield queue.key, queue.begun

    def busiest(self, limit: int) -> list[tuple[QueueKey, int, int, int]]:
        """The queues in memory with the most to do: key, ready, in flight, connections."""
        rows = [
            (queue.key, len(queue.ready), len(queue.flying), len(queue.connections))
            for queue in self._queues.values()
            if queue.ready or queue.flying
        ]
        rows.sort(key=lambda row: -row[1])
        return rows[:limit]

    # The hot path: four calls a message

    def add(self, entries: Iterable[Entry], now: float) -> None:
        """Entries that were just committed."""
        key = queue = None
        for entry in entries:
            if queue is None or entry.key is not key:
                key = entry.key
                queue = self._queues.get(key) or self._activate_fresh(key, now)
                if queue is None:
                    self._stay_on_disk(entry)
                    continue
            if entry.due > now:
                queue.note_due(entry.due)
                self._mark(queue)
                continue
            if entry.message.priority and self._add_by_class(queue, entry):
                continue
            # Behind what waits on disk, not before it: or sustained intake would starve the old.
            if queue.disk is Disk.MORE or len(queue.known) >= self._window:
                queue.note_left_behind()
                if not queue.ready:
                    self._mark(queue)
                continue
            number = entry_id(entry)
            if number in queue.known:
                continue
            queue.known.add(number)
            queue.push(entry)
            if queue.idle or queue.groups > queue.enough:
                self._mark(queue)

    def _add_by_class(self, queue: Queue, entry: Entry) -> bool:
        """An entry of high priority passes others, one of low makes way; False: it takes its place like any other.

        What passes is bounded by what others send meanwhile, so that they always go on (`mta.queue.priority`).
        """
        ready = queue.ready
        if entry.message.priority is Priority.LOW:
            if not ready or ready[-1].message is entry.message:
                return False
            queue.note_left_behind()  # it comes by its share, with the next that are read
            return True
        number = entry_id(entry)
        if not queue.jumps or len(queue.known) >= self._window + HIGH_ROOM:
            return False
        if number not in queue.known:
            queue.jumps -= 1
            queue.known.add(number)
            queue.push_ahead(entry)
            if queue.idle or queue.groups > queue.enough:
                self._mark(queue)
        return True

    def upcoming(self, connection: int, limit: int) -> list[Message]:
        """What this connection's queue would send next: the messages of at most so many entries, each once."""
        conn = self._connections.get(connection)
        if conn is None:
            return []
        entries = islice(conn.queue.ready, limit)
        return list({(e.message.spool, e.message.number): e.message for e in entries}.values())

    def next_batch(self, connection: int, now: float) -> Batch | None:
        """The next transaction of this connection, or None: it stays idle, or an action to close it follows."""
        conn = self._connections.get(connection)
        if conn is None or conn.is_closing:
            return None
        queue = conn.queue
        ready = queue.ready
        if (
            not ready
            or conn.failed
            or self.held_for
            or conn.served >= queue.max_messages
            or (self._desk.is_wanted and self._should_yield(conn, now))
        ):
            self._no_batch(conn, now)
            return None
        limit = queue.max_recipients
        if queue.attempt_rates:
            limit = min(limit, self._tokens_left(queue, now))
            if limit <= 0:
                self._ask_tokens(queue, now)
                self._rest_idle(conn, now)
                return None
        purse = self.purse
        if purse is not None:
            limit = min(limit, purse.left)
            if limit <= 0:
                self._lack_emails(queue)
                self._rest_idle(conn, now)
                return None
        if conn.is_idle:
            self._wake(conn)
        conn.served += 1
        queue.begun += 1
        if queue.jumps < MAX_JUMPS and not ready[0].message.priority:
            queue.jumps = min(queue.jumps + HIGH_SHARE, MAX_JUMPS)
        flying = queue.flying
        entry = ready.popleft()
        message = entry.message
        entries = [entry]
        flying[entry] = conn
        while ready and len(entries) < limit:
            entry = ready[0]
            other = entry.message
            # Read from disk at different times, one message is two objects.
            if other is not message and (
                other.number != message.number or other.spool != message.spool
            ):
                break
            ready.popleft()
            entries.append(entry)
            flying[entry] = conn
        if queue.attempt_rates:
            self._use_tokens(queue, len(entries), now)
        if purse is not None and message.source_kind != NOTICE:
            purse.take(len(entries))
        if not ready:
            queue.groups = 0
            if queue.requests or queue.parked is not None or queue.disk is not Disk.KNOWN:
                self._mark(queue)
        else:
            if ready[0].message is not message and queue.groups > 1:
                queue.groups -= 1
            if queue.disk is Disk.MORE and len(ready) <= self._low:
                self._mark(queue)
        return Batch(message, entries)

    def settle(self, entry: Entry, outcome: Outcome, now: float) -> Decision | None:
        """What an attempt (or a `GiveUp`) did to this entry; the caller writes it and then says `settled`.

        None: the refusal was of the connection or the site; the entry was not tried, stays as it is on disk, and there is
        nothing to write and nothing to say.
        """
        queue = self._queues.get(entry.key)
        conn = queue.flying.pop(entry, None) if queue is not None else None
        if conn is not None or queue is None:
            if queue is not None and conn is not None:
                if self.purse is not None and not isinstance(outcome, Delivered):
                    self._repay(entry)
                if not isinstance(outcome, Delivered) and is_of_the_queue(outcome):
                    if self._keep(queue, conn, entry, outcome, now):
                        return None
                else:
                    self._note_answer(queue, conn, outcome)
            entry.attempts += 1
            if not entry.first_attempt:
                entry.first_attempt = now
        if not isinstance(outcome, Deferred):
            entry.due = -1.0
            return EXPIRED if conn is None and outcome.reply.enhanced == EXPIRY_STATUS else GONE
        policy = queue.policy if queue is not None else self._book.policy(entry.key, "")
        if is_expired(self._age(entry.message, now), policy.expire_after):
            entry.due = -1.0
            return EXPIRED
        if outcome.may_repeat:
            entry.may_repeat = True
        message = entry.message
        number = message.number << 8 | message.spool
        entry.due = now + retry_delay(policy.retry, entry.attempts, number, entry.key)
        return Decision(entry.due)

    def settled(self, entries: Iterable[Entry], now: float) -> None:
        """What `settle` decided of these is on disk: they leave memory."""
        for entry in entries:
            queue = self._queues.get(entry.key)
            if queue is None:
                if entry.due >= 0.0:
                    self._finder.note(entry.due)
                continue
            number = entry_id(entry)
            queue.known.discard(number)
            if queue.is_refilling:
                queue.settled_meanwhile.add(number)
            if entry.due >= 0.0:
                queue.note_due(entry.due)
                self._mark(queue)
            elif queue.disk is Disk.MORE:
                if len(queue.ready) <= self._low and not queue.is_refilling:
                    self._mark(queue)
            elif not queue.ready and not queue.connections:
                self._mark(queue)

    # Facts of the disk

    def found(self, states: Iterable[QueueState], next_due: float | None, now: float) -> None:
        """Answers FindDue: queues that are due on disk, and when the next one is."""
        seen = new = 0
        for state in states:
            seen += 1
            if state.key in self._queues:
                continue
            new += 1
            until = NEVER if state.paused else state.next_at
            if until > now:
                self._put_row_right(state.key, until)
            elif self._finder.room(len(self._queues)) > 0:
                queue = self._activate(state, is_from_disk=True)
                queue.disk = Disk.MORE
                self._mark(queue)
            else:
                self._put_row_right(state.key, now)
        self._finder.answered(seen, new, next_due, now)

    def recalled(self, state: QueueState, now: float) -> None:
        """Answers Recall: the durable row of a queue that fresh mail brought into memory."""
        queue = self._queues.get(state.key)
        if queue is None or not queue.is_recalling:
            return  # the operator was faster
        queue.is_recalling = False
        queue.state = state
        self._mark(queue)

    def refilled(
        self, key: QueueKey, entries: Iterable[Entry], next_due: float | None, now: float
    ) -> None:
        """Answers Refill: due entries, and when the earliest of the others is due.

        As many entries as were asked for mean that there may be more that are due, whatever `next_due` says.
        """
        queue = self._queues.get(key)
        if queue is None or not queue.is_refilling:
            return
        queue.is_refilling = False
        known, gone = queue.known, queue.settled_meanwhile
        is_stale = is_cut = False
        before, read = len(known), 0
        for entry in entries:
            read += 1
            number = entry_id(entry)
            if number in known:
                continue
            if number in gone:
                is_stale = True
            elif len(known) >= self._window:
                is_cut = True
                break
            else:
                known.add(number)
                queue.push(entry)
        gone.clear()
        is_more = read >= self._window or (next_due is not None and next_due <= now)
        if is_more and not (is_stale or is_cut or queue.left_behind) and len(known) == before:
            is_more, next_due = False, now + NO_PROGRESS_S
        if is_more or is_stale or is_cut or queue.left_behind:
            queue.disk = Disk.MORE
        else:
            queue.disk = Disk.KNOWN
            if next_due is not None:
                queue.note_due(next_due)
        self._mark(queue)

    # Facts of the network

    def resolved(self, key: QueueKey, result: Route | Deferred | Failed, now: float) -> None:
        """Answers Resolve."""
        self._resolves.done(key)
        self._next_resolves()
        self._dns_failures = self._dns_failures + 1 if isinstance(result, Deferred) else 0
        queue = self._queues.get(key)
        if queue is None:
            return
        queue.is_resolving = False
        if isinstance(result, Route):
            queue.route, queue.route_at, queue.verdict = result, now, None
            self._go_to(queue, result.site)
            if queue.is_forced and queue.destination is not None:
                queue.is_forced = False
                queue.destination.works()
                self._end_probe(queue.destination)
        elif isinstance(result, Failed):
            queue.verdict, queue.verdict_until = result, now + VERDICT_TTL_S
        else:
            self._rest_for_dns(queue, result, now)
        self._mark(queue)

    def granted(self, request: int, lease: int, now: float) -> None:
        """Answers RequestLease: open a connection under it, or give it back."""
        found = self._desk.answered(request)
        if found is None:
            self._actions.append(actions.ReleaseLease(lease))
            return
        queue, cells = found
        self._mark(queue)
        is_needed = (bool(queue.ready) or queue.is_refilling) and not self.held_for
        rests = self._rests_until(queue) > now or bool(queue.policy.stopped)
        if not is_needed or queue.route is None or rests:
            self._desk.let_go(cells)
            self._actions.append(actions.ReleaseLease(lease))
        else:
            self._open(queue, queue.route, lease, cells)
        self._mark_all(self._desk.next_parked(cells))

    def wanted(
        self, governor_key: str, now: float, waiting: int = 1, yielding: int | None = None
    ) -> None:
        """So many requests wait for this full key (0: none any more), and for `yielding` of them holders should make room."""
        cell = self._desk.wanted(governor_key, waiting, waiting if yielding is None else yielding)
        if cell is None:
            return
        self._withdraw_displaced()
        if waiting:
            self._hurry(cell)
        for conn in list(cell.idle) if cell.room_wanted > 0 else ():
            if cell.room_wanted <= 0:
                break
            if self._may_spare(conn, now):
                self._close(conn, "others wait for a connection")
        self._mark_all(self._desk.next_parked([cell]))

    def opened(self, connection: int, now: float) -> None:
        """The connection is greeted and ready."""
        conn = self._connections.get(connection)
        if conn is None:
            return
        conn.is_open, conn.opened_at = True, now
        queue = conn.queue
        self._end_opening(conn)
        self._desk.proven(conn)
        destination = conn.destination
        conn.is_working = True
        destination.working += 1
        if not destination.is_proven:
            destination.is_proven = True
            if not destination.attempts:
                self._end_probe(destination)
                self._actions.append(actions.Tell(queue.site, queue.key.vmta))
        self._rest_idle(conn, now)
        self._mark(queue)

    def closed(self, connection: int, outcome: Deferred | Failed | None, now: float) -> None:
        """The connection is gone, or was never made; every outcome of its entries has been settled before.

        None: as we asked. A host that hangs up between two messages of a connection that worked is no failure either.
        """
        conn = self._connections.pop(connection, None)
        if conn is None:
            return
        queue = conn.queue
        del queue.connections[connection]
        if conn.is_idle:
            self._wake(conn)
        if conn.is_closing:
            for cell in conn.cells:
                cell.closing -= 1
        if conn.is_timed:
            conn.is_timed = False
            self._alarms.note_stale()
        self._end_opening(conn)
        self._desk.let_go(conn.cells)
        # Nobody may leave entries behind; should the driver have failed to settle them, they are here again.
        for entry in [entry for entry, of in queue.flying.items() if of is conn]:
            del queue.flying[entry]
            self._repay(entry)
            queue.push_front(entry)
        self._stop_working(conn)
        if not conn.is_open and not conn.destination.working:
            conn.destination.is_proven = False
        if outcome is not None and not conn.failed and (conn.lost_dot or not conn.served):
            self._fail(queue, outcome, now)
        self._leave_probe(queue)
        self._mark(queue)
        self._mark_all(self._desk.next_parked(conn.cells))

    def heard(self, tale: actions.Tell) -> None:
        """Another worker found that this destination fails, or that it works. What works here is not doubted for that."""
        destination = self._destinations.named(tale.site, tale.vmta)
        if not tale.attempts:
            destination.works()
            destination.is_proven = True
            self._end_probe(destination)
        elif not destination.working and tale.until > destination.until:
            destination.attempts, destination.until = tale.attempts, tale.until
            destination.reason = tale.reason
            destination.is_proven = False

    def tokens(self, ask: int, count: int, until: float, now: float) -> None:
        """Answers AskTokens: so many attempts may start until then."""
        queue, rates = self._asks.pop(ask)
        if queue.ask == ask:
            queue.ask = 0
        if self._queues.get(queue.key) is not queue or queue.attempt_rates != rates:
            self._actions.append(actions.ReturnTokens(rates, count, until))
            self._mark(queue)
            return
        queue.tokens += count
        queue.tokens_until = until
        self._mark(queue)

    # The operator

    def pause(self, key: QueueKey, now: float) -> None:
        """No new attempt in this queue until `resume`; what is in flight finishes."""
        queue = self._queues.get(key)
        state = queue.state if queue is not None else QueueState(key)
        state = replace(state, paused=True)
        self._actions.append(actions.Postpone(state))
        if queue is None:
            self._put_row_right(key, NEVER)
            return
        queue.state, queue.is_recalling = state, False
        queue.leave_on_disk()
        self._mark(queue)

    def resume(self, key: QueueKey, now: float) -> None:
        """The operator's stop is over; so is what rested it before."""
        self._start_over(key, now)

    def retry(self, key: QueueKey, now: float) -> None:
        """Try now, whatever it rests for; entries whose own time has not come wait on (the spool can free them before)."""
        self._start_over(key, now)

    def forget(self, entries: Iterable[Entry]) -> None:
        """These were deleted or held on disk: do not start them. What is in flight finishes."""
        by_key: dict[QueueKey, set[int]] = {}
        for entry in entries:
            by_key.setdefault(entry.key, set()).add(entry_id(entry))
        for key, numbers in by_key.items():
            queue = self._queues.get(key)
            if queue is None:
                continue
            if queue.is_refilling:
                queue.settled_meanwhile |= numbers
            going = [entry for entry in queue.ready if entry_id(entry) in numbers]
            if going:
                queue.known.difference_update(map(entry_id, going))
                gone = set(going)
                queue.ready = type(queue.ready)(e for e in queue.ready if e not in gone)
                queue.count_groups()
            self._mark(queue)

    def look_at(self, keys: Iterable[QueueKey], now: float) -> None:
        """The disk may have more of these queues that is due than it had when it was asked last."""
        for key in keys:
            queue = self._queues.get(key)
            if queue is not None:
                queue.left_behind = True
                if queue.disk is Disk.KNOWN:
                    queue.disk = Disk.MAYBE
                self._mark(queue)
        self._finder.note(now)

    def new_book(self, book: PolicySource, now: float) -> None:
        """Other policies from now on; the queues in memory learn of it a few at a time."""
        self._book = book
        self._generation += 1
        self._sweep = list(self._queues.values())

    # Virtual MTAs

    def stop(self, stops: Mapping[str, Wait]) -> None:
        """From now on these virtual MTAs are out of service, and no others.

        Their queues leave memory for good: who takes one out of here wakes its queues in the spools (`wake_parked`) and says
        `look_for_due`. What is in a transaction finishes.
        """
        self._stops = dict(stops)
        self._sweep = list(self._queues.values())

    def look_for_due(self, now: float) -> None:
        """Queues that were parked on disk may be due now."""
        self._finder.note(now)

    def moved(self, keys: Iterable[QueueKey], now: float) -> None:
        """Entries that wait on disk were put into these queues: they are read from there."""
        for key in keys:
            queue = self._queues.get(key) or self._activate_fresh(key, now)
            if queue is None:  # memory is full of queues
                self._put_row_right(key, now)
                continue
            queue.note_left_behind()
            self._mark(queue)

    def connections_by_vmta(self) -> dict[str, int]:
        """Leases held, by virtual MTA."""
        counts: dict[str, int] = {}
        for conn in self._connections.values():
            vmta = conn.queue.key.vmta
            counts[vmta] = counts.get(vmta, 0) + 1
        return counts

    # The licence

    def hold(self, reason: str) -> None:
        """Begin nothing new in any queue, for this reason, until `release`; what is in a transaction finishes."""
        is_new, self.held_for = not self.held_for, reason
        if is_new:
            self._sweep = list(self._queues.values())

    def release(self, now: float) -> None:
        """The end of `hold`, told after the spools."""
        self.held_for = ""
        self._look_again(now)  # what was asked during the hold found nothing

    def read_anew(self, now: float) -> None:
        """Forget what is ready, and read all from disk once more: other entries may be tried now than before."""
        for queue in self._queues.values():
            queue.leave_on_disk()
        self._look_again(now)

    def _look_again(self, now: float) -> None:
        """What the disk said before is not what it says now."""
        for queue in self._queues.values():
            queue.left_behind = True
            if queue.disk is Disk.KNOWN:
                queue.disk = Disk.MAYBE
        self._finder.note(now)
        self._sweep = list(self._queues.values())

    def use_purse(self, purse: Purse | None) -> None:
        """From now on every entry in a transaction takes an Email of this purse; None: it needs none."""
        self._unpaid = set()
        if purse is not None and self.purse is None:
            flying = [entry for queue in self._queues.values() for entry in queue.flying]
            self._unpaid.update(map(entry_id, flying))
        self.purse = purse
        self.paid()

    def paid(self) -> None:
        """Emails came, or none are needed any more: as many queues as can use them go on."""
        many = len(self._penniless) if self.purse is None else self.purse.left
        for queue in list(islice(self._penniless, many)):
            del self._penniless[queue]
            self._mark(queue)

    @property
    def lacks_emails(self) -> bool:
        """Whether some queue could deliver if it had one."""
        return bool(self._penniless)

    def _start_over(self, key: QueueKey, now: float) -> None:
        state = QueueState(key)
        self._actions.append(actions.Postpone(state))
        queue = self._queues.get(key)
        if queue is None:
            if len(self._queues) >= self._max_active:
                self._put_row_right(key, now)
                return
            queue = self._activate(state, is_from_disk=False)
        queue.state, queue.is_recalling, queue.is_expiring = state, False, False
        queue.verdict = None
        if queue.disk is Disk.KNOWN:
            queue.disk = Disk.MAYBE  # the operator may have changed what is there
        queue.route = None  # looked up anew: the operator may have had it changed
        queue.is_forced = True
        self._mark(queue)

    # One queue's turn

    def next_actions(self, now: float) -> list[Action]:
        """What to do, after facts were told or when a WakeAt is over."""
        while (rung := self._alarms.pop(now)) is not None:
            self.steps += 1
            self._ring(*rung, now)
        for _ in range(min(SWEEP, len(self._sweep))):
            self._mark(self._sweep.pop())
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for queue in dirty:
                queue.is_dirty = False
                if self._queues.get(queue.key) is queue:
                    self.steps += 1
                    self._attend(queue, now)
                if queue.turn is not None:
                    self._pass_turn(queue)
        self._find(now)
        self._set_wake(now)
        found, self._actions = self._actions, []
        return found

    def _attend(self, queue: Queue, now: float) -> None:
        if queue.generation != self._generation:
            self._learn_book(queue)
        if queue.is_recalling:
            return
        until = self._rests_until(queue)
        if self.held_for:
            self._rest(queue, max(until, now), now)
            return
        if self.stop_of(queue.key.vmta) is not None:
            queue.is_expiring = False  # what waits for us does not bounce
            self._rest(queue, NEVER, now)
            return
        if queue.policy.stopped:
            # An order may stop many queues: they are looked at again now and then, and no row of theirs is written for it.
            until = max(until, now + STOP_LOOK_S)
        is_stopped = queue.state.paused or bool(queue.policy.stopped)
        if until > now and (is_stopped or not queue.connections):
            self._rest(queue, until, now)
            return
        if queue.verdict is not None and now < queue.verdict_until:
            self._give_up(queue, list(queue.ready), queue.verdict)
        self._refill(queue, now)
        if not queue.ready:
            self._starve(queue)
            return
        self._wake_idle(queue, now)
        if until <= now:
            self._want_connections(queue, now)

    def _pass_turn(self, queue: Queue) -> None:
        """It was its turn to ask for a lease; if it did not, it is the next one's."""
        turn, queue.turn = queue.turn, None
        if not queue.requests and turn is not None:
            self._mark_all(self._desk.pass_turn(queue, turn))

    def _rests_until(self, queue: Queue) -> float:
        state = queue.state
        if state.paused:
            return NEVER
        destination = queue.destination
        if destination is None or queue.is_forced:
            return state.next_at
        return max(state.next_at, destination.until)

    def _rest(self, queue: Queue, until: float, now: float) -> None:
        """Nothing may start before `until`: it keeps nothing in memory that the disk has."""
        self._want_nothing(queue)
        for conn in list(queue.idle):
            self._close(conn, "paused")
        if queue.is_expiring and queue.ready:
            limit = queue.policy.expire_after
            expired = [e for e in queue.ready if is_expired(self._age(e.message, now), limit)]
            self._give_up(queue, expired, self._expiry(queue))
            queue.is_expiring = bool(expired)  # then the next window is looked at too
        queue.leave_on_disk()
        queue.enough = 0
        if queue.known or queue.connections or queue.is_refilling:
            return  # what ends these marks the queue
        if queue.is_expiring and queue.disk is not Disk.KNOWN:
            self._ask_refill(queue)
            return
        due: float | None = until
        if queue.disk is Disk.KNOWN and not queue.state.paused:
            due = max(until, queue.next_due) if queue.next_due is not None else None
        self._evict(queue, due)

    def _refill(self, queue: Queue, now: float) -> None:
        if queue.is_refilling:
            return
        next_due = queue.next_due
        if queue.disk is Disk.KNOWN and (next_due is None or next_due > now):
            if next_due is not None:
                self._set_alarm(queue, next_due)
            return
        if queue.disk is Disk.KNOWN:
            queue.disk = Disk.MORE
        if len(queue.ready) <= self._low and len(queue.known) <= self._fits:
            self._ask_refill(queue)

    def _ask_refill(self, queue: Queue) -> None:
        queue.is_refilling = True
        queue.left_behind = False
        queue.next_due = None  # the answer says; what is learned meanwhile is added
        queue.settled_meanwhile.clear()
        # Known ones come again first: the window is enough to bring what fits.
        self._actions.append(actions.Refill(queue.key, self._window))

    def _starve(self, queue: Queue) -> None:
        """Nothing is ready."""
        queue.enough = 0
        if queue.is_refilling:
            return  # more comes: what was asked for is still wanted
        self._want_nothing(queue)
        destination = queue.destination
        if destination is not None and destination.prober is queue and destination.waiting:
            for conn in list(queue.idle):
                self._close(conn, "another queue tries this destination")
        if not queue.known and not queue.connections and queue.disk is Disk.KNOWN:
            self._evict(queue, queue.next_due)

    def _ring(self, at: float, owner: Owner, now: float) -> None:
        if isinstance(owner, Connection):
            self._look_at_idle(owner, now)
        elif owner.alarm == at:
            owner.alarm = float("inf")
            self._mark(owner)
