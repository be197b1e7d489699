"""Hour and day counts outlive the process, and a bad file costs a count, never a start."""

import asyncio
import errno
import json
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mta.model.units import Rate
from mta.runtime import quotas
from mta.runtime.governor import Governor
from mta.runtime.quotas import QuotaFile
from tests.support.fake_disk import FaultyDisk

HOURLY = [("messages|192.0.2.1", Rate(3, 3600.0))]


class Now:
    def now(self) -> float:
        return 1.7e9


def a_governor() -> Governor:
    return Governor(clock=Now(), post=lambda work: work(), call_at=lambda _at, _work: None)


def count(governor: Governor, times: int) -> list[bool]:
    answers: list[bool] = []
    for _ in range(times):
        governor.quotas(HOURLY, answers.append)
    return answers


async def test_a_governor_goes_on_counting_where_the_last_one_stopped(tmp_path: Path) -> None:
    first, second = a_governor(), a_governor()
    assert count(first, 2) == [True, True]
    assert await QuotaFile(tmp_path).save(first.snapshot())
    second.restore(QuotaFile(tmp_path).read())
    assert count(second, 2) == [True, False]


def test_a_missing_file_is_an_empty_one_and_nothing_is_said(tmp_path: Path) -> None:
    with capture_logs() as said:
        assert QuotaFile(tmp_path).read() == {}
    assert said == []


@pytest.mark.parametrize(
    "text",
    ['{"quotas": [["a", 3600.0, 47', "", "[]", '{"quotas": [["a", 1]]}', '{"other": 1}', "\xff"],
)
def test_a_torn_or_foreign_file_is_an_empty_one_with_a_warning(tmp_path: Path, text: str) -> None:
    (tmp_path / quotas.FILE).write_text(text, "latin-1")
    with capture_logs() as said:
        found = QuotaFile(tmp_path).read()
    a_governor().restore(found)
    assert found == {}
    assert [each["log_level"] for each in said] == ["warning"]


async def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    disk = FaultyDisk()
    file = QuotaFile(tmp_path, disk)
    snapshot = {"quotas": [["a", 3600.0, 7, 1]]}
    assert await file.save(snapshot)
    synced = list(disk.synced)
    assert synced == [str(tmp_path / ".quotas.json.tmp"), str(tmp_path)]
    assert await file.save(snapshot)
    assert disk.synced == synced
    again = QuotaFile(tmp_path, disk)
    again.read()
    assert await again.save(snapshot)
    assert disk.synced == synced


async def test_a_disk_that_takes_nothing_is_told_once_and_the_old_counts_stand(
    tmp_path: Path,
) -> None:
    disk = FaultyDisk()
    file = QuotaFile(tmp_path, disk)
    old = {"quotas": [["a", 3600.0, 7, 1]]}
    assert await file.save(old)
    disk.failing["write"] = errno.ENOSPC
    with capture_logs() as said:
        for used in (2, 3):
            assert not await file.save({"quotas": [["a", 3600.0, 7, used]]})
        assert json.loads((tmp_path / quotas.FILE).read_bytes()) == old
        disk.failing.clear()
        assert await file.save({"quotas": [["a", 3600.0, 7, 4]]})
    assert [each["log_level"] for each in said] == ["warning", "info"]


class SlowDisk(FaultyDisk):
    """Writes when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, fd: int, data: bytes) -> None:
        assert self.go.wait(20)
        super().write(fd, data)


async def test_a_disk_that_hangs_holds_nobody_up_and_two_saves_never_write_at_once(
    tmp_path: Path,
) -> None:
    disk = SlowDisk()
    file = QuotaFile(tmp_path, disk, deadline_s=0.2)
    async with asyncio.timeout(5):
        assert not await file.save({"quotas": [["a", 3600.0, 7, 1]]})
        assert not await file.save({"quotas": [["a", 3600.0, 7, 2]]})
    assert not (tmp_path / quotas.FILE).exists()
    disk.go.set()
    # The first write may still be under way; the second follows it.
    async with asyncio.timeout(5):
        while not await file.save({"quotas": [["a", 3600.0, 7, 2]]}):
            pass
    assert json.loads((tmp_path / quotas.FILE).read_bytes()) == {"quotas": [["a", 3600.0, 7, 2]]}
