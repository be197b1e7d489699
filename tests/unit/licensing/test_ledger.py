"""The ledger: one transaction for all that belongs together, a chain that shows every change."""

import gzip
from pathlib import Path

import apsw
import msgspec
import pytest

from licensing.books import AckedFigures, Books, HeldLease, Times
from licensing.chain import Break, chain_hash, genesis
from licensing.ledger import Ledger, LedgerThread
from licensing.ledger_file import LedgerError

TIMES = Times(1_795_000_000.0, 1_000.0, 1_795_000_000.0)
START = genesis("A1", "key", "first start")


def a_ledger(folder: Path) -> Ledger:
    return Ledger(folder / "ledger.db", genesis_hash=START)


def some_books(cum: int = 7) -> Books:
    return Books(
        cum=cum,
        days={"2026-11-18": cum},
        cursors={"spool-1": 40},
        leases=[HeldLease(id="ls1", fence=3, period="2026-11", emails=100, used=cum, use_until=9)],
    )


def test_what_was_saved_is_there_after_the_file_was_opened_again(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    assert ledger.is_new and ledger.books() == Books()
    ledger.save(some_books())
    ledger.close()
    again = a_ledger(tmp_path)
    assert not again.is_new
    assert again.books() == some_books()
    again.close()


def test_only_its_owner_can_read_the_file(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    assert ledger.path.stat().st_mode & 0o777 == 0o600
    ledger.close()


def test_a_copy_of_the_books_shares_nothing_with_them() -> None:
    books = some_books()
    copy = books.copy()
    books.days["2026-11-18"] = 8
    books.leases[0].used = 8
    books.cursors["spool-2"] = 1
    assert copy == some_books()


def test_a_report_is_in_the_outbox_with_its_record_until_it_is_settled(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    seen: list[str] = []

    def build(head: str) -> tuple[bytes, str]:
        seen.append(head)
        return b"report", "ab"

    books = some_books()
    books.seq = 1
    out = ledger.put_report(books, TIMES, build)
    assert seen == [ledger.head()] and ledger.head() != START
    ledger.close()

    ledger = a_ledger(tmp_path)
    assert ledger.outgoing() == out
    books.acked = AckedFigures(seq=1, cum=7, head=ledger.head())
    ledger.settle(books, b"the ack")
    assert ledger.outgoing() is None
    assert ledger.last_ack() == b"the ack"
    assert ledger.books().acked.cum == 7
    assert ledger.verify() is None
    ledger.close()


def test_a_second_report_is_refused_while_one_is_under_way(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    ledger.put_report(some_books(), TIMES, lambda head: (b"1", "ab"))
    with pytest.raises(LedgerError):
        ledger.put_report(some_books(9), TIMES, lambda head: (b"2", "cd"))
    assert ledger.books().cum == 7
    ledger.close()


def test_a_report_that_cannot_be_built_leaves_nothing_behind(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)

    def build(head: str) -> tuple[bytes, str]:
        raise ValueError("no key")

    with pytest.raises(ValueError, match="no key"):
        ledger.put_report(some_books(), TIMES, build)
    assert ledger.books() == Books() and ledger.head() == START and ledger.outgoing() is None
    ledger.close()


def test_a_new_epoch_empties_the_outbox_and_stands_in_the_chain(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    ledger.put_report(some_books(), TIMES, lambda head: (b"1", "ab"))
    before = ledger.head()
    ledger.open_epoch(Books(epoch=2), "REWIND", TIMES)
    assert ledger.outgoing() is None and ledger.books().epoch == 2
    assert ledger.head() != before and ledger.verify() is None
    ledger.close()


def test_a_whole_chain_holds(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    for cum in range(50):
        ledger.record(some_books(cum), "minute", TIMES)
    assert ledger.verify() is None
    ledger.close()


@pytest.mark.parametrize("column", ["record", "prev", "hash"])
def test_a_changed_record_is_located(tmp_path: Path, column: str) -> None:
    ledger = a_ledger(tmp_path)
    for cum in range(5):
        ledger.record(some_books(cum), "minute", TIMES)
    change(ledger, f"UPDATE ledger SET {column} = replace({column}, '3', '4') WHERE seq = 4")
    found = ledger.verify()
    assert found is not None and found.seq in (4, 5)
    ledger.close()


def test_a_record_taken_out_is_located(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    for cum in range(5):
        ledger.record(some_books(cum), "minute", TIMES)
    change(ledger, "DELETE FROM ledger WHERE seq = 3")
    assert ledger.verify() == Break(3, "records are missing")
    ledger.close()


def test_a_cut_end_is_noticed(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    for cum in range(5):
        ledger.record(some_books(cum), "minute", TIMES)
    change(ledger, "DELETE FROM ledger WHERE seq > 3")
    assert ledger.verify() == Break(4, "the end of the chain was cut off")
    ledger.close()


def test_an_end_cut_off_with_its_head_is_noticed_if_the_vendor_has_signed_for_it(
    tmp_path: Path,
) -> None:
    ledger = a_ledger(tmp_path)
    for cum in range(5):
        ledger.record(some_books(cum), "minute", TIMES)
    books = some_books()
    ledger.put_report(books, TIMES, lambda head: (b"1", "ab"))
    books.acked = AckedFigures(seq=1, cum=7, head=ledger.head())
    ledger.settle(books, b"ack")
    change(ledger, "DELETE FROM ledger WHERE seq > 3")
    change(
        ledger,
        "UPDATE meta SET v = (SELECT hash FROM ledger ORDER BY seq DESC LIMIT 1) WHERE k = 'head'",
    )
    found = ledger.verify()
    assert found is not None and "acknowledged" in found.why
    ledger.close()


def test_a_mended_chain_holds_and_keeps_what_was_broken(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    for cum in range(5):
        ledger.record(some_books(cum), "minute", TIMES)
    change(ledger, "DELETE FROM ledger WHERE seq = 3")
    found = ledger.verify()
    assert found is not None
    ledger.mend(some_books(), found, TIMES)
    assert ledger.verify() is None
    ledger.close()
    with_rows = apsw.Connection(str(ledger.path))
    assert list(with_rows.execute("SELECT count(*) FROM broken")) == [(4,)]
    with_rows.close()


def test_old_acknowledged_records_go_to_the_archive_and_the_chain_holds(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    day = 86_400.0
    books = some_books()
    heads = []
    for number in range(60):
        at = 1_795_000_000.0 + number * day
        books.seq += 1
        ledger.put_report(books, Times(at, 0.0, at), lambda head: (b"report", head))
        books.acked = AckedFigures(seq=books.seq, cum=7, head=ledger.head(), at=at)
        ledger.settle(books, b"ack %d" % number)
        heads.append(ledger.head())
    moved = ledger.rotate(1_795_000_000.0 + 50 * day, tmp_path / "archive")
    assert moved == 50 and ledger.verify() is None
    assert ledger.rotate(1_795_000_000.0 + 50 * day, tmp_path / "archive") == 0
    # Only what the vendor has signed for may go, and the last signed head stays.
    assert ledger.rotate(1_795_000_000.0 + 999 * day, tmp_path / "archive") == 9
    assert ledger.verify() is None
    ledger.record(books, "minute", TIMES)
    ledger.close()
    again = a_ledger(tmp_path)
    assert again.verify() is None
    again.close()
    lines = [
        msgspec.json.decode(line)
        for path in sorted((tmp_path / "archive").iterdir())
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    assert [line["hash"] for line in lines] == heads[:59]
    for line in lines:
        assert chain_hash(line["prev"], line["record"].encode()) == line["hash"]


def test_of_each_day_the_last_acknowledgement_is_kept(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    books = some_books()
    for number in range(10):
        at = 1_795_000_000.0 + number * 43_200
        books.seq += 1
        ledger.put_report(books, Times(at, 0.0, at), lambda head: (b"report", head))
        books.acked = AckedFigures(seq=books.seq, cum=7, head=ledger.head(), at=at)
        ledger.settle(books, b"ack %d" % number)
    assert ledger.last_ack() == b"ack 9"
    ledger.close()
    rows = apsw.Connection(str(ledger.path))
    assert list(rows.execute("SELECT count(*) FROM ack")) == [(5,)]
    rows.close()


def test_what_was_told_is_known_after_a_restart(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    ledger.note_sent(["vol80:2026-11"], 1.0)
    ledger.note_sent(["vol80:2026-11", "vol90:2026-11"], 2.0)
    ledger.close()
    ledger = a_ledger(tmp_path)
    assert sorted(ledger.sent_notices()) == ["vol80:2026-11", "vol90:2026-11"]
    ledger.close()


def test_events_are_the_latest_first_and_bounded(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    ledger.add_events((float(at), "code", f"event {at}") for at in range(10_003))
    assert [detail for _, _, detail in ledger.events(2)] == ["event 10002", "event 10001"]
    assert len(ledger.events(20_000)) == 10_000
    ledger.close()


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    change(ledger, "PRAGMA user_version = 99")
    ledger.close()
    with pytest.raises(LedgerError, match="newer version") as caught:
        a_ledger(tmp_path)
    assert caught.value.code == "upgrade_required"


def test_a_file_that_is_no_database_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerError, match="cannot be opened"):
        a_ledger(tmp_path)


async def test_the_thread_gives_results_and_errors_back(tmp_path: Path) -> None:
    thread = LedgerThread()
    ledger = await thread.run(Ledger, tmp_path / "ledger.db", genesis_hash=START)
    await thread.run(ledger.save, some_books())
    assert (await thread.run(ledger.books)).cum == 7
    await thread.run(ledger.close)
    with pytest.raises(LedgerError):
        await thread.run(ledger.save, some_books())
    thread.close()


def change(ledger: Ledger, statement: str) -> None:
    """What somebody with a database shell does."""
    other = apsw.Connection(str(ledger.path))
    for _ in other.execute(statement):
        pass
    other.close()
