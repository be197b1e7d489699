"""Files of our own on disk, so that a power cut finds them whole or not at all.

A file is written under a temporary name, synced, renamed, and its directory synced: without the last step ext4 and xfs alike
kept only the temporary name (measured). `Disk` is the one place where a test injects faults: everything here and the spool's
body files go through one.
"""

import contextlib
import os
from pathlib import Path


class Disk:
    """The system calls that can fail for want of a sound disk."""

    def create(self, path: str | Path, mode: int = 0o600) -> int:
        """Open for writing, created or emptied; the descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)

    def write(self, fd: int, data: bytes) -> None:
        """Write all of `data`; a single write may take only part of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def fsync(self, fd: int) -> None:
        """Data and metadata of the file are on the disk when this returns."""
        os.fsync(fd)


DISK = Disk()


def fsync_directory(path: str | Path, disk: Disk = DISK) -> None:
    """Names made, changed or removed in this directory are on the disk when this returns."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: str | Path, mode: int = 0o700, disk: Disk = DISK) -> None:
    """The directory exists, and a power cut does not take it away; its parents too."""
    path = Path(path)
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_directory(path.parent, mode, disk)
    path.mkdir(mode, exist_ok=True)
    fsync_directory(path.parent, disk)


def write_atomically(
    path: str | Path, data: bytes, *, mode: int = 0o600, disk: Disk = DISK
) -> None:
    """Replace the file's content: after this returns, and after any crash before it, a reader finds one of the two whole.

    Raises OSError; the old content then stands. Readers of the directory may see `.<name>.tmp` for a moment.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        fd = disk.create(temporary, mode)
        try:
            disk.write(fd, data)
            disk.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    fsync_directory(path.parent, disk)
