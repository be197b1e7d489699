"""The ledger's file: SQLite, its tables and their versions, one transaction at a time. What stands in it, others say."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from licensing.errors import LicenseError

VERSION = 2
SCHEMA = """
CREATE TABLE meta (k TEXT PRIMARY KEY, v TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE epoch (epoch INTEGER PRIMARY KEY, opened_at REAL NOT NULL, reason TEXT NOT NULL);
CREATE TABLE ledger (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, record BLOB NOT NULL,
                     prev TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE outbox (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL, sha256 TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE ack (id INTEGER PRIMARY KEY, day TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, head TEXT NOT NULL,
                  bytes BLOB NOT NULL);
CREATE INDEX ack_day ON ack (day);
CREATE TABLE notice (id TEXT PRIMARY KEY, sent_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE event (id INTEGER PRIMARY KEY, ts REAL NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL);
"""
PACKS = """
CREATE TABLE pack (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, records BLOB NOT NULL, marks BLOB NOT NULL,
                   prev TEXT NOT NULL, hash TEXT NOT NULL, until REAL NOT NULL);
"""
# `MIGRATIONS[n]` brings a ledger of version n to n + 1; they only ever append. A new ledger goes through all of them.
MIGRATIONS = {0: SCHEMA, 1: PACKS}

DAMAGED = "ledger_damaged"  # of a LedgerError: the file is no whole database any more
MAX_WAL_BYTES = 4 * 1024 * 1024  # what is left of the log after a large write
WORTH_SHRINKING_BYTES = 10 * 1024 * 1024


class LedgerError(LicenseError):
    """Not read or not written. What was to be stored is still in memory and can be tried again."""

    def __init__(self, text: str, code: str = "ledger") -> None:
        super().__init__(code, text)


class LedgerFile:
    """The open database. All that is done within `transaction` is on disk when it ends, or nothing of it and it raises."""

    def __init__(self, path: Path, *, genesis_hash: str, vfs: str | None = None) -> None:
        """Open it, or begin it with this genesis. Raises LedgerError."""
        self.path = path
        self.is_new = not path.exists()
        try:
            self._db = apsw.Connection(str(path), vfs=vfs)
            self._configure()
            with self.transaction():
                self._migrate(genesis_hash)
            path.chmod(0o600)
        except (apsw.Error, OSError) as error:
            raise failure(f"the ledger {path} cannot be opened", error) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Raises LedgerError."""
        try:
            self.run("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:  # whatever it was: nothing of it may stay
                self._undo()
                raise
            self.run("COMMIT")
        except apsw.Error as error:
            self._undo()
            raise failure(f"the ledger {self.path} cannot be written", error) from error

    def run(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        """A statement without rows. Raises apsw.Error: it stands within a transaction, which says what that means."""
        for _ in self._db.execute(statement, values):
            pass

    def rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """All rows. Raises LedgerError."""
        return list(self.each(statement, values))

    def each(self, statement: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
        """One row after another. Raises LedgerError."""
        try:
            yield from self._db.execute(statement, values)
        except apsw.Error as error:
            raise failure(f"the ledger {self.path} cannot be read", error) from error

    def meta(self, key: str) -> str:
        """What stands under this name, or ""."""
        rows = self.rows("SELECT v FROM meta WHERE k = ?", (key,))
        return str(rows[0][0]) if rows else ""

    def put_meta(self, key: str, value: str) -> None:
        """Put it there; within a transaction."""
        self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def last_row_id(self) -> int:
        """Of the last row that was put anywhere."""
        return self._db.last_insert_rowid()

    def check(self) -> None:
        """Raises LedgerError where the database is damaged."""
        ((answer,),) = self.rows("PRAGMA quick_check(1)")
        if answer != "ok":
            raise LedgerError(f"the ledger {self.path} is damaged: {answer}", DAMAGED)

    def shrink(self) -> None:
        """Give back what a file that is mostly empty takes (one that a version without packs has filled). Raises LedgerError."""
        ((free,),) = self.rows("PRAGMA freelist_count")
        ((pages,),) = self.rows("PRAGMA page_count")
        ((size,),) = self.rows("PRAGMA page_size")
        if free * 2 < pages or free * size < WORTH_SHRINKING_BYTES:
            return
        try:
            self.run("VACUUM")
            self.run("PRAGMA wal_checkpoint(TRUNCATE)")
        except apsw.Error as error:
            raise failure(f"the ledger {self.path} cannot be written", error) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # -- within ---------------------------------------------------------------------------------------

    def _configure(self) -> None:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "fullfsync = ON",
            "trusted_schema = OFF",
            "temp_store = MEMORY",
            "busy_timeout = 5000",
            f"journal_size_limit = {MAX_WAL_BYTES}",
        ):
            self.run(f"PRAGMA {pragma}")

    def _migrate(self, genesis_hash: str) -> None:
        ((version,),) = self.rows("PRAGMA user_version")
        if version > VERSION:
            raise LedgerError(
                f"the ledger {self.path} was written by a newer version of this program: install that one",
                "upgrade_required",
            )
        for step in range(version, VERSION):
            self.run(MIGRATIONS[step])
        if version == 0:
            self.put_meta("genesis", genesis_hash)
            self.put_meta("head", genesis_hash)
        if version != VERSION:
            self.run(f"PRAGMA user_version = {VERSION}")

    def _undo(self) -> None:
        # After some errors SQLite has rolled back already.
        with contextlib.suppress(apsw.Error):
            if self._db.in_transaction:
                self.run("ROLLBACK")


def failure(what: str, error: Exception) -> LedgerError:
    """What went wrong in words; whether the file is damaged is in the code."""
    is_damaged = isinstance(error, apsw.CorruptError | apsw.NotADBError | msgspec.MsgspecError)
    return LedgerError(f"{what}: {error}", DAMAGED if is_damaged else "ledger")
