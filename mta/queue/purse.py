"""The Emails this worker may still deliver under a volume licence. Pure; `now` is an argument.

An Email is taken when an entry goes into a transaction and put back when that did not deliver it, so what is neither here nor in
flight was delivered. Emails come in small blocks from the supervisor, who has them from the licence: a block is worth at most
about a second of what was used lately, is asked for before the last is used up, and goes back when nothing was used for half a
second. Without a volume licence there is no purse at all.
"""

from collections.abc import Callable

LOOK_S = 0.5  # how often what lies idle is returned
MAX_BLOCK = 10_000
RETRY_S = 1.0  # none were left: ask again, for others may have returned some


class Purse:
    """`left` Emails may be taken now; never more are taken than were given."""

    __slots__ = (
        "_ask",
        "_asked",
        "_block",
        "_give_back",
        "_look_at",
        "_used",
        "_used_before",
        "is_dry",
        "left",
    )

    def __init__(self, ask: Callable[[int], None], give_back: Callable[[int], None]) -> None:
        """`ask` for so many, answered by `given`; `give_back` so many."""
        self.left = 0
        self.is_dry = False  # the last answer was none
        self._ask = ask
        self._give_back = give_back
        self._asked = 0
        self._block = 1
        self._used = 0  # since the last look
        self._used_before = 0  # between the two before
        self._look_at = 0.0

    def take(self, count: int) -> None:
        """So many go into transactions; the caller has looked that they are there."""
        self.left -= count
        self._used += count
        if self.left * 2 <= self._block and not self._asked:
            self.want()

    def put_back(self, count: int) -> None:
        """So many were not delivered."""
        self.left += count

    def want(self) -> None:
        """There should be more; asked once at a time."""
        if not self._asked:
            self._asked = self._block
            self._ask(self._block)

    def given(self, count: int) -> None:
        """The answer: so many of those asked for, perhaps none."""
        asked, self._asked = self._asked, 0
        self.left += count
        self.is_dry = not count
        # At most what half a second used: with the next asked for at half of it, under a second's worth is here at any time.
        pace = max(1, self._used, self._used_before)
        self._block = min(self._block * 2, pace, MAX_BLOCK) if 0 < asked <= count else 1

    def look(self, now: float) -> None:
        """Twice a second: what nobody uses goes back; a block is worth what half a second used."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        self._used_before, self._used = self._used, 0
        self._block = min(self._block, max(1, self._used_before))
        if not self._used_before and self.left:
            self._give_back(self.left)
            self.left = 0

    def empty(self) -> int:
        """All that is left, which is nobody's from now on."""
        left, self.left = self.left, 0
        return left
