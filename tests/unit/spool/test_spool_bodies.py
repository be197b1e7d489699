"""Large bodies: on disk before they are named, gone after their message, never left behind."""

import errno
from pathlib import Path

import pytest

from mta.model.envelope import SpillFile
from mta.spool.check import check_spool
from mta.spool.spill import Bodies
from tests.support.fake_disk import FaultyDisk
from tests.support.spools import GMAIL, YAHOO, SpoolUnderTest, TurnedLoop, delivered


def a_spill(spool: SpoolUnderTest, *chunks: bytes) -> SpillFile:
    spill = spool.spool.new_spill()
    written: list[bool] = []
    for chunk in chunks:
        spill.write(chunk, lambda: written.append(True))
    finished: list[object] = []
    spill.finish(finished.append)
    spool.loop.until(lambda: finished)
    assert len(written) == len(chunks)
    assert isinstance(finished[0], SpillFile)
    return finished[0]


def files(spool: SpoolUnderTest) -> list[str]:
    return [path.name for path in (spool.spool.path / "0.bodies").glob("*/*")]


def test_a_large_body_comes_back_as_its_file_and_goes_with_its_message(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    body = a_spill(spool, b"Subject: a\r\n", b"\r\nlarge\r\n")
    first, second = spool.accept(("a@gmail.com", GMAIL), ("b@yahoo.com", YAHOO), body=body)
    assert spool.body(first.message) == (b"Received: here\r\n", body)
    assert Path(body.path).read_bytes() == b"Subject: a\r\n\r\nlarge\r\n"
    spool.settle(delivered(first))
    assert files(spool) == [Path(body.path).name]
    spool.settle(delivered(second))
    spool.close()
    assert files(spool) == []


def test_bodies_survive_a_restart_and_leftovers_do_not(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    kept, _left = a_spill(spool, b"kept"), a_spill(spool, b"left")
    (entry,) = spool.accept(body=kept)
    spool.close()
    assert len(files(spool)) == 2
    (report,) = check_spool(tmp_path)
    assert len(report.problems) == 1
    assert "belongs to no message" in report.problems[0]
    spool = SpoolUnderTest(tmp_path)
    assert spool.spool.start.removed_bodies == 1
    assert spool.body(entry.message)[1] == kept
    spool.settle(delivered(entry))
    spool.close()
    assert files(spool) == []


def test_a_discarded_spill_leaves_nothing(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    spill = spool.spool.new_spill()
    spill.write(b"x" * 100)
    spill.discard()
    spool.spool.new_spill().discard()
    spool.close()
    assert files(spool) == []


@pytest.mark.parametrize(
    ("operation", "code"),
    [("create", errno.EMFILE), ("write", errno.ENOSPC), ("fsync", errno.EIO)],
)
def test_a_failing_disk_is_told_at_the_finish_and_the_memory_comes_back(
    tmp_path: Path, operation: str, code: int
) -> None:
    loop, disk = TurnedLoop(), FaultyDisk()
    bodies = Bodies(tmp_path / "bodies", loop.post, disk)
    disk.failing = {operation: code}
    spill = bodies.new_spill()
    written: list[bool] = []
    finished: list[object] = []
    for _ in range(3):
        spill.write(b"x" * 1000, lambda: written.append(True))
    spill.finish(finished.append)
    loop.until(lambda: finished)
    assert isinstance(finished[0], OSError)
    assert finished[0].errno == code
    assert len(written) == 3
    assert bodies.pending_bytes == 0
    bodies.close()
    assert list((tmp_path / "bodies").glob("*/*")) == []


def test_file_and_every_new_directory_are_synced_before_the_finish_answers(tmp_path: Path) -> None:
    loop, disk = TurnedLoop(), FaultyDisk()
    bodies = Bodies(tmp_path / "bodies", loop.post, disk)
    spill = bodies.new_spill()
    spill.write(b"x")
    finished: list[object] = []
    spill.finish(finished.append)
    loop.until(lambda: finished)
    assert isinstance(finished[0], SpillFile)
    file = Path(finished[0].path)
    assert disk.synced == [
        str(tmp_path),
        str(tmp_path / "bodies"),
        str(file),
        str(file.parent),
    ]
    bodies.close()
