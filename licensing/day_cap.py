"""What a Development licence may still send today: its cap is exact, so every delivery takes an Email first (3.11, C25).

The same hot path as under Volume (`licensing.lease`), with the UTC day in the place of leases: `take` and `refund` only move
integers, `advance` reckons anew, once a second. What the day has counted is in the books; nothing is kept here.
"""

from collections.abc import Callable

from licensing.facts import next_midnight, say_day


class DayCap:
    """The Emails that may be taken. What is counted and under way of a day never exceeds `emails_per_day`."""

    def __init__(self, emails_per_day: int, counted: Callable[[str], int]) -> None:
        """`counted`: the Emails of a UTC day ("2026-11-23") that are counted."""
        self._emails_per_day = emails_per_day
        self._counted = counted
        self._blocked = False
        self.free = 0
        self.taken = 0  # granted, and neither refunded nor counted
        self.left_until: float | None = None

    def take(self, n: int) -> int:
        """Emails granted now, 0 to n."""
        free = self.free
        if n > free:
            n = free
        self.free = free - n
        self.taken += n
        return n

    def refund(self, n: int) -> None:
        """So many of those taken were not sent."""
        n = min(n, self.taken)
        self.taken -= n
        self.free += n

    def count(self, emails: int, now: float) -> None:
        """So many were delivered, and are counted by now."""
        self.taken -= min(emails, self.taken)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Reckon `free` anew. `now`: trusted time."""
        left = self._emails_per_day - self._counted(say_day(now)) - self.taken
        self.free = 0 if self._blocked else max(0, left)
        self.left_until = next_midnight(now)

    def block(self, is_blocked: bool, now: float) -> None:
        """Grant nothing: after a crash, until the journals were read to the end."""
        self._blocked = is_blocked
        self.advance(now)
