"""Whether a worker still lives: the pulse of its spools' threads, and a thread that sees the loop stand still.

The supervisor ends a worker that has not been heard of for `watchdog_timeout`. Shortly before, the worker's own watch says
where it stands: the stacks of all threads and the queues with work, for a loop that hangs cannot be asked.
"""

import asyncio
import faulthandler
import sys
import threading
import time
from collections.abc import Sequence

import structlog

from mta.io.clock import Clock
from mta.queue.scheduler import Scheduler
from mta.spool.store import Spool

logger = structlog.get_logger()

STUCK_SHARE = 0.8  # of that: the loop stood still for so long, say where
LOOK_S = 1.0
QUEUES_SHOWN = 50


class SpoolPulse:
    """How long ago each spool's thread answered last: a read that does nothing, asked once a second."""

    def __init__(self, spools: Sequence[Spool], clock: Clock) -> None:
        self._clock = clock
        self._spools = spools
        self._felt = [clock.now()] * len(spools)
        self._asked = [False] * len(spools)

    def feel(self) -> None:
        """Ask every spool that has answered the last time."""
        for at, spool in enumerate(self._spools):
            if not self._asked[at]:
                self._asked[at] = True
                spool.call(lambda _: None).add_done_callback(lambda _, at=at: self._answered(at))  # type: ignore[misc]

    def age_s(self) -> float:
        """Seconds since the slowest of them answered."""
        return self._clock.now() - min(self._felt)

    def _answered(self, at: int) -> None:
        self._asked[at], self._felt[at] = False, self._clock.now()


class Watch:
    """A thread that writes stacks and queues to the log when the loop has stood still for long, once each time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scheduler: Scheduler,
        watchdog_s: float,
    ) -> None:
        """`watchdog_s`: when the supervisor would end the process."""
        self._loop = loop
        self._scheduler = scheduler
        self._stuck_s = watchdog_s * STUCK_SHARE
        self._turned_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._turn()
        self._thread.start()

    def stop(self) -> None:
        """The loop may stand still from now on."""
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        self._turned_at = time.monotonic()
        self._timer = self._loop.call_later(LOOK_S, self._turn)

    def _run(self) -> None:
        is_told = False
        while not self._stopping.wait(LOOK_S):
            stands_s = time.monotonic() - self._turned_at
            if stands_s > self._stuck_s and not is_told:
                self._tell(stands_s)
            is_told = stands_s > self._stuck_s

    def _tell(self, stands_s: float) -> None:
        logger.critical("the event loop stands still", for_s=round(stands_s, 1))
        faulthandler.dump_traceback(sys.stderr)
        try:
            rows = self._scheduler.busiest(QUEUES_SHOWN)
        except RuntimeError:  # the loop changed it meanwhile: then it does not stand still
            return
        for key, ready, in_flight, connections in rows:
            logger.critical(
                "a queue of the loop that stands still",
                queue=str(key),
                ready=ready,
                in_flight=in_flight,
                connections=connections,
            )
