"""The ledger: what this server has counted, what it may use, what it reported and what was answered. One SQLite file.

Counters, journal cursors, leases and the outbox change in ONE transaction, so no crash can part a count from the place in the
journal up to which it counts, or a report from the figures it states. `ledger` is a hash chain: each record carries the hash
of the one before, the heads are sent in reports and signed back in acknowledgements, and so a rewritten or cut history is
found (A16). `anchor.json` beside it keeps the last acknowledgement and survives the file's deletion (A15). Only the licence
thread touches the file (`LedgerThread`). The ledger never sees an address, a message or a host name (C18, C20). Design 3.7.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import apsw
import msgspec

from licensing.archive import export
from licensing.books import Books, Times, day_of, unacknowledged_days
from licensing.errors import LicenseError

VERSION = 1
# `MIGRATIONS[n]` brings a ledger of version n to n + 1; they only ever append.
MIGRATIONS: dict[int, str] = {}

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

MAX_EVENTS = 10_000  # the oldest go first: they are for people, the chain is the evidence
DAMAGED = "ledger_damaged"  # of a LedgerError: the file is no whole database any more
MAX_MOVED = 10_000  # records a rotation moves at once
MAX_WAITING = 64  # calls waiting for the thread
CALL_DEADLINE_S = 30.0  # a disk that takes longer counts as failed; the call itself goes on

T = TypeVar("T")
P = ParamSpec("P")


class LedgerError(LicenseError):
    """Not read or not written. What was to be stored is still in memory and can be tried again."""

    def __init__(self, text: str, code: str = "ledger") -> None:
        super().__init__(code, text)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The one report under way: these bytes, until they are acknowledged. `sha256` is that of the signed payload."""

    seq: int
    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain does not hold: the first record that cannot be believed, and why."""

    seq: int
    why: str


def chain_hash(prev: str, record: bytes) -> str:
    """The hash of a record that follows the one with the hash `prev` (design 3.7)."""
    return hashlib.sha256(b"sluice-ledger-v1" + prev.encode() + record).hexdigest()


def genesis(activation_id: str, node_pub: str, reason: str) -> str:
    """What the first record of a chain follows."""
    return hashlib.sha256(f"{activation_id}{node_pub}{reason}".encode()).hexdigest()


class Ledger:
    """The open file. Every public method is one transaction: all of it is on disk when it returns, or it raises LedgerError."""

    def __init__(self, path: Path, *, genesis_hash: str, vfs: str | None = None) -> None:
        """Open it, or begin it with this genesis. Raises LedgerError."""
        self.path = path
        self.is_new = not path.exists()
        try:
            self._db = apsw.Connection(str(path), vfs=vfs)
            self._configure()
            with self._transaction():
                self._migrate(genesis_hash)
            path.chmod(0o600)
        except (apsw.Error, OSError) as error:
            raise _error(f"the ledger {path} cannot be opened", error) from error

    # -- the books ------------------------------------------------------------------------------------

    def books(self) -> Books:
        """What was stored last. Raises LedgerError."""
        found = self._meta("books")
        try:
            return msgspec.json.decode(found, type=Books) if found else Books()
        except msgspec.MsgspecError as error:
            raise _error(f"the ledger {self.path} cannot be read", error) from error

    def save(self, books: Books) -> None:
        """Counters, cursors and leases, without a record of their own: what happens between two records."""
        with self._transaction():
            self._put_books(books)

    def record(self, books: Books, kind: str, times: Times) -> str:
        """Append a record of these books; its hash, the new head."""
        with self._transaction():
            self._put_books(books)
            return self._append(books, kind, times)

    # -- reports --------------------------------------------------------------------------------------

    def put_report(
        self, books: Books, times: Times, build: Callable[[str], tuple[bytes, str]]
    ) -> Outgoing:
        """Append the record of a report and put into the outbox what `build(head)` makes of it: bytes and payload's SHA-256."""
        with self._transaction():
            if self.outgoing() is not None:
                raise LedgerError("a report is under way already")
            self._put_books(books)
            data, sha256 = build(self._append(books, "report", times))
            self._run(
                "INSERT INTO outbox VALUES (?, ?, ?, ?)",
                (books.seq, data, sha256, times.trusted),
            )
        return Outgoing(books.seq, data, sha256)

    def outgoing(self) -> Outgoing | None:
        """The report under way, if there is one."""
        rows = self._rows("SELECT seq, bytes, sha256 FROM outbox")
        return Outgoing(*rows[0]) if rows else None

    def settle(self, books: Books, answer: bytes) -> None:
        """The report under way is acknowledged: the answer is kept, the outbox is empty, the books are these.

        Of each day the last answer is kept: signed heads, a day apart at most, for 400 days in less than a megabyte.
        """
        with self._transaction():
            acked = books.acked
            day = day_of(acked.at)
            self._run("DELETE FROM ack WHERE day = ?", (day,))
            self._run(
                "INSERT INTO ack (day, epoch, seq, head, bytes) VALUES (?, ?, ?, ?, ?)",
                (day, acked.epoch, acked.seq, acked.head, answer),
            )
            self._run("DELETE FROM outbox")
            self._put_books(books)

    def open_epoch(self, books: Books, reason: str, times: Times) -> str:
        """The report under way was refused and a new epoch granted; the new head."""
        with self._transaction():
            self._run("DELETE FROM outbox")
            self._run(
                "INSERT OR REPLACE INTO epoch VALUES (?, ?, ?)",
                (books.epoch, times.trusted, reason),
            )
            self._put_books(books)
            return self._append(books, "epoch", times)

    def last_ack(self) -> bytes | None:
        """The last acknowledgement as it came, for a server that was restored from a backup (A27)."""
        rows = self._rows("SELECT bytes FROM ack ORDER BY id DESC LIMIT 1")
        return bytes(rows[0][0]) if rows else None

    # -- notices and events ---------------------------------------------------------------------------

    def note_sent(self, codes: Iterable[str], now: float) -> None:
        """The operator was told of these: never again (C26)."""
        with self._transaction():
            for code in codes:
                self._run("INSERT OR IGNORE INTO notice VALUES (?, ?)", (code, now))

    def sent_notices(self) -> list[str]:
        """Of what the operator was told."""
        return [code for (code,) in self._rows("SELECT id FROM notice")]

    def add_events(self, events: Iterable[tuple[float, str, str]]) -> None:
        """What the operator may want to know later: time, code, words. The oldest of 10,000 go."""
        with self._transaction():
            for event in events:
                self._run("INSERT INTO event (ts, code, detail) VALUES (?, ?, ?)", event)
            last = self._db.last_insert_rowid()
            self._run("DELETE FROM event WHERE id <= ?", (last - MAX_EVENTS,))

    def events(self, limit: int = 100) -> list[tuple[float, str, str]]:
        """The latest first."""
        return self._rows("SELECT ts, code, detail FROM event ORDER BY id DESC LIMIT ?", (limit,))

    # -- the chain ------------------------------------------------------------------------------------

    def head(self) -> str:
        """The hash of the last record; of the genesis, when there is none."""
        return self._meta("head")

    def verify(self) -> Break | None:
        """Walk the chain; the first record that does not hold. The acknowledged heads must be in it (A16). Raises LedgerError."""
        try:
            (answer,) = next(iter(self._db.execute("PRAGMA quick_check(1)")))
            if answer != "ok":
                raise LedgerError(f"the ledger {self.path} is damaged: {answer}", DAMAGED)
            return self._walk()
        except apsw.Error as error:
            raise _error(f"the ledger {self.path} cannot be read", error) from error

    def _walk(self) -> Break | None:
        prev, expected = self._meta("genesis"), int(self._meta("first") or 1)
        heads = set()
        for seq, record, said, digest in self._db.execute(
            "SELECT seq, CAST(record AS BLOB), prev, hash FROM ledger ORDER BY seq"
        ):
            if seq != expected:
                return Break(expected, "records are missing")
            if said != prev or chain_hash(prev, record) != digest:
                return Break(seq, "the record was changed")
            prev, expected = digest, seq + 1
            heads.add(digest)
        if prev != self.head():
            return Break(expected, "the end of the chain was cut off")
        for seq, head in self._db.execute("SELECT seq, head FROM ack ORDER BY id"):
            if head not in heads:
                return Break(expected, f"what the vendor acknowledged as report {seq} is not here")
        return None

    def mend(self, books: Books, found: Break, times: Times) -> str:
        """Go on behind a break: the chain begins anew, and its first record says where the old one broke."""
        with self._transaction():
            self._run(
                "CREATE TABLE IF NOT EXISTS broken (at REAL, kind TEXT, record BLOB, prev TEXT, hash TEXT)"
            )
            self._run(
                "INSERT INTO broken SELECT ?, kind, record, prev, hash FROM ledger",
                (times.trusted,),
            )
            self._run("DELETE FROM ledger")
            self._run("DELETE FROM sqlite_sequence WHERE name = 'ledger'")
            self._run("DELETE FROM ack")
            self._put_meta("first", "1")
            start = genesis(books.activation_id, self.head(), f"broken at {found.seq}: {found.why}")
            self._put_meta("genesis", start)
            self._put_meta("head", start)
            self._put_books(books)
            return self._append(books, "mended", times)

    def rotate(self, before: float, archive: Path) -> int:
        """Move acknowledged records older than `before` (trusted time) into `archive`, a file a month; how many, at most 10,000.

        They are on disk there before they go here (C6). The chain goes on from the hash of the last one. Raises OSError.
        """
        last = self._rows("SELECT max(seq) FROM ledger WHERE hash IN (SELECT head FROM ack)")[0][0]
        rows = self._rows(
            "SELECT seq, at, kind, CAST(CAST(record AS BLOB) AS TEXT), prev, hash FROM ledger"
            " WHERE at < ? AND seq < ? ORDER BY seq LIMIT ?",
            (before, last or 0, MAX_MOVED),
        )
        if not rows:
            return 0
        export(archive, rows)
        seq, digest = rows[-1][0], rows[-1][5]
        with self._transaction():
            self._run(
                "DELETE FROM ack WHERE head IN (SELECT hash FROM ledger WHERE seq <= ?)", (seq,)
            )
            self._run("DELETE FROM ledger WHERE seq <= ?", (seq,))
            self._put_meta("genesis", digest)
            self._put_meta("first", str(seq + 1))
        return len(rows)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # -- within ---------------------------------------------------------------------------------------

    def _append(self, books: Books, kind: str, times: Times) -> str:
        prev = self.head()
        record = msgspec.json.encode(
            {
                "kind": kind,
                "wall": times.wall,
                "boottime": times.boottime,
                "trusted": times.trusted,
                "epoch": books.epoch,
                "seq": books.seq,
                "cum": books.cum,
                "days": unacknowledged_days(books),
                "leases": books.leases,
                "journal": books.cursors,
                "conn_peak": books.conn_peak,
                "findings": books.findings,
            }
        )
        head = chain_hash(prev, record)
        self._run(
            "INSERT INTO ledger (at, kind, record, prev, hash) VALUES (?, ?, ?, ?, ?)",
            (times.trusted, kind, record, prev, head),
        )
        self._put_meta("head", head)
        return head

    def _put_books(self, books: Books) -> None:
        self._put_meta("books", msgspec.json.encode(books).decode())

    def _configure(self) -> None:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "fullfsync = ON",
            "trusted_schema = OFF",
            "temp_store = MEMORY",
            "busy_timeout = 5000",
        ):
            self._run(f"PRAGMA {pragma}")

    def _migrate(self, genesis_hash: str) -> None:
        version = self._rows("PRAGMA user_version")[0][0]
        if version > VERSION:
            raise LedgerError(
                f"the ledger {self.path} was written by a newer version of this program: install that one",
                "upgrade_required",
            )
        if version == 0:
            self._run(SCHEMA)
            self._put_meta("genesis", genesis_hash)
            self._put_meta("head", genesis_hash)
        for step in range(max(version, 1), VERSION):
            self._run(MIGRATIONS[step])
        if version != VERSION:
            self._run(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._run("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:  # whatever it was: nothing of it may stay
                self._undo()
                raise
            self._run("COMMIT")
        except apsw.Error as error:
            self._undo()
            raise _error(f"the ledger {self.path} cannot be written", error) from error

    def _undo(self) -> None:
        # After some errors SQLite has rolled back already.
        with contextlib.suppress(apsw.Error):
            if self._db.in_transaction:
                self._run("ROLLBACK")

    def _meta(self, key: str) -> str:
        rows = self._rows("SELECT v FROM meta WHERE k = ?", (key,))
        return str(rows[0][0]) if rows else ""

    def _put_meta(self, key: str, value: str) -> None:
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        for _ in self._db.execute(statement, values):
            pass

    def _rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return list(self._db.execute(statement, values))
        except apsw.Error as error:
            raise _error(f"the ledger {self.path} cannot be read", error) from error


def _error(what: str, error: Exception) -> LedgerError:
    is_damaged = isinstance(error, apsw.CorruptError | apsw.NotADBError | msgspec.MsgspecError)
    return LedgerError(f"{what}: {error}", DAMAGED if is_damaged else "ledger")


class LedgerThread:
    """The single writer: calls run one after another in a thread of their own, and at most 64 wait."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="license")
        self._places = asyncio.Semaphore(MAX_WAITING)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Its result, or what it raised. LedgerError when the disk does not answer in 30 s."""
        try:
            async with asyncio.timeout(CALL_DEADLINE_S), self._places:
                return await asyncio.wrap_future(self._pool.submit(call, *args, **kwargs))
        except TimeoutError:
            raise LedgerError("the ledger's disk does not answer") from None

    def close(self) -> None:
        """End the thread once it is through with what it has."""
        self._pool.shutdown(wait=True)
