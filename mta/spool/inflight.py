"""The entries in flight, in a small memory-mapped file: what a crash interrupted.

Marking an entry is one store into a page of the kernel's cache: it survives `kill -9` and costs no system call. It does not
survive a power cut, so the header names the boot it belongs to; when that has passed, nothing is known of what was in flight.
The header's `clean` is synced when it changes, the slots never.
"""

import mmap
import os
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path

from mta.io.files import write_atomically

MAGIC = b"SLUICEIF"
# Magic, clean, spool's UUID, boot's UUID; slots of 8 bytes follow: an entry's number, 0 for free.
_HEADER = struct.Struct("<8sQ16s16s16x")
_CLEAN_AT = 8
SLOTS = 16_384  # 128 kB at first; doubled when they do not suffice
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_boot_id() -> bytes:
    """The 16 bytes that name this boot of the machine; zeros where the kernel does not say."""
    try:
        return uuid.UUID(_BOOT_ID.read_text().strip()).bytes
    except (OSError, ValueError):
        return bytes(16)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What the last owner left behind."""

    clean: bool
    same_boot: bool
    numbers: list[int]


def read_inflight(path: Path, spool: bytes, boot: bytes) -> Interrupted | None:
    """What stands in the file; None if there is none of this spool."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) < _HEADER.size:
        return None
    magic, clean, owner, booted = _HEADER.unpack_from(data)
    if magic != MAGIC or owner != spool:
        return None
    slots = data[_HEADER.size :]
    slots = slots[: len(slots) & ~7]
    numbers = [number for number in memoryview(slots).cast("Q").tolist() if number]
    return Interrupted(clean == 1, booted == boot and boot != bytes(16), numbers)


class Inflight:
    """The owner's side: marks and unmarks entries; each entry has at most one slot."""

    def __init__(self, path: Path, spool: bytes, boot: bytes, slots: int = SLOTS) -> None:
        """Begin anew, not clean, on disk before anything can be in flight. Raises OSError."""
        header = _HEADER.pack(MAGIC, 0, spool, boot)
        write_atomically(path, header + bytes(8 * slots))
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._slot_of: dict[int, int] = {}
        self._free: list[int] = []
        self._count = 0
        self._map(slots)

    def __len__(self) -> int:
        return len(self._slot_of)

    def __contains__(self, number: int) -> bool:
        return number in self._slot_of

    def mark(self, number: int) -> None:
        """This entry is being delivered: from here on a crash may repeat it."""
        if number in self._slot_of:
            return
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self._slot_of[number] = slot
        self._slots[slot] = number

    def unmark(self, number: int) -> None:
        """What became of this entry is on disk."""
        slot = self._slot_of.pop(number, None)
        if slot is not None:
            self._slots[slot] = 0
            self._free.append(slot)

    def close(self, *, clean: bool) -> None:
        """Let go of the file; `clean`: the spool was closed in order (entries still marked may repeat all the same)."""
        self._slots.release()
        if clean:
            self._mapped[_CLEAN_AT : _CLEAN_AT + 8] = struct.pack("<Q", 1)
            self._mapped.flush()
            os.fsync(self._fd)
        self._mapped.close()
        os.close(self._fd)

    def _map(self, slots: int) -> None:
        self._mapped = mmap.mmap(self._fd, _HEADER.size + 8 * slots)
        self._slots = memoryview(self._mapped)[_HEADER.size :].cast("Q")
        # The highest numbers first: pop() then hands out the lowest, and few pages are touched.
        self._free.extend(range(slots - 1, self._count - 1, -1))
        self._count = slots

    def _grow(self) -> None:
        self._slots.release()
        self._mapped.close()
        os.ftruncate(self._fd, _HEADER.size + 16 * self._count)
        self._map(2 * self._count)
