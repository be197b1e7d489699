"""The ledger: what this server has counted, what it may use, what it reported and what was answered. One SQLite file.

Counters, journal cursors, leases and the outbox change in ONE transaction, so no crash can part a count from the place in the
journal up to which it counts, or a report from the figures it states. The records are a hash chain (`history`): the hash of
each covers the one before, the heads are sent in reports and signed back in acknowledgements, and so a rewritten or cut history
is found (A16). `anchor.json` beside it keeps the last acknowledgement and survives the file's deletion (A15). Only the licence
thread touches the file (`LedgerThread`). The ledger never sees an address, a message or a host name (C18, C20). Design 3.7.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from licensing.books import Books, Times, unacknowledged_days
from licensing.calendar import day_of
from licensing.chain import Break
from licensing.history import History
from licensing.ledger_file import LedgerError, LedgerFile, failure

MAX_EVENTS = 10_000  # the oldest go first: they are for people, the chain is the evidence
MAX_WAITING = 64  # calls waiting for the thread
CALL_DEADLINE_S = 30.0  # a disk that takes longer counts as failed; the call itself goes on

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The one report under way: these bytes, until they are acknowledged. `sha256` is that of the signed payload."""

    seq: int
    data: bytes
    sha256: str


class Ledger:
    """The open file. Every public method is one transaction: all of it is on disk when it returns, or it raises LedgerError."""

    def __init__(self, path: Path, *, genesis_hash: str, vfs: str | None = None) -> None:
        """Open it, or begin it with this genesis. Raises LedgerError."""
        self._file = LedgerFile(path, genesis_hash=genesis_hash, vfs=vfs)
        self._history = History(self._file)
        self.path, self.is_new = path, self._file.is_new

    # -- the books ------------------------------------------------------------------------------------

    def books(self) -> Books:
        """What was stored last. Raises LedgerError."""
        found = self._file.meta("books")
        try:
            return msgspec.json.decode(found, type=Books) if found else Books()
        except msgspec.MsgspecError as error:
            raise failure(f"the ledger {self.path} cannot be read", error) from error

    def save(self, books: Books) -> None:
        """Counters, cursors and leases, without a record of their own: what happens between two records."""
        with self._file.transaction():
            self._put_books(books)

    def record(self, books: Books, kind: str, times: Times) -> str:
        """Append a record of these books; its hash, the new head."""
        with self._file.transaction():
            self._put_books(books)
            return self._append(books, kind, times)

    # -- reports --------------------------------------------------------------------------------------

    def put_report(
        self, books: Books, times: Times, build: Callable[[str], tuple[bytes, str]]
    ) -> Outgoing:
        """Append the record of a report and put into the outbox what `build(head)` makes of it: bytes and payload's SHA-256."""
        with self._file.transaction():
            if self.outgoing() is not None:
                raise LedgerError("a report is under way already")
            self._put_books(books)
            data, sha256 = build(self._append(books, "report", times))
            self._file.run(
                "INSERT INTO outbox VALUES (?, ?, ?, ?)",
                (books.seq, data, sha256, times.trusted),
            )
        return Outgoing(books.seq, data, sha256)

    def outgoing(self) -> Outgoing | None:
        """The report under way, if there is one."""
        rows = self._file.rows("SELECT seq, bytes, sha256 FROM outbox")
        return Outgoing(*rows[0]) if rows else None

    def settle(self, books: Books, answer: bytes) -> None:
        """The report under way is acknowledged: the answer is kept, the outbox is empty, the books are these.

        Of each day the last answer is kept: signed heads, a day apart at most, for 400 days in less than a megabyte.
        """
        with self._file.transaction():
            acked = books.acked
            day = day_of(acked.at)
            self._file.run("DELETE FROM ack WHERE day = ?", (day,))
            self._file.run(
                "INSERT INTO ack (day, epoch, seq, head, bytes) VALUES (?, ?, ?, ?, ?)",
                (day, acked.epoch, acked.seq, acked.head, answer),
            )
            self._file.run("DELETE FROM outbox")
            self._put_books(books)

    def open_epoch(self, books: Books, reason: str, times: Times) -> str:
        """The report under way was refused and a new epoch granted; the new head."""
        with self._file.transaction():
            self._file.run("DELETE FROM outbox")
            self._file.run(
                "INSERT OR REPLACE INTO epoch VALUES (?, ?, ?)",
                (books.epoch, times.trusted, reason),
            )
            self._put_books(books)
            return self._append(books, "epoch", times)

    def last_ack(self) -> bytes | None:
        """The last acknowledgement as it came, for a server that was restored from a backup (A27)."""
        rows = self._file.rows("SELECT bytes FROM ack ORDER BY id DESC LIMIT 1")
        return bytes(rows[0][0]) if rows else None

    # -- notices and events ---------------------------------------------------------------------------

    def note_sent(self, codes: Iterable[str], now: float) -> None:
        """The operator was told of these: never again (C26)."""
        with self._file.transaction():
            for code in codes:
                self._file.run("INSERT OR IGNORE INTO notice VALUES (?, ?)", (code, now))

    def sent_notices(self) -> list[str]:
        """Of what the operator was told."""
        return [code for (code,) in self._file.rows("SELECT id FROM notice")]

    def add_events(self, events: Iterable[tuple[float, str, str]]) -> None:
        """What the operator may want to know later: time, code, words. The oldest of 10,000 go."""
        with self._file.transaction():
            for event in events:
                self._file.run("INSERT INTO event (ts, code, detail) VALUES (?, ?, ?)", event)
            last = self._file.last_row_id()
            self._file.run("DELETE FROM event WHERE id <= ?", (last - MAX_EVENTS,))

    def events(self, limit: int = 100) -> list[tuple[float, str, str]]:
        """The latest first."""
        return self._file.rows(
            "SELECT ts, code, detail FROM event ORDER BY id DESC LIMIT ?", (limit,)
        )

    # -- the chain ------------------------------------------------------------------------------------

    def head(self) -> str:
        """The hash of the last record; of the genesis, when there is none."""
        return self._history.head()

    def verify(self) -> Break | None:
        """Walk the chain; the first record that does not hold. The acknowledged heads must be in it (A16). Raises LedgerError."""
        return self._history.verify()

    def mend(self, books: Books, found: Break, times: Times) -> str:
        """Go on behind a break: the chain begins anew, and its first record says where the old one broke."""
        with self._file.transaction():
            self._history.begin_anew(times.trusted, books.activation_id, found)
            self._put_books(books)
            return self._append(books, "mended", times)

    def pack(self) -> int:
        """Pack a run of old records, as `History.pack`."""
        return self._history.pack()

    def rotate(self, before: float, archive: Path) -> int:
        """Move what is older than `before` (trusted time) into `archive`, as `History.rotate`."""
        return self._history.rotate(before, archive)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # -- within ---------------------------------------------------------------------------------------

    def _append(self, books: Books, kind: str, times: Times) -> str:
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
        return self._history.append(times.trusted, kind, record)

    def _put_books(self, books: Books) -> None:
        self._file.put_meta("books", msgspec.json.encode(books).decode())


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
