"""Workers that feed events to a follower over real sockets, with hands to cut, stop and replace what is between."""

import asyncio
import csv
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from mta.follow.cursors import CursorFile
from mta.follow.feed import EventFeed
from mta.io.clock import Clock
from mta.model.envelope import Content, Entry, Message, QueueKey
from mta.spool.store import Settlement, Spool, open_spool
from tests.support.fake_spool import an_attempt

DEADLINE_S = 20.0
KEY = QueueKey("example.net", "default")
SMALL_BUFFER = 4096  # the kernel makes of it what it must


async def until(condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    """Let the loop run until `condition`; a test that waits in vain fails."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.002)


def event_numbers(files: list[Path], uuid: str) -> list[int]:
    """The ids of this spool's events in these files of records, in the order in which they stand there."""
    numbers = []
    for file in files:
        with file.open(newline="") as lines:
            ids = [row["eventId"].partition(":") for row in csv.DictReader(lines, strict=True)]
        numbers += [int(number) for spool, _, number in ids if uuid.startswith(spool)]
    return numbers


class FedWorker:
    """What a worker does for its followers, with one real spool and no mail."""

    def __init__(
        self,
        path: Path,
        number: int = 0,
        *,
        max_waiting: int = 4 << 20,
        watch_prune: Callable[[str, int], None] = lambda _uuid, _up_to: None,
    ) -> None:
        self._path = path
        self._number = number
        self._max_waiting = max_waiting
        self._watch_prune = watch_prune
        self.written = 0  # on disk, and told
        self._handed_over = 0
        self._open()

    def _open(self) -> None:
        self.spool: Spool = open_spool(
            self._path,
            number=self._number,
            clock=Clock(),
            post=asyncio.get_running_loop().call_soon_threadsafe,
            on_broken=_fail,
        )
        self.uuid = self.spool.uuid
        feeds = {self._number: _WatchedSpool(self.spool, self._watch_prune)}
        self.feed = EventFeed(feeds, max_waiting=self._max_waiting)

    def deliver(self, count: int) -> None:
        """Hand over as many outcomes, as one; they are one commit's, perhaps with others."""
        message = Message(
            0, 1, "news@example.com", 4096, 0.0, "default", job="", envid="", ret="",
            content=Content.EIGHT_BIT, source_ip="", source_name="", user="",
        )  # fmt: skip
        entry = Entry(message, KEY, "someone@example.net", due=0.0, notify="", orcpt="")
        entry.number = 1 << 40  # there is none

        def done() -> None:
            self.written += count

        self._handed_over += count
        self.spool.settle([Settlement(entry, None, an_attempt()) for _ in range(count)], done)

    async def all_written(self) -> None:
        """Until all that was handed over is on disk."""
        await until(lambda: self.written == self._handed_over)

    async def restart(self) -> None:
        """The spool is closed and opened again, as by the worker that comes after this one."""
        self.feed.close()
        await self.spool.close()
        await asyncio.sleep(0)
        self._open()

    async def close(self) -> None:
        """The end."""
        self.feed.close()
        await self.spool.close()


class _WatchedSpool:
    """The spool, and a look at each pruning before it happens."""

    def __init__(self, spool: Spool, watch: Callable[[str, int], None]) -> None:
        self._spool = spool
        self._watch = watch
        self.uuid = spool.uuid

    def subscribe_encoded(self, callback: Callable[[int, list[bytes]], None]) -> object:
        return self._spool.subscribe_encoded(callback)

    def event_rows(self, cursor: int, limit: int) -> "Future[list[tuple[int, bytes]]]":
        return self._spool.event_rows(cursor, limit)

    def prune(self, up_to: int) -> None:
        self._watch(self.uuid, up_to)
        self._spool.prune(up_to)


def prune_watch(cursors: CursorFile, follower: str) -> Callable[[str, int], None]:
    """Fails when something is pruned that the follower has not saved."""

    def watch(uuid: str, up_to: int) -> None:
        done: Mapping[str, int] = cursors.load(follower)[0]
        assert up_to <= done.get(uuid, 0)

    return watch


class Wire:
    """A connection from a worker to a follower, with a valve on the way there and one on the way back."""

    def __init__(self) -> None:
        self.worker_end, ours = _small_pair()
        ours_too, self.follower_end = _small_pair()
        self._ours = (ours, ours_too)
        self.valve, self.back = asyncio.Event(), asyncio.Event()
        self.open()
        self._tasks = [
            asyncio.create_task(self._carry(ours, ours_too, self.valve)),
            asyncio.create_task(self._carry(ours_too, ours, self.back)),
        ]

    def open(self) -> None:
        """Both ways."""
        self.valve.set()
        self.back.set()

    async def cut(self) -> None:
        """Both sides lose the connection, with whatever was on the way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for sock in self._ours:
            sock.close()

    async def _carry(
        self, source: socket.socket, target: socket.socket, valve: asyncio.Event
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                data = await loop.sock_recv(source, 4096)
                await valve.wait()
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                await loop.sock_sendall(target, data)


def _small_pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    return pair


def _fail(error: BaseException) -> None:
    raise AssertionError("the spool broke") from error


class Wires:
    """The last connection of each worker."""

    def __init__(self) -> None:
        self._last: dict[int, Wire] = {}
        self._all: deque[Wire] = deque()

    def new(self, number: int) -> Wire:
        """Another wire for this worker."""
        wire = self._last[number] = Wire()
        self._all.append(wire)
        return wire

    def last(self, number: int) -> Wire | None:
        """The one it has now."""
        return self._last.get(number)

    async def cut(self, number: int) -> None:
        """Cut the one it has."""
        wire = self._last.pop(number, None)
        if wire is not None:
            self._all.remove(wire)
            await wire.cut()

    async def close(self) -> None:
        """Cut them all."""
        while self._all:
            await self._all.popleft().cut()
