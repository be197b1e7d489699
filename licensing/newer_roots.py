"""Looks for newer roots of trust at the vendor's, once a day and when an answer is not believed.

Answers bring roots while they are short; one with a long list of known good licences (after a theft) is fetched. What is asked is
a number and nothing else; what comes is believed by the signatures of the root before it. Design 3.2, 3.14.
"""

import asyncio
from collections.abc import Callable

from licensing.envelope import decode_envelope
from licensing.errors import LicenseError
from licensing.installation import Installation
from licensing.trust import MAX_ROOT_BYTES, MAX_ROOTS
from licensing.wire import Wire

LOOK_EVERY_S = 86_400.0
DOUBT_EVERY_S = 3_600.0  # an answer that is not believed is mostly a proxy's


class NewerRoots:
    """`look` when you like: it asks no more often than it should."""

    def __init__(self, home: Installation, told: Callable[[str, str], None]) -> None:
        self._home, self._told = home, told
        self._looked_at: float | None = None

    async def look(self, wire: Wire, *, in_doubt: bool) -> bool:
        """Whether newer roots were adopted. Raises nothing that a network or a server can cause."""
        now, pause = self._home.clock.now(), DOUBT_EVERY_S if in_doubt else LOOK_EVERY_S
        if self._looked_at is not None and self._looked_at <= now < self._looked_at + pause:
            return False
        self._looked_at = now
        before = self._home.store.trust.root.version
        try:
            for _ in range(MAX_ROOTS):
                if not await self._fetch_next(wire):
                    break
        except (LicenseError, OSError) as error:
            self._told("root_not_fetched", str(error))
        after = self._home.store.trust.root.version
        if after > before:
            self._told("root_adopted", f"the vendor's root {after} is believed from now on")
        return after > before

    async def _fetch_next(self, wire: Wire) -> bool:
        store = self._home.store
        number = store.trust.root.version + 1
        answer = await wire.look(f"/v1/trust/{number}.root.json", max_bytes=MAX_ROOT_BYTES)
        if answer.status != 200:
            return False
        root = decode_envelope(answer.body, max_bytes=MAX_ROOT_BYTES)
        return await asyncio.to_thread(store.adopt_roots, (root,))
