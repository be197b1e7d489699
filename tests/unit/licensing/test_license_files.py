import os
import stat
from pathlib import Path

import pytest

from licensing.errors import LicenseError
from licensing.files import read_bounded, read_private, write_atomically


def test_a_file_is_replaced_whole_and_is_for_its_owner_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "f"
    before = os.umask(0)
    try:
        write_atomically(path, b"one")
        write_atomically(path, b"two")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_where_writing_fails_the_old_file_stays_and_nothing_is_left_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "f"
    path.mkdir()  # what is there cannot be replaced by a file
    with pytest.raises(OSError):
        write_atomically(path, b"two")
    assert os.listdir(tmp_path) == ["f"]


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "f"
    target.write_bytes(b"precious")
    path.symlink_to(target)
    write_atomically(path, b"new")
    assert target.read_bytes() == b"precious"
    assert path.read_bytes() == b"new" and not path.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    write_atomically(tmp_path / "f", b"x")
    found = (tmp_path / "f").stat()
    assert (found.st_uid, found.st_gid) == (12345, 12346)


def test_no_more_is_read_than_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomically(path, b"12345")
    assert read_bounded(path, 5) == read_private(path, 5) == b"12345"
    for read in (read_bounded, read_private):
        with pytest.raises(LicenseError, match="more than the 4 bytes"):
            read(path, 4)


def test_what_others_may_write_is_not_read_as_private(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomically(path, b"x", mode=0o622)
    assert read_bounded(path, 5) == b"x"
    with pytest.raises(LicenseError, match="0622"):
        read_private(path, 5)
