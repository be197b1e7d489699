"""Asks whether a peer may connect, log in, send and name a recipient: `policy.admission` for what is known here, the governor
for what is counted over all workers, the state of the house (disk, memory, followers, licence) for whether we take mail now.

Every answer comes by callback and may come later.
"""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from mta.io.clock import Clock
from mta.io.threads import Workshop
from mta.model.reply import Reply, a_reply
from mta.policy.admission import (
    TOO_MANY_CONNECTIONS,
    TOO_MANY_MESSAGES,
    TOO_MANY_OF_AN_HOUR,
    TWO_TIMES,
    Admission,
    Peer,
    Quota,
)
from mta.policy.guesses import Guesses
from mta.policy.passwords import verify_password
from mta.policy.rules import Demand, ListenerRules
from mta.smtp import replies
from mta.smtp.grammar import MailFrom, RcptTo

logger = structlog.get_logger()

# A limit that is full now may be free in a moment; a client is not held for longer than this.
LEASE_WAIT_S = 1.0
DRAINED = a_reply(451, "4.3.2", "mail for this domain is not taken now; send it again later")
REMEMBERED_LOGIN_S = 300.0
REMEMBERED_LOGINS = 10_000
FAILED_LOGINS = 3  # of one connection; then it is closed

Answered = Callable[[Reply | None], None]


@dataclass(slots=True)
class Client:
    """Who is at the other end of a connection, as far as we know by now."""

    admission: Admission
    peer: Peer
    local_ip: str = ""
    name: str = ""
    failed_logins: int = 0
    lease: int | None = None
    request: int | None = None

    @property
    def rules(self) -> ListenerRules:
        return self.admission.rules


class InboundGovernor(Protocol):
    """What the gate asks of the governor."""

    def request(self, destination: str, demand: Demand, granted: Callable[[int], None]) -> int: ...

    def withdraw(self, request: int) -> None: ...

    def release(self, lease: int, connected: bool) -> None: ...

    def quotas(self, wanted: Sequence[Quota], answered: Callable[[bool], None]) -> None: ...


class House(Protocol):
    """Whether we take mail at all now."""

    def refusal(self) -> Reply | None:
        """452 while disk, memory or a follower's backlog forbid it, 451 while the licence does; None: take it."""


class Gate:
    """One for all clients of a worker."""

    def __init__(
        self,
        *,
        governor: InboundGovernor,
        house: House,
        workshop: Workshop,
        clock: Clock,
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._governor = governor
        self._house = house
        self._workshop = workshop
        self._clock = clock
        self._call_later = call_later
        # Passwords are never kept: a success is remembered under a hash keyed with this process's secret.
        self._secret = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._guesses = Guesses()
        # Whether an operator takes no more mail for this domain.
        self.is_drained: Callable[[str], bool] = lambda _domain: False

    # -- connections --------------------------------------------------------------------------------------------

    def connect(self, client: Client, answered: Answered) -> None:
        """May this peer be served? Takes its connection leases; `disconnect` returns them."""
        demand = client.admission.connection_demand(client.peer)
        if not demand:
            answered(None)
            return

        def granted(lease: int) -> None:
            if client.request is None:  # gone, or answered already
                self._governor.release(lease, False)
                return
            client.request = None
            client.lease = lease
            answered(None)

        def waited() -> None:
            if client.request is not None:
                self._governor.withdraw(client.request)
                client.request = None
                answered(TOO_MANY_CONNECTIONS)

        client.request = self._governor.request(f"in:{client.peer.source}", demand, granted)
        self._call_later(LEASE_WAIT_S, waited)

    def disconnect(self, client: Client) -> None:
        """The peer is gone; whatever it held or asked for returns."""
        if client.request is not None:
            self._governor.withdraw(client.request)
            client.request = None
        if client.lease is not None:
            self._governor.release(client.lease, True)
            client.lease = None

    # -- AUTH ---------------------------------------------------------------------------------------------------

    def authenticate(
        self, client: Client, user: str, password: str, answered: Callable[[Reply], None]
    ) -> None:
        """Check a user's password in a bounded pool of threads; a success is remembered for five minutes.

        After failures the next check may have to wait (`mta.policy.guesses`): it is refused unseen with 454.
        """
        stored = client.rules.users.get(user)
        now = self._clock.now()
        token = hmac.digest(
            self._secret, f"{user}\0{password}\0{stored}".encode("utf-8", "surrogatepass"), "sha256"
        )
        if self._remembered.get(token, 0.0) > now:
            answered(replies.AUTHENTICATED)
            return
        guesses, source = self._guesses, client.peer.source
        if guesses.wait(source, user, now):
            answered(_failed_login(client, user, replies.TOO_MANY_GUESSES))
            return

        def checked(result: object) -> None:
            now = self._clock.now()
            if isinstance(result, BaseException):
                logger.error("a password could not be checked", error=repr(result))
                guesses.unanswered(source, user, now)
                answered(replies.AUTH_BUSY)
            elif result and stored is not None:
                guesses.succeeded(source, user, now)
                self._remember(token, now + REMEMBERED_LOGIN_S)
                answered(replies.AUTHENTICATED)
            else:
                guesses.failed(source, user, now)
                answered(_failed_login(client, user, replies.BAD_CREDENTIALS))

        # An unknown user costs the same time as a wrong password: who exists stays our secret.
        if not self._workshop.submit(lambda: verify_password(stored, password), checked):
            guesses.unanswered(source, user, now)
            answered(replies.AUTH_BUSY)

    def _remember(self, token: bytes, until: float) -> None:
        self._remembered[token] = until
        self._remembered.move_to_end(token)
        while len(self._remembered) > REMEMBERED_LOGINS:
            self._remembered.popitem(last=False)

    # -- the transaction ----------------------------------------------------------------------------------------

    def mail(self, client: Client, mail: MailFrom, answered: Answered) -> None:
        """May this client send now, and this sender?"""
        admission = client.admission
        refusal = self._house.refusal() or admission.check_mail(mail.sender, mail.domain, mail.size)
        if refusal is None and (mail.hold_for or mail.hold_until):
            refusal = self._check_hold(admission, mail)
        if refusal is not None:
            answered(refusal)
            return
        self._count(admission.message_quotas(client.peer), TOO_MANY_MESSAGES, answered)

    def rcpt(self, client: Client, rcpt: RcptTo, taken: int, answered: Answered) -> None:
        """May this client have mail relayed to this recipient, after so many others?"""
        admission, peer = client.admission, client.peer
        refusal = admission.check_recipient(peer, rcpt.address, rcpt.domain, taken)
        if refusal is None and self.is_drained(rcpt.domain):
            refusal = DRAINED
        if refusal is not None:
            answered(refusal)
            return
        self._count(admission.recipient_quotas(peer), TOO_MANY_OF_AN_HOUR, answered)

    def _check_hold(self, admission: Admission, mail: MailFrom) -> Reply | None:
        """RFC 4865: one time of delivery, no further ahead than was offered."""
        if mail.hold_for and mail.hold_until:
            return TWO_TIMES
        now = self._clock.now()
        found = admission.release_at(release_wanted(mail, now, self._clock.wall()), now)
        return found if isinstance(found, Reply) else None

    def _count(self, quotas: Sequence[Quota], full: Reply, answered: Answered) -> None:
        if not quotas:
            answered(None)
            return
        self._governor.quotas(quotas, lambda granted: answered(None if granted else full))


def release_wanted(mail: MailFrom, now: float, wall: float) -> float:
    """When the sender wants it to go, by the worker's clock (`now`; theirs shows `wall`); 0.0: at once."""
    if mail.hold_for:
        return now + mail.hold_for
    return now + mail.hold_until - wall if mail.hold_until else 0.0


def _failed_login(client: Client, user: str, reply: Reply) -> Reply:
    """What a failed login hears: `reply`, and after several the end.

    The filter for fail2ban (config/fail2ban) reads this line: the address follows the event, before anything a stranger chose.
    """
    logger.warning("authentication failed", peer=client.peer.address, user=user, reply=reply.code)
    client.failed_logins += 1
    return reply if client.failed_logins < FAILED_LOGINS else replies.NO_MORE_GUESSES
