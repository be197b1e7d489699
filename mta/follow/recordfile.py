"""A file that grows by records, is cut back to a saved place after a crash, and is renamed when it
is full.

The saved `Place` is an offset and how to know the file again: its inode, and a checksum of the
bytes before the offset, because a copied or restored file has another inode and a new file may have
an old one. A file at our path that is neither the saved one nor a header of ours is somebody's
data: it is renamed like a full one, never cut. Where records have no header line, each begins the
same way (`opening`), and that tells our file.

Rotation needs no plan on disk: it happens only when all written is saved. Rename, new file, header,
fsync of file and directory, then the caller saves the new place; a crash between any two leaves the
old file whole under either name, and at most a header at `path`.
"""

import os
import re
import time
import zlib
from pathlib import Path

import msgspec

from mta.io.files import Disk, fsync_directory

FILE_MODE = 0o640  # the group may read: log shippers
TAIL_BYTES = 4096


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the next record goes, and how to know the file again. `number`: the last one given on
    `day`."""

    file: str
    offset: int
    inode: int = 0
    tail: int = 0  # CRC-32 of the up to 4096 bytes before the offset
    day: str = ""  # the UTC day on which the file was begun
    numbered_day: str = ""
    number: int = -1


class RecordDisk(Disk):
    """The calls of a `RecordFile` that can fail, or be the last before a crash."""

    def open(self, path: Path, flags: int) -> int:
        """The descriptor of the file at `path`."""
        return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(fd, size)

    def rename(self, old: Path, new: Path) -> None:
        """Give the file another name."""
        os.rename(old, new)


class RecordFile:
    """The current file at `path`: what was appended before the last `sync` is on disk, or it raised
    OSError.

    After an OSError the object is of no use until `open`: what is on disk is unknown, and a failed
    fsync must never be tried again on the same data. One thread.
    """

    def __init__(
        self, path: Path, header: bytes, disk: RecordDisk, *, opening: bytes = b""
    ) -> None:
        """`opening`: how every record begins, where `header` is empty."""
        self.path = path
        self.offset = 0
        self.day = ""
        self._header = header
        self._opening = opening
        self._disk = disk
        self._descriptor = -1
        self._inode = 0
        self._tail = b""
        self._numbered_day = ""
        self._number = -1

    @property
    def is_empty(self) -> bool:
        """Whether there is a header at most."""
        return self.offset <= len(self._header)

    def open(self, place: Place | None, day: str) -> None:
        """Go on at the saved place, or begin a new file (on `day`). Anything after the place is cut
        off."""
        self.close()
        if place is not None:
            self._numbered_day, self._number = place.numbered_day, place.number
        try:
            self._descriptor = self._disk.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            if place is not None:
                self._cut_moved_file(place)
            self._create(day)
            return
        if place is not None and self._is_saved_file(self._descriptor, place):
            self._cut(self._descriptor, place.offset)
            if self._has_our_header():
                self._go_on(place, day)
            else:  # other columns now: they need a file of their own
                self._disk.fsync(self._descriptor)
                self._move_away(place.day or day)
                self._create(day)
        elif self._is_start_of_header():
            self._begin(day)
        else:
            self._move_away(_day_of(self._descriptor))
            self._create(day)

    def append(self, data: bytes) -> None:
        """Write records; they count only after `sync`."""
        self._disk.write(self._descriptor, data)
        self.offset += len(data)
        self._tail = (self._tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]

    def sync(self) -> Place:
        """Bring all that was appended to disk; the place to save."""
        self._disk.fsync(self._descriptor)
        return Place(
            file=str(self.path),
            offset=self.offset,
            inode=self._inode,
            tail=zlib.crc32(self._tail),
            day=self.day,
            numbered_day=self._numbered_day,
            number=self._number,
        )

    def rotate(self, day: str) -> Path:
        """Rename the file by the day it was begun and the next number, and begin a new one on
        `day`.

        Call it only when everything appended is synced and saved; then `sync` and save the new
        place.
        """
        target = self._move_away(self.day)
        self._create(day)
        return target

    def is_in_place(self) -> bool:
        """Whether `path` is still this file: an operator or a log tool may have renamed it."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def reopen(self, day: str) -> None:
        """Somebody renamed our file: leave it to them, and begin another as after a rotation."""
        self.close()
        self.open(None, day)

    def close(self) -> None:
        """Give the descriptor back; nothing is written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _is_saved_file(self, descriptor: int, place: Place) -> bool:
        status = os.fstat(descriptor)
        if status.st_size < place.offset:
            return False
        if zlib.crc32(_read_tail(descriptor, place.offset)) != place.tail:
            return False
        # Any two files of ours agree as far as their header; records are never the same twice.
        header = os.pread(descriptor, TAIL_BYTES, 0).find(b"\r\n") + 2
        return status.st_ino == place.inode or place.offset > header

    def _has_our_header(self) -> bool:
        if not self._header:
            found = os.pread(self._descriptor, len(self._opening), 0)
            return found in (b"", self._opening)
        return os.pread(self._descriptor, len(self._header), 0) == self._header

    def _is_start_of_header(self) -> bool:
        found = os.pread(self._descriptor, len(self._header) + 1, 0)
        return self._header.startswith(found)

    def _go_on(self, place: Place, day: str) -> None:
        self._inode = os.fstat(self._descriptor).st_ino
        self._tail = _read_tail(self._descriptor, place.offset)
        os.lseek(self._descriptor, place.offset, os.SEEK_SET)
        self.offset = place.offset
        self.day = place.day or day

    def _create(self, day: str) -> None:
        self._descriptor = self._disk.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self._begin(day)

    def _begin(self, day: str) -> None:
        self._inode = os.fstat(self._descriptor).st_ino
        self._disk.truncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.offset, self._tail, self.day = 0, b"", day
        self.append(self._header)
        self._disk.fsync(self._descriptor)
        fsync_directory(self.path.parent, self._disk)

    def _cut(self, descriptor: int, offset: int) -> None:
        if os.fstat(descriptor).st_size > offset:
            self._disk.truncate(descriptor, offset)

    def _cut_moved_file(self, place: Place) -> None:
        """Our file was renamed while we wrote, and then we crashed: its last records will be
        written again."""
        for entry in os.scandir(self.path.parent):
            if entry.inode() == place.inode and entry.is_file(follow_symlinks=False):
                descriptor = self._disk.open(Path(entry.path), os.O_RDWR)
                try:
                    if self._is_saved_file(descriptor, place):
                        self._cut(descriptor, place.offset)
                        self._disk.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def _move_away(self, day: str) -> Path:
        target = self._next_name(day)
        self.close()
        self._disk.rename(self.path, target)
        return target

    def _next_name(self, day: str) -> Path:
        """`acct-YYYY-MM-DD-NNNN.csv`, one above every number seen that day, compressed files
        counted too."""
        stem, suffix = self.path.stem, self.path.suffix
        pattern = re.compile(rf"{re.escape(stem)}-{day}-(\d{{4,9}})(?!\d)")
        found = [pattern.match(name) for name in os.listdir(self.path.parent)]
        taken = [int(match.group(1)) for match in found if match]
        if self._numbered_day == day:
            # A number is not given twice, even where the file has been taken elsewhere.
            taken.append(self._number)
        self._numbered_day, self._number = day, max(taken, default=-1) + 1
        return self.path.with_name(f"{stem}-{day}-{self._number:04d}{suffix}")


def _read_tail(descriptor: int, offset: int) -> bytes:
    start = max(0, offset - TAIL_BYTES)
    return os.pread(descriptor, offset - start, start)


def _day_of(descriptor: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(os.fstat(descriptor).st_mtime))
