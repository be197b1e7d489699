"""The records of a ledger from the first to the last: the latest as rows, older ones in packs, those beyond the term in files.

A report a minute makes half a million records in 400 days. What the vendor has signed for is packed a thousand at a time; the
latest thousand stay rows. `verify` walks all of it, and every acknowledged head must be on the way (A16). Design 3.7.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from licensing.archive import ArchivedRow, export
from licensing.chain import Break, Pack, chain_hash, digests, genesis, pack, unpack
from licensing.ledger_file import DAMAGED, LedgerError, LedgerFile

PACKED = 1_000  # records in a pack
MAX_MOVED = 10_000  # records a rotation moves at once
_PACKS = "SELECT first, last, records, marks, prev, hash FROM pack"


class _Dated(msgspec.Struct):
    """What the archive names a record by."""

    kind: str
    trusted: float


class History:
    """The chain in an open file. Every public method is one transaction, or only reads."""

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def append(self, at: float, kind: str, record: bytes) -> str:
        """One more record, within the caller's transaction; the new head."""
        prev = self.head()
        head = chain_hash(prev, record)
        self._file.run(
            "INSERT INTO ledger (at, kind, record, prev, hash) VALUES (?, ?, ?, ?, ?)",
            (at, kind, record, prev, head),
        )
        self._file.put_meta("head", head)
        return head

    def head(self) -> str:
        """The hash of the last record; of the genesis, when there is none."""
        return self._file.meta("head")

    # -- is it whole ----------------------------------------------------------------------------------

    def verify(self) -> Break | None:
        """Walk the chain; the first record that does not hold. Raises LedgerError."""
        self._file.check()
        signed = {head: seq for seq, head in self._file.rows("SELECT seq, head FROM ack")}
        seq, digest = int(self._file.meta("first") or 1) - 1, self._file.meta("genesis")
        for found in self._walk(seq + 1, digest):
            if isinstance(found, Break):
                return found
            seq, digest = found
            signed.pop(digest, None)
        if digest != self.head():
            return Break(seq + 1, "the end of the chain was cut off")
        for report in signed.values():
            return Break(seq + 1, f"what the vendor acknowledged as report {report} is not here")
        return None

    def _walk(self, expected: int, prev: str) -> Iterator[tuple[int, str] | Break]:
        """Number and hash of each record; a Break ends it."""
        for fields in self._file.each(f"{_PACKS} ORDER BY first"):
            for found in _walk_pack(Pack(*fields), expected, prev):
                yield found
                if isinstance(found, Break):
                    return
                expected, prev = found[0] + 1, found[1]
        for seq, record, said, digest in self._file.each(
            "SELECT seq, CAST(record AS BLOB), prev, hash FROM ledger ORDER BY seq"
        ):
            if seq != expected:
                yield Break(expected, "records are missing")
                return
            if said != prev or chain_hash(prev, record) != digest:
                yield Break(seq, "the record was changed")
                return
            yield seq, digest
            expected, prev = seq + 1, digest

    def begin_anew(self, at: float, activation_id: str, found: Break) -> None:
        """Put what is broken aside and start behind it, within the caller's transaction: the genesis says where it broke."""
        file = self._file
        file.run(
            "CREATE TABLE IF NOT EXISTS broken (at REAL, kind TEXT, record BLOB, prev TEXT, hash TEXT)"
        )
        file.run("INSERT INTO broken SELECT ?, kind, record, prev, hash FROM ledger", (at,))
        file.run(
            "CREATE TABLE IF NOT EXISTS broken_pack AS SELECT 0.0 AS at, * FROM pack WHERE FALSE"
        )
        file.run("INSERT INTO broken_pack SELECT ?, * FROM pack", (at,))
        file.run("DELETE FROM ledger")
        file.run("DELETE FROM pack")
        file.run("DELETE FROM sqlite_sequence WHERE name = 'ledger'")
        file.run("DELETE FROM ack")
        start = genesis(activation_id, self.head(), f"broken at {found.seq}: {found.why}")
        for key, value in (("first", "1"), ("genesis", start), ("head", start)):
            file.put_meta(key, value)

    # -- making room ----------------------------------------------------------------------------------

    def pack(self) -> int:
        """Pack the oldest thousand of the acknowledged rows, where as many stay rows; how many. Raises LedgerError.

        With none left to pack, a file that has become mostly empty is made smaller.
        """
        rows = self._file.rows(
            "SELECT seq, at, CAST(record AS BLOB), prev, hash FROM ledger WHERE seq < ? ORDER BY seq LIMIT ?",
            (self._signed_for() - PACKED, PACKED),
        )
        if len(rows) < PACKED:
            self._file.shrink()
            return 0
        made = pack(rows[0][0], rows[0][3], [record for _, _, record, _, _ in rows])
        if (made.last, made.hash) != (rows[-1][0], rows[-1][4]):
            # The next start walks the chain, says where it breaks and goes on behind it.
            raise LedgerError(f"the chain does not hold up to record {rows[-1][0]}")
        with self._file.transaction():
            self._file.run(
                "INSERT INTO pack VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    made.first,
                    made.last,
                    made.records,
                    made.marks,
                    made.prev,
                    made.hash,
                    rows[-1][1],
                ),
            )
            self._file.run("DELETE FROM ledger WHERE seq <= ?", (made.last,))
        return len(rows)

    def rotate(self, before: float, archive: Path) -> int:
        """Move acknowledged records older than `before` (trusted time) into `archive`, a file a month; how many, at most 10,000.

        They are on disk there before they go here (C6). The chain goes on from the hash of the last one. Raises LedgerError,
        OSError.
        """
        rows = self._oldest_pack(before) or self._oldest_rows(before)
        if not rows:
            return 0
        export(archive, rows)
        seq, hashes = rows[-1][0], {row[5] for row in rows}
        gone = [each for (each,) in self._file.rows("SELECT head FROM ack") if each in hashes]
        with self._file.transaction():
            for head in gone:
                self._file.run("DELETE FROM ack WHERE head = ?", (head,))
            self._file.run("DELETE FROM pack WHERE last <= ?", (seq,))
            self._file.run("DELETE FROM ledger WHERE seq <= ?", (seq,))
            self._file.put_meta("genesis", rows[-1][5])
            self._file.put_meta("first", str(seq + 1))
        return len(rows)

    def _oldest_pack(self, before: float) -> list[ArchivedRow]:
        found = self._file.rows(f"{_PACKS} WHERE until < ? ORDER BY first LIMIT 1", (before,))
        return _archived(Pack(*found[0])) if found else []

    def _oldest_rows(self, before: float) -> list[ArchivedRow]:
        if self._file.rows("SELECT 1 FROM pack LIMIT 1"):
            return []  # older ones are packed, and not yet due
        return self._file.rows(
            "SELECT seq, at, kind, CAST(CAST(record AS BLOB) AS TEXT), prev, hash FROM ledger"
            " WHERE at < ? AND seq < ? ORDER BY seq LIMIT ?",
            (before, self._signed_for(), MAX_MOVED),
        )

    def _signed_for(self) -> int:
        """The last record the vendor has signed for; it is always a row, for what is packed is older. 0: there is none."""
        ((last,),) = self._file.rows(
            "SELECT max(seq) FROM ledger WHERE hash IN (SELECT head FROM ack)"
        )
        return int(last or 0)


def _walk_pack(packed: Pack, expected: int, prev: str) -> Iterator[tuple[int, str] | Break]:
    if packed.first != expected:
        yield Break(expected, "records are missing")
        return
    try:
        records = unpack(packed)
    except ValueError as error:
        yield Break(packed.first, f"the records up to {packed.last} were changed: {error}")
        return
    if packed.prev != prev:
        yield Break(packed.first, "the record was changed")
        return
    for place, found in enumerate(digests(packed, records)):
        yield found if isinstance(found, Break) else (packed.first + place, found)


def _archived(packed: Pack) -> list[ArchivedRow]:
    """Its records as the archive has them. Raises LedgerError where they are not what was packed."""
    rows: list[ArchivedRow] = []
    try:
        records, prev = unpack(packed), packed.prev
        for place, digest in enumerate(digests(packed, records)):
            if isinstance(digest, Break):
                raise ValueError(f"{digest.why} ({digest.seq})")
            record = records[place]
            dated = msgspec.json.decode(record, type=_Dated)
            rows.append(
                (packed.first + place, dated.trusted, dated.kind, record.decode(), prev, digest)
            )
            prev = digest
    except (ValueError, msgspec.MsgspecError) as error:
        what = f"the records {packed.first} to {packed.last} of the ledger are damaged: {error}"
        raise LedgerError(what, DAMAGED) from error
    return rows
