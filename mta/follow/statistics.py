"""The statistics follower: counts of the last 30 days, by hour, in `statistics.sqlite` of the spool's directory.

Counts and the cursor they were read up to are committed in one transaction: whatever is killed, no event is counted twice and
none is missed. The database is bounded: an hour that is over has at most `CLOSED_ROWS` rows, the running one `OPEN_ROWS` and what
came in within a second, all together take `MAX_BYTES`; beyond it the oldest hours go early.

None of it may disturb the mail. A damaged database is set aside and a new one begun; a full disk only delays (`Pruning` lets
events go that this follower has not read, if it stays so).
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import apsw
import structlog

from mta.follow.inbox import Numbered
from mta.follow.tally import COUNTED, HOUR_S, Counts, Key, Tally, fold_rows

logger = structlog.get_logger()

NAME = "statistics"
FILE_NAME = "statistics.sqlite"
DAMAGED = ".damaged"
SAVE_EVERY_S = 2.0
KEEP_HOURS = 30 * 24
CLOSED_ROWS = 1000
OPEN_ROWS = 8000
MAX_BYTES = 256 << 20
VACUUM_PAGES = 256  # a step: 1 MB
BUSY_TIMEOUT_MS = 5000
_VERSION = 1
_NAMES = ("domain", "site", "vmta", "job", "category", "verdict", "reply")
_SCHEMA = f"""
create table counts(
    hour integer not null,      -- since the epoch
    {" ".join(f"{name} text not null," for name in _NAMES)}
    {" ".join(f"{name} integer not null," for name in COUNTED)}
    primary key (hour, {", ".join(_NAMES)})
) strict, without rowid;
create table hours(hour integer primary key, is_closed integer not null) strict;
create table cursors(spool text primary key, event_id integer not null) strict, without rowid;
"""
_ADD = f"""
insert into counts values(?, {", ".join("?" * (len(_NAMES) + len(COUNTED)))})
on conflict do update set {", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTED)}
"""
# What SQLite says of a file that is no sound database.
_DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.SchemaChangeError)


class StatisticsSink:
    """A `Sink` that counts."""

    def __init__(self, file: "StatisticsFile") -> None:
        self._file = file

    def open(self, place: str, wall: float) -> str:
        """See `Sink`: what was not saved is counted again."""
        self._file.tally.clear()
        return ""

    def write(self, spool: str, events: Sequence[Numbered]) -> None:
        """See `Sink`."""
        self._file.tally.add(events)

    def save(self) -> str:
        """See `Sink`: the cursors are saved with the counts."""
        return ""

    def upkeep(self, wall: float, *, asked: bool) -> str | None:
        """See `Sink`: fold what is over, remove what is old."""
        self._file.upkeep(int(wall) // HOUR_S)
        return None

    def finished_file(self) -> str:
        """See `Sink`."""
        return ""

    def close(self) -> None:
        """See `Sink`."""
        self._file.close()


class StatisticsFile:
    """The database, and `Cursors` that are committed with the counts up to there. On the follower's thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tally = Tally()
        self._db: apsw.Connection | None = None
        self._is_asked_first = True
        self._touched: set[int] = set()  # hours that may have too many rows

    def load(self, follower: str) -> tuple[dict[str, int], str]:
        """See `Cursors`. Raises OSError where the file cannot be opened now, but for the first time: all else is to start."""
        is_first, self._is_asked_first = self._is_asked_first, False
        try:
            rows = self._opened().execute("select spool, event_id from cursors").fetchall()
        except apsw.Error as error:
            trouble = self._trouble(error)
            if is_first:  # nothing is known, so nothing is pruned
                return {}, ""
            raise trouble from error
        return {str(spool): int(str(event_id)) for spool, event_id in rows}, ""

    def save(self, follower: str, done: Mapping[str, int], place: str) -> None:
        """See `Cursors`."""
        if not done:
            return
        rows = self.tally.rows
        try:
            db = self._opened()
            with _transaction(db):
                db.executemany(_ADD, [(*key, *counts) for key, counts in rows.items()])
                for hour in {key.hour for key in rows}:
                    db.execute("insert or replace into hours values(?, 0)", (hour,))
                    self._touched.add(hour)
                db.executemany("insert or replace into cursors values(?, ?)", list(done.items()))
        except apsw.Error as error:
            raise self._trouble(error) from error
        self.tally.clear()

    def upkeep(self, now: int) -> None:
        """Keep it small; a little at each call. `now`: the hour."""
        try:
            self._fold(now)
            self._remove_oldest(now)
            self._give_back()
        except apsw.Error as error:
            raise self._trouble(error) from error

    def close(self) -> None:
        """Give the file back."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(apsw.Error):
                db.close()

    def _fold(self, now: int) -> None:
        db = self._opened()
        # An hour is over when no event of it is to be expected; one that comes later opens it again.
        over = db.execute(
            "select hour from hours where is_closed = 0 and hour < ? limit 1", (now - 1,)
        ).get
        touched, self._touched = self._touched, set()
        for hour in touched:
            if self._rows_of(hour) > OPEN_ROWS:
                self._fold_hour(hour, OPEN_ROWS // 2, is_closed=False)
        if over is not None:
            self._fold_hour(int(str(over)), CLOSED_ROWS, is_closed=True)

    def _rows_of(self, hour: int) -> int:
        found = self._opened().execute("select count(*) from counts where hour = ?", (hour,)).get
        return int(str(found))

    def _fold_hour(self, hour: int, limit: int, *, is_closed: bool) -> None:
        db = self._opened()
        with _transaction(db):
            rows: dict[Key, Counts] = {}
            for row in db.execute("select * from counts where hour = ?", (hour,)):
                key = Key._make(row[: len(Key._fields)])
                rows[key] = [int(str(count)) for count in row[len(Key._fields) :]]
            if len(rows) > limit:
                folded = fold_rows(rows, limit)
                db.execute("delete from counts where hour = ?", (hour,))
                db.executemany(_ADD, [(*key, *counts) for key, counts in folded.items()])
            db.execute("update hours set is_closed = ? where hour = ?", (int(is_closed), hour))

    def _remove_oldest(self, now: int) -> None:
        """One hour at a call: a closed one is a thousand rows."""
        db = self._opened()
        oldest = db.execute("select min(hour) from hours").get
        if oldest is None:
            return
        used = (db.pragma("page_count") - db.pragma("freelist_count")) * db.pragma("page_size")
        if int(str(oldest)) > now - KEEP_HOURS and used <= MAX_BYTES:
            return
        with _transaction(db):
            db.execute("delete from counts where hour = ?", (oldest,))
            db.execute("delete from hours where hour = ?", (oldest,))

    def _give_back(self) -> None:
        db = self._opened()
        if db.pragma("freelist_count") > VACUUM_PAGES:
            db.execute(f"pragma incremental_vacuum({VACUUM_PAGES})").fetchall()

    def _opened(self) -> apsw.Connection:
        if self._db is None:
            self._db = _open(self.path)
        return self._db

    def _trouble(self, error: apsw.Error) -> OSError:
        """What to raise for it. The next use opens the file again: a damaged one was set aside, what else stands in it holds."""
        self.close()
        if isinstance(error, _DAMAGE):
            aside = self.path.with_name(self.path.name + DAMAGED)
            self.path.replace(aside)
            for end in ("-wal", "-shm"):
                self.path.with_name(self.path.name + end).unlink(missing_ok=True)
            logger.error(
                "the statistics are damaged; they were set aside and begin anew",
                file=str(aside),
                error=str(error),
            )
        return OSError(f"the statistics cannot be written: {error}")


@contextlib.contextmanager
def _transaction(db: apsw.Connection) -> Iterator[None]:
    """All of it or nothing. SQLite undoes it by itself when the disk is full; undone twice, its first words would be lost."""
    db.execute("begin immediate")
    try:
        yield
        db.execute("commit")
    except BaseException:  # raised again
        if db.in_transaction:
            db.execute("rollback")
        raise


def _open(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    try:
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        # Before the first table, or it does not count.
        for pragma in ("auto_vacuum = incremental", "journal_mode = wal", "synchronous = full"):
            db.execute(f"pragma {pragma}").fetchall()
        version = db.pragma("user_version")
        if version == 0:
            with _transaction(db):
                db.execute(_SCHEMA).fetchall()
                db.pragma("user_version", _VERSION)
        elif version != _VERSION:
            raise apsw.SchemaChangeError(f"written by a newer release (version {version})")
    except apsw.Error:
        with contextlib.suppress(apsw.Error):
            db.close()
        raise
    return db
