"""The database file, the audit chain and the ring of errors."""

import stat
from pathlib import Path

import apsw
import pytest
from msgspec.structs import replace

from licensing.errors import LicenseError
from licensing.server.chain import first_break
from licensing.server.db_open import open_books
from licensing.server.db_sqlite import SqliteStore
from licensing.server.desk import note
from licensing.server.incidents import MAX_AGE_S, Incident, Incidents
from licensing.server.rows import Account, EpochRow, FindingRow
from tests.support.licence_office import DAY_S, Office, Twin, a_volume
from tests.support.vendor import Vendor


def test_the_books_are_for_their_owner_only_and_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    store = SqliteStore(open_books(path))
    store.put_account(Account("L1", fence=7))
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = SqliteStore(open_books(path))
    assert again.account("L1").fence == 7
    again.raise_fences(1 << 20)
    assert again.account("L1").fence == 7 + (1 << 20)
    again.close()


def test_commits_are_synced(tmp_path: Path) -> None:
    connection = open_books(tmp_path / "books.db")
    assert connection.pragma("synchronous") == 2  # FULL
    assert connection.pragma("journal_mode") == "wal"


def test_books_of_a_newer_release_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(LicenseError, match="newer release"):
        open_books(path)


def test_the_newest_epoch_is_the_one_that_counts() -> None:
    store = SqliteStore(open_books(":memory:"))
    for epoch in (1, 3, 2):
        store.put_epoch(EpochRow("A1", epoch, epoch * 10, 5, "t", "", "", 0, 0))
    found = store.epoch("A1")
    assert found is not None
    assert (found.epoch, found.seq) == (3, 30)


def test_a_finding_is_one_row_while_it_is_open() -> None:
    store = SqliteStore(open_books(":memory:"))
    for at in (1, 2, 3):
        store.put_finding("L1", "A1", "REWIND", f"seen at {at}", at)
    (found,) = store.findings("L1", 10)
    assert found == FindingRow(1, "L1", "A1", "REWIND", "seen at 3", 1, 3, 3, None, "")
    store.clear_finding(found.id, 4, "jane")
    store.put_finding("L1", "A1", "REWIND", "again", 5)
    assert [each.cleared_by for each in store.findings(None, 10)] == ["", "jane"]


def test_a_changed_or_missing_line_of_the_audit_log_is_found() -> None:
    store = SqliteStore(open_books(":memory:"))
    for number in range(5):
        note(store, number, "jane", "release", activation=f"A{number}")
    rows = store.audit(0, 10)
    assert first_break(rows) is None
    changed = [
        *rows[:2],
        replace(rows[2], record=rows[2].record.replace(b"jane", b"john")),
        *rows[3:],
    ]
    assert first_break(changed) == 3
    assert first_break([*rows[:2], *rows[3:]]) == 4


def test_the_last_report_of_each_day_is_kept_as_evidence() -> None:
    vendor = Vendor()
    license = a_volume(vendor, 10_000, period="term")
    office = Office(license, vendor=vendor)
    node = Twin(license, office.sha256(license.license_id))
    node.activate(office)
    lasts = []
    for _ in range(3):
        node.report(office)
        office.now += 60
        lasts.append(node.write(office.now).payload)
        node.report(office)
        office.now += DAY_S
    found = office.store._connection.execute("SELECT day, envelope FROM evidence ORDER BY day")
    kept = [(str(day), bytes(envelope)) for day, envelope in found]
    assert [day for day, _ in kept] == ["2026-12-01", "2026-12-02"]
    assert all(
        last.encode() in envelope for last, (_, envelope) in zip(lasts[:2], kept, strict=True)
    )


def test_the_ring_of_errors_keeps_a_hundred_a_licence_for_fourteen_days() -> None:
    ring = Incidents()
    for at in range(150):
        ring.note("L1", Incident(float(at), "192.0.2.1", 401, "SIGNATURE"))
    assert [each.at for each in ring.of("L1", 150.0)] == [float(at) for at in range(50, 150)]
    assert ring.of("L2", 150.0) == []
    assert len(ring.of("L1", MAX_AGE_S + 100.0)) == 50
    ring.forget(MAX_AGE_S + 1_000.0)
    assert ring.of("L1", 150.0) == []


def test_no_source_address_stands_in_the_books() -> None:
    connection = open_books(":memory:")
    schema = "".join(str(row[0]) for row in connection.execute("SELECT sql FROM sqlite_schema"))
    assert "source" not in schema
    assert "address" not in schema
