"""One usage report inside one transaction: judged, counted, leased for, answered; or refused with the offer of a new epoch.

The answer is stored with what it answers, so a node that did not hear it gets the same bytes again (A9). Use is never
refused: what a node says it delivered is added, whether or not it had a lease for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from licensing.errors import LicenseError
from licensing.model.fields import REWIND_GRANT, USAGE_ACK
from licensing.model.license import License, VolumeLimit
from licensing.model.usage import Acked, Closed, Notice, Pool, RewindGrant, UsageAck, UsageReport
from licensing.server import clones, leasing, reports, seats
from licensing.server import pool as pool_rules
from licensing.server.answers import Answer, refuse
from licensing.server.desk import Desk, note
from licensing.server.rows import ActivationRow, AnswerRow, EpochRow, LeaseRow, PoolRow
from licensing.server.store import Store

THRESHOLDS = (100, 95, 90, 80)  # percent of a volume (C26)
MAX_UNKNOWN_LEASES = 8  # named in a finding


@dataclass(frozen=True, slots=True)
class Received:
    """A report whose signature holds: `node_id` is the signer's. `shown`: an ack of ours that came with it (A27)."""

    report: UsageReport
    sha256: str
    envelope: bytes
    node_id: str
    shown: UsageAck | None = None


class ReportClerk:
    """Deals with reports, one at a time; the transaction is the caller's."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def take(self, store: Store, received: Received, now: int, slowdown: float = 1.0) -> Answer:
        """The answer to a report; all it says is written when this returns. Refusals write at most a finding and an offer."""
        report = received.report
        seat = store.activation(report.activation_id)
        known = self._desk.book.current(report.license_id, now)
        if (
            seat is None
            or known is None
            or not received.node_id == report.node_id == seat.node_id
            or seat.license_id != report.license_id
        ):
            return refuse(
                401, "UNKNOWN_NODE", "this node has no such activation: activate it again"
            )
        state = store.epoch(seat.activation_id)
        if state is None:
            return refuse(401, "UNKNOWN_NODE", "nothing is known of this node: activate it again")
        if received.shown is not None:
            state, seat = self._fast_forward(store, seat, state, received.shown, now)
        offer = reports.Offer(seat.offer_epoch, seat.offer_token) if seat.offer_epoch else None
        verdict = reports.judge(
            report,
            received.sha256,
            state=state,
            answered=state.answered_sha256,
            offer=offer,
        )
        match verdict:
            case reports.Repeat():
                stored = store.answer(seat.activation_id)
                assert stored is not None, "it was written with the hash that was just read"
                return Answer(stored.status, stored.body)
            case reports.Apply():
                turn = _Turn(self._desk, store, received, seat, state, known.license, now)
                return turn.count(verdict, slowdown)
            case reports.Conflict():
                return self._conflict(store, received, seat, state, verdict, offer, now)

    def _conflict(
        self,
        store: Store,
        received: Received,
        seat: ActivationRow,
        state: EpochRow,
        found: reports.Conflict,
        offer: reports.Offer | None,
        now: int,
    ) -> Answer:
        fresh = reports.next_offer(received.report.epoch, state, offer, self._desk.token())
        if fresh != offer or seat.offer_reason != found.reason:
            store.put_activation(
                replace(
                    seat,
                    offer_epoch=fresh.epoch,
                    offer_token=fresh.token,
                    offer_reason=found.reason,
                )
            )
        detail = (
            f"{found.detail}; boot {received.report.boot}, fingerprint {received.report.fp_match}"
        )
        store.put_finding(seat.license_id, seat.activation_id, found.reason, detail, now)
        given = RewindGrant(
            in_reply_to=received.sha256,
            server_time=now,
            reason=found.reason,
            new_epoch=fresh.epoch,
            closed=Closed(epoch=state.epoch, seq=state.seq, cum=state.cum),
            token=fresh.token,
        )
        # Not stored as the last answer: a replayed old report would push out the one an honest node may still ask for.
        return Answer(409, self._desk.signer.sign(REWIND_GRANT, given), code=found.reason)

    def _fast_forward(
        self, store: Store, seat: ActivationRow, state: EpochRow, shown: UsageAck, now: int
    ) -> tuple[EpochRow, ActivationRow]:
        """We were restored from a backup, and once said more than we know: our own word counts (A27).

        Only place and token are taken over. The Emails between come with the report itself, which is cumulative, by their days.
        """
        if shown.activation_id != seat.activation_id or not reports.is_ahead(shown.ack, state):
            return state, seat
        is_same = shown.ack.epoch == state.epoch
        forward = EpochRow(
            activation_id=seat.activation_id,
            epoch=shown.ack.epoch,
            seq=shown.ack.seq,
            cum=state.cum if is_same else 0,
            token=shown.token,
            head=shown.ack.head,
            answered_sha256="",
            opened_at=state.opened_at if is_same else now,
            reported_at=state.reported_at,
        )
        store.put_epoch(forward)
        pools = leasing.Pools(store, seat.license_id)
        leasing.adopt(store, pools, seat, shown.leases)
        pools.write()
        note(
            store,
            now,
            "server",
            "fast_forward",
            activation=seat.activation_id,
            epoch=forward.epoch,
            seq=forward.seq,
        )
        return forward, replace(seat, offer_epoch=0, offer_token="", offer_reason="")


class _Turn:
    """A report that counts."""

    def __init__(
        self,
        desk: Desk,
        store: Store,
        received: Received,
        seat: ActivationRow,
        state: EpochRow,
        license: License,
        now: int,
    ) -> None:
        self._desk = desk
        self._store = store
        self._received = received
        self._report = received.report
        self._seat = seat
        self._state = state
        self._license = license
        self._terms = license.limits.volume
        self._now = now
        self._notices: tuple[Notice, ...] = ()  # of this very report

    def count(self, verdict: reports.Apply, slowdown: float) -> Answer:
        """Write all that the report says, and the answer with it."""
        wrong = self._why_not()
        if wrong is not None:
            return wrong
        # As strict as a date can be, and before anything is written.
        opens = verdict.opens_epoch
        stored = {} if opens else self._store.days(self._seat.activation_id, self._report.epoch)
        today = pool_rules.day_at(self._now)
        try:
            growth = reports.spread(self._report.days or {}, stored, verdict.added, today)
        except LicenseError as error:
            return refuse(400, "SCHEMA", f"days: {error}")
        self._store.add_usage(
            self._license.license_id, self._seat.activation_id, self._report.epoch, growth
        )
        pool, leases = None, []
        if self._terms is not None:
            pools = leasing.Pools(self._store, self._license.license_id)
            leasing.count_days(pools, self._terms, growth)
            leases = self._leases(pools, self._terms, opens)
            pools.write()
            pool = pools.at(pool_rules.period_at(self._terms, today).name)
        self._write_node(opens)
        return self._answer(pool, leases, slowdown)

    def _why_not(self) -> Answer | None:
        report, terms = self._report, self._terms
        if terms is not None and (report.cum is None or report.days is None):
            return refuse(
                400, "SCHEMA", "a report under a volume licence counts: cum and days are missing"
            )
        if sum((report.days or {}).values()) > (report.cum or 0):
            return refuse(400, "SCHEMA", "the days add up to more than cum")
        if self._seat.released_at is not None and terms is None:
            return refuse(
                403,
                "SEAT_RELEASED",
                "the seat of this server was released: run `sluice license activate`",
            )
        return None

    # -- what is written ------------------------------------------------------------------------------

    def _leases(
        self, pools: leasing.Pools, terms: VolumeLimit, opens_epoch: bool
    ) -> list[LeaseRow]:
        report, store = self._report, self._store
        leases, unknown = leasing.settle(
            store,
            pools,
            self._seat,
            report.leases or (),
            self._now,
            written_at=report.wall,
            closes=report.final or opens_epoch,
        )
        if unknown:
            named = ", ".join(unknown[:MAX_UNKNOWN_LEASES])
            store.put_finding(
                self._license.license_id,
                self._seat.activation_id,
                "UNKNOWN_LEASE",
                f"never leased to this node: {named}",
                self._now,
            )
        if report.final or self._desk.book.is_revoked(self._license.license_id, self._now):
            return leases
        leases = leasing.prolong(pools, self._license, terms, leases, self._now)
        if report.want is not None:
            cut = leasing.grant(
                store,
                pools,
                self._license,
                terms,
                seat=self._seat,
                epoch=report.epoch,
                want=report.want,
                held=leases,
                now=self._now,
            )
            leases += [cut] if cut is not None else []
        return leases

    def _write_node(self, opens_epoch: bool) -> None:
        report, store, now = self._report, self._store, self._now
        seat = self._seat
        if opens_epoch and seat.offer_reason in ("REWIND", "FORK"):
            self._notices = clones.swapped(store, seat, self._license, report, now)
        was_released = seat.released_at is not None
        seen = seats.seen(seat, self._license, report, now)
        if opens_epoch:
            seen = replace(seen, offer_epoch=0, offer_token="", offer_reason="")
        if seen is not seat:
            store.put_activation(seen)
            seat = seen
        if was_released != report.final:
            account = store.account(seat.license_id)
            nodes = max(0, account.nodes + (-1 if report.final else 1))
            store.put_account(replace(account, nodes=nodes))
        if self._state.seq and (
            day := pool_rules.day_at(self._state.reported_at)
        ) < pool_rules.day_at(now):
            store.keep_evidence(seat.activation_id, day.isoformat())
        self._seat = seat

    def _write_epoch(self, token: str) -> None:
        report = self._report
        cum = self._state.cum if report.cum is None else report.cum
        same = report.epoch == self._state.epoch
        self._store.put_epoch(
            EpochRow(
                activation_id=self._seat.activation_id,
                epoch=report.epoch,
                seq=report.seq,
                cum=cum,
                token=token,
                head=report.head,
                answered_sha256=self._received.sha256,
                opened_at=self._state.opened_at if same else self._now,
                reported_at=self._now,
            )
        )

    # -- the answer -----------------------------------------------------------------------------------

    def _answer(self, pool: PoolRow | None, leases: Sequence[LeaseRow], slowdown: float) -> Answer:
        report, desk, store, now = self._report, self._desk, self._store, self._now
        token = desk.token()
        self._write_epoch(token)
        account = store.account(self._license.license_id)
        told = None if pool is None else self._pool_told(pool, account.nodes)
        newest = desk.book.newest(self._license.license_id)
        renewal = newest.envelope if newest and newest.license.revision > report.revision else None
        listed = desk.book.is_listed(self._license.license_id)
        ack = UsageAck(
            in_reply_to=self._received.sha256,
            activation_id=self._seat.activation_id,
            server_time=now,
            ack=Acked(epoch=report.epoch, seq=report.seq, cum=report.cum, head=report.head),
            token=token,
            activation_until=self._seat.valid_until,
            role=report.role,
            fence=account.fence,
            leases=tuple(leasing.as_told(lease) for lease in leases),
            pool=told,
            next_report_s=reports.next_report(
                self._license.reporting.interval_s, self._seat.node_id, now, slowdown
            ),
            notices=self._said(pool),
            license=renewal,
            revocations=desk.book.revocations if listed else None,
            latest_version=desk.latest_version,
        )
        body = desk.signer.sign(USAGE_ACK, ack)
        received = self._received
        store.put_answer(
            AnswerRow(self._seat.activation_id, received.sha256, 200, body, received.envelope)
        )
        return Answer(200, body)

    def _pool_told(self, pool: PoolRow, nodes: int) -> Pool:
        assert self._terms is not None
        return Pool(
            period=pool.period,
            quota=self._terms.emails,
            used=pool.used,
            reserved=pool.reserved,
            nodes=nodes,
            share=pool_rules.share(self._terms, pool, nodes),
        )

    def _said(self, pool: PoolRow | None) -> tuple[Notice, ...]:
        said = []
        if pool is not None and self._terms is not None:
            percent = pool.used * 100 // self._terms.emails
            crossed = next((each for each in THRESHOLDS if percent >= each), None)
            if crossed is not None:
                said.append(_volume_notice(self._license, self._terms, pool, crossed))
        if self._report.epoch == 1:
            return tuple(said)  # no copy was ever seen: nothing to look for
        told = self._notices or clones.standing(self._store, self._seat, self._license, self._now)
        return (*said, *told)


def _volume_notice(license: License, terms: VolumeLimit, pool: PoolRow, crossed: int) -> Notice:
    text = (
        f"licence {license.license_id}: {pool.used} of {terms.emails} Emails of {pool.period} are used"
        f" ({crossed} % reached); order {license.order_ref}: ask your vendor for more"
    )
    return Notice(
        id=f"vol{crossed}:{pool.period}", level="error" if crossed == 100 else "warn", text=text
    )
