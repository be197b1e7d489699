"""Two machines with one identity (A2): who is told what, and which of the two must take an identity of its own.

Each time the other one reports, the identity changes hands: a swap. The second within a day is no restored backup any more. Under
Volume the copy is told at once to begin anew, for any number of servers may send; under a server licence it is told when the
days of cure are over (C24), and then needs a seat of its own. The younger one is told: whose machine is less like the one that
was activated; where both are alike, the one that reports first then. Never both: the next swap is the other's, who goes on.
"""

import msgspec

from licensing.calendar import business_days_after
from licensing.envelope import decode_envelope
from licensing.model.license import License
from licensing.model.usage import Notice, UsageReport
from licensing.server.desk import note
from licensing.server.rows import ActivationRow
from licensing.server.store import Store

CLONE_WINDOW_S = 86_400  # the second swap within a day is no restored backup but two machines
SWAPS_OF_A_CLONE = 2

_CLONE_TEXT = (
    "two servers report with the same identity: a machine was copied. Give the copy an identity of its own (delete its"
    " state directory's node key and activate it), or stop it"
)
_REKEY_TEXT = (
    "this server is a copy of another one, which goes on with its identity: it begins anew with an identity of its own,"
    " and needs a seat of its own"
)


def swapped(
    store: Store, seat: ActivationRow, license: License, report: UsageReport, now: int
) -> tuple[Notice, ...]:
    """The identity has changed hands with this report. What the reporter is told, where that is another thing than `standing`."""
    swaps = store.add_swap(seat.activation_id, now, now - CLONE_WINDOW_S)
    if swaps < SWAPS_OF_A_CLONE:
        return ()
    detail = f"{swaps} swaps within a day; boot {report.boot}, fingerprint {report.fp_match}"
    store.put_finding(seat.license_id, seat.activation_id, "CLONE", detail, now)
    note(store, now, "server", "clone", activation=seat.activation_id)
    told = dict(store.open_codes(seat.license_id, seat.activation_id)).get("REKEY")
    if told is not None:  # the other one was, and this one goes on
        store.clear_finding(told, now, "server: the other one has reported")
        return ()
    if not _is_over(store, seat, license, now) or not _is_younger(store, seat, report):
        return ()
    store.put_finding(seat.license_id, seat.activation_id, "REKEY", detail, now)
    note(store, now, "server", "rekey", activation=seat.activation_id)
    number = dict(store.open_codes(seat.license_id, seat.activation_id))["REKEY"]
    return (Notice(id=f"rekey:{number}", level="error", text=_REKEY_TEXT),)


def standing(store: Store, seat: ActivationRow, license: License, now: int) -> tuple[Notice, ...]:
    """What both are told in each answer while it lasts: under a server licence, until the days of cure are over."""
    number = dict(store.open_codes(seat.license_id, seat.activation_id)).get("CLONE")
    if number is None or (license.limits.volume is None and _is_over(store, seat, license, now)):
        return ()
    return (Notice(id=f"clone:{number}", level="error", text=_CLONE_TEXT),)


def _is_over(store: Store, seat: ActivationRow, license: License, now: int) -> bool:
    """Whether nobody waits any longer for the customer to put it right; under Volume there is no need to."""
    if license.limits.volume is not None:
        return True
    number = dict(store.open_codes(seat.license_id, seat.activation_id)).get("CLONE")
    found = store.finding(number) if number is not None else None
    days = license.grace.cure_business_days
    return found is not None and now >= business_days_after(found.first_at, days)


def _is_younger(store: Store, seat: ActivationRow, report: UsageReport) -> bool:
    """Against the report that was counted last: the other's."""
    last = store.answer(seat.activation_id)
    if last is None or not last.envelope:
        return True
    other = msgspec.json.decode(decode_envelope(last.envelope).payload_bytes(), type=UsageReport)
    return _likeness(report.fp_match) <= _likeness(other.fp_match)


def _likeness(match: str) -> float:
    """How much of the machine is as it was at activation, of "4/5"; a container has no marks, and all of them are right."""
    same, of = map(int, match.split("/"))
    return same / of if of else 1.0
