"""Carries out what the scheduler wants done, and tells it what came of it.

It decides nothing: every action has one method here, every fact one call back. One `kick` a turn of the loop, however much
happened in it. It owns the sessions: each lives from the lease it was opened under until it is lost.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import structlog

from mta.egress.ahead import ReadAhead
from mta.egress.neighbours import DeliveringSpool, FindRoute, Governor, PolicyBook, SpoolReads
from mta.egress.opening import Opener, Unreachable
from mta.egress.session import Facts, OutboundSession, Owner
from mta.egress.settle import Settler
from mta.egress.tracer import Tracer
from mta.egress.transaction import Transaction
from mta.io.clock import Clock
from mta.io.connect import Patience
from mta.metrics.counts import Counts, add_to_both
from mta.model.envelope import Entry, Message, QueueKey, format_message_id
from mta.model.errors import SpoolError
from mta.model.event import QueueDeferred
from mta.model.outcome import Deferred, Extent, Failed, Outcome
from mta.model.reply import a_reply
from mta.queue import actions
from mta.queue.actions import QueueState
from mta.queue.scheduler import Scheduler
from mta.spool.bodies import Body, BodyCache

logger = structlog.get_logger()

_NO_FACTS = Facts()
RUN_BUDGET_S = 0.004  # of the loop's time in one piece


class Dispatcher(Owner):
    """The scheduler's hands, for all queues of a worker."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        governor: Governor,
        spools: Mapping[int, DeliveringSpool],
        settler: Settler,
        opener: Opener,
        find_route: FindRoute,
        bodies: BodyCache,
        book: PolicyBook,
        clock: Clock,
        counts: Counts,
    ) -> None:
        self.book = book
        self.stamp = b""  # a field in front of every message, for a licence that demands it
        # Which of the entries read from disk may be tried; the others are taken care of.
        self.may_try: Callable[[list[Entry]], list[Entry]] = lambda entries: entries
        self._scheduler = scheduler
        self._governor = governor
        self._spools = spools
        self._reads = SpoolReads(spools.values())
        self._settler = settler
        self._opener = opener
        self._find_route = find_route
        self._bodies = bodies
        self._ahead = ReadAhead(spools, clock)
        self._clock = clock
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self.tracer = Tracer(clock.now)
        self._sessions: dict[int, OutboundSession] = {}
        self._leases: dict[int, int] = {}  # connection → lease
        self._keys: dict[int, QueueKey] = {}  # connection → queue
        self._patience: dict[int, Patience] = {}  # of connections that are being opened
        self._trouble: dict[
            QueueKey, Facts
        ] = {}  # the connection that is about to postpone its queue
        self._requests: dict[int, int] = {}  # the scheduler's request → the governor's
        self._gated: deque[OutboundSession] = (
            deque()
        )  # free, while too many outcomes await their commit
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: deque[actions.Action] = deque()
        self._kicked = False
        self._stopping = False
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = float("inf")
        self._do: dict[type, Callable[[Any], None]] = {
            actions.Resolve: self._resolve,
            actions.RequestLease: self._request_lease,
            actions.WithdrawRequest: self._withdraw_request,
            actions.OpenConnection: self._open,
            actions.HurryConnect: self._hurry,
            actions.Deliver: self._deliver,
            actions.CloseConnection: self._close,
            actions.ReleaseLease: self._release_lease,
            actions.AskTokens: self._ask_tokens,
            actions.ReturnTokens: self._return_tokens,
            actions.Recall: self._recall,
            actions.GiveUp: self._give_up,
            actions.Refill: self._refill,
            actions.FindDue: self._find_due,
            actions.Postpone: self._postpone,
            actions.Evict: self._evict,
            actions.Tell: self._tell,
            actions.WakeAt: self._wake_up_at,
        }

    @property
    def connections(self) -> int:
        """Sessions open now, those still opening included."""
        return len(self._keys)

    def sessions(self) -> Iterator[tuple[QueueKey, OutboundSession]]:
        """Those that are open, with their queues."""
        return ((self._keys[number], session) for number, session in self._sessions.items())

    def kick(self) -> None:
        """Something changed: look for actions at the end of this turn of the loop."""
        if not self._kicked:
            self._kicked = True
            self._loop.call_soon(self._run)

    async def stop(self, within_s: float) -> None:
        """Start nothing new; let running transactions end, at most `within_s`; then cut what is left."""
        self._stopping = True
        for session in [each for each in self._sessions.values() if each.is_idle]:
            session.close("stopping")
        until = self._loop.time() + within_s
        while (self._sessions or self._settler.unsettled) and self._loop.time() < until:
            await asyncio.sleep(0.02)
        for task in list(self._tasks):
            task.cancel()
        for session in list(self._sessions.values()):
            session.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._wake is not None:
            self._wake.cancel()

    # -- actions --------------------------------------------------------------------------------

    def _run(self) -> None:
        """Carry out what is to be done, in order, and never long at a time: 4,000 queues may wake at once."""
        self._kicked = False
        if self._stopping:
            return
        if not self._pending:
            self._pending.extend(self._scheduler.next_actions(self._clock.now()))
        # Not the loop's time: that stands still within a turn.
        until = self._clock.now() + RUN_BUDGET_S
        while self._pending:
            action = self._pending.popleft()
            try:
                self._do[type(action)](action)
            except Exception:  # a task border: one action's fault must not stop the others
                self._counts.bugs += 1
                logger.exception("a fault of ours in an action", action=repr(action))
            if self._pending and self._clock.now() > until:
                self.kick()
                return

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._counts.bugs += 1
            logger.error("a fault of ours in a delivery task", exc_info=error)

    def _resolve(self, action: actions.Resolve) -> None:
        self._start(self._resolve_route(action.key))

    async def _resolve_route(self, key: QueueKey) -> None:
        try:
            route = await self._find_route(key)
        except Exception as error:  # a task border: the queue must hear an answer all the same
            self._counts.bugs += 1
            logger.exception("a fault of ours while finding a route", queue=str(key))
            reply = a_reply(451, "4.3.0", f"an error of ours while finding the route: {error!r}")
            route = Deferred(reply, Extent.SITE, local=True)
        self._scheduler.resolved(key, route, self._clock.now())
        self.kick()

    def _request_lease(self, action: actions.RequestLease) -> None:
        def granted(lease: int) -> None:
            self._requests.pop(action.request, None)
            self._scheduler.granted(action.request, lease, self._clock.now())
            self.kick()

        self._requests[action.request] = self._governor.request(
            str(action.key), action.demand, granted, rates=action.rates
        )

    def _withdraw_request(self, action: actions.WithdrawRequest) -> None:
        request = self._requests.pop(action.request, None)
        if request is not None:
            self._governor.withdraw(request)

    def _open(self, action: actions.OpenConnection) -> None:
        self._leases[action.connection] = action.lease
        self._keys[action.connection] = action.key
        self._ahead.prepare(functools.partial(self._unread, action.connection))
        self._start(self._open_session(action))

    async def _open_session(self, action: actions.OpenConnection) -> None:
        number, key = action.connection, action.key
        policy = self.book.policy(key, action.route.site)
        vmta = self.book.vmta(key.vmta)
        connected = False
        why: Deferred | None = None
        try:
            if vmta is None:
                text = f"there is no virtual MTA named {key.vmta} any more"
                why = Deferred(a_reply(451, "4.3.5", text), Extent.CONNECTION, local=True)
                return
            patience = self._patience[number] = Patience(action.connect_timeout)
            attach = functools.partial(self.tracer.attach, key)
            result = await self._opener.open(number, action.route, policy, vmta, patience, attach)
            if isinstance(result, Unreachable):
                self._counts.connections_out_failed += 1
                why = result.outcome
                self._trouble[key] = result.facts
                return
            connected = True
            self._counts.connections_out += 1
            session = result.session
            self._counts.connections_out_tls += bool(session.facts.tls_protocol)
            session.owner = self
            self._sessions[number] = session
            if session.tap is None:  # a trace may have begun while it was being opened
                self.tracer.attach(key, session)
            self._governor.connected(action.lease)
            self._scheduler.opened(number, self._clock.now())
            if self._stopping:
                session.close("stopping")  # it was still opening when the others were told
            self.kick()
        except asyncio.CancelledError:
            why = Deferred(a_reply(421, "4.3.2", "stopping"), Extent.CONNECTION, local=True)
            raise
        except Exception as error:  # a task border: the lease must return and the queue must hear
            self._counts.bugs += 1
            logger.exception("a fault of ours while connecting", queue=str(key))
            reply = a_reply(451, "4.3.0", f"an error of ours while connecting: {error!r}")
            why = Deferred(reply, Extent.CONNECTION, local=True)
        finally:
            self._patience.pop(number, None)
            if not connected:
                self._closed(number, why)

    def _hurry(self, action: actions.HurryConnect) -> None:
        patience = self._patience.get(action.connection)
        if patience is not None:
            patience.shorten(action.connect_timeout)

    def _deliver(self, action: actions.Deliver) -> None:
        session = self._sessions.get(action.connection)
        if session is not None and session.is_idle:
            self._feed(session)

    def _close(self, action: actions.CloseConnection) -> None:
        session = self._sessions.get(action.connection)
        if session is not None:
            session.close(action.reason)

    def _release_lease(self, action: actions.ReleaseLease) -> None:
        self._governor.release(action.lease, False)

    def _ask_tokens(self, action: actions.AskTokens) -> None:
        def granted(count: int, until: float) -> None:
            self._scheduler.tokens(action.ask, count, until, self._clock.now())
            self.kick()

        self._governor.tokens(action.rates, action.count, granted)

    def _return_tokens(self, action: actions.ReturnTokens) -> None:
        self._governor.return_tokens(action.rates, action.count, action.until)

    def _recall(self, action: actions.Recall) -> None:
        def read(state: QueueState) -> None:
            self._scheduler.recalled(state, self._clock.now())
            self.kick()

        self._reads.queue_state(action.key, read)

    def _give_up(self, action: actions.GiveUp) -> None:
        for entry in action.entries:
            self._settler.settle(entry, action.outcome, Facts())

    def _refill(self, action: actions.Refill) -> None:
        def read(entries: list[Entry], next_due: float | None) -> None:
            allowed = self.may_try(entries)
            if len(allowed) < len(entries):
                next_due = self._clock.now()  # behind those held there may be more
            self._scheduler.refilled(action.key, allowed, next_due, self._clock.now())
            self.kick()

        self._reads.due(action.key, self._clock.now(), action.limit, read)

    def _find_due(self, action: actions.FindDue) -> None:
        def read(states: list[QueueState], next_due: float | None) -> None:
            self._scheduler.found(states, next_due, self._clock.now())
            self.kick()

        self._reads.due_queues(self._clock.now(), action.limit, read)

    def _postpone(self, action: actions.Postpone) -> None:
        state, why, now = action.state, action.why, self._clock.now()
        facts = self._trouble.pop(state.key, _NO_FACTS)
        event = None
        if why is not None:
            self._counts.queues_deferred += 1
            refusal = self._settler.classifier.classify(why.reply, facts.site, why.local)
            add_to_both(self._counts.queue_refusals, refusal.category, refusal.verdict)
            event = QueueDeferred(
                now,
                state.key.domain,
                state.key.vmta,
                why.reply.code,
                why.reply.enhanced,
                why.reply.text,
                why.local,
                refusal.category,
                state.attempts,
                state.next_at,
                facts.remote_name,
                facts.remote_ip,
                facts.local_ip,
                facts.site,
                refusal.verdict,
                refusal.fault,
            )
        for spool in self._spools.values():
            spool.postpone(state, event)

    def _evict(self, action: actions.Evict) -> None:
        self._trouble.pop(action.key, None)
        for spool in self._spools.values():
            spool.evict(action.key, action.due)

    def _tell(self, action: actions.Tell) -> None:
        self._governor.tell(action)

    def _wake_up_at(self, action: actions.WakeAt) -> None:
        if action.at == self._wake_at:
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake_at = action.at
        self._wake = self._loop.call_at(self._clock.to_loop_time(action.at), self._woken)

    def _woken(self) -> None:
        self._wake, self._wake_at = None, float("inf")
        self.kick()

    # -- one message on its way -----------------------------------------------------------------

    def _feed(self, session: OutboundSession) -> None:
        """Give an idle session its next transaction, if there is one."""
        if self._stopping:
            session.close("stopping")
            return
        if self._settler.is_full:
            self._gated.append(session)
            return
        transaction = self.session_next(session)
        if transaction is not None:
            session.deliver(transaction)

    def session_next(self, session: OutboundSession) -> Transaction | None:
        """The session's next transaction, if its body is at hand; else it is reserved while the body is read."""
        if self._stopping or self._settler.is_full:
            return None
        batch = self._scheduler.next_batch(session.number, self._clock.now())
        if batch is None:
            self.kick()
            return None
        entries, message = batch.entries, batch.message
        spool = self._spools[message.spool]
        for entry in entries:
            spool.mark(entry)
        held = self._bodies.get(message)
        if held is not None:
            self._counts.body_cache_hits += 1
            return self._transaction(entries, held, is_checked=True)
        self._counts.body_cache_misses += 1
        upcoming = functools.partial(self._unread, session.number)
        read = self._ahead.take(message, upcoming)
        if read is not None:
            return self._transaction(entries, read)
        session.reserve()
        self._ahead.fetch(message, functools.partial(self._body_read, session, entries), upcoming)
        return None

    def _unread(self, connection: int, limit: int) -> list[Message]:
        """What the connection's queue sends next, as far as it is not in memory."""
        upcoming = self._scheduler.upcoming(connection, limit)
        return [message for message in upcoming if self._bodies.get(message) is None]

    def _body_read(
        self,
        session: OutboundSession,
        entries: list[Entry],
        result: Body | SpoolError,
    ) -> None:
        if session.number not in self._sessions:
            # Lost meanwhile: the scheduler has its entries back, and what is not tried is not marked.
            for entry in entries:
                self._spools[entry.message.spool].unmark(entry)
            return
        if isinstance(result, SpoolError):
            text = f"the stored message cannot be read: {result}"
            outcome = Deferred(a_reply(451, "4.3.0", text), Extent.MESSAGE, local=True)
            message = entries[0].message
            name = format_message_id(self._spools[message.spool].uuid, message.number)
            logger.error("a body cannot be read", message=name, error=text)
            session.give_up(entries, outcome)
        else:
            session.deliver(self._transaction(entries, result))

    def _transaction(
        self, entries: list[Entry], body: Body, *, is_checked: bool = False
    ) -> Transaction:
        """What goes out, wherever the body came from: counted, and stamped if the licence demands it."""
        self._counts.transactions_out += 1
        self._counts.bytes_out += entries[0].message.size
        prefix, text = body
        return Transaction(entries, self.stamp + prefix, text, is_checked=is_checked)

    def room(self) -> None:
        """Commits caught up: the sessions that waited for it go on."""
        while self._gated and not self._settler.is_full:
            session = self._gated.popleft()
            if session.is_idle:
                self._feed(session)

    # -- Owner: what sessions report ------------------------------------------------------------

    def session_ready(self, session: OutboundSession) -> None:
        raise AssertionError("the opener hands over sessions that are ready")

    def session_free(self, session: OutboundSession) -> None:
        self._feed(session)

    def session_outcome(self, session: OutboundSession, entry: Entry, outcome: Outcome) -> None:
        if type(outcome) is Deferred and outcome.extent is Extent.CONNECTION:
            self._trouble[entry.key] = session.facts
        self._settler.settle(entry, outcome, session.facts)

    def session_refused(self, session: OutboundSession, outcome: Deferred | Failed) -> None:
        """The session is closing; `session_lost` brings the reason to the scheduler."""

    def session_fault(self, session: OutboundSession, error: Exception) -> None:
        self._counts.bugs += 1
        logger.error(
            "a fault of ours on a connection",
            queue=str(self._keys.get(session.number, "")),
            peer=session.peer,
            messages=[
                format_message_id(self._spools[each.spool].uuid, each.number)
                for each in session.under_way
            ],
            exc_info=error,
        )

    def session_lost(self, session: OutboundSession, why: Deferred | None) -> None:
        self._sessions.pop(session.number, None)
        self._closed(session.number, why, session)

    def _closed(
        self, number: int, why: Deferred | None, session: OutboundSession | None = None
    ) -> None:
        lease, key = self._leases.pop(number), self._keys.pop(number)
        if why is not None and session is not None:
            self._trouble[key] = session.facts
        # The transport closes its descriptor only after connection_lost returns: with 3 allowed, a sink saw 5.
        self._loop.call_soon(self._governor.release, lease, session is not None)
        self._scheduler.closed(number, why, self._clock.now())
        self.kick()
