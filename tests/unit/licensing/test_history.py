"""A ledger of a report a minute: old records are packed, 400 days have room in 50 MB, and every change is still located."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from licensing.books import AckedFigures, Books, HeldLease, Times
from licensing.chain import Break, chain_hash, genesis
from licensing.history import PACKED
from licensing.ledger import Ledger
from licensing.ledger_file import SCHEMA

BEGIN = 1_795_000_000.0
START = genesis("A1", "key", "first start")
RECORDS = 3 * PACKED + 10
RECORDS_OF_400_DAYS = 400 * 24 * 60
MOST_BYTES = 50_000_000


def report_each_minute(ledger: Ledger, count: int) -> list[str]:
    """So many reports of a busy server, all acknowledged; the heads."""
    books, heads = ledger.books(), []
    for number in range(count):
        at = BEGIN + 60.0 * number + (number * 7919 % 1000) / 1000
        emails = 100 + number * 104_729 % 300
        books.seq += 1
        books.cum += emails
        books.days = {"2026-11-18": books.cum}
        books.cursors = {
            f"0402801b-0950-4855-8ce9-34f99c2b672{spool}": books.cum + spool for spool in range(2)
        }
        books.leases = [
            HeldLease(
                id=f"ls_{number // 500:026}",
                fence=number // 500,
                period="2026-11",
                emails=10**6,
                used=books.cum,
                use_until=int(at) + 86_400,
            )
        ]
        ledger.put_report(books, Times(at + 0.1, at - BEGIN, at), lambda head: (b"report", head))
        books.acked = AckedFigures(seq=books.seq, cum=books.cum, head=ledger.head(), at=at)
        ledger.settle(books, b"ack")
        heads.append(ledger.head())
    return heads


@pytest.fixture(scope="module")
def packed_ledger(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[str]]:
    """The file of a ledger with two packs, and its heads."""
    path = tmp_path_factory.mktemp("packed") / "ledger.db"
    ledger = Ledger(path, genesis_hash=START)
    ledger._file.run("PRAGMA synchronous = OFF")  # six thousand commits, and no power cut here
    heads = report_each_minute(ledger, RECORDS)
    assert [ledger.pack() for _ in range(3)] == [PACKED, PACKED, 0]
    ledger.close()
    return path.read_bytes(), heads


@pytest.fixture
def ledger(packed_ledger: tuple[bytes, list[str]], tmp_path: Path) -> Iterator[Ledger]:
    (tmp_path / "ledger.db").write_bytes(packed_ledger[0])
    ledger = Ledger(tmp_path / "ledger.db", genesis_hash=START)
    yield ledger
    ledger.close()


def execute(ledger: Ledger, statement: str, *values: object) -> None:
    """What somebody with a database shell does."""
    other = apsw.Connection(str(ledger.path))
    for _ in other.execute(statement, values):
        pass
    other.close()


def rows(ledger: Ledger, statement: str) -> list[tuple[object, ...]]:
    other = apsw.Connection(str(ledger.path))
    found = list(other.execute(statement))
    other.close()
    return found


def test_a_packed_chain_holds_and_goes_on(ledger: Ledger) -> None:
    assert rows(ledger, "SELECT first, last FROM pack") == [(1, 1000), (1001, 2000)]
    assert rows(ledger, "SELECT count(*) FROM ledger") == [(1010,)]
    assert ledger.verify() is None
    ledger.record(ledger.books(), "minute", Times(BEGIN, 0.0, BEGIN))
    assert ledger.verify() is None


def test_400_days_of_a_report_a_minute_have_room_in_50_mb(ledger: Ledger) -> None:
    (packed,) = rows(ledger, "SELECT sum(length(records) + length(marks) + 300) FROM pack")
    (plain,) = rows(ledger, "SELECT sum(length(record) + 300) FROM ledger")
    assert isinstance(packed[0], int) and isinstance(plain[0], int)
    a_record = packed[0] / (2 * PACKED)
    rows_kept = 2 * plain[0]  # up to two thousand stay rows
    assert a_record * RECORDS_OF_400_DAYS + rows_kept < MOST_BYTES


@pytest.mark.parametrize("place", [0, 1, 617, PACKED - 1])
def test_a_record_changed_within_a_pack_is_located(ledger: Ledger, place: int) -> None:
    ((packed,),) = rows(ledger, "SELECT records FROM pack WHERE first = 1001")
    assert isinstance(packed, bytes)
    records = zlib.decompress(packed).split(b"\n")
    records[place] = records[place].replace(b'"cum":', b'"cum":9', 1)
    changed = zlib.compress(b"\n".join(records))
    execute(ledger, "UPDATE pack SET records = ? WHERE first = 1001", changed)
    assert ledger.verify() == Break(1001 + place, "the record was changed")


def test_a_change_that_hides_its_marks_is_found_by_the_hash_at_the_end(ledger: Ledger) -> None:
    ((packed, prev),) = rows(ledger, "SELECT records, prev FROM pack WHERE first = 1001")
    assert isinstance(packed, bytes) and isinstance(prev, str)
    records = zlib.decompress(packed).split(b"\n")
    records[5] = records[5].replace(b'"cum":', b'"cum":9', 1)
    marks = bytearray()
    for record in records:
        prev = chain_hash(prev, record)
        marks += bytes.fromhex(prev)[:4]
    changed = zlib.compress(b"\n".join(records))
    execute(ledger, "UPDATE pack SET records = ?, marks = ? WHERE first = 1001", changed, marks)
    found = ledger.verify()
    assert found is not None and found.seq == 2000
    execute(ledger, "UPDATE pack SET hash = ? WHERE first = 1001", prev)
    found = ledger.verify()
    assert found is not None and found.seq == 2001


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("DELETE FROM pack WHERE first = 1", 1),
        ("DELETE FROM pack WHERE first = 1001", 1001),
        ("UPDATE pack SET records = x'00' WHERE first = 1001", 1001),
        ("UPDATE pack SET records = substr(records, 1, 100) WHERE first = 1001", 1001),
        ("UPDATE pack SET marks = zeroblob(4000) WHERE first = 1001", 1001),
        ("UPDATE pack SET prev = hash WHERE first = 1001", 1001),
        ("UPDATE pack SET last = 1999 WHERE first = 1001", 1001),
        ("DELETE FROM ledger", 2001),
    ],
)
def test_a_pack_that_is_not_whole_is_located(ledger: Ledger, statement: str, seq: int) -> None:
    execute(ledger, statement)
    found = ledger.verify()
    assert found is not None and found.seq == seq
    ledger.mend(ledger.books(), found, Times(BEGIN, 0.0, BEGIN))
    assert ledger.verify() is None
    kept = rows(ledger, "SELECT count(*) FROM broken_pack")[0][0]
    assert kept == (1 if "FROM pack" in statement else 2)


def test_what_the_vendor_has_not_signed_for_is_not_packed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db", genesis_hash=START)
    ledger._file.run("PRAGMA synchronous = OFF")  # six thousand commits, and no power cut here
    for number in range(2 * PACKED + 5):
        ledger.record(Books(cum=number), "hour", Times(BEGIN, 0.0, BEGIN))
    assert ledger.pack() == 0
    report_each_minute(ledger, 1)
    assert ledger.pack() == PACKED
    assert ledger.verify() is None
    ledger.close()


def test_packs_beyond_the_term_go_to_the_archive_record_by_record(
    ledger: Ledger, packed_ledger: tuple[bytes, list[str]], tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    assert ledger.rotate(BEGIN, archive) == 0
    middle = BEGIN + 60.0 * (PACKED + 10)
    assert ledger.rotate(middle, archive) == PACKED and ledger.verify() is None
    assert ledger.rotate(middle, archive) == 0
    late = BEGIN + 1e9
    assert ledger.rotate(late, archive) == PACKED
    assert ledger.rotate(late, archive) == RECORDS - 2 * PACKED - 1  # the last signed one stays
    assert ledger.rotate(late, archive) == 0 and ledger.verify() is None
    lines = [
        msgspec.json.decode(line)
        for path in sorted(archive.iterdir())
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    assert [line["hash"] for line in lines] == packed_ledger[1][:-1]
    assert [line["seq"] for line in lines] == list(range(1, RECORDS))
    for line in lines:
        assert chain_hash(line["prev"], line["record"].encode()) == line["hash"]


def test_a_ledger_without_packs_is_taken_over_and_becomes_small(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    old = apsw.Connection(str(path))
    for statement in (SCHEMA, "PRAGMA user_version = 1", "BEGIN"):
        for _ in old.execute(statement):
            pass
    prev, filler = START, "x" * 3_000
    for number in range(6 * PACKED):
        record = msgspec.json.encode({"kind": "report", "trusted": BEGIN, "filler": filler})
        digest = chain_hash(prev, record)
        values = (number + 1, BEGIN, "report", record, prev, digest)
        for _ in old.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?)", values):
            pass
        prev = digest
    for statement in (
        f"INSERT INTO meta VALUES ('genesis', '{START}'), ('head', '{prev}')",
        f"INSERT INTO ack VALUES (1, '2026-11-18', 1, 1, '{prev}', x'00')",
        "COMMIT",
    ):
        for _ in old.execute(statement):
            pass
    old.close()
    before = path.stat().st_size
    ledger = Ledger(path, genesis_hash=START)
    assert ledger.verify() is None
    while ledger.pack():
        pass
    assert ledger.verify() is None
    ledger.close()
    assert path.stat().st_size < before / 2
