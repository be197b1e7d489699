"""Where each follower stands: `followers.sqlite` in the spool's directory.

What a follower wrote elsewhere is on disk before `save` commits (WAL, `synchronous=FULL`): so all
up to the saved place is never lost, and all after it can be written again. Event ids are kept by
spool; the place (file, offset, …) is one for all the spools a follower reads, and the follower's
own JSON.
"""

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import apsw

from mta.io.files import fsync_directory
from mta.spool.database import is_full

FILE_NAME = "followers.sqlite"
_VERSION = 1
_SCHEMA = """
create table cursors(
    follower text not null,
    spool    text not null,     -- the spool's UUID
    event_id integer not null,  -- every event up to this one is done
    primary key (follower, spool)
) strict, without rowid;
create table places(
    follower text primary key,
    place    text not null      -- JSON of the follower: file, offset, …
) strict, without rowid;
"""
_BUSY_TIMEOUT_MS = 5_000  # an operator's shell may hold it for a moment


class Cursors(Protocol):
    """The saved places of all followers of one process."""

    def load(self, follower: str) -> tuple[dict[str, int], str]:
        """The last event id done, by spool UUID, and the place; `{}` and "" for a new follower."""

    def save(self, follower: str, done: Mapping[str, int], place: str) -> None:
        """Both at once and durably; raises `apsw.Error` or OSError, then `load` tells what was
        saved, or raises until the next start."""


class CursorFile:
    """`Cursors` in SQLite. Any thread may call; one connection behind a lock."""

    def __init__(self, path: Path) -> None:
        is_new = not path.exists()
        self._failure: apsw.Error | None = None
        self._lock = threading.Lock()
        self._db = apsw.Connection(str(path))
        self._db.set_busy_timeout(_BUSY_TIMEOUT_MS)
        self._db.execute("pragma journal_mode = wal").fetchall()
        self._db.execute("pragma synchronous = full").fetchall()
        # What a failed fsync left in the log is on disk after this, or we do not start.
        self._db.execute("pragma wal_checkpoint(truncate)").fetchall()
        version = self._db.pragma("user_version")
        if version == 0:
            with self._db:
                self._db.execute(_SCHEMA).fetchall()
                self._db.pragma("user_version", _VERSION)
        elif version != _VERSION:
            self._db.close()
            raise ValueError(f"{path} was written by a newer release (version {version})")
        if is_new:
            fsync_directory(path.parent)

    def load(self, follower: str) -> tuple[dict[str, int], str]:
        """See `Cursors`."""
        with self._lock:
            self._require_sound()
            rows: list[Any] = self._db.execute(
                "select spool, event_id from cursors where follower = ?", (follower,)
            ).fetchall()
            place: Any = self._db.execute(
                "select place from places where follower = ?", (follower,)
            ).get
        return dict(rows), place or ""

    def save(self, follower: str, done: Mapping[str, int], place: str) -> None:
        """See `Cursors`."""
        with self._lock:
            self._require_sound()
            try:
                self._save(follower, done, place)
            except apsw.Error as error:
                if isinstance(error, apsw.IOError) and not is_full(error, self._db):
                    self._failure = error
                raise

    def _save(self, follower: str, done: Mapping[str, int], place: str) -> None:
        with self._db:
            for spool, event_id in done.items():
                self._db.execute(
                    "insert or replace into cursors values(?, ?, ?)", (follower, spool, event_id)
                )
            self._db.execute("insert or replace into places values(?, ?)", (follower, place))

    def _require_sound(self) -> None:
        # After a failed fsync only the next start knows whether the place was saved. To go back before it now would cut
        # records off that nobody writes again (reliability.md D4).
        if self._failure is not None:
            raise OSError(f"the followers' places cannot be saved: {self._failure}")

    def close(self) -> None:
        """Close the database; followers must have stopped."""
        # Closing copies the log back. On a disk that refuses it, all that was saved still stands in the log.
        with self._lock, contextlib.suppress(apsw.Error):
            self._db.close()
