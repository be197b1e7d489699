"""Opens the spool's file: one owner, the settings that make a commit durable, the schema and its migrations.

`locking_mode=EXCLUSIVE`: only the spool's thread may touch the file, so SQLite needs no shared memory and no lock a
transaction, and nobody's forgotten shell can keep the log from being reset. `synchronous=FULL` syncs the log at every commit;
SQLite syncs the directory when it creates the log, we when we create the database.
"""

import contextlib
import errno
import fcntl
import os
import uuid
from importlib import resources
from pathlib import Path

import apsw

from mta.io.files import fsync_directory, make_directory
from mta.model.errors import SpoolError
from mta.spool.rows import fetch
from mta.spool.words import SpoolLocked

VERSION = 4
# `MIGRATIONS[n]` brings a spool of version n to n + 1; they only ever append.
MIGRATIONS: dict[int, str] = {
    1: """
    CREATE TABLE notice (
        entry INTEGER PRIMARY KEY, message INTEGER NOT NULL, at REAL NOT NULL, data BLOB NOT NULL
    ) STRICT;
    CREATE INDEX notice_at ON notice (at);
    CREATE INDEX notice_message ON notice (message);
    """,
    2: """
    ALTER TABLE recipient ADD COLUMN release_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE recipient ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
    DROP INDEX recipient_due;
    CREATE INDEX recipient_due ON recipient (queue, priority, due, id, message, size, job)
        WHERE held = 0;
    """,
    3: """
    ALTER TABLE notice ADD COLUMN digest TEXT NOT NULL DEFAULT '';
    DROP INDEX notice_at;
    DROP INDEX notice_message;
    CREATE INDEX notice_at ON notice (at) WHERE digest = '';
    CREATE INDEX notice_message ON notice (message) WHERE digest = '';
    CREATE INDEX notice_digest ON notice (digest) WHERE digest <> '';
    """,
}

# Three 4 kB messages a page: 28,000 msg/s; with 8 kB pages 17,000, with 4 kB 13,000.
PAGE_SIZE = 16_384
CACHE_KB = 16_384
WAL_LIMIT_BYTES = 67_108_864  # what the log keeps after it was reset
STATEMENTS = 250  # of the statement cache: all of ours, in every size


class Lock:
    """The lock that keeps two owners of one spool apart; the file names the owner."""

    def __init__(self, path: Path) -> None:
        """Raises SpoolLocked with the owner's PID."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = os.pread(self._fd, 20, 0).strip()
            os.close(self._fd)
            raise SpoolLocked(str(path), int(text) if text.isdigit() else 0) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next owner in. The file stays: removing it would let two owners lock two files of one name."""
        # A disk that failed takes not even this; the name is for people, and the lock goes with the descriptor.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)


def open_database(path: Path, vfs: str | None = None) -> tuple[apsw.Connection, bool]:
    """The connection, and whether the spool is new. In the thread that will use it.

    What the last owner left in the log is written to the database first, or nothing may be accepted: raises SpoolError.
    """
    make_directory(path.parent)
    created = not path.exists()
    try:
        connection = apsw.Connection(str(path), vfs=vfs, statementcachesize=STATEMENTS)
    except apsw.Error as error:
        raise SpoolError(f"the spool {path} cannot be opened: {error}") from error
    try:
        _configure(connection)
        if created:
            os.chmod(path, 0o600)
        _migrate(connection, path)
        busy = fetch(connection, "PRAGMA wal_checkpoint(TRUNCATE)")[0][0]
        if busy:
            raise SpoolError(f"the spool {path} is in use by another program")
        # Without it a power cut can take the whole file (reliability.md D1).
        fsync_directory(path.parent)
    except (apsw.Error, OSError) as error:
        _close_quietly(connection)
        raise SpoolError(f"the spool {path} cannot be opened: {error}") from error
    except SpoolError:
        _close_quietly(connection)
        raise
    return connection, created


def is_full(error: apsw.Error, connection: apsw.Connection) -> bool:
    """Whether only room was lacking: then the transaction is undone and the spool is sound.

    SQLite says so for ENOSPC, but takes an exhausted quota for an error of the disk.
    """
    if isinstance(error, apsw.FullError):
        return True
    return (
        isinstance(error, apsw.IOError)
        and getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_WRITE
        and connection.system_errno in (errno.EDQUOT, errno.ENOSPC)
    )


def _configure(connection: apsw.Connection) -> None:
    # Closing must not copy the log back: after an error of the disk the log is all that can be trusted, and it is left alone.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    # Page size and auto_vacuum only count before the first table; the locking mode before the first read of the log.
    for pragma in (
        "locking_mode = EXCLUSIVE",
        f"page_size = {PAGE_SIZE}",
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = FULL",
        "fullfsync = ON",  # where fsync() alone leaves data in the drive's cache (macOS)
        "checkpoint_fullfsync = ON",
        "foreign_keys = OFF",
        "trusted_schema = OFF",
        "temp_store = MEMORY",
        f"cache_size = -{CACHE_KB}",
        f"journal_size_limit = {WAL_LIMIT_BYTES}",
        "wal_autocheckpoint = 0",  # ours: an error of a checkpoint must not go unseen
    ):
        fetch(connection, f"PRAGMA {pragma}")
    mode = fetch(connection, "PRAGMA journal_mode")[0][0]
    if mode != "wal":
        raise SpoolError(f"the database would not keep a write-ahead log (it says {mode})")


def _migrate(connection: apsw.Connection, path: Path) -> None:
    version = fetch(connection, "PRAGMA user_version")[0][0]
    if version > VERSION:
        raise SpoolError(
            f"the spool {path} was written by a newer release (version {version}, this one knows"
            f" {VERSION}): run that release again"
        )
    if version == VERSION:
        return
    with connection:  # all or nothing
        if version == 0:
            connection.execute(resources.files("mta.spool").joinpath("schema.sql").read_text())
            connection.execute("INSERT INTO meta VALUES ('uuid', ?)", (uuid.uuid4().bytes,))
        else:
            for step in range(version, VERSION):
                fetch(connection, MIGRATIONS[step])
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _close_quietly(connection: apsw.Connection) -> None:
    try:
        connection.close()
    except apsw.Error:
        # The first error is the one to tell; this one only repeats it.
        return
