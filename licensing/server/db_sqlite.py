"""The books in SQLite: the statements of `store.Store`. The file is opened by `db_open`.

It is used from one thread at a time; who that is, `commit` says.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import apsw
from msgspec.structs import astuple

from licensing.server.rows import (
    Account,
    ActivationRow,
    AnswerRow,
    AuditRow,
    EpochRow,
    FindingRow,
    LeaseRow,
    LetterRow,
    LicenseRow,
    PoolRow,
    UsageRow,
)

KEPT_EVIDENCE_DAYS = 400  # as long as the nodes keep theirs (C6)

Row = TypeVar("Row")


def _put(table: str, row: type[Any]) -> str:
    names = row.__struct_fields__
    # Not OR REPLACE, which takes the row out of every index and puts it in again.
    changed = ", ".join(f"{name} = excluded.{name}" for name in names)
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks}) ON CONFLICT DO UPDATE SET {changed}"


def _select(table: str, row: type[Any], rest: str) -> str:
    names = ", ".join(row.__struct_fields__)
    return f"SELECT {names} FROM {table} {rest}"


_PUT_LICENSE = _put("license", LicenseRow)
_PUT_ACCOUNT = _put("account", Account)
_PUT_ACTIVATION = _put("activation", ActivationRow)
_PUT_EPOCH = _put("node_state", EpochRow)
_PUT_ANSWER = _put("last_response", AnswerRow)
_PUT_POOL = _put("pool", PoolRow)
_PUT_LEASE = _put("lease", LeaseRow)
_PUT_AUDIT = _put("audit_log", AuditRow)
_LICENSES = _select("license", LicenseRow, "ORDER BY license_id, revision")
_ACCOUNT = _select("account", Account, "WHERE license_id = ?")
_ACTIVATION = _select("activation", ActivationRow, "WHERE activation_id = ?")
_SEATED = _select(
    "activation",
    ActivationRow,
    "WHERE released_at IS NULL AND license_id = ? ORDER BY activation_id LIMIT ?",
)
_ALL_SEATED = _select(
    "activation", ActivationRow, "WHERE released_at IS NULL ORDER BY activation_id LIMIT ?"
)
_QUIET = _select("activation", ActivationRow, "WHERE released_at IS NULL AND last_seen < ? LIMIT ?")
_EPOCH = _select("node_state", EpochRow, "WHERE activation_id = ? ORDER BY epoch DESC LIMIT 1")
_ANSWER = _select("last_response", AnswerRow, "WHERE activation_id = ?")
_POOL = _select("pool", PoolRow, "WHERE license_id = ? AND period = ?")
_LEASE = _select("lease", LeaseRow, "WHERE id = ?")
_OPEN_LEASES = _select(
    "lease", LeaseRow, "WHERE activation_id = ? AND state = 'open' ORDER BY fence"
)
_OVERDUE = _select(
    "lease", LeaseRow, "WHERE license_id = ? AND state = 'open' AND use_until < ? LIMIT 1000"
)
_LEASES = _select("lease", LeaseRow, "WHERE license_id = ? AND state = 'open' LIMIT ?")
_USAGE = _select(
    "usage_day",
    UsageRow,
    "WHERE license_id = ? AND day >= ? AND day <= ? ORDER BY day, activation_id, epoch LIMIT ?",
)
_FINDINGS = _select(
    "finding",
    FindingRow,
    "WHERE (?1 IS NULL OR license_id = ?1) ORDER BY cleared_at IS NOT NULL, last_at DESC LIMIT ?2",
)
_FINDING = _select("finding", FindingRow, "WHERE id = ?")
_STALE = _select(
    "finding", FindingRow, "WHERE code = ? AND cleared_at IS NULL AND last_at < ? LIMIT ?"
)
_PUT_LETTER = _put("letter", LetterRow)
_ADD_LETTER = _PUT_LETTER.partition(" ON CONFLICT ")[0] + " ON CONFLICT DO NOTHING"
_DUE_LETTERS = _select(
    "letter", LetterRow, "WHERE settled_at IS NULL AND next_at <= ? ORDER BY next_at LIMIT ?"
)
_LETTERS = _select(
    "letter", LetterRow, "WHERE (?1 IS NULL OR license_id = ?1) ORDER BY made_at DESC LIMIT ?2"
)
_QUIET_OF = _select(
    "activation",
    ActivationRow,
    "WHERE released_at IS NULL AND license_id = ? AND last_seen < ? LIMIT ?",
)
_LAST_AUDIT = _select("audit_log", AuditRow, "ORDER BY number DESC LIMIT 1")
_AUDIT = _select("audit_log", AuditRow, "WHERE number > ? ORDER BY number LIMIT ?")


class SqliteStore:
    """The statements of `Store` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._execute: Callable[..., Iterable[Any]] = connection.execute

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is done inside is undone if it raises, and what was done before it stays."""
        with self._connection:
            yield

    def begin(self) -> None:
        """Begin a transaction. Raises apsw.Error."""
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """What was written is on disk when this returns. Raises apsw.Error."""
        self._execute("COMMIT")

    def roll_back(self) -> None:
        """Undo the transaction, if there still is one."""
        if not self._connection.get_autocommit():
            self._execute("ROLLBACK")

    def close(self) -> None:
        """Close the file; the log is copied back."""
        self._connection.close()

    def _one(self, kind: type[Row], sql: str, *values: Any) -> Row | None:
        for found in self._execute(sql, values):
            return kind(*found)
        return None

    def _all(self, kind: type[Row], sql: str, *values: Any) -> list[Row]:
        return [kind(*found) for found in self._execute(sql, values)]

    def _count(self, sql: str, *values: Any) -> int:
        return next(int(row[0]) for row in self._execute(sql, values))

    def _put(self, sql: str, row: Any) -> None:
        self._execute(sql, astuple(row))

    # -- licences

    def licenses(self) -> list[LicenseRow]:
        """All revisions of all licences."""
        return self._all(LicenseRow, _LICENSES)

    def put_license(self, row: LicenseRow) -> None:
        """Keep a revision."""
        self._put(_PUT_LICENSE, row)

    def account(self, license_id: str) -> Account:
        """The account of a licence, an empty one if nothing was ever done under it."""
        return self._one(Account, _ACCOUNT, license_id) or Account(license_id)

    def put_account(self, row: Account) -> None:
        """Write an account."""
        self._put(_PUT_ACCOUNT, row)

    def revocations(self) -> bytes | None:
        """The newest statement of revocations."""
        sql = "SELECT envelope FROM revocation ORDER BY number DESC LIMIT 1"
        for (envelope,) in self._execute(sql):
            return bytes(envelope)
        return None

    def put_revocations(self, number: int, envelope: bytes, at: int) -> None:
        """Keep a statement of revocations."""
        self._execute("INSERT OR REPLACE INTO revocation VALUES (?, ?, ?)", (number, envelope, at))

    # -- nodes

    def node_keys(self) -> list[bytes]:
        """The raw public keys of all nodes that ever activated."""
        return [row[0] for row in self._execute("SELECT DISTINCT node_pub FROM activation")]

    def activation(self, activation_id: str) -> ActivationRow | None:
        """One activation, released or not."""
        return self._one(ActivationRow, _ACTIVATION, activation_id)

    def put_activation(self, row: ActivationRow) -> None:
        """Write an activation."""
        self._put(_PUT_ACTIVATION, row)

    def seated(self, license_id: str | None, limit: int) -> list[ActivationRow]:
        """Activations that have their seats, of one licence or of all."""
        if license_id is None:
            return self._all(ActivationRow, _ALL_SEATED, limit)
        return self._all(ActivationRow, _SEATED, license_id, limit)

    def quiet(self, since: int, limit: int) -> list[ActivationRow]:
        """Seated nodes that were not heard of since then."""
        return self._all(ActivationRow, _QUIET, since, limit)

    def moves_since(self, license_id: str, since: int) -> int:
        """How many seats moved since then."""
        sql = "SELECT count(*) FROM seat_move WHERE license_id = ? AND at > ?"
        return self._count(sql, license_id, since)

    def put_move(self, license_id: str, at: int) -> None:
        """A seat moved."""
        self._execute("INSERT INTO seat_move (license_id, at) VALUES (?, ?)", (license_id, at))

    def forget_moves(self, license_id: str) -> None:
        """The vendor allows more moves."""
        self._execute("DELETE FROM seat_move WHERE license_id = ?", (license_id,))

    # -- reports

    def epoch(self, activation_id: str) -> EpochRow | None:
        """The newest epoch of a node."""
        return self._one(EpochRow, _EPOCH, activation_id)

    def put_epoch(self, row: EpochRow) -> None:
        """Write where a node's epoch stands."""
        self._put(_PUT_EPOCH, row)

    def answer(self, activation_id: str) -> AnswerRow | None:
        """The last answer a node was given."""
        return self._one(AnswerRow, _ANSWER, activation_id)

    def put_answer(self, row: AnswerRow) -> None:
        """Keep an answer, for the same question may come again."""
        self._put(_PUT_ANSWER, row)

    def keep_evidence(self, activation_id: str, day: str) -> None:
        """The last report that was counted was the last of its day: keep it."""
        self._execute(
            "INSERT OR REPLACE INTO evidence SELECT activation_id, ?, envelope"
            " FROM last_response WHERE activation_id = ?",
            (day, activation_id),
        )

    def days(self, activation_id: str, epoch: int) -> dict[str, int]:
        """Emails by UTC day of one node and epoch."""
        sql = "SELECT day, emails FROM usage_day WHERE activation_id = ? AND epoch = ?"
        return dict(self._execute(sql, (activation_id, epoch)))

    def add_usage(
        self, license_id: str, activation_id: str, epoch: int, growth: Mapping[str, int]
    ) -> None:
        """Add Emails to days."""
        for day, emails in growth.items():
            self._execute(
                "INSERT INTO usage_day VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET emails = emails + excluded.emails",
                (license_id, activation_id, epoch, day, emails),
            )

    def usage(self, license_id: str, since: str, until: str, limit: int) -> list[UsageRow]:
        """Emails by day, both days included."""
        return self._all(UsageRow, _USAGE, license_id, since, until, limit)

    # -- pools

    def pool(self, license_id: str, period: str) -> PoolRow:
        """A period of a licence, empty if nothing was used or leased in it."""
        return self._one(PoolRow, _POOL, license_id, period) or PoolRow(license_id, period)

    def put_pool(self, row: PoolRow) -> None:
        """Write a period's figures."""
        self._put(_PUT_POOL, row)

    def lease(self, lease_id: str) -> LeaseRow | None:
        """One lease in any state."""
        return self._one(LeaseRow, _LEASE, lease_id)

    def put_lease(self, row: LeaseRow) -> None:
        """Write a lease."""
        self._put(_PUT_LEASE, row)

    def open_leases(self, activation_id: str) -> list[LeaseRow]:
        """The open leases of a node, the oldest first."""
        return self._all(LeaseRow, _OPEN_LEASES, activation_id)

    def overdue_leases(self, license_id: str, before: int) -> list[LeaseRow]:
        """Open leases of a licence whose time was over before this moment, at most a thousand."""
        return self._all(LeaseRow, _OVERDUE, license_id, before)

    def leases(self, license_id: str, limit: int) -> list[LeaseRow]:
        """The open leases of a licence."""
        return self._all(LeaseRow, _LEASES, license_id, limit)

    # -- findings and the audit log

    def add_swap(self, activation_id: str, at: int, since: int) -> int:
        """An epoch was opened after a rewind: how many since then, with this one."""
        self._execute("INSERT INTO swap (activation_id, at) VALUES (?, ?)", (activation_id, at))
        sql = "SELECT count(*) FROM swap WHERE activation_id = ? AND at > ?"
        return self._count(sql, activation_id, since)

    def put_finding(
        self, license_id: str, activation_id: str, code: str, detail: str, at: int
    ) -> None:
        """Open a finding, or count it once more while it is open."""
        self._execute(
            "INSERT INTO finding (license_id, activation_id, code, detail, first_at, last_at, times, cleared_by)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?5, 1, '')"
            " ON CONFLICT (license_id, activation_id, code) WHERE cleared_at IS NULL"
            " DO UPDATE SET times = times + 1, last_at = excluded.last_at, detail = excluded.detail",
            (license_id, activation_id, code, detail, at),
        )

    def findings(self, license_id: str | None, limit: int) -> list[FindingRow]:
        """Findings, the open ones first, the newest first."""
        return self._all(FindingRow, _FINDINGS, license_id, limit)

    def finding(self, finding_id: int) -> FindingRow | None:
        """One finding."""
        return self._one(FindingRow, _FINDING, finding_id)

    def clear_finding(self, finding_id: int, at: int, by: str) -> None:
        """It is settled, says `by`."""
        self._execute(
            "UPDATE finding SET cleared_at = ?, cleared_by = ? WHERE id = ?", (at, by, finding_id)
        )

    def open_codes(self, license_id: str, activation_id: str) -> list[tuple[str, int]]:
        """Code and number of each open finding of a node."""
        sql = (
            "SELECT code, id FROM finding"
            " WHERE license_id = ? AND activation_id = ? AND cleared_at IS NULL"
        )
        return [
            (str(code), int(number))
            for code, number in self._execute(sql, (license_id, activation_id))
        ]

    def stale_findings(self, code: str, before: int, limit: int) -> list[FindingRow]:
        """Open findings of a sort that were last seen before this moment."""
        return self._all(FindingRow, _STALE, code, before, limit)

    def last_audit(self) -> AuditRow | None:
        """The end of the audit log's chain."""
        return self._one(AuditRow, _LAST_AUDIT)

    def put_audit(self, row: AuditRow) -> None:
        """Append to the audit log."""
        self._put(_PUT_AUDIT, row)

    def audit(self, after: int, limit: int) -> list[AuditRow]:
        """Records of the audit log in their order."""
        return self._all(AuditRow, _AUDIT, after, limit)

    # -- letters

    def contacts(self, license_id: str) -> list[str]:
        """Whom a licence's notices go to."""
        sql = "SELECT mailbox FROM contact WHERE license_id = ? ORDER BY mailbox"
        return [str(mailbox) for (mailbox,) in self._execute(sql, (license_id,))]

    def put_contacts(self, license_id: str, addresses: Sequence[str]) -> None:
        """From now on these, and no others."""
        self._execute("DELETE FROM contact WHERE license_id = ?", (license_id,))
        for address in addresses:
            self._execute("INSERT OR IGNORE INTO contact VALUES (?, ?)", (license_id, address))

    def quiet_of(self, license_id: str, since: int, limit: int) -> list[ActivationRow]:
        """Seated nodes of a licence that were not heard of since then."""
        return self._all(ActivationRow, _QUIET_OF, license_id, since, limit)

    def add_letter(self, row: LetterRow) -> None:
        """Write a letter, unless this notice was written to this recipient before."""
        self._put(_ADD_LETTER, row)

    def put_letter(self, row: LetterRow) -> None:
        """What became of it."""
        self._put(_PUT_LETTER, row)

    def due_letters(self, now: int, limit: int) -> list[LetterRow]:
        """Those to be taken away now, the longest due first."""
        return self._all(LetterRow, _DUE_LETTERS, now, limit)

    def letters(self, license_id: str | None, limit: int) -> list[LetterRow]:
        """Letters of a licence, or of all, the newest first."""
        return self._all(LetterRow, _LETTERS, license_id, limit)

    # -- the books themselves

    def raise_fences(self, by: int) -> None:
        """All fences jump: no number that was given after the backup can come again (A27)."""
        self._execute("UPDATE account SET fence = fence + ?", (by,))

    def forget_before(self, day: str, at: int) -> None:
        """Drop what has no use any more: old evidence and letters, and moves and swaps beyond their windows."""
        self._execute("DELETE FROM evidence WHERE day < ?", (day,))
        old = "settled_at IS NOT NULL AND date(settled_at, 'unixepoch') < ?"
        self._execute(f"DELETE FROM letter WHERE {old}", (day,))
        self._execute("DELETE FROM seat_move WHERE at < ?", (at,))
        self._execute("DELETE FROM swap WHERE at < ?", (at,))
