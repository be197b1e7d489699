"""A process of ours as the supervisor sees it: born, heard of, asked, and dead; then born again.

Its link carries messages, its door descriptors. It serves from its `Started` until its link ends; it is over when the nursery
says so: only then are its sockets closed for certain, and only then may what it held be given to others.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from mta.io.clock import Clock
from mta.io.door import door_pair, pass_on
from mta.io.link import Link
from mta.runtime.calls import Asker
from mta.runtime.messages import Answer, Beat, Fault, Start, Started, of_process
from mta.runtime.nursery import Nursery

logger = structlog.get_logger()

START_TIMEOUT_S = 60.0  # a large spool after a power cut is looked through before it serves
ABORT_S = 3.0  # to write its stacks; then it is killed

Take = Callable[[Any], None]


class Child:
    """One place for a process of this kind and number; over time, several processes live in it."""

    def __init__(self, kind: str, number: int, *, nursery: Nursery, clock: Clock) -> None:
        self.kind = kind
        self.number = number
        self.asker = Asker()
        self.pid = 0
        self.spools: tuple[tuple[int, str], ...] = ()
        self.last_events: dict[str, int] = {}  # of its spools, when it began
        self.clients = 0  # as last heard
        self._nursery = nursery
        self._clock = clock
        self._link: Link | None = None
        self._door: socket.socket | None = None
        self._passed = self._adopted = 0
        self._started: asyncio.Future[Started]
        self._died: asyncio.Future[int]
        self._heard_at = 0.0
        self._spool_age_s = 0.0
        self.is_running = False  # the process is there
        self.is_serving = False  # and it does its work
        self._others: Take = lambda message: None

    @property
    def load(self) -> int:
        """Clients that it serves or that are on their way to it."""
        return self.clients + self._passed - self._adopted

    @property
    def silent_s(self) -> float:
        """For how long its loop, or a spool's thread, has not been heard of."""
        return max(self._clock.now() - self._heard_at, self._spool_age_s)

    async def bear(self, start: Start, others: Take, once_born: Callable[[], None]) -> None:
        """Start a process here and wait until it serves. Raises OSError or TimeoutError; then no process is left.

        `others` is given every message that is not about calls or life; `once_born` is called when the process is there.
        """
        loop = asyncio.get_running_loop()
        self._started, self._died = loop.create_future(), loop.create_future()
        self._others = others
        self._passed = self._adopted = self.clients = 0
        near, far = socket.socketpair()
        self._door, far_door = door_pair()
        link = Link(of_process, self._take, lambda: self._lost(link))
        self._link = self.asker.link = link
        await self._link.open(near)
        self.pid = await self._nursery.bear(self.kind, self.number, (far, far_door), self._ended)
        self._heard_at, self._spool_age_s = self._clock.now(), 0.0
        self.is_running = not self._died.done()
        self._link.send(start)
        once_born()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                ends: set[asyncio.Future[Any]] = {self._started, self._died}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            await self.kill("it did not start in time")
            raise
        if not self._started.done():
            raise OSError(
                f"{self.kind} {self.number} ended with {self._died.result()} at its start"
            )
        self._heard_at = self._clock.now()
        started = self._started.result()
        self.spools, self.last_events = started.spools, started.last_events
        self.is_serving = self.is_running

    async def died(self) -> int:
        """Wait for its end: the exit code, or minus the signal."""
        return await asyncio.shield(self._died)

    def send(self, message: object) -> None:
        """Say this to it; nothing happens if it is gone."""
        if self._link is not None:
            self._link.send(message)

    def pass_on(self, note: bytes, sock: socket.socket) -> bool:
        """Hand it a descriptor; the caller closes its own. False: its door is full, or it is gone."""
        if self._door is None or not self.is_running:
            return False
        taken = pass_on(self._door, note, sock.fileno())
        self._passed += taken
        return taken

    async def kill(self, why: str) -> None:
        """End it by force: its stacks go to the log first, if it still can write them."""
        logger.error("a process is ended by force", kind=self.kind, number=self.number, why=why)
        for number in (signal.SIGABRT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(ABORT_S):
                    await self.died()
                    return

    # -- what is heard ----------------------------------------------------------------------------

    def _take(self, message: Any) -> None:
        match message:
            case Answer() | Fault():
                self.asker.answered(message)
            case Beat():
                self._heard_at = self._clock.now()
                self._spool_age_s = message.spool_age_s
                self.clients, self._adopted = message.clients, message.adopted
            case Started() if not self._started.done():
                self._started.set_result(message)
            case _:
                self._others(message)

    def _lost(self, link: Link) -> None:
        self.asker.lost(link)
        if link is self._link:
            self.is_serving = False

    def _ended(self, status: int) -> None:
        self.is_running = self.is_serving = False
        if self._link is not None:
            self._link.close()
        if self._door is not None:
            self._door.close()
        if not self._died.done():
            self._died.set_result(status)
