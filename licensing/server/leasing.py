"""Leases of a volume pool, inside one transaction: what a report says of them, what is cut anew, what comes back.

Keeps `pool.reserved` equal to the sum of what lies unused in open leases, to the Email.
"""

from collections.abc import Iterable, Mapping
from datetime import date

from msgspec.structs import replace

from licensing.ids import new_id
from licensing.model.license import License, VolumeLimit
from licensing.model.usage import Lease, LeaseUse, Want
from licensing.server import pool as rules
from licensing.server.rows import ActivationRow, LeaseRow, PoolRow
from licensing.server.store import Store


class Pools:
    """The pools of one licence while one request is dealt with: each is read once and written once."""

    def __init__(self, store: Store, license_id: str) -> None:
        self._store = store
        self._license_id = license_id
        self._read: dict[str, PoolRow] = {}
        self._now: dict[str, PoolRow] = {}

    def at(self, period: str) -> PoolRow:
        """A period as it stands now."""
        if period not in self._now:
            self._read[period] = self._now[period] = self._store.pool(self._license_id, period)
        return self._now[period]

    def change(self, period: str, *, used: int = 0, reserved: int = 0) -> None:
        """Add to its figures."""
        row = self.at(period)
        self._now[period] = replace(row, used=row.used + used, reserved=row.reserved + reserved)

    def put_lease(self, before: LeaseRow | None, after: LeaseRow) -> None:
        """Write a lease, and reserve or free what that means."""
        self._store.put_lease(after)
        self.change(after.period, reserved=after.rest - (before.rest if before else 0))

    def write(self) -> None:
        """Write what changed."""
        for period, row in self._now.items():
            if row != self._read[period]:
                self._store.put_pool(row)


def count_days(pools: Pools, terms: VolumeLimit, growth: Mapping[str, int]) -> None:
    """Add Emails to the periods their days belong to. Never refused: that would only hide them."""
    for day, emails in growth.items():
        pools.change(rules.period_at(terms, date.fromisoformat(day)).name, used=emails)


def settle(
    store: Store,
    pools: Pools,
    seat: ActivationRow,
    uses: Iterable[LeaseUse],
    now: int,
    *,
    written_at: int,
    closes: bool,
) -> tuple[list[LeaseRow], list[str]]:
    """What a report says of its leases: those still open, and the ids of those we never gave to this node.

    A report that was on its way for long (`written_at`) tells nothing of what was used since, so it gives nothing back; but a
    lease whose time is over and that its node no longer names is done with. `closes`: the node ends, or opened a new epoch and
    forgot its leases: what is left of them goes back.
    """
    told = {use.id: use.used for use in uses}
    still_open = []
    for lease in store.open_leases(seat.activation_id):
        seen_at = min(now, written_at) if lease.id in told else now
        after = rules.after_report(lease, told.pop(lease.id, 0), seen_at)
        if closes:
            after = replace(after, state="closed")
        if after != lease:
            pools.put_lease(lease, after)
        if after.state == "open":
            still_open.append(after)
    unknown = [name for name, used in told.items() if not _late(store, pools, seat, name, used)]
    return still_open, unknown


def _late(store: Store, pools: Pools, seat: ActivationRow, name: str, used: int) -> bool:
    """Use of a lease that is no longer open; what the vendor had assumed of it is not counted twice. False: not this node's."""
    lease = store.lease(name)
    if lease is None or lease.activation_id != seat.activation_id:
        return False
    used = min(lease.emails, used)
    if used > lease.used:
        if lease.state == "assumed":
            pools.change(lease.period, used=lease.used - used)
        pools.put_lease(lease, replace(lease, used=used))
    return True


def prolong(
    pools: Pools, license: License, terms: VolumeLimit, leases: list[LeaseRow], now: int
) -> list[LeaseRow]:
    """Whoever reports may use what it has for as long again."""
    until = _until(license, terms, now)
    current = rules.period_at(terms, rules.day_at(now)).name
    kept = []
    for lease in leases:
        longer = replace(lease, use_until=max(lease.use_until, until))
        # A few minutes more of a day are not worth a write; a lease of a past period ends with it.
        if lease.period == current and longer.use_until - lease.use_until > (until - now) // 16:
            pools.put_lease(lease, longer)
            lease = longer
        kept.append(lease)
    return kept


def _until(license: License, terms: VolumeLimit, now: int) -> int:
    return rules.use_until(
        terms.lease,
        rules.period_at(terms, rules.day_at(now)),
        now,
        max_silence_s=license.reporting.max_silence_s,
        end=int(license.terminate_at.timestamp()),
    )


def grant(
    store: Store,
    pools: Pools,
    license: License,
    terms: VolumeLimit,
    *,
    seat: ActivationRow,
    epoch: int,
    want: Want,
    held: list[LeaseRow],
    now: int,
) -> LeaseRow | None:
    """Cut a lease from the current period, if the pool has anything for this node."""
    period = rules.period_at(terms, rules.day_at(now)).name
    if terms.lease.reclaim == "on_expiry":
        _reclaim(store, pools, license.license_id, now)
    account = store.account(license.license_id)
    mine = sum(1 for lease in held if lease.period == period)
    emails = rules.block_size(terms, pools.at(period), want, account.nodes, mine)
    until = _until(license, terms, now)
    if emails == 0 or until <= now:
        return None
    account = replace(account, fence=account.fence + 1)
    store.put_account(account)
    lease = LeaseRow(
        id=new_id("ls_", now),
        license_id=license.license_id,
        activation_id=seat.activation_id,
        epoch=epoch,
        fence=account.fence,
        period=period,
        emails=emails,
        used=0,
        use_until=until,
    )
    pools.put_lease(None, lease)
    return lease


def _reclaim(store: Store, pools: Pools, license_id: str, now: int) -> None:
    for lease in store.overdue_leases(license_id, now - rules.EXPIRY_MARGIN_S):
        pools.put_lease(lease, replace(lease, state="closed"))


def adopt(store: Store, pools: Pools, seat: ActivationRow, leases: Iterable[Lease]) -> None:
    """Leases our own signed word says we gave, and which the restored backup does not know (A27)."""
    highest = 0
    for shown in leases:
        highest = max(highest, shown.fence)
        if store.lease(shown.id) is None:
            lease = LeaseRow(
                id=shown.id,
                license_id=seat.license_id,
                activation_id=seat.activation_id,
                epoch=0,
                fence=shown.fence,
                period=shown.period,
                emails=shown.emails,
                used=0,
                use_until=shown.use_until,
            )
            pools.put_lease(None, lease)
    account = store.account(seat.license_id)
    if highest > account.fence:
        store.put_account(replace(account, fence=highest))


def reclaim_by_hand(store: Store, lease: LeaseRow, *, assume_used: bool) -> None:
    """The vendor takes back what is left of a lease; `assume_used` counts it as used until the node says otherwise."""
    pools = Pools(store, lease.license_id)
    rest = lease.rest
    pools.put_lease(lease, replace(lease, state="assumed" if assume_used else "closed"))
    if assume_used:
        pools.change(lease.period, used=rest)
    pools.write()


def as_told(lease: LeaseRow) -> Lease:
    """The lease as a node hears of it."""
    return Lease(
        id=lease.id,
        fence=lease.fence,
        period=lease.period,
        emails=lease.emails,
        use_until=lease.use_until,
    )
