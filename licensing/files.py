"""Small files that must not be lost, and those that must not be seen: atomic writing, private reading.

Everything licensing keeps outside its ledger goes through here. A file is there whole or not at all, also after a power cut;
what is secret is written 0600, and refused when others may read it (C17). Never more is read than the caller expects.
"""

import contextlib
import os
import secrets
from pathlib import Path

from licensing.errors import LicenseError

PRIVATE = 0o600


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Put `data` at `path`, whole: written beside it, synced, renamed, and the folder synced. Raises OSError.

    The file belongs to the owner of its folder: root installs what the service's user must be able to read.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask is
            _give_to_owner_of(path.parent, descriptor)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
    except BaseException:  # whatever it was, no torn file may stay
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def _give_to_owner_of(folder: Path, descriptor: int) -> None:
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """The names in this folder are on disk when it returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_folder(path: Path) -> None:
    """A folder (and those above it) that only its owner can look into."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The whole file. Raises LicenseError when it is longer than `max_bytes`, OSError when it cannot be read."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise LicenseError("too_large", f"{path} has more than the {max_bytes} bytes it may have")
    return data


def read_private(path: Path, max_bytes: int) -> bytes:
    """As `read_bounded`, of a file nobody else may read or write: refused otherwise (C17)."""
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        if mode & 0o077:
            raise LicenseError(
                "permissions",
                f"{path} is open to others (mode {mode:04o}) and is therefore not used: run `chmod 0600 {path}`",
            )
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise LicenseError("too_large", f"{path} has more than the {max_bytes} bytes it may have")
    return data
