"""Opening what lies on this machine: what is damaged is put aside, what merely cannot be opened is left alone."""

from pathlib import Path

import pytest

from licensing.installation import Lock, open_books, write_anchor
from licensing.ledger_file import LedgerError
from tests.support.vendor import Vendor

VENDOR = Vendor()


def opened(folder: Path) -> tuple[dict[str, float], list[str]]:
    """The findings, and the codes of what was told."""
    told: list[str] = []
    ledger, books = open_books(folder, "key", VENDOR.trust, lambda code, text: told.append(code))
    ledger.close()
    return books.findings, told


def test_a_first_start_finds_nothing_amiss(tmp_path: Path) -> None:
    assert opened(tmp_path) == ({}, [])
    assert opened(tmp_path) == ({}, [])


def test_a_ledger_that_cannot_be_opened_is_left_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(LedgerError, match="cannot be opened"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]


def test_a_damaged_ledger_is_put_aside_each_time_under_another_name(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "ledger.db").write_bytes(b"no database at all" * 1_000)
        findings, told = opened(tmp_path)
        assert list(findings) == told == ["ledger_chain"]
        assert (tmp_path / f"ledger.db.broken-{number}").exists()


def test_an_anchor_that_cannot_be_read_says_that_there_was_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "anchor.json").write_bytes(b"{")
    (tmp_path / "anchor.json").chmod(0o600)
    findings, told = opened(tmp_path)
    assert list(findings) == told == ["ledger_missing"]


def test_an_anchor_with_an_answer_that_nobody_signed_is_not_believed(tmp_path: Path) -> None:
    ledger, books = open_books(tmp_path, "key", VENDOR.trust, lambda code, text: None)
    ledger.close()
    (tmp_path / "ledger.db").unlink()
    books.acked = books.acked.__class__(seq=7, cum=70)
    write_anchor(tmp_path, books, b'{"payloadType":"x","payload":"","signatures":[]}')
    findings, _ = opened(tmp_path)
    assert list(findings) == ["ledger_missing"]


def test_a_lock_is_free_again_when_it_was_released(tmp_path: Path) -> None:
    Lock(tmp_path).release()
    Lock(tmp_path).release()
