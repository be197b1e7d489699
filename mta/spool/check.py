"""Verifies a spool that nobody has open: the file's structure, every row, every body file. Changes nothing.

What is wrong is reported and passed over; one bad row hides no other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import msgspec

from mta.model.errors import SpoolError
from mta.model.event import decode_event
from mta.spool.database import VERSION, Lock
from mta.spool.rows import fetch
from mta.spool.spill import list_bodies

MAX_PROBLEMS = 1000  # of each kind: a report is to be read


@dataclass(slots=True)
class SpoolReport:
    """What was found in one spool."""

    path: str
    messages: int = 0
    recipients: int = 0
    events: int = 0
    queues: int = 0
    body_files: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return not self.problems


def check_spool(path: Path) -> list[SpoolReport]:
    """Verify every spool of the directory `path` (or the one `<number>.sqlite` given).

    Raises SpoolLocked while a worker has one open, SpoolError if there is none.
    """
    files = [path] if path.is_file() else sorted(path.glob("[0-9]*.sqlite"))
    if not files:
        raise SpoolError(f"there is no spool in {path}")
    return [_check(file) for file in files]


def _check(file: Path) -> SpoolReport:
    report = SpoolReport(str(file))
    lock = Lock(file.with_suffix(".lock"))
    try:
        connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            # The log is read, and left as it is.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            fetch(connection, "PRAGMA locking_mode = EXCLUSIVE")
            _Checker(connection, file, report).run()
        finally:
            connection.close()
    except apsw.Error as error:
        report.problems.append(f"the file cannot be read: {error}")
    finally:
        lock.release()
    return report


class _Checker:
    """The checks of one open spool, each on its own: one that fails does not end the others."""

    def __init__(self, connection: apsw.Connection, file: Path, report: SpoolReport) -> None:
        self._connection = connection
        self._bodies = file.with_suffix(".bodies")
        self._report = report
        self._named: set[str] = set()

    def run(self) -> None:
        version = fetch(self._connection, "PRAGMA user_version")[0][0]
        if version != VERSION:
            self._problem(f"the spool is of version {version}; this release checks {VERSION}")
            return
        for part in (
            self._structure,
            self._counts,
            self._orphans,
            self._messages,
            self._recipients,
            self._events,
            self._body_files,
        ):
            try:
                part()
            except (apsw.Error, ValueError) as error:
                self._problem(f"{part.__name__.strip('_').replace('_', ' ')}: {error}")

    def _problem(self, text: str) -> None:
        self._report.problems.append(text)

    def _structure(self) -> None:
        rows = fetch(self._connection, f"PRAGMA integrity_check({MAX_PROBLEMS})")
        for (text,) in rows:
            if text != "ok":
                self._problem(f"structure: {text}")

    def _counts(self) -> None:
        for table in ("messages", "recipients", "events", "queues"):
            try:
                ((number,),) = fetch(self._connection, f"SELECT count(*) FROM {table[:-1]}")
                setattr(self._report, table, number)
            except apsw.Error as error:
                self._problem(f"{table} cannot be counted: {error}")

    def _orphans(self) -> None:
        checks = {
            "recipient {} has no message": "SELECT r.id FROM recipient r WHERE NOT EXISTS"
            " (SELECT 1 FROM message m WHERE m.number = r.message)",
            "recipient {} has no queue": "SELECT r.id FROM recipient r WHERE NOT EXISTS"
            " (SELECT 1 FROM queue q WHERE q.id = r.queue)",
            "message {} has no recipient": "SELECT m.number FROM message m WHERE NOT EXISTS"
            " (SELECT 1 FROM recipient r WHERE r.message = m.number)"
            " AND NOT EXISTS (SELECT 1 FROM notice n WHERE n.message = m.number AND n.digest = '')",
            "the notice of recipient {} has no message": "SELECT n.entry FROM notice n WHERE"
            " n.digest = '' AND NOT EXISTS (SELECT 1 FROM message m WHERE m.number = n.message)",
        }
        for text, select in checks.items():
            for (number,) in fetch(self._connection, f"{select} LIMIT {MAX_PROBLEMS}"):
                self._problem(text.format(number))

    def _messages(self) -> None:
        def check(row: tuple[object, ...]) -> str:
            *_, size, body_file, prefix, body = row
            assert isinstance(size, int)
            assert isinstance(prefix, bytes)
            if body_file:
                return self._check_body_file(str(body_file), size - len(prefix))
            stored = len(prefix) + (len(body) if isinstance(body, bytes) else 0)
            return "" if stored == size else f"has {stored} bytes instead of {size}"

        self._each(
            "message", "number", "*, size AS s, body_file AS f, prefix AS p, body AS b", check
        )

    def _check_body_file(self, name: str, size: int) -> str:
        self._named.add(name)
        path = self._bodies / name[:2] / name
        if not path.is_file():
            return f"its body file {path} is missing"
        found = path.stat().st_size
        return "" if found == size else f"its body file {path} has {found} bytes instead of {size}"

    def _recipients(self) -> None:
        self._each("recipient", "id", "*", lambda row: "")
        self._each("notice", "entry", "*", lambda row: "")

    def _events(self) -> None:
        def check(row: tuple[object, ...]) -> str:
            data = row[-1]
            assert isinstance(data, bytes)
            try:
                decode_event(data)
            except msgspec.DecodeError as error:
                return f"cannot be read: {error}"
            return ""

        self._each("event", "id", "data", check)

    def _body_files(self) -> None:
        files = list_bodies(self._bodies)
        self._report.body_files = len(files)
        for path in files:
            if path.name not in self._named:
                self._problem(f"body file {path} belongs to no message (removed at the next start)")

    def _each(
        self, table: str, key: str, columns: str, check: Callable[[tuple[object, ...]], str]
    ) -> None:
        """Read every row by itself."""
        told = 0
        for number in self._numbers(table, key):
            try:
                rows = fetch(
                    self._connection, f"SELECT {columns} FROM {table} WHERE {key} = ?", (number,)
                )
                problem = check(rows[0]) if rows else "is in an index only"
            except (apsw.Error, ValueError) as error:
                problem = f"cannot be read: {error}"
            if problem and told < MAX_PROBLEMS:
                told += 1
                self._problem(f"{table} {number} {problem}")

    def _numbers(self, table: str, key: str) -> Iterator[int]:
        """The keys, by an index where there is one: it may be sound where the rows are not."""
        last = 0
        while True:
            rows = fetch(
                self._connection,
                f"SELECT {key} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT 1000",
                (last,),
            )
            if not rows:
                return
            for (number,) in rows:
                yield number
            last = rows[-1][0]
