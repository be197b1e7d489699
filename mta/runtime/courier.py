"""Carries a licence's notice to the operator's mailbox: the one mail that no licence holds and no volume counts (design 3.9).

It does not go through the spool, for the spool may be what is held: the route is that of all mail to that domain, and each
connection takes one of the licence's, as every other does. Who gets it is in `notify_email`; a text holds licence, node label and
figures, never a customer's data. It is tried once here: `licensing.notices` tries again. RFC 3834 (automatic messages).
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import SMTP
from ipaddress import ip_address
from typing import Protocol

import aiosmtplib
import structlog

from mta.config.load import Settings
from mta.dns.resolver import Resolver
from mta.egress.route import find_route
from mta.io.clock import Clock
from mta.mime.trace import format_date
from mta.model.address import parse_address
from mta.model.envelope import QueueKey
from mta.policy.book import LICENCE_KEY, UNLIMITED
from mta.policy.rules import Demand, Tls, VmtaRules
from mta.queue.actions import Candidate, Route

logger = structlog.get_logger()

STEP_S = 10.0  # one command; a notice has less than a minute in all
PURPOSE = "licence notices"  # what the governor knows this destination as


class NotCarried(Exception):
    """A notice did not get through; the text says why."""


class Leases(Protocol):
    """What is asked of the governor."""

    def request(self, destination: str, demand: Demand, granted: Callable[[int], None]) -> int: ...

    def withdraw(self, request: int) -> None: ...

    def connected(self, lease: int) -> None: ...

    def release(self, lease: int, connected: bool) -> None: ...


class Courier:
    """`carry` a notice to each of its recipients. `settings` gives those in force."""

    def __init__(self, settings: Callable[[], Settings], governor: Leases, clock: Clock) -> None:
        self._settings = settings
        self._governor = governor
        self._clock = clock

    async def carry(self, recipients: Sequence[str], subject: str, text: str) -> None:
        """One mail to each. Raises NotCarried when one did not get theirs; the others have it."""
        failures = []
        for recipient in recipients:
            try:
                await self._carry_one(recipient, subject, text)
            except NotCarried as error:
                failures.append(f"{recipient}: {error}")
        if failures:
            raise NotCarried("; ".join(failures))

    async def _carry_one(self, recipient: str, subject: str, text: str) -> None:
        message = self._write(recipient, subject, text)
        async with self._lease() as lease:
            failure = "no host"
            for candidate in await self._candidates(recipient):
                try:
                    await self._hand_over(candidate, recipient, message, lease)
                    return
                except (aiosmtplib.SMTPException, OSError) as error:
                    failure = f"{candidate.host}: {error or type(error).__name__}"
            raise NotCarried(failure)

    def _write(self, recipient: str, subject: str, text: str) -> bytes:
        hostname = self._settings().server.hostname
        message = EmailMessage()
        message["From"] = f"Sluice <sluice@{hostname}>"
        message["To"] = recipient
        message["Subject"] = subject
        message["Date"] = format_date(self._clock.wall()).decode("ascii")
        message["Message-ID"] = f"<{secrets.token_hex(12)}.notice@{hostname}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: nobody answers it by machine
        message.set_content(text)
        return message.as_bytes(policy=SMTP)

    async def _candidates(self, recipient: str) -> Sequence[Candidate]:
        settings = self._settings()
        key = QueueKey(parse_address(recipient).domain, self._vmta().name)
        server = settings.server
        resolver = Resolver(server.dns_servers, clock=self._clock, timeout_s=server.dns_timeout)
        try:
            found = await find_route(
                key,
                settings.book.policy(key, settings.book.site_for(key.domain, ())),
                self._vmta(),
                resolver,
                settings.book,
                rng=random.Random(),
                # Handed to ourselves it would wait with all other mail.
                own_names=(server.hostname.lower(),),
            )
        finally:
            await resolver.close()
        if not isinstance(found, Route):
            raise NotCarried(found.reply.text)
        return found.candidates

    def _vmta(self) -> VmtaRules:
        """The first virtual MTA: mail of the server itself belongs to no job."""
        return next(iter(self._settings().vmtas.values()))

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[int]:
        """One of the licence's connections; it waits its turn."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        request = self._governor.request(PURPOSE, ((LICENCE_KEY, UNLIMITED),), answer.set_result)
        try:
            yield await answer
        finally:
            if answer.cancelled():
                self._governor.withdraw(request)
            else:
                await asyncio.sleep(0)  # only a turn after connection_lost is a descriptor closed
                self._governor.release(answer.result(), True)

    async def _hand_over(
        self, candidate: Candidate, recipient: str, message: bytes, lease: int
    ) -> None:
        settings = self._settings()
        key = QueueKey(parse_address(recipient).domain, self._vmta().name)
        site = settings.book.site_for(key.domain, ())
        is_plain = settings.book.policy(key, site).tls is Tls.NONE
        client = aiosmtplib.SMTP(
            hostname=candidate.address,
            port=candidate.port,
            local_hostname=settings.server.hostname,
            source_address=_source(self._vmta(), candidate),
            start_tls=False if is_plain else None,  # None: where it is offered
            validate_certs=False,  # opportunistic, as all mail without DANE or MTA-STS
            timeout=STEP_S,
        )
        async with client:
            self._governor.connected(lease)
            # Without a sender nothing ever comes back, and SPF looks at our own name (RFC 7208 §2.4).
            await client.sendmail("", [recipient], message)
        logger.info("a licence notice was mailed", recipient=recipient, host=candidate.host)


def _source(vmta: VmtaRules, candidate: Candidate) -> tuple[str, int] | None:
    """The first source address of the candidate's family; none: the kernel chooses."""
    is_v6 = ip_address(candidate.address).version == 6
    sources = vmta.source_v6 if is_v6 else vmta.source_v4
    return (sources[0], 0) if sources else None
