"""One letter of our own, delivered outside of the queues: a notice of the licence, which none holds and no volume counts.

It takes the same way as all mail – route, lease, session – and so counts among the connections; but it has no entry in the spool
and leaves no event. Whoever sends it hears whether the host took it, and tries again or does not.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

import structlog

from mta.egress.neighbours import FindRoute, Governor
from mta.egress.opening import Opener, Unreachable
from mta.egress.session import OutboundSession
from mta.egress.transaction import Transaction
from mta.io.clock import Clock
from mta.io.connect import Patience
from mta.model.address import parse_address
from mta.model.envelope import Entry, Message, QueueKey
from mta.model.outcome import Deferred, Delivered, Failed, Outcome
from mta.policy.book import Book
from mta.queue.actions import Route

logger = structlog.get_logger()

LEASE_TIMEOUT_S = 60.0  # others may hold all connections for so long
LETTER_TIMEOUT_S = 300.0  # from the open connection to the reply to its dot
NUMBER = 0  # of its session: nobody else looks at it


class Letters:
    """Sends letters, one at a time a call."""

    def __init__(
        self,
        *,
        hostname: str,
        opener: Opener,
        governor: Governor,
        find_route: FindRoute,
        book: Callable[[], Book],
        clock: Clock,
    ) -> None:
        self._hostname = hostname
        self._opener = opener
        self._governor = governor
        self._find_route = find_route
        self._book = book
        self._clock = clock

    async def send(self, recipient: str, subject: str, text: str) -> None:
        """Returns once the host has taken it. Raises OSError with why not."""
        book = self._book()
        key = QueueKey(parse_address(recipient).domain, next(iter(book.vmtas)))
        route = await self._find_route(key)
        if not isinstance(route, Route):
            raise OSError(str(route.reply))
        lease = await self._lease(key, route.site)
        try:
            outcome = await self._deliver(
                key, route, recipient, self._write(recipient, subject, text)
            )
        finally:
            # As for all: the descriptor is closed only after connection_lost has returned.
            asyncio.get_running_loop().call_soon(self._governor.release, lease, False)
        if not isinstance(outcome, Delivered):
            raise OSError(str(outcome.reply))

    async def _lease(self, key: QueueKey, site: str) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def granted(lease: int) -> None:
            if answer.done():
                self._governor.release(lease, False)
            else:
                answer.set_result(lease)

        demand = self._book().demand(key, site, False)
        request = self._governor.request(f"notice:{key}", demand, granted)
        try:
            async with asyncio.timeout(LEASE_TIMEOUT_S):
                return await asyncio.shield(answer)
        except (TimeoutError, asyncio.CancelledError):
            self._governor.withdraw(request)
            answer.cancel()
            raise

    async def _deliver(self, key: QueueKey, route: Route, recipient: str, data: bytes) -> Outcome:
        book = self._book()
        policy, vmta = book.policy(key, route.site), book.vmtas[key.vmta]
        result = await self._opener.open(
            NUMBER, route, policy, vmta, Patience(policy.connect_timeout)
        )
        if isinstance(result, Unreachable):
            return result.outcome
        ending = _Ending()
        session = result.session
        session.owner = ending
        message = Message(0, 0, "", len(data), self._clock.now(), key.vmta, source_kind="notice")
        session.deliver(Transaction([Entry(message, key, recipient)], b"", data))
        try:
            async with asyncio.timeout(LETTER_TIMEOUT_S):
                return await ending.outcome
        finally:
            if ending.outcome.done() and not ending.outcome.cancelled():
                session.close("the notice is sent")
            else:
                session.abort()
            with suppress(TimeoutError):
                async with asyncio.timeout(LETTER_TIMEOUT_S):
                    await ending.lost.wait()

    def _write(self, recipient: str, subject: str, text: str) -> bytes:
        letter = EmailMessage(policy=SMTP)
        letter["From"] = f"Sluice <postmaster@{self._hostname}>"
        letter["To"] = recipient
        letter["Subject"] = subject
        letter["Date"] = format_datetime(datetime.fromtimestamp(self._clock.wall(), UTC))
        letter["Message-ID"] = make_msgid(domain=self._hostname)
        letter["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: no robot answers it
        letter.set_content(text, cte="quoted-printable")
        return letter.as_bytes()


class _Ending:
    """The `Owner` of a session with one letter: hears what becomes of it."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()

    def session_ready(self, session: OutboundSession) -> None:
        raise AssertionError("the opener hands over sessions that are ready")

    def session_free(self, session: OutboundSession) -> None:
        """There is no next."""

    def session_next(self, session: OutboundSession) -> Transaction | None:
        """There is no next."""
        return None

    def session_outcome(self, session: OutboundSession, entry: Entry, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def session_refused(self, session: OutboundSession, outcome: Deferred | Failed) -> None:
        """The session closes by itself, and what runs gets its outcome before."""

    def session_fault(self, session: OutboundSession, error: Exception) -> None:
        logger.error("a fault of ours while a notice was sent", peer=session.peer, exc_info=error)

    def session_lost(self, session: OutboundSession, why: Deferred | None) -> None:
        self.lost.set()
