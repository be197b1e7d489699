"""The Emails that this server may send now under the licence in force: leases of a pool, a day's number, or no number at all.

After a crash nothing is given out until the journals were read: what the last run delivered and did not count is used already.
"""

from licensing.books import Books
from licensing.calendar import day_of
from licensing.installation import Installation
from licensing.lease import Allowance, DailyAllowance
from licensing.model.license import License

# At least so long are the journals read after a crash; still coming in, two seconds from the last; and not for ever.
CATCH_UP_S, QUIET_S, CATCH_UP_MOST_S = 10.0, 2.0, 60.0


class Purse:
    """`take` never gives more than the licence in force allows; without a limit it gives all."""

    def __init__(self, home: Installation, now: float) -> None:
        self._home = home
        self._allowance: Allowance | DailyAllowance | None = None
        self._catch_up_until = self._catch_up_last = 0.0
        if not home.books.is_clean:
            self._catch_up_until, self._catch_up_last = now + CATCH_UP_S, now + CATCH_UP_MOST_S

    @property
    def volume(self) -> Allowance | None:
        """The leases, under a Volume licence."""
        return self._allowance if isinstance(self._allowance, Allowance) else None

    def take(self, n: int) -> int:
        """Emails that may be sent now, 0 to n."""
        allowance = self._allowance
        return n if allowance is None else allowance.take(n)

    def refund(self, n: int) -> None:
        """So many of those taken were not sent."""
        if self._allowance is not None:
            self._allowance.refund(n)

    def counted(self, emails: int) -> None:
        """So many were delivered, and stand in the books already."""
        now = self._home.clock.now()
        if isinstance(self._allowance, Allowance):
            self._allowance.count(emails, now)
        elif self._allowance is not None:
            self._allowance.count(emails)
        if now < self._catch_up_until:
            self._catch_up_until = min(
                self._catch_up_last, max(self._catch_up_until, now + QUIET_S)
            )

    def advance(self, now: float) -> None:
        """Reckon what is free anew: leases and days end, credit begins."""
        if isinstance(self._allowance, Allowance):
            self._allowance.block(now < self._catch_up_until, now)
        elif self._allowance is not None:
            self._allowance.advance(day_of(now))

    def serve(self, found: License | None) -> None:
        """This licence is in force now; what is under way stays so over a renewal."""
        limits = found.limits if found is not None else None
        held = self._allowance
        if found is not None and limits is not None and limits.volume is not None:
            unreachable_s = float(found.grace.unreachable_s)
            if isinstance(held, Allowance):
                held.limit, held.unreachable_s = limits.volume, unreachable_s
                return
            self._allowance = Allowance(self._home.books, limits.volume, unreachable_s)
        elif limits is not None and limits.dev is not None:
            if isinstance(held, DailyAllowance):
                held.per_day = limits.dev.emails_per_day
                return
            self._allowance = DailyAllowance(self._home.books, limits.dev.emails_per_day)
        else:
            self._allowance = None

    async def begin_anew(self, license_id: str) -> None:
        """Another licence: its figures begin at nought, the journals are read on from where they are. Raises LedgerError."""
        home, old = self._home, self._home.books
        await home.record("license_left")
        fresh = Books(license_id=license_id, cursors=old.cursors, clock=old.clock, is_clean=False)
        for name in fresh.__struct_fields__:
            setattr(old, name, getattr(fresh, name))
        self._allowance = None
        await home.thread.run(home.ledger.open_epoch, old.copy(), "license", home.times())
