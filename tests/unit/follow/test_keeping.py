"""Finished files are compressed and removed; the one being written and those of others never."""

import errno
import gzip
import os
from pathlib import Path

import pytest

from mta.follow.keeping import FileKeeper, Keeping
from mta.io.files import Disk
from mta.policy.rules import AccountingRules
from tests.support.fake_spool import FakeClock

NOW = 1_700_000_000.0
DAY_S = 86_400.0
RECORDS = b"type,eventId\r\n" + b"".join(b"d,0123456789ab:%d\r\n" % n for n in range(5_000))


class FullDisk(Disk):
    def fsync(self, fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def finish(directory: Path, name: str, data: bytes = RECORDS, *, age_s: float = 60.0) -> Path:
    path = directory / name
    path.write_bytes(data)
    os.utime(path, (NOW - age_s, NOW - age_s))
    return path


def keeper(directory: Path, disk: Disk | None = None, **rules: object) -> FileKeeper:
    made = AccountingRules("main", str(directory / "acct.csv"), **rules)  # type: ignore[arg-type]
    return FileKeeper(made, disk or Disk())


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_a_finished_file_is_compressed_whole_and_keeps_its_time(tmp_path: Path) -> None:
    finish(tmp_path, "acct-2019-02-08-0000.csv")
    keeper(tmp_path, compress=True).tidy(NOW)
    assert names(tmp_path) == ["acct-2019-02-08-0000.csv.gz"]
    packed = tmp_path / "acct-2019-02-08-0000.csv.gz"
    assert gzip.decompress(packed.read_bytes()) == RECORDS
    assert packed.stat().st_mtime == NOW - 60
    assert packed.stat().st_mode & 0o777 & ~0o640 == 0


def test_files_of_others_the_current_one_and_one_just_written_to_are_left_alone(
    tmp_path: Path,
) -> None:
    others = [
        "acct.csv",
        "acct-old.csv",
        "acct-2019-02-08-0000.csv.bak",
        "deferred-2019-02-08-0000.csv",
    ]
    for name in others:
        finish(tmp_path, name, age_s=90 * DAY_S)
    finish(tmp_path, "acct-2019-02-08-0001.csv", age_s=1.0)
    (tmp_path / "acct-2019-02-08-0002.csv").symlink_to(tmp_path / "acct.csv")
    before = names(tmp_path)
    keeper(tmp_path, compress=True, keep_s=DAY_S).tidy(NOW)
    assert names(tmp_path) == before


def test_after_a_crash_in_the_middle_the_file_is_compressed_anew(tmp_path: Path) -> None:
    finish(tmp_path, "acct-2019-02-08-0000.csv")
    finish(tmp_path, "acct-2019-02-08-0000.csv.gz.part", b"half of it")
    keeper(tmp_path, compress=True).tidy(NOW)
    assert names(tmp_path) == ["acct-2019-02-08-0000.csv.gz"]
    assert gzip.decompress((tmp_path / names(tmp_path)[0]).read_bytes()) == RECORDS


def test_after_a_crash_before_the_removal_only_the_compressed_file_stays(tmp_path: Path) -> None:
    finish(tmp_path, "acct-2019-02-08-0000.csv")
    finish(tmp_path, "acct-2019-02-08-0000.csv.gz", gzip.compress(RECORDS))
    keeper(tmp_path, compress=True).tidy(NOW)
    assert names(tmp_path) == ["acct-2019-02-08-0000.csv.gz"]


def test_on_a_full_disk_the_original_stays_and_nothing_half_done(tmp_path: Path) -> None:
    finish(tmp_path, "acct-2019-02-08-0000.csv")
    with pytest.raises(OSError, match="No space"):
        keeper(tmp_path, FullDisk(), compress=True).tidy(NOW)
    assert names(tmp_path) == ["acct-2019-02-08-0000.csv"]
    assert (tmp_path / names(tmp_path)[0]).read_bytes() == RECORDS


def test_a_stop_leaves_the_original_for_the_next_start(tmp_path: Path) -> None:
    finish(tmp_path, "acct-2019-02-08-0000.csv")
    rules = AccountingRules("main", str(tmp_path / "acct.csv"), compress=True)
    FileKeeper(rules, should_stop=lambda: True).tidy(NOW)
    assert names(tmp_path) == ["acct-2019-02-08-0000.csv"]


def test_files_older_than_their_time_are_removed(tmp_path: Path) -> None:
    finish(tmp_path, "acct-2019-02-01-0000.csv.gz", age_s=31 * DAY_S)
    finish(tmp_path, "acct-2019-02-01-0001.csv", age_s=31 * DAY_S)
    finish(tmp_path, "acct-2019-02-08-0000.csv", age_s=29 * DAY_S)
    keeper(tmp_path, keep_s=30 * DAY_S).tidy(NOW)
    assert names(tmp_path) == ["acct-2019-02-08-0000.csv"]


def test_beyond_their_size_the_oldest_are_removed(tmp_path: Path) -> None:
    for number in range(5):
        finish(tmp_path, f"acct-2019-02-08-000{number}.csv", b"x" * 100, age_s=100.0 - number)
    keeper(tmp_path, keep_size=250).tidy(NOW)
    assert names(tmp_path) == ["acct-2019-02-08-0003.csv", "acct-2019-02-08-0004.csv"]


def test_trouble_of_one_set_is_not_the_others(tmp_path: Path) -> None:
    clock = FakeClock()
    old = tmp_path / "acct-2019-02-01-0000.csv"
    old.write_bytes(RECORDS)
    os.utime(old, (clock.wall() - 3600, clock.wall() - 3600))
    lost = AccountingRules("lost", str(tmp_path / "missing" / "acct.csv"), compress=True)
    sound = AccountingRules("sound", str(tmp_path / "acct.csv"), compress=True)
    Keeping([lost, sound], clock).tidy()
    assert names(tmp_path) == ["acct-2019-02-01-0000.csv.gz"]
