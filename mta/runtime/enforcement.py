"""One worker under its licence: what an `Entitlement` means for door, greeting, queues, spools and connections.

Told, it acts at once: the door answers otherwise, the scheduler begins nothing new or reads everything anew, the spools' expiry
clocks stand still or go on. Nothing of it deletes, bounces or ages mail. On the way of a message stand only plain attributes:
the scheduler's `held_for` and `purse`, the dispatcher's `stamp`.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from ipaddress import ip_address
from typing import Protocol

import structlog

from mta.egress.dispatcher import Dispatcher
from mta.ingress.listener import Listener
from mta.io.clock import Clock
from mta.mime.headers import field as header_field
from mta.model.address import parse_host_port
from mta.model.envelope import Entry
from mta.policy.book import Book
from mta.policy.rules import Place
from mta.queue.purse import Purse
from mta.queue.scheduler import Scheduler
from mta.runtime.emails import EmailSource
from mta.runtime.house import House
from mta.runtime.license import LAB, Entitlement, Stamp, banner_of, hold_of
from mta.spool.words import Filter, Settlement

logger = structlog.get_logger()

# How the reason of every such hold begins: they end with the Development licence.
DEVELOPMENT_HOLD = "development licence: "


class HeldSpool(Protocol):
    """What a hold needs of a spool."""

    def hold_all(self, now: float) -> None: ...

    def release_all(self, now: float) -> None: ...

    def licence_held_s(self, now: float | None = None) -> float: ...

    def settle(self, batch: list[Settlement]) -> None: ...

    def release(self, wanted: Filter) -> Future[int]: ...


class Enforcement:
    """What the licence allows this worker now, and everything that follows from it."""

    def __init__(
        self,
        *,
        house: House,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        spools: Mapping[int, HeldSpool],
        emails: EmailSource,
        clock: Clock,
        lab: bool,
    ) -> None:
        self.entitlement: Entitlement = LAB
        self._house = house
        self._scheduler = scheduler
        self._dispatcher = dispatcher
        self._spools = spools
        self._emails = emails
        self._clock = clock
        self._lab = lab
        self._book: Book | None = None
        scheduler.licence_held_s = lambda spool, now: spools[spool].licence_held_s(now)
        dispatcher.may_try = self.may_try

    @property
    def hold(self) -> str:
        """Why the licence holds delivery, with what to do; "": it does not."""
        return hold_of(self.entitlement)

    @property
    def book(self) -> Book:
        """The policies in force, the licence's limit among them."""
        assert self._book is not None
        return self._book

    def entitle(self, entitlement: Entitlement, book: Book, listeners: Iterable[Listener]) -> None:
        """From now on this is allowed."""
        before, self.entitlement = self.entitlement, entitlement
        is_first = self._book is None
        self._house.entitle(entitlement)
        self.greet(listeners)
        if entitlement.max_connections != before.max_connections or is_first:
            self.use(book)
        self._meter(entitlement.is_metered)
        if entitlement.stamp != before.stamp or is_first:
            self._stamp(entitlement.stamp)
        self._hold_or_release()

    def use(self, book: Book) -> None:
        """Queues follow this book from now on, and the licence's limit with it."""
        self._book = book if self._lab else self._licensed(book)
        self._dispatcher.book = self._book
        self._scheduler.new_book(self._book, self._clock.now())

    def greet(self, listeners: Iterable[Listener]) -> None:
        """Let the greeting say which licence this server runs under."""
        for listener in listeners:
            listener.greet_with(banner_of(self.entitlement, lab=self._lab))

    def look(self) -> None:
        """Twice a second: Emails that nobody uses go back; where they are wanted and were none, ask again."""
        purse = self._scheduler.purse
        if purse is not None:
            purse.look(self._clock.now())
            if self._scheduler.lacks_emails:
                purse.want()

    def may_try(self, entries: list[Entry]) -> list[Entry]:
        """Those of the entries that may be tried; the others are held in the spool, with the reason."""
        stamp = self.entitlement.stamp
        if stamp is None:
            return entries
        allowed = [entry for entry in entries if self._is_allowed(entry, stamp)]
        if len(allowed) < len(entries):
            self._bar([entry for entry in entries if not self._is_allowed(entry, stamp)])
        return allowed

    # -- within -----------------------------------------------------------------------------------

    def _licensed(self, book: Book) -> Book:
        most = self.entitlement.max_connections
        text = "no limit" if most is None else f"{most} connections"
        return book.licensed(most, Place("licence", text))

    def _hold_or_release(self) -> None:
        now, scheduler = self._clock.now(), self._scheduler
        reason = self.hold
        if reason:
            # First nobody asks what is due, then the spools say that nothing is.
            scheduler.hold(reason)
            if scheduler.purse is not None:
                self._emails.give_back(scheduler.purse.empty())
            for spool in self._spools.values():
                spool.hold_all(now)
            return
        for spool in self._spools.values():
            spool.release_all(now)
        if scheduler.held_for:
            scheduler.release(now)

    def _meter(self, is_metered: bool) -> None:
        purse = self._scheduler.purse
        if is_metered and purse is None:
            self._scheduler.use_purse(Purse(self._ask, self._emails.give_back))
        elif not is_metered and purse is not None:
            self._scheduler.use_purse(None)
            self._emails.give_back(purse.empty())

    def _ask(self, count: int) -> None:
        purse = self._scheduler.purse

        def given(emails: int) -> None:
            if purse is None or self._scheduler.purse is not purse:
                self._emails.give_back(emails)  # not metered any more
                return
            purse.given(emails)
            self._scheduler.paid()
            self._dispatcher.kick()

        self._emails.ask(count, given)

    def _stamp(self, stamp: Stamp | None) -> None:
        """What another licence barred may be allowed now, and the other way round: everything is looked at anew."""
        self._dispatcher.stamp = b"" if stamp is None else _stamp_field(stamp.header)
        self._scheduler.read_anew(self._clock.now())
        if not self._lab:
            for spool in self._spools.values():
                released = spool.release(Filter(hold_reason=DEVELOPMENT_HOLD))
                released.add_done_callback(lambda _: self._released())

    def _released(self) -> None:
        self._scheduler.read_anew(self._clock.now())
        self._dispatcher.kick()

    def _is_allowed(self, entry: Entry, stamp: Stamp) -> bool:
        address = entry.address.lower()
        if address in stamp.recipients or f"@{entry.key.domain}" in stamp.recipients:
            return True
        return stamp.loopback and self._stays_here(entry)

    def _stays_here(self, entry: Entry) -> bool:
        assert self._book is not None
        hosts = self._book.policy(entry.key, self._book.site_for(entry.key.domain, ())).hosts
        return bool(hosts) and all(_is_loopback(host) for host in hosts)

    def _bar(self, entries: list[Entry]) -> None:
        by_spool: dict[int, list[Settlement]] = {}
        for entry in entries:
            text = f"{DEVELOPMENT_HOLD}{entry.address} is none of its recipients"
            settlement = Settlement(entry, entry.due, None, hold=text, keep_reply=True)
            by_spool.setdefault(entry.message.spool, []).append(settlement)
        for number, batch in by_spool.items():
            self._spools[number].settle(batch)


def _stamp_field(header: str) -> bytes:
    name, _, value = header.partition(":")
    return header_field(name.strip(), value.strip() or "development")


def _is_loopback(text: str) -> bool:
    host = parse_host_port(text, default_port=25).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
