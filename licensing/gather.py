"""Gathers what is known at this moment into `Facts`, for `evaluate` to judge. No IO, no decision."""

from licensing.books import Books
from licensing.calendar import day_of
from licensing.contact import Contact
from licensing.facts import ALTERED, Facts, Finding, Held, VolumeUse
from licensing.lease import Allowance
from licensing.selection import Installed, Selection

TEXTS = {
    "ledger_missing": "the ledger of counts is gone; the vendor's figures count",
    "ledger_chain": "the ledger of counts was changed",
    "ledger_unwritable": "the counts could not be written for a quarter of an hour: free space on the disk",
    "ledger_waiting": "the counts cannot be written to disk at the moment and are kept in memory: free space on the disk",
    "spool_gone": "a spool is gone that mail was counted from",
    "journal_gap": "events of a spool were gone before they were counted",
}


def gather(
    selection: Selection,
    contact: Contact,
    books: Books,
    allowance: Allowance | None,
    *,
    now: float,
    node_label: str,
) -> Facts:
    """The facts at `now` (trusted time)."""
    texts = TEXTS | {ALTERED: _names(selection), "fp_mismatch": _marks(contact)}
    findings = [Finding(code, since, texts.get(code, "")) for code, since in books.findings.items()]
    day = day_of(now)
    return Facts(
        held=tuple(_held(each, contact) for each in (*selection.chosen, *selection.staged)),
        node_label=node_label,
        reports=contact.may_talk,
        last_contact=books.contact_at or None,
        volume=_volume(books, allowance) if allowance is not None else None,
        findings=tuple(findings),
        role=books.role,
        dev_day=day,
        dev_used=books.days.get(day, 0),
    )


def _held(each: Installed, contact: Contact) -> Held:
    license_id, revoked = each.license_id, each.revocation
    return Held(
        each.license,
        each.first_seen,
        contact.activations.get(license_id),
        contact.refusals.get(license_id, ""),
        revoked.effective_at.timestamp() if revoked is not None else None,
        revoked.reason if revoked is not None else "",
    )


def _volume(books: Books, allowance: Allowance) -> VolumeUse:
    pool = books.pool
    here = books.cum - books.acked_here.cum
    return VolumeUse(
        period=pool.period if pool is not None else "",
        quota=pool.quota if pool is not None else allowance.limit.emails,
        used=(pool.used if pool is not None else 0) + here,
        left=allowance.left,
        left_until=allowance.left_until,
    )


def _marks(contact: Contact) -> str:
    return f"{contact.fingerprint_match()} of its marks are as they were"


def _names(selection: Selection) -> str:
    return ", ".join(path.name for path in selection.altered)
