"""The governor's desk for one worker: its calls come in as messages, answers go out, and when it dies all it had returns.

The worker names requests by numbers of its own; here stands which of the governor's they are. A request is in exactly one place:
asked, or held. So the end of a worker withdraws the first and releases the second, and no lease is ever leaked.
"""

from collections.abc import Callable
from typing import Any, Protocol

import structlog

from mta.queue.limits import UNPROVEN
from mta.runtime.governor import Governor
from mta.runtime.messages import (
    AskQuotas,
    AskTokens,
    Connected,
    Granted,
    GrantedTokens,
    QuotaAnswer,
    Release,
    Request,
    ReturnTokens,
    Wanted,
    Withdraw,
)

logger = structlog.get_logger()


class Sender(Protocol):
    """The way to the worker."""

    def send(self, message: object) -> None: ...


class Desk:
    """All that one worker has of the governor. `close` exactly once, when the worker is gone."""

    def __init__(self, governor: Governor, link: Sender, worker: int) -> None:
        self._governor = governor
        self._link = link
        self._worker = worker
        self._asked: dict[int, int] = {}  # the worker's number → the governor's
        self._held: dict[int, int] = {}
        self._asks: set[int] = set()  # tokens not answered yet, the governor's numbers
        self._is_closed = False
        self.takes: dict[type, Callable[[Any], None]] = {
            Request: self._request,
            Withdraw: self._withdraw,
            Connected: self._connected,
            Release: self._release,
            AskTokens: self._tokens,
            ReturnTokens: self._return_tokens,
            AskQuotas: self._quotas,
        }

    @property
    def held(self) -> int:
        """Leases this worker holds now."""
        return len(self._held)

    def wanted(self, key: str, waiting: int, yielding: int) -> None:
        """Tell the worker how a full key stands."""
        self._link.send(Wanted(key, waiting, yielding))

    def close(self) -> None:
        """The worker is gone: its connections are closed, its requests void."""
        self._is_closed = True
        for request in self._asked.values():
            self._governor.withdraw(request)
        for lease in self._held.values():
            self._governor.release(lease, False)
        for ask in self._asks:
            self._governor.withdraw_tokens(ask)
        self._asked, self._held, self._asks = {}, {}, set()

    # -- what the worker says ---------------------------------------------------------------------

    def _request(self, message: Request) -> None:
        def granted(lease: int) -> None:
            del self._asked[message.number]
            self._held[message.number] = lease
            self._link.send(Granted(message.number))

        # Of two workers with mail for one destination each has a share: under one name the first to hold three connections
        # was never asked for one, and the other's mail stood until it was done. To find out whether the destination answers at
        # all is one turn for all of them: a dead one costs two seconds.
        is_proven = not any(key.endswith(UNPROVEN) for key, _ in message.demand)
        destination = f"{self._worker}/{message.destination}" if is_proven else message.destination
        self._asked[message.number] = self._governor.request(
            destination, message.demand, granted, rates=message.rates
        )

    def _withdraw(self, message: Withdraw) -> None:
        request = self._asked.pop(message.number, None)
        if request is not None:
            self._governor.withdraw(request)
        else:
            # Granted while the withdrawal was on its way: the worker will drop the grant.
            self._release(Release(message.number, False))

    def _connected(self, message: Connected) -> None:
        lease = self._held.get(message.lease)
        if lease is not None:
            self._governor.connected(lease)

    def _release(self, message: Release) -> None:
        lease = self._held.pop(message.lease, None)
        if lease is None:
            logger.error("a worker released a lease it does not hold", lease=message.lease)
            return
        self._governor.release(lease, message.connected)

    def _tokens(self, message: AskTokens) -> None:
        ask = 0

        def granted(count: int, until: float) -> None:
            self._asks.discard(ask)
            if self._is_closed:  # on its way when the worker ended
                self._governor.return_tokens(message.rates, count, until)
            else:
                self._link.send(GrantedTokens(message.number, count, until))

        ask = self._governor.tokens(message.rates, message.count, granted)
        self._asks.add(ask)

    def _return_tokens(self, message: ReturnTokens) -> None:
        self._governor.return_tokens(message.rates, message.count, message.until)

    def _quotas(self, message: AskQuotas) -> None:
        def answered(is_granted: bool) -> None:
            self._link.send(QuotaAnswer(message.number, is_granted))

        self._governor.quotas(message.wanted, answered)
