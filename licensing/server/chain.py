"""The audit log's chain: each record's hash covers the one before, so that no line can be changed or taken out unseen. Pure."""

import hashlib
from collections.abc import Iterable

from licensing.server.rows import AuditRow

GENESIS = hashlib.sha256(b"sluice-license-audit-v1").hexdigest()


def link(prev: str, record: bytes) -> str:
    """The hash of a record that follows `prev`."""
    return hashlib.sha256(bytes.fromhex(prev) + record).hexdigest()


def first_break(rows: Iterable[AuditRow], prev: str = GENESIS) -> int | None:
    """The number of the first record that does not fit what stands before it, None if all fit."""
    for row in rows:
        if row.prev != prev or row.hash != link(prev, row.record):
            return row.number
        prev = row.hash
    return None
