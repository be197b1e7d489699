"""What licensing says of itself to an operator: values that JSON has, in the words of the documentation. Read only."""

import base64
import json
from typing import Any

from licensing.books import Books
from licensing.contact import Contact
from licensing.entitlement import Entitlement
from licensing.envelope import Envelope, decode_envelope
from licensing.errors import LicenseError
from licensing.installation import Installation
from licensing.lease import Allowance
from licensing.selection import Installed, Selection


def describe_license(each: Installed, contact: Contact) -> dict[str, Any]:
    """One installed licence, as `license show` has it."""
    found = each.license
    held = contact.activations.get(found.license_id)
    return {
        "license_id": found.license_id,
        "revision": found.revision,
        "kind": str(found.kind),
        "limitation": str(found.limitation),
        "quantity": found.quantity,
        "licensee": found.licensee.name,
        "customer_id": found.licensee.customer_id,
        "order_ref": found.order_ref,
        "not_before": found.not_before.isoformat(),
        "expires_at": found.expires_at.isoformat(),
        "terminate_at": found.terminate_at.isoformat(),
        "support_until": found.support_until.isoformat(),
        "updates_until": found.updates_until.isoformat(),
        "production": each.opened.production,
        "file": str(each.path),
        "is_copy": each.is_copy,
        "sha256": each.opened.sha256,
        "activation_id": held.activation_id if held is not None else None,
        "seats": held.seats if held is not None else None,
        "refusal": contact.refusals.get(found.license_id, ""),
    }


def describe_status(
    home: Installation,
    contact: Contact,
    selection: Selection,
    allowance: Allowance | None,
    entitlement: Entitlement,
    in_use: int,
) -> dict[str, Any]:
    """All of it, as `license status --json` has it."""
    books, now = home.books, home.clock.now()
    return {
        "state": str(entitlement.state),
        "exit_code": entitlement.exit_code,
        "injection": str(entitlement.injection),
        "deliver": entitlement.deliver,
        "reason": entitlement.reason,
        "until": entitlement.until,
        "deadline": entitlement.deadline,
        "remarks": [
            {"code": each.code, "level": each.level, "text": each.text}
            for each in entitlement.remarks
        ],
        "node_id": home.key.id,
        "seat_class": home.machine.machine_class,
        "licenses": [describe_license(each, contact) for each in selection.chosen],
        "staged": [describe_license(each, contact) for each in selection.staged],
        "passed_over": [
            {"file": str(each.path), "code": each.code, "reason": each.text}
            for each in selection.passed_over
        ],
        "connections": {
            "in_use": in_use,
            "limit": entitlement.max_connections,
            "peak": books.conn_peak,
        },
        "volume": _volume(books, allowance, now) if allowance is not None else None,
        "findings": books.findings,
        "fingerprint": str(contact.fingerprint_match() or ""),
        "report": _report(books, contact, now),
        "clock": {"now": now, "offset": home.clock.offset},
        "latest_version": contact.latest_version,
    }


def describe_usage(books: Books) -> dict[str, Any]:
    """Own figures beside the acknowledged ones: those are what is billed (C27)."""
    acked = books.acked_here
    return {
        "license_id": books.license_id,
        "epoch": books.epoch,
        "counted": books.cum,
        "acknowledged": acked.cum,
        "difference": books.cum - acked.cum,
        "days": {
            day: {"counted": emails, "acknowledged": acked.days.get(day, 0)}
            for day, emails in sorted(books.days.items())
        },
    }


def describe_sent(data: bytes) -> dict[str, Any]:
    """A body that left, as it left and as it reads."""
    text = data.decode("utf-8", "replace")
    try:
        envelope = decode_envelope(data)
    except LicenseError:
        return {"bytes": text, "statement": None}
    return {
        "bytes": text,
        "payload_type": envelope.payload_type,
        "statement": _statement(envelope),
    }


def _statement(envelope: Envelope) -> Any:
    return json.loads(base64.b64decode(envelope.payload))


def _volume(books: Books, allowance: Allowance, now: float) -> dict[str, Any]:
    pool = books.pool
    return {
        "period": pool.period if pool is not None else None,
        "quota": pool.quota if pool is not None else allowance.limit.emails,
        "used": pool.used if pool is not None else None,
        "servers": pool.nodes if pool is not None else None,
        "counted_here": books.cum,
        "left": allowance.left,
        "under_way": allowance.taken,
        "on_credit": allowance.is_on_credit,
        "rate_1h": allowance.rate.per_hour(now),
        "exhausted_at": allowance.forecast(now),
        "leases": [
            {
                "id": each.id,
                "emails": each.emails,
                "used": each.used,
                "use_until": each.use_until,
            }
            for each in books.leases
        ],
    }


def _report(books: Books, contact: Contact, now: float) -> dict[str, Any]:
    reporter = contact.reporter
    return {
        "enabled": contact.may_talk,
        "last_contact": books.contact_at or None,
        "age": now - books.contact_at if books.contact_at else None,
        "epoch": books.epoch,
        "seq": books.seq,
        "under_way": reporter.is_under_way if reporter is not None else False,
        "tries": reporter.tries if reporter is not None else 0,
        "next_at": reporter.next_at(now) if reporter is not None else None,
        "failure": contact.failure,
    }
