"""File systems of a test's own: an ext4 on a loop device whose power can be cut, and a small tmpfs that fills up. Root only.

The cut is EXT4_IOC_SHUTDOWN without a flush of the journal, as xfstests do it: from then on nothing reaches the image, and what
the next mount finds is what had been synced (reliability.md, "A kill is not a power cut").
"""

import fcntl
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

# linux/ext4.h: EXT4_IOC_SHUTDOWN = _IOR('X', 125, __u32), EXT4_GOING_FLAGS_NOLOGFLUSH = 2.
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = struct.pack("<I", 2)
BOOT_ID = "/proc/sys/kernel/random/boot_id"
FILLER_BLOCK = 65_536
DETACH_S = 10.0


def needs_root() -> None:
    """Skip where file systems cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system")


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class LoopDisk:
    """An ext4 in a file, mounted at `path`."""

    def __init__(self, place: Path, size_mb: int = 256) -> None:
        """Raises OSError where there are no loop devices."""
        self.path = place / "disk"
        self._image = place / "disk.img"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(size_mb << 20)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mount; after a cut this replays the journal."""
        _run("mount", "-o", "loop", str(self._image), str(self.path))

    def cut_power(self) -> None:
        """Nothing that is not on the disk now will ever be: every later operation fails with EIO."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """Unmount; nobody may have a file open. Returns when the kernel has let go of the image.

        It does so later than `umount` ends; a second loop device on the same image would see a file system that the first
        still writes to, and read errors where there are none.
        """
        _run("umount", str(self.path))
        until = time.monotonic() + DETACH_S
        while _run("losetup", "-j", str(self._image)):
            if time.monotonic() > until:
                raise OSError(f"{self._image} is still attached")
            time.sleep(0.01)


@contextmanager
def a_loop_disk(place: Path) -> Iterator[LoopDisk]:
    """A loop-mounted ext4, or the test is skipped and says so."""
    needs_root()
    try:
        disk = LoopDisk(place)
    except OSError as error:
        pytest.skip(f"no loop-mounted ext4 here: {error}")
    try:
        yield disk
    finally:
        with suppress(OSError):
            disk.unmount()


def in_a_boot_of_its_own(boot: Path) -> list[str]:
    """The words before a command that let it see the content of the file `boot` as the id of the machine's boot."""
    script = f'mount --bind "$0" {BOOT_ID} && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(boot), sys.executable, "-m", "mta"]


class SmallDisk:
    """A tmpfs at `path`, which can be filled and emptied again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, leave_bytes: int) -> None:
        """Take all space but so many bytes."""
        status = os.statvfs(self.path)
        size = status.f_bavail * status.f_frsize - leave_bytes
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            with suppress(OSError):  # the server was faster with the last bytes
                while size > 0:
                    size -= os.write(fd, bytes(min(size, FILLER_BLOCK)))
        finally:
            os.close(fd)

    def fill_inodes(self, leave: int) -> None:
        """Take all inodes but so many."""
        number = 0
        with suppress(OSError):
            while os.statvfs(self.path).f_favail > leave:
                (self.path / f"filler.{number}").touch(exist_ok=False)
                number += 1

    def empty(self) -> None:
        """Give back what was taken."""
        for path in self.path.glob("filler*"):
            path.unlink()


@contextmanager
def a_small_disk(place: Path, size_mb: int, inodes: int = 0) -> Iterator[SmallDisk]:
    """A tmpfs of this size, or the test is skipped and says so."""
    needs_root()
    path = place / "disk"
    path.mkdir()
    options = f"size={size_mb}m" + (f",nr_inodes={inodes}" if inodes else "")
    try:
        _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path))
    except OSError as error:
        pytest.skip(f"no tmpfs can be mounted here: {error}")
    try:
        yield SmallDisk(path)
    finally:
        _run("umount", "--lazy", str(path))
