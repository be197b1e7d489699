"""The rules by which a licence, and a node under its licences, are judged.

Each looks at one thing and gives a `Ruling` or nothing. A `Ruling` is a state and what it takes away; `evaluate` puts together
what applies. A rule compares the time only by `Timeline.reached`, which keeps the nearest moment still to come: by construction
nothing can change before it.
In no state is mail deleted, bounced or aged out; no kind but Volume stops for silence (8.4 asks no contact of the others, C2).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from licensing.calendar import DAY_S, business_days_after, next_midnight, start_of_day
from licensing.entitlement import Injection, Remark, State
from licensing.facts import ALTERED, BORNE, CURED, VENDOR_DECIDES_S, Facts, Finding, Held
from licensing.model.license import DevelopmentLimit, Kind
from licensing.remarks import EXPIRY_DAYS, VOLUME_PERCENT, Words

RUN_OFF_EXPIRED_S = 72 * 3_600.0
RUN_OFF_REVOKED_S = 24 * 3_600.0
UNWRITABLE_BORNE_S = 15 * 60.0  # A40: a full disk is a notice first
THROTTLED_CONNECTIONS = 1  # a server kind that is TAMPERED and not cured
HEARTBEATS_MISSED = 2  # server kinds send one a day: one may be late without a word

RANK = {state: rank for rank, state in enumerate(State)}  # State goes from good to bad
STRICTNESS = {
    Injection.OPEN: 0,
    Injection.UNTIL_FULL: 1,
    Injection.STANDBY: 2,
    Injection.REFUSED: 3,
}


class Timeline:
    """A moment, and the nearest later one at which an answer given here would be another."""

    __slots__ = ("now", "until")

    def __init__(self, now: float) -> None:
        self.now = now
        self.until: float | None = None

    def reached(self, at: float) -> bool:
        """Whether it is `at` or later."""
        if self.now >= at:
            return True
        if self.until is None or at < self.until:
            self.until = at
        return False


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one rule says: a state, why, and what it takes away."""

    state: State
    remark: Remark | None = None
    injection: Injection = Injection.OPEN
    deliver: bool = True
    throttle: int | None = None
    deadline: float | None = None
    reason: str = ""  # where there is no remark


@dataclass(frozen=True, slots=True)
class Standing:
    """How one licence stands by itself."""

    held: Held
    words: Words
    rulings: tuple[Ruling, ...]

    @property
    def rank(self) -> int:
        return max((RANK[each.state] for each in self.rulings), default=0)

    @property
    def delivers(self) -> bool:
        return all(each.deliver for each in self.rulings)

    @property
    def injection(self) -> Injection:
        return strictest(each.injection for each in self.rulings)


# -- one licence --------------------------------------------------------------------------------------


def a_standing(held: Held, facts: Facts, time: Timeline) -> Standing:
    """How this licence stands: its term, its activation, whether it was revoked."""
    words = Words(held, facts.node_label)
    found = (rule(held, words, facts, time) for rule in (_term, _activation, _revocation))
    return Standing(held, words, tuple(each for each in found if each is not None))


def _term(held: Held, words: Words, facts: Facts, time: Timeline) -> Ruling | None:
    """Before, within and after its term: PENDING, VALID with notices, GRACE, EXPIRED with a run-off."""
    terms = held.license
    begins, expires = terms.not_before.timestamp(), terms.expires_at.timestamp()
    if not time.reached(begins):
        return Ruling(
            State.PENDING, words.not_begun(begins), Injection.UNTIL_FULL, False, deadline=begins
        )
    terminates = terms.terminate_at.timestamp()
    # The second of `terminate_at` is the last of the grace; where there is none, `expires_at` is exclusive.
    ends = terminates + 1 if terminates > expires else expires
    if time.reached(ends):
        held_from = ends + RUN_OFF_EXPIRED_S
        return Ruling(
            State.EXPIRED,
            words.expired(ends, held_from),
            Injection.REFUSED,
            deliver=not time.reached(held_from),
            deadline=held_from,
        )
    if time.reached(expires):
        return Ruling(State.GRACE, words.grace(expires, ends), deadline=ends)
    if _is_renewed(held, facts):
        return None
    for days in reversed(EXPIRY_DAYS):
        if time.reached(expires - days * DAY_S):
            return Ruling(State.VALID, words.expiry(days, expires))
    return None


def _is_renewed(held: Held, facts: Facts) -> bool:
    """Whether a later revision is installed that begins before this one ends."""
    terms = held.license
    return any(
        each.license.license_id == terms.license_id
        and each.license.revision > terms.revision
        and each.license.not_before <= terms.expires_at
        for each in facts.held
    )


def _activation(held: Held, words: Words, facts: Facts, time: Timeline) -> Ruling | None:
    """Not activated: borne for 72 h. An activation that has run out stops a volume licence only (A19)."""
    terms = held.license
    if terms.binding.mode == "none":
        return None
    if held.activation is None:
        # A renewal that waits for its term need not be activated before it begins.
        deadline = max(held.first_seen, terms.not_before.timestamp()) + terms.grace.activation_s
        if time.reached(deadline):
            return _unlicensed(words.not_activated(deadline))
        return Ruling(State.PENDING, words.pending(deadline), deadline=deadline)
    ended = float(held.activation.valid_until)
    if not time.reached(ended):
        return None
    if terms.kind is Kind.VOLUME:
        return _unlicensed(words.lapsed(ended, stops=True))
    if time.reached(terms.expires_at.timestamp()):
        return None  # an activation ends with its term, and that says the rest
    return Ruling(State.GRACE, words.lapsed(ended, stops=False))


def _unlicensed(remark: Remark) -> Ruling:
    return Ruling(State.UNLICENSED, remark, Injection.REFUSED, deliver=False)


def _revocation(held: Held, words: Words, facts: Facts, time: Timeline) -> Ruling | None:
    """A signed revocation: told before, in force from its moment on, with a run-off of 24 h (C2)."""
    at = held.revoked_at
    if at is None:
        return None
    if not time.reached(at):
        return Ruling(State.VALID, words.to_be_revoked(at))
    held_from = at + RUN_OFF_REVOKED_S
    return Ruling(
        State.REVOKED,
        words.revoked(at, held_from),
        Injection.REFUSED,
        deliver=not time.reached(held_from),
        deadline=held_from,
    )


# -- the node -----------------------------------------------------------------------------------------


def of_the_node(facts: Facts, bearing: list[Standing], time: Timeline) -> Iterator[Ruling]:
    """The rules that are about this node, under the licences that bear it."""
    for rule in _NODE_RULES:
        ruling = rule(facts, bearing, time)
        if ruling is not None:
            yield ruling
    for found in facts.findings:
        yield _finding(found, bearing, time)


def _silence(facts: Facts, bearing: list[Standing], time: Timeline) -> Ruling | None:
    """No contact: notice, GRACE, and a hold under Volume; a notice and no more under the others (C12, A18, A19)."""
    standing = bearing[0]
    activation, terms = standing.held.activation, standing.held.license.reporting
    if activation is None:
        return None
    since = float(activation.server_time)
    if facts.last_contact is not None:
        since = max(since, facts.last_contact)
    if standing.held.license.kind is not Kind.VOLUME:
        if facts.reports and time.reached(since + HEARTBEATS_MISSED * terms.notice_s):
            return Ruling(State.VALID, standing.words.silence(since))
        return None
    held_from, grace_from = since + terms.max_silence_s, since + terms.grace_after_s
    if time.reached(held_from):
        return _hold(standing.words.silence_held(since))
    if time.reached(grace_from):
        remark = standing.words.silence_grace(since, held_from)
        return Ruling(State.GRACE, remark, deadline=held_from)
    if time.reached(since + terms.notice_s):
        return Ruling(State.VALID, standing.words.silence(since, grace_from))
    return None


def _volume_left(facts: Facts, bearing: list[Standing], time: Timeline) -> Ruling | None:
    """Under Volume each Email comes out of what was granted; with nothing left, mail is held (C10, C24)."""
    standing = first_of(Kind.VOLUME, bearing)
    if standing is None:
        return None
    use = facts.volume
    ended = use is not None and use.left_until is not None and time.reached(use.left_until)
    if use is not None and use.left > 0 and not ended:
        return None
    if use is not None and use.used >= use.quota:
        return _hold(standing.words.used_up(use))
    return _hold(standing.words.waiting(use.period if use is not None else ""))


def _volume_used(facts: Facts, bearing: list[Standing], time: Timeline) -> Ruling | None:
    """80, 90, 95 and 100 % of the pool (C26)."""
    standing, use = first_of(Kind.VOLUME, bearing), facts.volume
    if standing is None or use is None:
        return None
    for percent in reversed(VOLUME_PERCENT):
        if use.used * 100 >= use.quota * percent:
            return Ruling(State.VALID, standing.words.volume(percent, use))
    return None


def _day_of_development(facts: Facts, bearing: list[Standing], time: Timeline) -> Ruling | None:
    """A Development licence has a cap a day; held until the next (C25)."""
    standing = first_of(Kind.DEVELOPMENT, bearing)
    if standing is None or not facts.dev_day:
        return None
    cap = max(each.emails_per_day for each in development_limits(bearing))
    if facts.dev_used < cap:
        return None
    midnight = next_midnight(start_of_day(facts.dev_day))
    if time.reached(midnight):
        return None
    return _hold(standing.words.day_used_up(facts.dev_day, cap, midnight), midnight)


def _role(facts: Facts, bearing: list[Standing], time: Timeline) -> Ruling | None:
    """A Hot Backup waits until it is active; a primary that was superseded keeps what it has (C9, A24)."""
    words = bearing[0].words
    if facts.role == "fenced":
        door = Injection.UNTIL_FULL if facts.fenced_accepts else Injection.STANDBY
        return Ruling(State.FENCED, words.role("fenced"), door, deliver=False)
    is_backup = all(each.held.license.kind is Kind.HOT_BACKUP for each in bearing)
    if facts.role == "standby" or (is_backup and facts.role != "active"):
        return Ruling(State.STANDBY, words.role("standby"), Injection.STANDBY, deliver=False)
    return None


def _console(facts: Facts, bearing: list[Standing], time: Timeline) -> Ruling | None:
    """A Management Console has no engine: no mail comes in and none goes out, and nothing is wrong with that."""
    if any(each.held.license.kind is not Kind.MANAGEMENT_CONSOLE for each in bearing):
        return None
    reason = "a Management Console licence has no mail engine: nothing is taken or delivered here"
    return Ruling(State.VALID, None, Injection.REFUSED, deliver=False, reason=reason)


NodeRule = Callable[[Facts, list[Standing], Timeline], Ruling | None]

_NODE_RULES: tuple[NodeRule, ...] = (
    _silence,
    _volume_left,
    _volume_used,
    _day_of_development,
    _role,
    _console,
)


def _finding(found: Finding, bearing: list[Standing], time: Timeline) -> Ruling:
    """Borne for `integrity_s` or the days of cure (C24), then TAMPERED; what is in neither list is a notice."""
    words, graces = bearing[0].words, [each.held.license.grace for each in bearing]
    if found.code == ALTERED:
        return _tampered(found, bearing, time)
    if found.code in CURED:
        deadline = _cured_by(found, bearing)
    elif found.code in BORNE:
        begins = found.since + (UNWRITABLE_BORNE_S if found.code == "ledger_unwritable" else 0.0)
        if not time.reached(begins):
            return Ruling(State.VALID, words.finding(found))
        deadline = begins + max(each.integrity_s for each in graces)
    else:
        return Ruling(State.VALID, words.finding(found))
    if time.reached(deadline):
        return _tampered(found, bearing, time)
    return Ruling(State.GRACE, words.finding(found, deadline), deadline=deadline)


def _cured_by(found: Finding, bearing: list[Standing]) -> float:
    days = max(each.held.license.grace.cure_business_days for each in bearing)
    deadline = business_days_after(found.since, days)
    return deadline + VENDOR_DECIDES_S if found.code == "clone" else deadline


def _tampered(found: Finding, bearing: list[Standing], time: Timeline) -> Ruling:
    """Volume: what is granted and no more, the door as when it is over its limit. Others: all goes on, then one connection."""
    words = bearing[0].words
    if first_of(Kind.VOLUME, bearing) is not None:
        what = "Only what is granted already is delivered; the rest is kept."
        remark = words.tampered(found, what, "tampered")
        return Ruling(State.TAMPERED, remark, Injection.UNTIL_FULL)
    cured_by = _cured_by(found, bearing)
    if time.reached(cured_by):
        remark = words.tampered(found, "Mail goes out over one connection.", "throttled")
        return Ruling(State.TAMPERED, remark, throttle=THROTTLED_CONNECTIONS)
    remark = words.tampered(found, "Later mail will go out over one connection.", "tampered")
    return Ruling(State.TAMPERED, remark, deadline=cured_by)


def _hold(remark: Remark, deadline: float | None = None) -> Ruling:
    return Ruling(State.OVER_LIMIT, remark, Injection.UNTIL_FULL, deliver=False, deadline=deadline)


# -- asked of several licences ------------------------------------------------------------------------------


def development_limits(bearing: list[Standing]) -> list[DevelopmentLimit]:
    """The limits of those among them that are Development licences."""
    found = (each.held.license.limits.dev for each in bearing)
    return [each for each in found if each is not None]


def first_of(kind: Kind, bearing: list[Standing]) -> Standing | None:
    """The first licence of this kind among them."""
    return next((each for each in bearing if each.held.license.kind is kind), None)


def strictest(doors: Iterable[Injection]) -> Injection:
    """The door that lets least in."""
    return max(doors, key=STRICTNESS.__getitem__, default=Injection.OPEN)
