"""Whether any DNS server answers at all.

While none does, questions are refused at once: 300,000 domains then cost neither memory nor an hour, and one probe at a
time (`. NS`, which every server can answer or refuse) finds out when they are back. Any genuine datagram, a refusal too,
is a sign of life. Times are the event loop's.
"""

import asyncio
from collections.abc import Awaitable, Callable

PROBE_WAIT_S = 2.0
PROBE_EVERY_S = 2.0


class Health:
    """`down` holds only after a probe went unanswered, so that one slow domain never stops the others."""

    def __init__(
        self, probe: Callable[[float], Awaitable[object]], changed: Callable[[bool], None]
    ) -> None:
        self.down = False
        self._probe = probe
        self._changed = changed
        self._heard_at = float("-inf")
        self._probing: asyncio.Task[None] | None = None

    def heard(self) -> None:
        """A server answered something."""
        self._heard_at = asyncio.get_running_loop().time()
        if self.down:
            self.down = False
            self._changed(False)

    def silence(self, since: float) -> None:
        """A try got no answer; the exchange it belongs to began at `since`."""
        if self._heard_at < since and self._probing is None:
            self._probing = asyncio.create_task(self._watch())
            self._probing.add_done_callback(self._watched)

    async def close(self) -> None:
        """Stop probing."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    def _watched(self, _: asyncio.Task[None]) -> None:
        self._probing = None

    async def _watch(self) -> None:
        """Probe until something answers; `down` from the first probe that nothing answered."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._probe(PROBE_WAIT_S)
            if self._heard_at >= began:
                return
            if not self.down:
                self.down = True
                self._changed(True)
            # A probe that failed at once (connection refused) must not turn into a storm.
            await asyncio.sleep(PROBE_EVERY_S)
            if not self.down:
                return
