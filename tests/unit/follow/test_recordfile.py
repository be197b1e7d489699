"""The file of records: found again after a crash, never cut where it is not ours, numbered without a gap in names."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from mta.follow.recordfile import Place, RecordDisk, RecordFile

HEADER = b"type,eventId\r\n"
DAY, NEXT_DAY = "2019-02-08", "2019-02-09"


class ListingDisk(RecordDisk):
    """A disk that lists what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def write(self, fd: int, data: bytes) -> None:
        self.calls.append("write")
        super().write(fd, data)

    def fsync(self, fd: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        self.calls.append("sync directory" if is_directory else "sync")
        super().fsync(fd)

    def rename(self, old: Path, new: Path) -> None:
        self.calls.append("rename")
        super().rename(old, new)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "acct.csv"


def opened(
    path: Path, place: Place | None = None, *, header: bytes = HEADER, day: str = DAY
) -> RecordFile:
    file = RecordFile(path, header, RecordDisk())
    file.open(place, day)
    return file


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path.parent))


def test_a_new_file_has_a_header_and_its_name_is_synced_before_any_record(path: Path) -> None:
    disk = ListingDisk()
    RecordFile(path, HEADER, disk).open(None, DAY)
    assert disk.calls == ["write", "sync", "sync directory"]
    assert path.read_bytes() == HEADER


def test_what_came_after_the_saved_place_is_cut_off(path: Path) -> None:
    file = opened(path)
    file.append(b"d,1\r\n")
    place = file.sync()
    file.append(b"d,2\r\nd,")
    again = opened(path, place)
    again.append(b"d,2\r\n")
    assert path.read_bytes() == HEADER + b"d,1\r\nd,2\r\n"


def test_half_a_header_is_written_anew(path: Path) -> None:
    path.write_bytes(HEADER[:5])
    opened(path)
    assert path.read_bytes() == HEADER


def test_a_file_of_somebody_else_is_renamed_never_cut(path: Path) -> None:
    path.write_bytes(b"somebody's data\n")
    opened(path)
    assert path.read_bytes() == HEADER
    (moved,) = (name for name in names(path) if name != "acct.csv")
    assert (path.parent / moved).read_bytes() == b"somebody's data\n"


def test_a_file_of_ours_from_before_a_lost_cursor_is_kept_whole(path: Path) -> None:
    opened(path).append(b"d,1\r\n")
    opened(path, None)
    (moved,) = (name for name in names(path) if name != "acct.csv")
    assert (path.parent / moved).read_bytes() == HEADER + b"d,1\r\n"


def test_a_copied_file_is_known_by_its_last_records(path: Path) -> None:
    file = opened(path)
    file.append(b"d,1\r\n")
    place = file.sync()
    file.append(b"d,2\r\n")
    shutil.copy(path, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)
    assert os.stat(path).st_ino != place.inode
    opened(path, place)
    assert path.read_bytes() == HEADER + b"d,1\r\n"
    assert names(path) == ["acct.csv"]


def test_another_file_that_only_shares_the_header_is_not_cut(path: Path) -> None:
    place = opened(path).sync()
    path.with_suffix(".new").write_bytes(HEADER + b"d,restored\r\n")
    os.replace(path.with_suffix(".new"), path)
    opened(path, place)
    assert b"d,restored\r\n" in b"".join(p.read_bytes() for p in path.parent.iterdir())


def test_other_columns_begin_another_file_and_the_old_one_loses_only_what_was_not_saved(
    path: Path,
) -> None:
    file = opened(path)
    file.append(b"d,1\r\n")
    place = file.sync()
    file.append(b"d,2\r\n")
    opened(path, place, header=b"type,eventId,more\r\n")
    assert path.read_bytes() == b"type,eventId,more\r\n"
    assert (path.parent / f"acct-{DAY}-0000.csv").read_bytes() == HEADER + b"d,1\r\n"


def test_a_finished_file_has_the_day_it_was_begun_and_the_next_number(path: Path) -> None:
    file = opened(path)
    assert file.rotate(DAY).name == f"acct-{DAY}-0000.csv"
    assert file.rotate(NEXT_DAY).name == f"acct-{DAY}-0001.csv"
    assert file.rotate(NEXT_DAY).name == f"acct-{NEXT_DAY}-0000.csv"
    assert path.read_bytes() == HEADER


def test_a_number_is_not_given_twice_though_the_file_was_compressed_or_taken_away(
    path: Path,
) -> None:
    file = opened(path)
    file.rotate(DAY).rename(path.parent / f"acct-{DAY}-0000.csv.gz")
    assert file.rotate(DAY).name == f"acct-{DAY}-0001.csv"
    (path.parent / f"acct-{DAY}-0000.csv.gz").unlink()
    (path.parent / f"acct-{DAY}-0001.csv").unlink()
    again = opened(path, file.sync())
    assert again.rotate(DAY).name == f"acct-{DAY}-0002.csv"


def test_the_directory_is_synced_after_the_rename_and_the_new_file(path: Path) -> None:
    disk = ListingDisk()
    file = RecordFile(path, HEADER, disk)
    file.open(None, DAY)
    disk.calls.clear()
    file.rotate(DAY)
    assert disk.calls == ["rename", "write", "sync", "sync directory"]


def test_a_file_renamed_by_others_while_we_wrote_is_found_and_cut(path: Path) -> None:
    file = opened(path)
    file.append(b"d,1\r\n")
    place = file.sync()
    file.append(b"d,2\r\n")
    os.rename(path, path.parent / "taken.csv")
    assert not file.is_in_place()
    opened(path, place)
    assert (path.parent / "taken.csv").read_bytes() == HEADER + b"d,1\r\n"
    assert path.read_bytes() == HEADER


def test_after_a_rename_by_others_a_new_file_is_begun(path: Path) -> None:
    file = opened(path)
    file.append(b"d,1\r\n")
    os.rename(path, path.parent / "taken.csv")
    file.reopen(NEXT_DAY)
    assert file.is_in_place()
    assert path.read_bytes() == HEADER
