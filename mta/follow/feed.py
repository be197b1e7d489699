"""The worker's side of following: tells the follower process of each commit's events, and reads the table for it.

One link to one follower process, replaced by `attach` whenever that was started anew; without one nothing is sent, and nothing
is lost, for the table has all that was not pruned. What waits for a slow follower is bounded: beyond that, events are left out,
and when there is room again the follower is told to read them from the table. (Told at once, it could read before the last of
those left out was committed, and never see it.)
"""

import asyncio
import functools
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

import structlog

from mta.follow.words import (
    CommittedBytes,
    Hello,
    Missed,
    PruneRows,
    ReadRows,
    Rows,
    Unread,
    joined,
    of_follower,
)
from mta.io.link import Link

logger = structlog.get_logger()

# A second of 10,000 deliveries is about 4 MB: who lags by more is better served by the table.
MAX_WAITING_BYTES = 4 << 20
MAX_ANSWER_BYTES = 4 << 20  # of rows in one answer; an event of a long reply may have 64 kB
MAX_ANSWER_ROWS = 1000
LOOK_S = 0.05  # how often it is seen whether there is room again

_Row = tuple[int, bytes]


class FedSpool(Protocol):
    """What is needed of a spool (`mta.spool.store.Spool`)."""

    uuid: str

    def subscribe_encoded(self, callback: Callable[[int, list[bytes]], None]) -> object:
        """Call on the loop with each commit's events: the id of the first, and the bytes of each."""

    def event_rows(self, cursor: int, limit: int) -> "Future[list[_Row]]":
        """Up to `limit` rows of the table after `cursor`; the future's callbacks run on the loop."""

    def prune(self, up_to: int) -> None:
        """The events up to this id have been read by everyone who must."""


class EventFeed:
    """The events of a worker's spools, for one follower process. On the loop."""

    def __init__(
        self, spools: Mapping[int, FedSpool], *, max_waiting: int = MAX_WAITING_BYTES
    ) -> None:
        self._spools = spools
        self._max_waiting = max_waiting
        self._link: Link | None = None
        self._attached = 0  # how often
        self._opening: set[asyncio.Task[None]] = set()
        self._missed: set[int] = set()  # spools with events left out
        self.left_out = 0  # batches, for tests and measurements
        for number, spool in spools.items():
            spool.subscribe_encoded(functools.partial(self._committed, number))

    @property
    def is_attached(self) -> bool:
        """Whether a follower process hears us."""
        return self._link is not None

    def attach(self, sock: socket.socket) -> None:
        """Speak over this socket from now on; the connection before it, if any, is closed."""
        self._attached += 1
        task = asyncio.get_running_loop().create_task(self._open(sock, self._attached))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def close(self) -> None:
        """Send what waits, and tell nobody anything any more."""
        self._attached += 1  # an `attach` under way comes too late
        self._hang_up()

    async def _open(self, sock: socket.socket, turn: int) -> None:
        link = Link(of_follower, lambda word: self._received(link, word), lambda: self._lost(link))
        try:
            await link.open(sock)
        except OSError as error:
            logger.warning("the follower process cannot be reached", reason=str(error))
            sock.close()
            return
        if turn != self._attached:
            link.close()
            return
        self._hang_up()
        if not link.is_lost:
            self._link = link
            link.send(Hello(tuple((number, each.uuid) for number, each in self._spools.items())))

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        self._missed.clear()
        if link is not None:
            link.close()

    def _lost(self, link: Link) -> None:
        if self._link is link:
            self._link = None
            self._missed.clear()

    # -- events ---------------------------------------------------------------------------------

    def _committed(self, spool: int, first: int, datas: list[bytes]) -> None:
        link = self._link
        if link is None:
            return
        if spool in self._missed or link.waiting > self._max_waiting:
            self._leave_out(link, spool)
            return
        link.send(CommittedBytes(spool, first, joined(datas)))

    def _leave_out(self, link: Link, spool: int) -> None:
        self.left_out += 1
        if not self._missed:
            asyncio.get_running_loop().call_later(LOOK_S, self._look, link)
        self._missed.add(spool)

    def _look(self, link: Link) -> None:
        if self._link is not link:
            return
        if link.waiting > self._max_waiting // 2:
            asyncio.get_running_loop().call_later(LOOK_S, self._look, link)
            return
        for spool in sorted(self._missed):
            link.send(Missed(spool))
        self._missed.clear()

    # -- what the follower asks -----------------------------------------------------------------

    def _received(self, link: Link, word: ReadRows | PruneRows) -> None:
        spool = self._spools[word.spool]
        if isinstance(word, PruneRows):
            spool.prune(word.up_to)
        elif link.waiting > self._max_waiting:
            # It asks and does not read: answers are not to pile up until the link is cut.
            link.send(Unread(word.spool, word.number, "too much waits to be sent"))
        else:
            rows = spool.event_rows(word.cursor, min(word.limit, MAX_ANSWER_ROWS))
            rows.add_done_callback(functools.partial(self._answer, link, word))

    def _answer(self, link: Link, asked: ReadRows, rows: "Future[list[_Row]]") -> None:
        error = rows.exception()
        answer: Any
        if error is not None:
            answer = Unread(asked.spool, asked.number, str(error))
        else:
            answer = Rows(asked.spool, asked.number, _within(rows.result(), MAX_ANSWER_BYTES))
        link.send(answer)


def _within(rows: list[_Row], max_bytes: int) -> list[_Row]:
    """As many of the first as fit, one at least."""
    size = 0
    for place, (_, data) in enumerate(rows):
        size += len(data)
        if size > max_bytes and place:
            return rows[:place]
    return rows
