"""Files of our own: whole or not at all, and on disk with their names."""

import errno
from pathlib import Path

import pytest

from mta.io.files import make_directory, write_atomically
from tests.support.fake_disk import FaultyDisk


def test_a_file_is_synced_before_it_has_its_name_and_its_directory_after(tmp_path: Path) -> None:
    disk = FaultyDisk()
    write_atomically(tmp_path / "a", b"new", disk=disk)
    assert disk.synced == [str(tmp_path / ".a.tmp"), str(tmp_path)]
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("operation", ["create", "write"])
def test_when_the_disk_fails_the_old_file_stands_and_nothing_lies_about(
    tmp_path: Path, operation: str
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    disk = FaultyDisk()
    disk.failing[operation] = errno.ENOSPC
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "a", b"new", disk=disk)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_failed_sync_never_gives_the_file_its_name(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.failing["fsync"] = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(tmp_path / "a", b"new", disk=disk)
    assert list(tmp_path.iterdir()) == []


def test_every_new_directory_is_synced_into_its_parent(tmp_path: Path) -> None:
    disk = FaultyDisk()
    make_directory(tmp_path / "a" / "b", disk=disk)
    assert disk.synced == [str(tmp_path), str(tmp_path / "a")]
    make_directory(tmp_path / "a" / "b", disk=disk)
    assert len(disk.synced) == 2
