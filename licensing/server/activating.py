"""One activation or deactivation inside one transaction, and the sweep that frees seats nobody is heard of on."""

import msgspec
from msgspec.structs import replace

from licensing.model.activation import Activation, ActivationRequest, Deactivation
from licensing.model.fields import ACTIVATION
from licensing.model.license import License
from licensing.server import leasing, reports, seats
from licensing.server.answers import Answer, refuse
from licensing.server.desk import Desk, note
from licensing.server.rows import ActivationRow, EpochRow, LeaseRow
from licensing.server.store import Store

MAX_SEATS_LOOKED_AT = 10_000
RESTORED_QUIET_S = 7 * 86_400  # a rewind without a twin for so long was a restored backup (A26)


class SeatClerk:
    """Gives and takes back seats; the transaction is the caller's."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def activate(
        self,
        store: Store,
        request: ActivationRequest,
        sha256: str,
        node_pub: bytes,
        node_id: str,
        now: int,
    ) -> Answer:
        """The signed activation of the node whose key signed the request, or why there is none."""
        name = seats.activation_id(request.license_id, node_id)
        seat = store.activation(name)
        known = self._desk.book.current(request.license_id, now)
        refused = self._why_not(request, sha256, seat, now)
        if (
            refused is None
            and known is not None
            and not _is_seated(seat, known.license, request, now)
        ):
            refused = self._seat(store, known.license, request, name, now)
        if refused is not None or known is None:
            return refused or unknown_license(request)
        fresh = _as_row(request, known.license, sha256, node_pub, node_id, seat, now)
        epoch, fresh = self._epoch(store, fresh, request, sha256, seat, now)
        store.put_activation(fresh)
        given = Activation(
            activation_id=name,
            license_id=request.license_id,
            node_id=node_id,
            seats=fresh.seats,
            role=request.role,
            fence=store.account(request.license_id).fence,
            epoch=epoch.epoch,
            token=epoch.token,
            valid_until=fresh.valid_until,
            fp=request.fp,
            server_time=now,
            in_reply_to=sha256,
        )
        return Answer(200, self._desk.signer.sign(ACTIVATION, given))

    def _why_not(
        self, request: ActivationRequest, sha256: str, seat: ActivationRow | None, now: int
    ) -> Answer | None:
        if not self._desk.book.has(request.license_id, request.license_sha256):
            return unknown_license(request)
        if self._desk.book.is_revoked(request.license_id, now):
            return refuse(403, "REVOKED", f"licence {request.license_id} was revoked")
        if seat is not None and _is_stale(seat, request, sha256):
            return refuse(
                409, "STALE", "this request is older than the seat's last change: make a new one"
            )
        return None

    def _seat(
        self, store: Store, license: License, request: ActivationRequest, name: str, now: int
    ) -> Answer | None:
        """Take seats for a node, or say why it gets none."""
        others = self._others(store, license, name, now)
        account = store.account(license.license_id)
        since = now - seats.MOVES_WINDOW_S
        decided = seats.decide(
            license,
            request,
            others,
            ever_taken=account.taken,
            recent_moves=store.moves_since(license.license_id, since),
            now=now,
        )
        if isinstance(decided, seats.Refused):
            if decided.code == "SEAT_MOVES":
                store.put_finding(license.license_id, "", decided.code, decided.text, now)
            wait = 86_400 if decided.status == 429 else None
            return refuse(
                decided.status,
                decided.code,
                decided.text,
                seats=decided.seats,
                retry_after_s=wait,
            )
        if decided.is_move:
            store.put_move(license.license_id, now)
        account, held = store.account(license.license_id), store.activation(name)
        is_seated = held is not None and held.released_at is None  # it wants more seats
        more = request.seats - (held.seats if held is not None and is_seated else 0)
        store.put_account(
            replace(
                account,
                taken=account.taken + more,
                nodes=account.nodes + (0 if is_seated else 1),
            )
        )
        note(store, now, "server", "activate", activation=name, license=license.license_id)
        return None

    def _others(self, store: Store, license: License, name: str, now: int) -> list[ActivationRow]:
        if seats.capacity(license) is None:
            return []  # nobody is in anybody's way
        others = []
        for other in store.seated(license.license_id, MAX_SEATS_LOOKED_AT):
            if seats.has_lapsed(other, license, now):
                release(store, other, now, "server", "lapsed")
            elif other.activation_id != name:
                others.append(other)
        return others

    def _epoch(
        self,
        store: Store,
        fresh: ActivationRow,
        request: ActivationRequest,
        sha256: str,
        before: ActivationRow | None,
        now: int,
    ) -> tuple[reports.Offer, ActivationRow]:
        """The epoch and token the node goes on with: a node that has reported before may have lost its state, so a new one."""
        state = store.epoch(fresh.activation_id)
        if state is None:
            token = self._desk.token()
            store.put_epoch(
                EpochRow(
                    fresh.activation_id, 1, 0, 0, token, "", "", opened_at=now, reported_at=now
                )
            )
            return reports.Offer(1, token), fresh
        if state.seq == 0:
            return reports.Offer(state.epoch, state.token), fresh
        had = (
            reports.Offer(before.offer_epoch, before.offer_token)
            if before is not None and before.offer_epoch
            else None
        )
        offer = reports.next_offer(state.epoch, state, had, self._desk.token())
        # What made the epoch necessary stays: activating again must not hide a rewind.
        reason = before.offer_reason if before is not None and had == offer else "ACTIVATION"
        return offer, replace(
            fresh, offer_epoch=offer.epoch, offer_token=offer.token, offer_reason=reason
        )

    def deactivate(
        self, store: Store, request: Deactivation, sha256: str, node_id: str, now: int
    ) -> Answer:
        """Free the seat of the node that signed the request. Asking twice is one effect."""
        seat = store.activation(request.activation_id)
        if seat is None or not node_id == request.node_id == seat.node_id:
            return refuse(401, "UNKNOWN_NODE", "this node has no such activation")
        if seat.released_at is None:
            if sha256 == seat.left_sha256 or request.wall < seat.asked_wall:
                return refuse(409, "STALE", "this request is older than the seat's last activation")
            release(store, seat, now, "node", "deactivated", left_sha256=sha256)
        body = {"activation_id": seat.activation_id, "released": True}
        return Answer(200, msgspec.json.encode(body), is_envelope=False)

    def sweep(self, store: Store, now: int) -> int:
        """Free seats that lapsed, and clear rewinds that had no twin. Returns how many seats."""
        freed = 0
        quiet_since = now - seats.CONTAINER_LAPSE_S  # no seat lapses sooner
        for seat in store.quiet(quiet_since, MAX_SEATS_LOOKED_AT):
            known = self._desk.book.current(seat.license_id, now)
            if known is not None and seats.has_lapsed(seat, known.license, now):
                release(store, seat, now, "server", "lapsed")
                freed += 1
        # A clone that took an identity of its own is not heard of any more; only then are the rewinds it made over.
        for code in ("REKEY", "CLONE", "REWIND", "FORK", "EPOCH"):
            for found in store.stale_findings(code, now - RESTORED_QUIET_S, 1_000):
                codes = {
                    each for each, _ in store.open_codes(found.license_id, found.activation_id)
                }
                if code in ("REKEY", "CLONE") or "CLONE" not in codes:
                    store.clear_finding(found.id, now, "server: no twin for 7 days")
        return freed


def release(
    store: Store,
    seat: ActivationRow,
    now: int,
    actor: str,
    why: str,
    *,
    left_sha256: str | None = None,
) -> None:
    """The seat is free. What is left of its leases goes back only if the node itself said that it ends."""
    if left_sha256 is not None:
        _return_leases(store, store.open_leases(seat.activation_id), seat.license_id)
    left = seat.left_sha256 if left_sha256 is None else left_sha256
    store.put_activation(replace(seat, released_at=now, left_sha256=left))
    account = store.account(seat.license_id)
    store.put_account(replace(account, nodes=max(0, account.nodes - 1)))
    note(store, now, actor, "release", activation=seat.activation_id, why=why)


def _return_leases(store: Store, leases: list[LeaseRow], license_id: str) -> None:
    pools = leasing.Pools(store, license_id)
    for lease in leases:
        pools.put_lease(lease, replace(lease, state="closed"))
    pools.write()


def unknown_license(request: ActivationRequest) -> Answer:
    """Nobody we sold this licence to."""
    return refuse(
        403,
        "UNKNOWN_LICENSE",
        f"the server does not know licence {request.license_id}, revision {request.revision}: ask your vendor",
    )


def _is_stale(seat: ActivationRow, request: ActivationRequest, sha256: str) -> bool:
    """A request that was captured and replayed, to take a seat again that was given back."""
    if sha256 == seat.asked_sha256:
        return seat.released_at is not None
    return request.wall < seat.asked_wall


def _is_seated(
    seat: ActivationRow | None, license: License, request: ActivationRequest, now: int
) -> bool:
    return (
        seat is not None
        and seat.released_at is None
        and seat.seats >= request.seats
        and not seats.has_lapsed(seat, license, now)
    )


def _as_row(
    request: ActivationRequest,
    license: License,
    sha256: str,
    node_pub: bytes,
    node_id: str,
    before: ActivationRow | None,
    now: int,
) -> ActivationRow:
    heard = before.heard if before is not None else False
    return ActivationRow(
        activation_id=seats.activation_id(request.license_id, node_id),
        license_id=request.license_id,
        node_id=node_id,
        node_pub=node_pub,
        server_class=request.server_class,
        role=request.role,
        seats=request.seats,
        label=request.label,
        fp=msgspec.json.encode(request.fp).decode(),
        version=request.version,
        activated_at=before.activated_at if before is not None else now,
        valid_until=seats.valid_until(license, now, heard=heard),
        last_seen=now,
        heard=heard,
        asked_sha256=sha256,
        asked_wall=request.wall,
        left_sha256=before.left_sha256 if before is not None else "",
        offer_epoch=before.offer_epoch if before is not None else 0,
        offer_token=before.offer_token if before is not None else "",
        offer_reason=before.offer_reason if before is not None else "",
    )
