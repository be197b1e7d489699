"""The follower process's side: spools of other processes as followers see them, over whatever connection serves them now.

A follower never gets into trouble over a worker that died, hangs or cannot read its table: its spool then gives nothing, and
the others' accounting goes on. But "nothing" must not count as "all is read": from the cut on nothing is offered either, until
followers have been told to read the table again (an empty batch, see `Inbox`).

Followers ask from their threads; everything else happens on the loop, in the order of the link: what was committed before the
table was read arrives before the answer.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress

import msgspec
import structlog

from mta.follow.inbox import Numbered
from mta.follow.words import (
    Committed,
    Hello,
    Missed,
    PruneRows,
    ReadRows,
    Rows,
    Unread,
    of_worker,
)
from mta.io.link import Link
from mta.model.event import decode_event

logger = structlog.get_logger()

ANSWER_S = 5.0  # a follower waits so long for one spool while the others' events wait too
RETRY_S = 2.0  # after a table could not be read

_Offered = Callable[[Sequence[Numbered]], None]


class RemoteSource:
    """An `EventSource`: one spool of another process. `events` and `prune` from any thread, the rest on the loop."""

    def __init__(
        self, number: int, *, answer_s: float = ANSWER_S, retry_s: float = RETRY_S
    ) -> None:
        self.number = number
        self.uuid = ""  # "" until a worker named it: a follower is built afterwards
        self._answer_s = answer_s
        self._retry_s = retry_s
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._subscribers: list[_Offered] = []
        self._is_whole = False  # what subscribers are offered has no hole
        self._next_event: int | None = None  # the first id of the next commit, where it is known
        self._next_read = 1
        self._asked: dict[int, Future[list[Numbered]]] = {}
        self._overdue: set[int] = set()
        self._pruned = 0

    # Of an EventSource

    @property
    def pending_event_bytes(self) -> int:
        """0: whether too much is unread is seen by the worker itself, which refuses the mail."""
        return 0

    def subscribe(self, callback: _Offered) -> None:
        """See `EventSource`."""
        self._subscribers.append(callback)

    def events(self, cursor: int, limit: int) -> "Future[list[Numbered]]":
        """See `EventSource`; empty as well where nobody answers now, and then an empty batch will follow."""
        answer: Future[list[Numbered]] = Future()
        try:
            self._loop.call_soon_threadsafe(self._ask, cursor, limit, answer)
        except RuntimeError:  # the loop is closed: the process ends
            answer.set_result([])
        return answer

    def prune(self, up_to: int) -> None:
        """See `EventSource`; said again to whoever serves the spool later."""
        with suppress(RuntimeError):  # the loop is closed: the next process says it
            self._loop.call_soon_threadsafe(self._prune, up_to)

    # On the loop

    @property
    def is_attached(self) -> bool:
        """Whether a worker serves it."""
        return self._link is not None

    def is_served_by(self, link: Link) -> bool:
        """Whether it is this link that counts; an older one may still bring something."""
        return self._link is link

    def attach(self, link: Link) -> None:
        """This link serves the spool from now on."""
        self._cut()
        self._link = link
        if self._pruned:
            link.send(PruneRows(self.number, self._pruned))
        self._begin_again()

    def detach(self, link: Link) -> None:
        """This link is gone; it may have been replaced already."""
        if self._link is link:
            self._link = None
            self._cut()

    def take(self, word: Committed | Missed | Rows | Unread) -> None:
        """A word about this spool, from the link that serves it."""
        match word:
            case Committed():
                self._committed(word)
            case Missed():
                self._begin_again()
            case Rows():
                self._answered(word.number, _decode(word.rows))
            case Unread():
                self._unread(word)

    def _committed(self, word: Committed) -> None:
        expected, self._next_event = self._next_event, word.first + len(word.events)
        if not self._is_whole:
            return
        if expected is not None and word.first != expected:
            logger.error("events are missing on a link", spool=self.number, first=word.first)
            self._begin_again()
        self._offer(list(enumerate(word.events, word.first)))

    def _ask(self, cursor: int, limit: int, answer: "Future[list[Numbered]]") -> None:
        if self._link is None or not self._is_whole:
            answer.set_result([])
            return
        number, self._next_read = self._next_read, self._next_read + 1
        self._asked[number] = answer
        self._loop.call_later(self._answer_s, self._expire, number)
        self._link.send(ReadRows(self.number, number, cursor, limit))

    def _answered(self, number: int, events: list[Numbered]) -> None:
        answer = self._asked.pop(number, None)
        if answer is not None:
            answer.set_result(events)
        elif number in self._overdue:
            self._overdue.discard(number)
            if not self._overdue:
                self._begin_again()

    def _expire(self, number: int) -> None:
        """The worker hangs. It answers in order: once this answer comes, it can be asked again."""
        if number in self._asked:
            logger.warning("a worker does not read its events for us", spool=self.number)
            self._overdue.add(number)
            self._withhold()
            self._asked.pop(number).set_result([])

    def _unread(self, word: Unread) -> None:
        answer = self._asked.pop(word.number, None)
        if answer is None:
            self._answered(word.number, [])
            return
        logger.warning("events cannot be read", spool=self.number, reason=word.reason)
        self._withhold()
        self._loop.call_later(self._retry_s, self._try_again, self._link)
        answer.set_result([])

    def _try_again(self, link: Link | None) -> None:
        if self._link is link and not self._is_whole and not self._overdue:
            self._begin_again()

    def _cut(self) -> None:
        """The connection is another now, or none: nobody answers what was asked on the old one."""
        self._withhold()
        self._overdue.clear()
        self._next_event = None
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer.set_result([])

    def _withhold(self) -> None:
        # Told at once as well: an answer of nothing must find that the table is still to be read.
        self._is_whole = False
        self._offer([])

    def _begin_again(self) -> None:
        """Followers read the table, and what is committed from here on is offered to them."""
        if self._link is not None:
            self._is_whole = True
            self._next_event = None
            self._offer([])

    def _offer(self, batch: Sequence[Numbered]) -> None:
        for offered in self._subscribers:
            offered(batch)

    def _prune(self, up_to: int) -> None:
        self._pruned = max(self._pruned, up_to)
        if self._link is not None:
            self._link.send(PruneRows(self.number, up_to))


class RemoteSources:
    """All spools that are followed here, and the connections that bring their events. On the loop."""

    def __init__(
        self, numbers: Iterable[int], *, answer_s: float = ANSWER_S, retry_s: float = RETRY_S
    ) -> None:
        self._sources = {
            number: RemoteSource(number, answer_s=answer_s, retry_s=retry_s) for number in numbers
        }
        self._links: set[Link] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._all_named = asyncio.Event()
        # A number got its first spool, or another than before: followers must be built anew for it.
        self.on_new_spool: Callable[[int], None] = lambda _number: None
        if not self._sources:
            self._all_named.set()

    @property
    def named(self) -> list[RemoteSource]:
        """Those whose UUID is known."""
        return [source for source in self._sources.values() if source.uuid]

    @property
    def unnamed(self) -> list[int]:
        """The numbers of those that no worker named yet."""
        return [number for number, source in self._sources.items() if not source.uuid]

    def attach(self, sock: socket.socket) -> None:
        """A worker speaks over this socket; it says for which spools."""
        task = asyncio.get_running_loop().create_task(self._open(sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def all_named(self, timeout_s: float) -> bool:
        """Wait until every spool was named once; False: not within the time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_named.wait(), timeout_s)
        return self._all_named.is_set()

    def close(self) -> None:
        """Hang up everywhere, prunings that wait are still sent."""
        for link in tuple(self._links):
            link.close()

    async def _open(self, sock: socket.socket) -> None:
        link = Link(of_worker, lambda word: self._received(link, word), lambda: self._lost(link))
        self._links.add(link)
        try:
            await link.open(sock)
        except OSError as error:
            logger.warning("a worker cannot be reached", reason=str(error))
            sock.close()
            self._links.discard(link)

    def _received(self, link: Link, word: Hello | Committed | Missed | Rows | Unread) -> None:
        if isinstance(word, Hello):
            for number, uuid in word.spools:
                self._named(link, number, uuid)
            if not self.unnamed:
                self._all_named.set()
            return
        source = self._sources.get(word.spool)
        if source is not None and source.is_served_by(link):
            source.take(word)

    def _named(self, link: Link, number: int, uuid: str) -> None:
        source = self._sources.get(number)
        if source is None:
            logger.error("a worker has a spool that we do not know", spool=number)
        elif source.uuid and source.uuid != uuid:
            logger.error("a spool is another than before", spool=number, uuid=uuid)
            self.on_new_spool(number)
        else:
            is_new, source.uuid = not source.uuid, uuid
            source.attach(link)
            if is_new:
                self.on_new_spool(number)

    def _lost(self, link: Link) -> None:
        self._links.discard(link)
        for source in self._sources.values():
            source.detach(link)


def _decode(rows: Iterable[tuple[int, bytes]]) -> list[Numbered]:
    """What cannot be decoded is reported and passed over, as by the spool itself."""
    events: list[Numbered] = []
    for number, data in rows:
        try:
            events.append((number, decode_event(data)))
        except msgspec.DecodeError as error:
            logger.error("an event cannot be read", event=number, reason=str(error))
    return events
