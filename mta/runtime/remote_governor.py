"""The governor as a worker sees it when it stands in another process: the same calls, each a message over the link.

Numbers are the worker's own, so a lease can be withdrawn or released before the supervisor has even heard of it: messages are
taken in order. Nothing is kept here but the callbacks of what is unanswered; that is bounded by what the scheduler and the gate
ask for at once. When the link ends, so does the worker.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from mta.egress.neighbours import Governor
from mta.io.link import Link
from mta.model.units import Rate
from mta.policy.rules import Demand
from mta.queue.actions import RateDemand, Tell
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
    Told,
    Wanted,
    Withdraw,
)


class WorkerGovernor(Governor, Protocol):
    """What a worker asks, of a governor near or far: what its dispatcher does, and what its scheduler and gate need."""

    def on_wanted(self, callback: Callable[[str, int, int], None]) -> None: ...

    def on_told(self, callback: Callable[[Tell], None]) -> None: ...

    def quotas(
        self, wanted: Sequence[tuple[str, Rate]], granted: Callable[[bool], None]
    ) -> None: ...


class RemoteGovernor:
    """`mta.runtime.governor.Governor`'s interface over a link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._next = 1
        self._requests: dict[int, Callable[[int], None]] = {}
        self._asks: dict[int, Callable[[int, float], None]] = {}
        self._quotas: dict[int, Callable[[bool], None]] = {}
        self._wanted: Callable[[str, int, int], None] | None = None
        self._told: Callable[[Tell], None] | None = None

    def request(
        self,
        destination: str,
        demand: Demand,
        granted: Callable[[int], None],
        *,
        rates: RateDemand = (),
    ) -> int:
        """See `Governor.request`."""
        number = self._number()
        self._requests[number] = granted
        self._link.send(Request(number, destination, demand, rates))
        return number

    def withdraw(self, request: int) -> None:
        """See `Governor.withdraw`. A grant that is on its way is released by the other side."""
        if self._requests.pop(request, None) is not None:
            self._link.send(Withdraw(request))

    def connected(self, lease: int) -> None:
        """See `Governor.connected`."""
        self._link.send(Connected(lease))

    def release(self, lease: int, connected: bool) -> None:
        """See `Governor.release`."""
        self._link.send(Release(lease, connected))

    def on_wanted(self, callback: Callable[[str, int, int], None]) -> None:
        """See `Governor.on_wanted`."""
        self._wanted = callback

    def tell(self, tale: Tell) -> None:
        """See `Governor.tell`."""
        self._link.send(Told(tale.site, tale.vmta, tale.until, tale.attempts, tale.reason))

    def on_told(self, callback: Callable[[Tell], None]) -> None:
        """See `Governor.on_told`."""
        self._told = callback

    def tokens(self, rates: RateDemand, count: int, granted: Callable[[int, float], None]) -> int:
        """See `Governor.tokens`."""
        number = self._number()
        self._asks[number] = granted
        self._link.send(AskTokens(number, rates, count))
        return number

    def return_tokens(self, rates: RateDemand, count: int, until: float) -> None:
        """See `Governor.return_tokens`."""
        self._link.send(ReturnTokens(rates, count, until))

    def quotas(self, wanted: Sequence[tuple[str, Rate]], granted: Callable[[bool], None]) -> None:
        """See `Governor.quotas`."""
        number = self._number()
        self._quotas[number] = granted
        self._link.send(AskQuotas(number, tuple(wanted)))

    # -- answers --------------------------------------------------------------------------------

    def granted(self, message: Granted) -> None:
        """A lease has come; one that was withdrawn meanwhile is on its way back already."""
        taker = self._requests.pop(message.request, None)
        if taker is not None:
            taker(message.request)

    def granted_tokens(self, message: GrantedTokens) -> None:
        """Tokens have come."""
        self._asks.pop(message.ask)(message.count, message.until)

    def answered_quota(self, message: QuotaAnswer) -> None:
        """Counted or refused."""
        self._quotas.pop(message.ask)(message.is_granted)

    def wanted(self, message: Wanted) -> None:
        """A full key stands differently."""
        if self._wanted is not None:
            self._wanted(message.key, message.waiting, message.yielding)

    def told(self, message: Told) -> None:
        """What another worker found of a destination."""
        if self._told is not None:
            tale = (message.site, message.vmta, message.until, message.attempts, message.reason)
            self._told(Tell(*tale))

    def _number(self) -> int:
        number, self._next = self._next, self._next + 1
        return number
