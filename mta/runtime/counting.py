"""How deliveries are told to the licence: from the volume follower, in whatever process and thread, to the guard's ledger.

The follower's thread asks a `LoopMeter`, which asks a `Counting` on its loop: the guard itself, or the supervisor over a link.
What licensing throws on this way is the follower's trouble, who tries again, and nobody else's.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

import structlog

from mta.follow.volume import VolumeCount
from mta.runtime.calls import Asker
from mta.runtime.emails import Till
from mta.runtime.license import Delivered, Guard

logger = structlog.get_logger()

T = TypeVar("T")

# For the ledger's commit. Longer is trouble: the follower goes back to the cursors, and counts again from there.
COUNTED_TIMEOUT_S = 10.0


class Counting(Protocol):
    """Who counts deliveries for the licence. On the loop."""

    async def cursors(self) -> dict[str, int]:
        """The last event counted, by spool."""

    async def delivered(self, counts: list[Delivered]) -> None:
        """These deliveries count; durable when it returns."""


class NearCounting:
    """`Counting` beside the guard; the supervisor's side."""

    def __init__(self, guard: Guard, till: Till) -> None:
        self._guard = guard
        self._till = till

    async def cursors(self) -> dict[str, int]:
        """See `Counting`."""
        return await self._guard.cursors()

    async def delivered(self, counts: list[Delivered]) -> None:
        """See `Counting`."""
        await self._guard.delivered(counts)
        self._till.counted(counts)


class FarCounting:
    """`Counting` over the link to the supervisor."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def cursors(self) -> dict[str, int]:
        """See `Counting`."""
        answer: dict[str, int] = await self._asker.ask("cursors", COUNTED_TIMEOUT_S)
        return answer

    async def delivered(self, counts: list[Delivered]) -> None:
        """See `Counting`."""
        await self._asker.ask("delivered", COUNTED_TIMEOUT_S, counts=counts)


class LoopMeter:
    """A `Meter` for the follower's thread over a `Counting` on the loop."""

    def __init__(self, counting: Counting, loop: asyncio.AbstractEventLoop) -> None:
        self._counting = counting
        self._loop = loop

    async def known(self) -> dict[str, int] | None:
        """The cursors, asked on the loop; None: they cannot be read now."""
        try:
            async with asyncio.timeout(COUNTED_TIMEOUT_S):
                return await self._counting.cursors()
        except Exception:  # the border to licensing: mail is served all the same (A37)
            logger.exception("licensing failed when asked what it has counted")
            return None

    def cursors(self) -> dict[str, int]:
        """See `Meter`."""
        return self._wait_for(self._counting.cursors())

    def delivered(self, counts: list[VolumeCount]) -> None:
        """See `Meter`."""
        self._wait_for(self._counting.delivered([Delivered(*each) for each in counts]))

    def _wait_for(self, answer: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(answer, self._loop)
        try:
            return future.result(COUNTED_TIMEOUT_S)
        except (
            Exception
        ) as error:  # the border to licensing: what it throws is only that it cannot count
            future.cancel()
            raise OSError(f"deliveries cannot be counted: {error!r}") from error
