"""From a route to a session that may take work: one candidate after the other, under one lease.

A candidate that cannot be reached, or that refuses us, makes room for the next (RFC 5321 §5.1). A TLS handshake that fails under
`opportunistic` is tried once more in the clear on a new connection (RFC 7435), and the host is remembered for a while, so that
the next connections do not pay for the same failure.
"""

import asyncio
import itertools
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from mta.egress.session import Facts, Manners, OutboundSession, Owner
from mta.egress.transaction import Transaction
from mta.io.connect import Patience, open_connection
from mta.io.deadlines import Deadlines
from mta.io.tls import verifying_context
from mta.metrics.timings import Timings
from mta.model.envelope import Entry
from mta.model.outcome import Deferred, Extent, Failed, Outcome
from mta.model.reply import a_reply
from mta.policy.rules import AuthTls, QueuePolicy, Tls, VmtaRules
from mta.queue.actions import Candidate, Route

SUBMISSIONS_PORT = 465  # RFC 8314 §3.3: TLS from the first byte
BROKEN_TLS_S = 3600.0
BROKEN_TLS_HOSTS = 10_000


Attach = Callable[[OutboundSession], None]


def _nobody_watches(_session: OutboundSession) -> None:
    """No tap."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that is ready."""

    session: OutboundSession


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No candidate would have us; the last one's answer, and who gave it."""

    outcome: Deferred
    facts: Facts


class Opener:
    """Opens sessions for all queues of a worker."""

    def __init__(
        self,
        *,
        hostname: str,
        deadlines: Deadlines,
        context: ssl.SSLContext,
        now: Callable[[], float],
        timings: Timings | None = None,
    ) -> None:
        self._timings = timings or Timings()
        self._hostname = hostname
        self._deadlines = deadlines
        self._context = context
        self._now = now
        # (host, port), for each port may be a server of its own → believed again at
        self._broken_tls: OrderedDict[tuple[str, int], float] = OrderedDict()
        # Source addresses this machine lacks now.
        self.missing_sources: frozenset[str] = frozenset()
        self._turns = itertools.count()  # for round robin over source addresses

    async def open(
        self,
        number: int,
        route: Route,
        policy: QueuePolicy,
        vmta: VmtaRules,
        patience: Patience,
        attach: Attach = _nobody_watches,
    ) -> Opened | Unreachable:
        """Try the route's candidates in turn; never raises for what the network does. `attach` sees each session before its first
        byte."""
        last = Unreachable(_no_source(vmta), Facts(site=route.site))
        for candidate in route.candidates:
            source = self._source(vmta, candidate)
            if source == "":
                continue
            manners = self._manners(policy, vmta, candidate)
            result = await self._try(
                number, candidate, manners, source, route.site, patience, attach
            )
            if isinstance(result, Unreachable) and _may_go_plain(manners, result):
                self._remember_broken(candidate)
                plain = replace(manners, tls=Tls.NONE)
                result = await self._try(
                    number, candidate, plain, source, route.site, patience, attach
                )
            if isinstance(result, Opened):
                return result
            last = result
        return last

    def _manners(self, policy: QueuePolicy, vmta: VmtaRules, candidate: Candidate) -> Manners:
        tls, context, auth = self._tls_for(policy, candidate), self._context, policy.auth
        if auth is not None and auth.tls is not AuthTls.NONE:
            tls = Tls.REQUIRE
            if auth.tls is AuthTls.VERIFIED:
                context = verifying_context(auth.ca_pem)
        ehlo_name = vmta.ehlo_name or self._hostname
        in_tls = policy.tls is Tls.IMPLICIT or (
            candidate.port == SUBMISSIONS_PORT and tls is not Tls.NONE
        )
        return Manners(ehlo_name, tls, policy.timeouts, context, auth, in_tls)

    async def _try(
        self,
        number: int,
        candidate: Candidate,
        manners: Manners,
        source: str | None,
        site: str,
        patience: Patience,
        attach: Attach,
    ) -> Opened | Unreachable:
        waiting = _Waiting(asyncio.get_running_loop().create_future())
        session = OutboundSession(
            number,
            waiting,
            candidate,
            manners,
            self._deadlines,
            site=site,
            timings=self._timings,
        )
        attach(session)
        if session.tap is not None:
            session.tap.note(f"connecting to {session.peer} port {candidate.port}")
        began = time.monotonic()
        try:
            await open_connection(
                session,
                candidate.address,
                candidate.port,
                source=source,
                patience=patience,
            )
        except OSError as error:
            words = (
                "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error))
            )
            reply = a_reply(451, "4.4.1", f"cannot connect to {candidate.address}: {words}")
            outcome = Deferred(reply, Extent.CONNECTION, local=True)
            if session.tap is not None:
                session.tap.note(reply.text)
            return Unreachable(outcome, session.facts)
        self._timings.connect.observe(time.monotonic() - began)
        try:
            why = await waiting.answer
        except asyncio.CancelledError:
            session.abort()
            raise
        if why is None:
            return Opened(session)
        return Unreachable(why, session.facts)

    def _source(self, vmta: VmtaRules, candidate: Candidate) -> str | None:
        """The address to bind to; None: the kernel chooses; "": this virtual MTA has none of that family."""
        own = vmta.source_v6 if ":" in candidate.address else vmta.source_v4
        if self.missing_sources:
            own = tuple(address for address in own if address not in self.missing_sources)
        if own:
            return own[next(self._turns) % len(own)]
        return "" if vmta.source_v4 or vmta.source_v6 else None

    def _tls_for(self, policy: QueuePolicy, candidate: Candidate) -> Tls:
        if (
            policy.tls is Tls.OPPORTUNISTIC
            and self._broken_tls.get((candidate.host, candidate.port), 0.0) > self._now()
        ):
            return Tls.NONE
        return policy.tls

    def _remember_broken(self, candidate: Candidate) -> None:
        server = candidate.host, candidate.port
        self._broken_tls[server] = self._now() + BROKEN_TLS_S
        self._broken_tls.move_to_end(server)
        while len(self._broken_tls) > BROKEN_TLS_HOSTS:
            self._broken_tls.popitem(last=False)


class _Waiting(Owner):
    """Who a session reports to until it is ready: the future its opener waits on."""

    def __init__(self, answer: "asyncio.Future[Deferred | None]") -> None:
        self.answer = answer

    def session_ready(self, session: OutboundSession) -> None:
        if not self.answer.done():
            self.answer.set_result(None)

    def session_lost(self, session: OutboundSession, why: Deferred | None) -> None:
        if not self.answer.done():
            lost = Deferred(a_reply(451, "4.4.2", "connection lost"), Extent.CONNECTION, local=True)
            self.answer.set_result(why or lost)

    def session_fault(self, session: OutboundSession, error: Exception) -> None:
        # Who waits has a task border of its own, where it is counted and logged.
        if not self.answer.done():
            self.answer.set_exception(error)

    def session_refused(self, session: OutboundSession, outcome: Deferred | Failed) -> None:
        """The session closes by itself and says so again when it is lost."""

    def session_free(self, session: OutboundSession) -> None:
        raise AssertionError("no transaction runs while a session opens")

    def session_next(self, session: OutboundSession) -> Transaction | None:
        raise AssertionError("no transaction runs while a session opens")

    def session_outcome(self, session: OutboundSession, entry: Entry, outcome: Outcome) -> None:
        raise AssertionError("no transaction runs while a session opens")


def _may_go_plain(manners: Manners, result: Unreachable) -> bool:
    if manners.starts_in_tls:
        return False  # whoever listens there understands nothing else
    return manners.tls is Tls.OPPORTUNISTIC and result.outcome.reply.enhanced == "4.7.5"


def _no_source(vmta: VmtaRules) -> Deferred:
    text = f"virtual MTA {vmta.name} has no source address of a family this host has"
    return Deferred(a_reply(451, "4.4.3", text), Extent.CONNECTION, local=True)
