"""What the vendor's server writes to billing contacts (C26, clause 9.5): each notice once to each recipient, whatever happens.

A notice has a name that says what it is about (threshold and period, licence and days, finding). A letter with that name stands
in the books from then on, sent or not, and is never written again. How letters leave, `post` says.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from licensing.model.license import License
from licensing.remarks import EXPIRY_DAYS, VOLUME_PERCENT
from licensing.server.desk import Desk
from licensing.server.pool import day_at, period_at
from licensing.server.rows import ActivationRow, LetterRow
from licensing.server.store import Store

DAY_S = 86_400
MAX_FINDINGS = 100  # of a licence, open ones first
MAX_QUIET = 1_000
_TOLD_FINDINGS = {
    "CLONE": "two servers report with one identity: a machine was copied. Stop one of them, or give it an identity of its own",
    "SEAT_MOVES": "its seats were moved ten times in 30 days: write to us if more moves are needed",
}


@dataclass(frozen=True, slots=True)
class _Notice:
    name: str
    what: str
    text: str


class LetterClerk:
    """Finds what is to be told; the transaction is the caller's. `copies` go to the vendor's own addresses."""

    def __init__(self, desk: Desk, copies: Iterable[str] = ()) -> None:
        self._desk = desk
        self._copies = tuple(copies)

    def licenses(self) -> list[str]:
        """All there are, by id."""
        return sorted({known.license.license_id for known in self._desk.book.all()})

    def write(self, store: Store, license_ids: Iterable[str], now: int) -> None:
        """Put letters into the books for whatever is new about these licences."""
        for license_id in license_ids:
            known = self._desk.book.current(license_id, now)
            recipients = sorted({*store.contacts(license_id), *self._copies})
            if known is None or not recipients or self._desk.book.is_revoked(license_id, now):
                continue
            for notice in self._notices(store, known.license, now):
                for recipient in recipients:
                    store.add_letter(_letter(notice, known.license, recipient, now))

    def _notices(self, store: Store, license: License, now: int) -> Iterator[_Notice]:
        yield from _volume(store, license, now)
        newest = self._desk.book.newest(license.license_id)
        yield from _expiry(newest.license if newest is not None else license, now)
        for found in store.findings(license.license_id, MAX_FINDINGS):
            if found.cleared_at is None and found.code in _TOLD_FINDINGS:
                name = store.activation(found.activation_id)
                who = f"{_node(name)}: " if name is not None else ""
                text = f"{who}{_TOLD_FINDINGS[found.code]} (finding {found.id})."
                yield _Notice(f"finding:{found.id}", "a finding", text)
        if license.reporting.required and now < license.terminate_at.timestamp():
            before = now - license.reporting.notice_s
            for seat in store.quiet_of(license.license_id, before, MAX_QUIET):
                yield _silence(seat)


def _volume(store: Store, license: License, now: int) -> Iterator[_Notice]:
    terms = license.limits.volume
    if terms is None:
        return
    period = period_at(terms, day_at(now)).name
    used = store.pool(license.license_id, period).used
    crossed = max((each for each in VOLUME_PERCENT if used * 100 >= each * terms.emails), default=0)
    if crossed:
        yield _Notice(
            f"volume_{crossed}:{license.license_id}:{license.revision}:{period}",
            f"{crossed} % of the volume",
            f"{used:,} of the {terms.emails:,} Emails of the period {period} are used ({crossed} % reached)."
            " For more, order an upgrade and install it.",
        )


def _expiry(license: License, now: int) -> Iterator[_Notice]:
    left = license.expires_at.timestamp() - now
    days = min((each for each in EXPIRY_DAYS if left <= each * DAY_S), default=0)
    if days and left > 0:
        yield _Notice(
            f"expiry_{days}:{license.license_id}:{license.revision}",
            f"expires in {days} days or less",
            f"It expires on {license.expires_at:%Y-%m-%d %H:%M} UTC. Order the renewal, and install it at any time before.",
        )


def _silence(seat: ActivationRow) -> _Notice:
    return _Notice(
        f"silence:{seat.activation_id}:{seat.last_seen // DAY_S}",
        "a server does not report",
        f"{_node(seat)} has not reported for more than a day. If it is in use, make sure that HTTPS to us works"
        " (`sluice license test-connection`); if not, run `sluice license deactivate` there.",
    )


def _node(seat: ActivationRow) -> str:
    return f"Server {seat.label or seat.node_id}"


def _letter(notice: _Notice, license: License, recipient: str, now: int) -> LetterRow:
    kind = license.kind.value.replace("_", " ")
    whose = (
        f"{kind} licence {license.license_id} of {license.licensee.name}, order {license.order_ref}"
    )
    return LetterRow(
        notice=notice.name,
        recipient=recipient,
        license_id=license.license_id,
        subject=f"Sluice licence {license.license_id}: {notice.what}",
        body=f"This is about the {whose}.\n\n{notice.text}\n\nThis is told once ({notice.name}).\n",
        made_at=now,
        next_at=now,
    )
