"""Connections: how many a queue wants, asking for them, using them, letting them go; and the tokens of its rates. Third layer."""

from mta.model.envelope import NOTICE, Entry
from mta.queue import actions
from mta.queue.actions import Route
from mta.queue.leases import Cell
from mta.queue.queue import NO_LIMIT, Connection, Disk, Queue, entry_id
from mta.queue.trouble import Trouble

# A connection that others wait for serves at least one message, and then until one of these is over.
QUANTUM_MESSAGES = 100
QUANTUM_S = 1.0
GROUPS_PER_CONNECTION = (
    3  # one more connection is worth its handshakes from so many waiting transactions on
)
REQUESTS_AT_ONCE = (
    4  # of one queue; the next follow as these are answered, a turn of the loop later
)
ROUTE_TTL_S = 60.0  # the resolver's cache knows the true one and answers at once
CONTESTED_TIMEOUT_S = 2.0  # to connect to an unproven destination while others wait to try theirs
TOKEN_PATIENCE_S = 240.0  # an open connection that waits for its rate; hosts hang up at 300 s (RFC 5321 §4.5.3.2.7)
TOKEN_BLOCK_S = 0.1  # so many seconds' worth of tokens are asked for at once
SLOW_RATE_S = 1.0  # from this interval on a queue does not connect before its next attempt is due


class Connecting(Trouble):
    """A queue has as many connections as what is ready is worth, and no limit is stretched for it."""

    # Wanting

    def _want_connections(self, queue: Queue, now: float) -> None:
        """Ask for as many more connections as what is ready is worth."""
        have = len(queue.connections) + len(queue.requests)
        groups = max(queue.groups, len(queue.ready) // queue.max_recipients)
        wanted = -(-groups // GROUPS_PER_CONNECTION)
        queue.enough = NO_LIMIT  # until what is waited for marks the queue
        if wanted <= have or have >= self._most_connections(queue, now):
            if wanted <= have:
                queue.enough = GROUPS_PER_CONNECTION * have
            return
        if now < queue.not_before:
            self._set_alarm(queue, queue.not_before)
            return
        if self.purse is not None and self.purse.is_dry and not self.purse.left:
            self._lack_emails(queue)  # a connection could only wait
            return
        route = queue.route
        if route is None or now - queue.route_at > ROUTE_TTL_S:
            self._resolve(queue)
            return
        if not self._may_probe(queue):
            return
        wanted = min(wanted, self._most_connections(queue, now))
        destination = queue.destination
        is_unproven = destination is None or not destination.is_proven
        demand = self._book.demand(queue.key, route.site, is_unproven)
        for _ in range(min(wanted - have, REQUESTS_AT_ONCE - len(queue.requests))):
            request = self._desk.ask(queue, demand, queue.connect_rates)
            self._withdraw_displaced()
            if request is None:
                return
            self._actions.append(request)

    def _most_connections(self, queue: Queue, now: float) -> int:
        policy, destination = queue.policy, queue.destination
        most = NO_LIMIT if policy.max_connections is None else policy.max_connections
        if policy.domain_max_connections is not None:
            most = min(most, policy.domain_max_connections)
        if destination is not None:
            if destination.is_probed:
                return 1
            bears = destination.bears(now)
            if bears is not None and bears < most:
                most = bears
                self._set_alarm(queue, destination.grows_at(now))
        for _, rate in queue.attempt_rates:
            most = min(most, max(1, int(rate.per_second)))  # more would only wait for tokens
        return most

    def _may_probe(self, queue: Queue) -> bool:
        destination = queue.destination
        if destination is None or not destination.is_probed:
            return True
        if destination.prober is None:
            destination.prober = queue
        if destination.prober is queue:
            destination.waiting.pop(queue, None)
            return True
        destination.waiting[queue] = None
        self._mark(destination.prober)  # it may have nothing left to try with
        return False

    def _want_nothing(self, queue: Queue) -> None:
        if queue.requests or queue.parked is not None:
            numbers, cells = self._desk.withdraw(queue)
            self._actions.extend(map(actions.WithdrawRequest, numbers))
            self._mark_all(self._desk.next_parked(cells))
        if queue.tokens:
            self._return_tokens(queue)
        self._leave_probe(queue)

    def _withdraw_displaced(self) -> None:
        self._actions.extend(map(actions.WithdrawRequest, self._desk.take_displaced()))

    # Where to

    def _resolve(self, queue: Queue) -> None:
        if not queue.is_resolving:
            queue.is_resolving = True
            if not self._resolves.is_running(queue.key):
                self._resolves.add(queue.key, is_from_disk=queue.is_from_disk)
                self._next_resolves()

    def _next_resolves(self) -> None:
        while (key := self._resolves.next()) is not None:
            self._actions.append(actions.Resolve(key))

    def _open(self, queue: Queue, route: Route, lease: int, cells: list[Cell]) -> None:
        number = self._next_connection
        self._next_connection += 1
        destination = queue.destination or self._destinations.of(route.site, queue.key)
        conn = Connection(number, queue, cells, destination)
        self._connections[number] = queue.connections[number] = conn
        timeout = queue.policy.connect_timeout
        if not destination.is_proven:
            demand = self._book.demand(queue.key, route.site, True)
            if self._desk.is_contested(demand):
                timeout = min(timeout, CONTESTED_TIMEOUT_S)
            else:
                for cell in cells:
                    cell.opening[conn] = None
        self._actions.append(actions.OpenConnection(number, queue.key, lease, route, timeout))

    def _hurry(self, cell: Cell) -> None:
        """Others have come to wait while these connect: from now on they have the short time, too."""
        for conn in list(cell.opening):
            self._end_opening(conn)
            self._actions.append(actions.HurryConnect(conn.number, CONTESTED_TIMEOUT_S))

    def _end_opening(self, conn: Connection) -> None:
        for cell in conn.cells:
            cell.opening.pop(conn, None)

    # At work and at rest

    def _wake_idle(self, queue: Queue, now: float) -> None:
        """As many idle connections work as there are transactions."""
        # One message to many recipients is several transactions, too.
        groups = max(queue.groups, len(queue.ready) // queue.max_recipients)
        count = min(len(queue.idle), groups)
        if not count:
            return
        if queue.attempt_rates:
            count = min(count, self._tokens_left(queue, now))
            if count <= 0:
                self._ask_tokens(queue, now)
                return
        if self.purse is not None:
            count = min(count, self.purse.left)
            if count <= 0:
                self._lack_emails(queue)
                return
        for _ in range(count):
            conn = queue.idle[-1]
            self._wake(conn)
            self._actions.append(actions.Deliver(conn.number))

    def _no_batch(self, conn: Connection, now: float) -> None:
        queue = conn.queue
        if conn.failed:
            self._close(conn, "the queue rests")
        elif self.held_for:
            self._close(conn, "the licence holds delivery")
        elif conn.served >= queue.max_messages:
            self._close(conn, "max_messages_per_connection")
        elif self._desk.is_wanted and self._should_yield(conn, now):
            self._close(conn, "others wait for a connection")
        else:
            self._rest_idle(conn, now)
            if queue.requests or queue.parked is not None or queue.disk is not Disk.KNOWN:
                self._mark(queue)

    def _should_yield(self, conn: Connection, now: float) -> bool:
        if not any(cell.room_wanted > 0 for cell in conn.cells):
            return False
        if not conn.queue.ready:
            return True
        return conn.served > 0 and (
            conn.served >= QUANTUM_MESSAGES or now - conn.opened_at >= QUANTUM_S
        )

    def _may_spare(self, conn: Connection, now: float) -> bool:
        """An idle connection that others would put to better use.

        One that waits for its next token is kept for its quantum where tokens come fast: closed at once, 3 connections for 500
        queues at 10/s reached half of what they do so, for each token came when its connection had gone.
        """
        queue = conn.queue
        if not queue.ready:
            return True
        if not queue.ask:
            return False  # it was just opened, or will be woken
        is_slow = any(rate.per_s / rate.count >= SLOW_RATE_S for _, rate in queue.attempt_rates)
        return is_slow or now - conn.opened_at >= QUANTUM_S

    def _rest_idle(self, conn: Connection, now: float) -> None:
        if conn.is_idle or conn.is_closing:
            return
        conn.is_idle, conn.idle_since = True, now
        conn.queue.idle.append(conn)
        for cell in conn.cells:
            cell.idle[conn] = None
        if not conn.is_timed:
            conn.is_timed = True
            self._alarms.add(now + conn.queue.policy.idle_timeout, conn)

    def _wake(self, conn: Connection) -> None:
        conn.is_idle = False
        idle = conn.queue.idle
        if idle[-1] is conn:
            idle.pop()
        else:
            idle.remove(conn)
        for cell in conn.cells:
            cell.idle.pop(conn, None)

    def _close(self, conn: Connection, reason: str) -> None:
        if conn.is_idle:
            self._wake(conn)
        self._stop_working(conn)
        conn.is_closing = True
        for cell in conn.cells:
            cell.closing += 1
        self._actions.append(actions.CloseConnection(conn.number, reason))

    def _look_at_idle(self, conn: Connection, now: float) -> None:
        conn.is_timed = False
        if not conn.is_idle:
            return
        queue = conn.queue
        patience = TOKEN_PATIENCE_S if queue.ask and queue.ready else queue.policy.idle_timeout
        if not conn.served and queue.ready and not queue.ask:
            patience = max(
                patience, 1.0
            )  # just opened: with idle_timeout 0 this comes before its first work
        until = conn.idle_since + patience
        if until <= now:
            self._close(conn, "idle")
        else:
            conn.is_timed = True
            # With tokens in sight the alarm is early, for they may come and the queue run dry any time.
            self._alarms.add(min(until, now + max(queue.policy.idle_timeout, 1.0)), conn)

    # Emails, under a volume licence

    def _lack_emails(self, queue: Queue) -> None:
        self._penniless[queue] = None
        assert self.purse is not None
        self.purse.want()

    def _repay(self, entry: Entry) -> None:
        """It was not delivered: what it took is there for another."""
        number = entry_id(entry)
        if number in self._unpaid:
            self._unpaid.discard(number)
        elif self.purse is not None and entry.message.source_kind != NOTICE:
            self.purse.put_back(1)

    # Rates

    def _tokens_left(self, queue: Queue, now: float) -> int:
        if queue.tokens and now > queue.tokens_until:
            # Asked for more than it could use: what is left of them is lost to everybody.
            queue.token_block = max(1, queue.token_block - queue.tokens)
            self._return_tokens(queue)
        return queue.tokens

    def _use_tokens(self, queue: Queue, count: int, now: float) -> None:
        queue.tokens -= count
        if not queue.tokens:
            queue.token_block *= 2  # used in time: more are asked for the next time
        slowest = max(rate.per_s / rate.count for _, rate in queue.attempt_rates)
        if slowest >= SLOW_RATE_S:
            queue.not_before = now + slowest * count

    def _ask_tokens(self, queue: Queue, now: float) -> None:
        if queue.ask:
            return
        if now < queue.not_before:
            self._set_alarm(queue, queue.not_before)
            return
        slowest = min(rate.per_second for _, rate in queue.attempt_rates)
        most = max(1, int(slowest * TOKEN_BLOCK_S))
        queue.token_block = min(queue.token_block, most)
        count = max(1, min(queue.token_block, len(queue.ready)))
        queue.ask = self._next_ask
        self._next_ask += 1
        self._asks[queue.ask] = queue, queue.attempt_rates
        self._actions.append(actions.AskTokens(queue.ask, queue.attempt_rates, count))
