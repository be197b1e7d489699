"""Deadlines of many connections, swept together.

A timer per command costs two loop calls a step, on a path walked thousands of times a second; a deadline here is one
attribute, and one sweep a second finds what has passed. A deadline is therefore late by up to `SWEEP_S`.
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

    def __len__(self) -> int:
        return len(self._waiting)

    def watch(self, waiting: Bounded) -> None:
        """Sweep this one from now on."""
        self._waiting.add(waiting)
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_S, self._sweep)

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
        for waiting in [each for each in self._waiting if each.deadline <= now]:
            waiting.on_deadline()
        self._timer = self._loop.call_later(SWEEP_S, self._sweep) if self._waiting else None
