"""Opens the books: WAL, synchronous=FULL, one owner (`locking_mode = EXCLUSIVE`), the schema, migrations by user_version."""

import os
from importlib import resources
from pathlib import Path

import apsw

from licensing.errors import LicenseError

# Each brings the books to the next version; they only ever append. New books go through all of them.
MIGRATIONS = ("schema.sql", "letters.sql")
VERSION = len(MIGRATIONS)

CACHE_KB = 65_536  # 10,000 nodes with their last reports fit
CHECKPOINT_PAGES = (
    4_000  # 16 MB of log: copied back every few seconds at the steady rate, not twice a second
)
STATEMENTS = 128  # of the statement cache: all of ours


def open_books(path: Path | str) -> apsw.Connection:
    """The connection; the file and its schema are made if need be. Raises LicenseError. `:memory:` serves for simulations."""
    try:
        connection = apsw.Connection(str(path), statementcachesize=STATEMENTS)
        if str(path) != ":memory:":
            os.chmod(path, 0o600)
        for pragma in (
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = OFF",
            "trusted_schema = OFF",
            "temp_store = MEMORY",
            f"cache_size = -{CACHE_KB}",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        _migrate(connection, path)
    except (apsw.Error, OSError) as error:
        raise LicenseError("database", f"{path} cannot be opened: {error}") from error
    return connection


def _migrate(connection: apsw.Connection, path: Path | str) -> None:
    version: int = connection.pragma("user_version")
    if version > VERSION:
        raise LicenseError(
            "database",
            f"{path} was written by a newer release (version {version}, this one knows {VERSION}): run that release again",
        )
    with connection:  # all or nothing
        for name in MIGRATIONS[version:]:
            connection.execute(resources.files("licensing.server").joinpath(name).read_text())
        connection.execute(f"PRAGMA user_version = {VERSION}")
