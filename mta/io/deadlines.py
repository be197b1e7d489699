"""Deadlines of many connections, swept together.

A timer per command costs two loop calls a step, on a path walked thousands of times a second; a deadline here is one
attribute, and a sweep twice a second finds what has passed. A deadline is therefore late by up to `SWEEP_S`.
"""

import asyncio
from typing import Protocol

SWEEP_S = 0.5


class Bounded(Protocol):
    """Something that waits: `deadline` is in loop time (`inf`: it waits for nothing)."""

    deadline: float

    def on_deadline(self) -> None:
        """The deadline has passed."""


class Deadlines:
    """All that waits in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: set[Bounded] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the next sweep should be
        self._excused = False  # the last sweep was late and judged nobody

    def __len__(self) -> int:
        return len(self._waiting)

    def watch(self, waiting: Bounded) -> None:
        """Sweep this one from now on."""
        self._waiting.add(waiting)
        if self._timer is None:
            self._start(self._loop.time())

    def forget(self, waiting: Bounded) -> None:
        """It is gone."""
        self._waiting.discard(waiting)

    def close(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()

    def _sweep(self) -> None:
        now = self._loop.time()
        # Late itself (the process stood still, the loop was held): what came in time lies unread. Reading goes first, once.
        self._excused = now - self._due > SWEEP_S and not self._excused
        if not self._excused:
            for waiting in [each for each in self._waiting if each.deadline <= now]:
                waiting.on_deadline()
        self._timer = None
        if self._waiting:
            self._start(now)

    def _start(self, now: float) -> None:
        self._due = now + SWEEP_S
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)
