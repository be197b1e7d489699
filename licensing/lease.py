"""What this server may still send under a Volume licence: blocks leased from the pool, and credit when nobody answers.

Oldest lease first. `free` is what may be taken now: what is left of the leases that are good at this moment, or of credit, less
what is under way. `take` only moves integers; all thinking is done in `advance`, once a second. Pure: `now` is an argument
(trusted time), and what must survive a crash is in the books. Design 3.6.

Credit (grace): leases are used up and the vendor was not reached for an hour; then this server's share of what was free at
its last acknowledgement may be used, and `grace_emails_pct` of the quota divided by the servers, up to `grace.unreachable_s`.
"""

from collections import deque
from enum import IntEnum

from licensing.books import Books, HeldLease
from licensing.model.license import VolumeLimit
from licensing.model.usage import Lease, LeaseUse, Pool, Want

UNREACHABLE_S = 3_600.0  # nobody has answered for so long: credit may be used
SOFT, URGENT = 0.5, 0.1  # of what the leases held: ask with the next report, ask at once
URGENT_EVERY_S = 5.0
MAX_LEASES = 16  # the vendor opens two at most; what a broken server sends beyond is not taken
MINUTES = 60


class Need(IntEnum):
    """How badly Emails are wanted."""

    NONE = 0
    SOFT = 1  # with the next report
    URGENT = 2  # now


class HourRate:
    """Emails of the last hour, in sixty buckets."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, int]] = deque(maxlen=MINUTES + 1)

    def add(self, emails: int, now: float) -> None:
        """So many were counted now."""
        minute = int(now // 60)
        if self._minutes and self._minutes[-1][0] == minute:
            emails += self._minutes.pop()[1]
        self._minutes.append((minute, emails))

    def per_hour(self, now: float) -> int:
        """How many in the hour before `now`."""
        first = int(now // 60) - MINUTES
        return sum(emails for minute, emails in self._minutes if minute > first)


class _Stock:
    """Emails that may be taken: integers that move, for it is the hot path of every message."""

    def __init__(self) -> None:
        self.free = 0
        self.taken = 0  # granted, and neither refunded nor counted

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


class Allowance(_Stock):
    """The Emails that may be taken. Never more is granted than leases and credit hold."""

    def __init__(self, books: Books, limit: VolumeLimit, unreachable_s: float) -> None:
        super().__init__()
        self._books = books
        self.limit = limit  # a renewal or upgrade puts another here
        self.unreachable_s = unreachable_s
        self._blocked = False
        self._credit_told: dict[
            str, int
        ] = {}  # as of the report under way; unknown after a restart
        self.rate = HourRate()
        self.left = 0  # not used yet; what is under way is among it, for it may be given back
        self.is_on_credit = False
        self.left_until: float | None = None

    # -- counting -------------------------------------------------------------------------------------

    def count(self, emails: int, now: float) -> None:
        """So many were delivered: used up for ever. More than was taken is possible: after a crash the journal is read again."""
        self.rate.add(emails, now)
        self.taken -= min(emails, self.taken)
        rest = emails
        for lease in self._books.leases:
            part = min(rest, lease.emails - lease.used)
            lease.used += part
            rest -= part
        if rest and self._books.pool is not None:
            used = self._books.credit_used
            period = self._books.pool.period
            used[period] = used.get(period, 0) + rest
        self.advance(now)

    def advance(self, now: float) -> None:
        """Reckon `free` anew: leases end, credit begins and ends."""
        good = [lease for lease in self._books.leases if now < lease.use_until]
        left = sum(lease.emails - lease.used for lease in good)
        ends = [float(lease.use_until) for lease in good if lease.used < lease.emails]
        self.is_on_credit = False
        if self._is_before_first_lease():
            # Before the first lease one start block may be used; the first report tells of it (design 3.4).
            # Of a volume that is smaller than a block, no more than the volume.
            left = max(0, min(self.limit.lease.min, self.limit.emails) - self._books.cum)
        elif left <= self.taken and (credit := self._credit(now)) > 0:
            left += credit
            self.is_on_credit = True
            ends.append(self._books.contact_at + self.unreachable_s)
        self.left_until = max(ends, default=None)
        self.left = max(0, left)
        self.free = 0 if self._blocked else max(0, left - self.taken)

    def block(self, is_blocked: bool, now: float) -> None:
        """Grant nothing: after a crash, until the journals were read to the end, for what they hold is used already."""
        self._blocked = is_blocked
        self.advance(now)

    # -- what the vendor is asked and says ------------------------------------------------------------

    def need(self, now: float) -> Need:
        """Whether a report should ask for Emails."""
        good = [lease for lease in self._books.leases if now < lease.use_until]
        held = sum(lease.emails for lease in good)
        left = sum(lease.emails - lease.used for lease in good) - self.taken
        if left < held * URGENT or not good:
            return Need.URGENT
        return Need.SOFT if left < held * SOFT else Need.NONE

    def want(self, now: float) -> Want | None:
        """What a report asks for: the traffic of `horizon_s` at the last hour's rate, less what is left."""
        if self.need(now) is Need.NONE:
            return None
        rate = self.rate.per_hour(now)
        terms = self.limit.lease
        held = sum(lease.emails - lease.used for lease in self._books.leases)
        wanted = max(terms.min, rate * terms.horizon_s // 3_600) - max(0, held - self.taken)
        return Want(emails=max(terms.min, wanted), rate_1h=rate)

    def uses(self) -> tuple[LeaseUse, ...]:
        """How much of each lease is used, for the report; with it everything sent on credit is told."""
        self._credit_told = dict(self._books.credit_used)
        return tuple(
            LeaseUse(id=lease.id, fence=lease.fence, used=lease.used)
            for lease in self._books.leases
        )

    def settle(
        self, told: tuple[LeaseUse, ...], granted: tuple[Lease, ...], pool: Pool | None, now: float
    ) -> None:
        """An acknowledgement: `told` is what the report said of each lease. Those over and told are let go, new ones come."""
        final = {use.id: use.used for use in told}
        if pool is not None:
            self._books.pool = pool
            # What was sent on credit and told is part of `pool.used` now; the share is reckoned without it.
            told_on_credit, self._credit_told = self._credit_told, {}
            self._books.credit_used = {
                period: used - told_on_credit.get(period, 0)
                for period, used in self._books.credit_used.items()
                if period == pool.period and used > told_on_credit.get(period, 0)
            }
        # Whoever reports may use what it has for longer.
        ends = {lease.id: lease.use_until for lease in granted}
        for held in self._books.leases:
            held.use_until = max(held.use_until, ends.get(held.id, 0))
        keep = [
            lease
            for lease in self._books.leases
            if final.get(lease.id) != lease.used or not self._is_over(lease, now)
        ]
        known = {lease.id for lease in keep} | set(final)
        for lease in granted:
            if lease.id not in known and len(keep) < MAX_LEASES:
                keep.append(
                    HeldLease(
                        id=lease.id,
                        fence=lease.fence,
                        period=lease.period,
                        emails=lease.emails,
                        use_until=lease.use_until,
                    )
                )
        self._books.leases = sorted(keep, key=lambda lease: lease.fence)
        self.advance(now)

    def forget(self, now: float) -> None:
        """A new epoch: the vendor has frozen the leases of the old one, and cuts new ones at the next report."""
        self._books.leases = []
        self.advance(now)

    def forecast(self, now: float) -> float | None:
        """When the pool is used up, if all servers go on as this one in the last hour; None: not in sight."""
        pool, rate = self._books.pool, self.rate.per_hour(now)
        if pool is None or rate == 0:
            return None
        free = max(0, pool.quota - pool.used)
        return now + free / (rate * max(1, pool.nodes)) * 3_600

    # -- within ---------------------------------------------------------------------------------------

    def _is_before_first_lease(self) -> bool:
        return self._books.pool is None and not self._books.leases and self._books.epoch == 1

    def _credit(self, now: float) -> int:
        """What is left of the credit, 0 while the vendor is reached."""
        pool, silent = self._books.pool, now - self._books.contact_at
        if pool is None or not UNREACHABLE_S <= silent <= self.unreachable_s:
            return 0
        extra = pool.quota * self.limit.grace_emails_pct // 100 // max(1, pool.nodes)
        return max(0, pool.share + extra - self._books.credit_used.get(pool.period, 0))

    def _is_over(self, lease: HeldLease, now: float) -> bool:
        pool = self._books.pool
        is_past = pool is not None and lease.period != pool.period
        return lease.used >= lease.emails or now >= lease.use_until or is_past


class DailyAllowance(_Stock):
    """The Emails of a day under a Development licence (3.11, C25): hold until the next UTC day, then go on."""

    def __init__(self, books: Books, per_day: int) -> None:
        super().__init__()
        self._books = books
        self.per_day = per_day

    def count(self, emails: int) -> None:
        """So many were delivered."""
        self.taken -= min(emails, self.taken)

    def advance(self, day: str) -> None:
        """Reckon `free` anew for this day."""
        self.free = max(0, self.per_day - self._books.days.get(day, 0) - self.taken)
