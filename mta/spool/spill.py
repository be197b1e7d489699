"""Bodies too large for a row: one file each, written by a thread of their own while the message still comes in.

A file has its final name from the start and is on disk, directory too, before `finish` answers; the commit that names it comes
after. A file that no message names is left over from a crash, and removed when the spool is opened. Files are removed only
after the commit that deleted their message: a power cut may bring one back, never lose one.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from mta.io.files import DISK, Disk, fsync_directory, make_directory
from mta.io.threads import Post, Workshop
from mta.model.envelope import SpillFile

# Far beyond what memory for unfinished DATA allows; the bound that counts is that memory's.
_MAX_JOBS = 1_000_000


class Bodies:
    """The body files of one spool, under `<number>.bodies/<2 hex>/<name>`."""

    def __init__(self, directory: Path, post: Post, disk: Disk = DISK) -> None:
        self.directory = directory
        self._disk = disk
        self._workshop = Workshop("spill", post, threads=1, limit=_MAX_JOBS)
        self.pending_bytes = 0  # handed to the writer, not yet written

    def new_spill(self) -> "Spill":
        """A file for one body; nothing is on disk until the first write."""
        return Spill(self, os.urandom(16).hex())

    def name(self, body: SpillFile) -> str:
        """What the message's row says of the file."""
        return Path(body.path).name

    def path(self, name: str) -> Path:
        """Where a body file of this name lies."""
        return self.directory / name[:2] / name

    def remove(self, names: Iterable[str]) -> None:
        """Remove files whose messages are gone; those already gone are fine."""
        paths = [self.path(name) for name in names]
        if paths:
            self.run(lambda: _unlink(paths), _nothing)

    def remove_leftovers(self, known: set[str]) -> int:
        """Remove every file not in `known`; how many they were. Only before the first spill."""
        leftovers = [path for path in list_bodies(self.directory) if path.name not in known]
        _unlink(leftovers)
        return len(leftovers)

    def run(
        self, job: Callable[[], object], done: Callable[[BaseException | object], None]
    ) -> None:
        """Do this in the writer's thread, after everything before it."""
        if not self._workshop.submit(job, done):
            done(OSError("too many writes of large bodies are waiting"))

    def close(self) -> None:
        """Let the writer finish."""
        self._workshop.close()

    def create(self, name: str) -> int:
        """Make the file and every directory above it, each on disk in its parent."""
        path = self.path(name)
        make_directory(path.parent, disk=self._disk)
        return self._disk.create(path)

    def write(self, fd: int, data: bytes) -> None:
        """All of `data` at the end of the file."""
        self._disk.write(fd, data)

    def sync(self, fd: int, name: str) -> None:
        """The file and its name are on disk."""
        self._disk.fsync(fd)
        fsync_directory(self.path(name).parent, self._disk)


class Spill:
    """One body on its way to disk. Ends with `finish` and an accept, or with `discard`."""

    __slots__ = ("_bodies", "_error", "_fd", "_name", "size")

    def __init__(self, bodies: Bodies, name: str) -> None:
        self._bodies = bodies
        self._name = name
        self._fd = -1  # this and the error belong to the writer's thread
        self._error: BaseException | None = None
        self.size = 0

    def write(self, data: bytes, written: Callable[[], None] | None = None) -> None:
        """Append; `written` is called on the loop when the bytes are no longer held, even if the disk failed.

        An error is kept for `finish`.
        """
        self.size += len(data)
        self._bodies.pending_bytes += len(data)

        def over(_: object) -> None:
            self._bodies.pending_bytes -= len(data)
            if written is not None:
                written()

        self._bodies.run(lambda: self._write(data), over)

    def finish(self, done: Callable[[SpillFile | BaseException], None]) -> None:
        """Sync file and directory; `done` gets the file, or the error that kept it from the disk."""
        file = SpillFile(str(self._bodies.path(self._name)), self.size)

        def over(error: object) -> None:
            done(error if isinstance(error, BaseException) else file)

        self._bodies.run(self._finish, over)

    def discard(self) -> None:
        """The message comes to nothing: remove the file. Also after `finish`, as long as no accept named it."""
        self._bodies.run(self._discard, _nothing)

    def _write(self, data: bytes) -> None:
        if self._error is not None:
            return
        try:
            if self._fd < 0:
                self._fd = self._bodies.create(self._name)
            self._bodies.write(self._fd, data)
        except OSError as error:
            self._error = error

    def _finish(self) -> None:
        if self._error is None:
            try:
                if self._fd < 0:
                    self._fd = self._bodies.create(self._name)
                self._bodies.sync(self._fd, self._name)
                fd, self._fd = self._fd, -1
                os.close(fd)
                return
            except OSError as error:
                # Never the same fsync again: what it failed to write may be gone from the cache.
                self._error = error
        self._discard()
        raise self._error

    def _discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        _unlink([self._bodies.path(self._name)])


def list_bodies(directory: Path) -> list[Path]:
    """Every body file there is."""
    if not directory.is_dir():
        return []
    return [path for path in directory.glob("*/*") if path.is_file()]


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _nothing(_: object) -> None:
    """Nobody waits for this."""
