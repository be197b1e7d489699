"""Disks that fail on command: a `Disk` for plain files, and an apsw VFS for the spool's database.

A VFS reads its faults from a *fault file* at every operation, so that another process – a daemon under test – can be told to fail
and to recover while it runs:

    sync:eio            every fsync of every file fails
    wal-write:full      every write to the log finds no room
    db-write:eio:3      the third write to the database from now on fails, and all after it

    change:eio:7        so does the seventh operation of any kind but read: for the files, the process died there

An operation is `read`, `write`, `sync` or `truncate`, with `wal-` or `db-` in front for one of the files. The product knows
nothing of this: `python -m tests.support.fake_disk <fault file> run --config …` makes the VFS the default of its process
and then is `sluice`.
"""

import os
import sys
from pathlib import Path

import apsw

from mta.io.files import Disk

NAME = "faulty"
_ERRORS: dict[tuple[str, str], tuple[type[apsw.Error], int]] = {
    ("read", "eio"): (apsw.IOError, apsw.SQLITE_IOERR_READ),
    ("write", "eio"): (apsw.IOError, apsw.SQLITE_IOERR_WRITE),
    ("sync", "eio"): (apsw.IOError, apsw.SQLITE_IOERR_FSYNC),
    ("truncate", "eio"): (apsw.IOError, apsw.SQLITE_IOERR_TRUNCATE),
    ("write", "full"): (apsw.FullError, apsw.SQLITE_FULL),
}


class FaultyVfs(apsw.VFS):
    """The system's VFS, with faults."""

    def __init__(self, faults: Path, *, default: bool = False) -> None:
        self.faults = faults
        self._counted: dict[str, int] = {}
        # By its name: "" would be the default of the moment, and that may be this one.
        self.system = apsw.vfs_names()[0]
        super().__init__(NAME, self.system, makedefault=default)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "FaultyFile":  # noqa: N802
        return FaultyFile(self, name, flags)

    def check(self, file: str, operation: str) -> None:
        """Raise if this operation on this file is to fail."""
        try:
            text = self.faults.read_text()
        except FileNotFoundError:
            self._counted.clear()
            return
        for fault in text.split():
            what, kind, *after = fault.split(":")
            changes = what == "change" and operation != "read"
            if not changes and what not in (operation, f"{file}-{operation}"):
                continue
            self._counted[fault] = count = self._counted.get(fault, 0) + 1
            if count >= int(after[0] if after else 1):
                exception, code = _ERRORS[operation, kind]
                error = exception(f"injected {fault}")
                setattr(error, "extendedresult", code)  # noqa: B010 - apsw reads it, its types do not say so
                raise error


class FaultyFile(apsw.VFSFile):
    """A file of it."""

    def __init__(
        self, vfs: FaultyVfs, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self._vfs = vfs
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        self._kind = "wal" if path.endswith("-wal") else "db"
        super().__init__(vfs.system, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._vfs.check(self._kind, "read")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._vfs.check(self._kind, "write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._vfs.check(self._kind, "sync")
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._vfs.check(self._kind, "truncate")
        super().xTruncate(newsize)


class FaultyDisk(Disk):
    """A disk whose operations fail with the error named in `failing`: `{"fsync": errno.EIO}`."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        self.synced: list[str] = []  # what was synced, in order

    def create(self, path: str | Path, mode: int = 0o600) -> int:
        self._check("create")
        return super().create(path, mode)

    def write(self, fd: int, data: bytes) -> None:
        self._check("write")
        super().write(fd, data)

    def fsync(self, fd: int) -> None:
        self._check("fsync")
        super().fsync(fd)
        self.synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    def _check(self, operation: str) -> None:
        if (code := self.failing.get(operation)) is not None:
            raise OSError(code, os.strerror(code))


def break_a_page(database: Path, page_size: int = 16_384) -> None:
    """Overwrite the header of one page that holds rows of messages (bodies of `y`)."""
    leaf = 13  # https://www.sqlite.org/fileformat2.html#b_tree_pages
    pages = bytearray(database.read_bytes())
    for at in range(page_size, len(pages), page_size):
        if pages[at] == leaf and pages.count(b"y", at, at + page_size) > page_size / 2:
            pages[at : at + 16] = b"\xff" * 16
            database.write_bytes(pages)
            return
    raise AssertionError("no page of messages found")


def main() -> None:
    """Be `sluice`, on a disk that fails when the fault file says so."""
    vfs = FaultyVfs(Path(sys.argv[1]), default=True)
    sys.argv[:2] = ["sluice"]
    from mta.cli import main as sluice  # type: ignore[import-not-found,unused-ignore]

    sluice()
    vfs.unregister()


if __name__ == "__main__":
    main()
