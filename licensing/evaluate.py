"""What the licence allows now: a pure function of facts and time. Design 3.9.

`licensing.rules` judges each thing by itself; here what applies is put together: the worst state names it, the strictest door and
the least delivery hold, so that no rule can give back what another has taken. Licences of one node add up: one that is in trouble
never takes from one that is not.
"""

from collections.abc import Iterable
from dataclasses import replace

from licensing.entitlement import LAB, UNLICENSED, Entitlement, Remark, Stamp, State
from licensing.facts import ALTERED, Facts, Held
from licensing.model.license import CONNECTIONS_PER_STANDARD_LICENCE, Kind
from licensing.remarks import unreadable
from licensing.rules import (
    RANK,
    Ruling,
    Standing,
    Timeline,
    a_standing,
    development_limits,
    of_the_node,
    strictest,
)

_METERED = frozenset({Kind.VOLUME, Kind.DEVELOPMENT})


def evaluate(facts: Facts, now: float) -> Entitlement:
    """What may come in and go out at `now` (seconds since 1970, of the trusted clock), and until when that is so at least."""
    if facts.is_lab:
        return LAB
    time = Timeline(now)
    standings = [a_standing(held, facts, time) for held in _begun(facts.held, time)]
    if not standings:
        return _without(facts)
    bearing = _bearing(standings)
    node = tuple(of_the_node(facts, bearing, time))
    return _together(facts, standings, bearing, node, until=time.until)


def _without(facts: Facts) -> Entitlement:
    """No licence that can be read; if that is because a file was changed, say so (A3)."""
    remarks = tuple(unreadable(each) for each in facts.findings if each.code == ALTERED)
    if not remarks:
        return UNLICENSED
    return replace(UNLICENSED, reason=remarks[0].text, remarks=remarks)


def _begun(held: Iterable[Held], time: Timeline) -> list[Held]:
    """Of each licence the newest revision that has begun: a renewal takes over at its `not_before`, without a gap (C3)."""
    chosen: dict[str, Held] = {}
    for each in sorted(held, key=lambda one: one.license.revision):
        name = each.license.license_id
        if name not in chosen or time.reached(each.license.not_before.timestamp()):
            chosen[name] = each
    return list(chosen.values())


def _bearing(standings: list[Standing]) -> list[Standing]:
    """The licences that count: those that are good, else those in run-off, else the least bad. All of them have the same door."""
    good = [each for each in standings if each.rank <= RANK[State.GRACE] and each.delivers]
    running_off = [each for each in standings if each.delivers]
    best = min(each.rank for each in standings)
    return good or running_off or [each for each in standings if each.rank == best]


def _together(
    facts: Facts,
    standings: list[Standing],
    bearing: list[Standing],
    node: tuple[Ruling, ...],
    *,
    until: float | None,
) -> Entitlement:
    rulings = [each for standing in bearing for each in standing.rulings] + list(node)
    worst = _worst(rulings)
    throttles = [each.throttle for each in node if each.throttle is not None]
    return Entitlement(
        worst.state,
        strictest((bearing[0].injection, *(each.injection for each in node))),
        deliver=bearing[0].delivers and all(each.deliver for each in node),
        max_connections=min(throttles, default=_connections(facts, bearing)),
        is_metered=any(each.held.license.kind in _METERED for each in bearing),
        reason=_reason(worst, rulings),
        until=until,
        deadline=worst.deadline,
        stamp=_stamp(bearing),
        remarks=_remarks(standings, node),
    )


def _worst(rulings: list[Ruling]) -> Ruling:
    """The ruling that names the state: of several of the same, the one whose deadline comes first."""
    forever = float("inf")
    return max(
        rulings,
        key=lambda each: (
            RANK[each.state],
            -(forever if each.deadline is None else each.deadline),
        ),
        default=Ruling(State.VALID),
    )


def _reason(worst: Ruling, rulings: list[Ruling]) -> str:
    if worst.state is not State.VALID and worst.remark is not None:
        return worst.remark.text
    return next((each.reason for each in rulings if each.reason), "")


def _remarks(standings: list[Standing], node: tuple[Ruling, ...]) -> tuple[Remark, ...]:
    """All that is to be told, the worst first."""
    rulings = [each for standing in standings for each in standing.rulings] + list(node)
    rulings.sort(key=lambda each: -RANK[each.state])
    return tuple(each.remark for each in rulings if each.remark is not None)


def _connections(facts: Facts, bearing: list[Standing]) -> int | None:
    """Licences add up; one without a limit lifts it for the server (C13, C14, C15)."""
    total = 0
    for each in bearing:
        own = _connections_of(each.held, facts)
        if own is None:
            return None
        total += own
    return total


def _connections_of(held: Held, facts: Facts) -> int | None:
    terms, activation = held.license, held.activation
    match terms.kind:
        case Kind.STANDARD_SERVER:
            # The seats bound to this server: a licence of two may serve two servers.
            seats = terms.quantity if activation is None else activation.seats
            return CONNECTIONS_PER_STANDARD_LICENCE * min(seats, terms.quantity)
        case Kind.HOT_BACKUP:
            return facts.pair_connections
        case Kind.DEVELOPMENT:
            return terms.limits.dev.max_conn if terms.limits.dev is not None else 0
        case Kind.MANAGEMENT_CONSOLE:
            return 0
        case _:
            return None


def _stamp(bearing: list[Standing]) -> Stamp | None:
    """Every message of a server that only a Development licence bears is stamped (3.11)."""
    limits = development_limits(bearing)
    if len(limits) < len(bearing):
        return None
    return Stamp(
        limits[0].header,
        tuple(sorted({one.lower() for each in limits for one in each.recipients})),
        banner="DEVELOPMENT" if any(each.stamp_banner for each in limits) else "",
        loopback=any(each.loopback for each in limits),
    )
