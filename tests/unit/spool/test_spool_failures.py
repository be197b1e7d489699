"""What the spool does when the disk does not do its part."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.model.envelope import QueueKey
from mta.model.errors import SpoolError
from mta.spool.store import open_spool
from mta.spool.words import Filter
from tests.support.fake_disk import NAME, FaultyVfs, break_a_page
from tests.support.spools import GMAIL, SpoolUnderTest, TurnedLoop, deferred, delivered


@pytest.fixture
def faults(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "faults"
    vfs = FaultyVfs(path)
    yield path
    gc.collect()
    vfs.unregister()


def test_after_a_failed_fsync_nothing_is_acknowledged_any_more(
    tmp_path: Path, faults: Path
) -> None:
    spool = SpoolUnderTest(tmp_path / "spool", vfs=NAME)
    spool.accept(("safe@gmail.com", GMAIL))
    faults.write_text("wal-sync:eio")
    first, second = spool.try_accept(spool.draft(), spool.draft())
    assert isinstance(first, SpoolError)
    assert not first.is_full
    assert isinstance(second, SpoolError)
    faults.unlink()  # the disk says it is well again: it is not believed
    assert isinstance(spool.try_accept(spool.draft())[0], SpoolError)
    assert len(spool.broken) == 1
    assert "cannot" in str(spool.body(spool.draft().message)) or spool.broken
    spool.close()
    after = SpoolUnderTest(tmp_path / "spool")
    assert after.spool.start.clean is False
    assert after.due()[0][0].address == "safe@gmail.com"
    after.close()


def test_a_failed_write_to_the_log_breaks_the_spool_too(tmp_path: Path, faults: Path) -> None:
    spool = SpoolUnderTest(tmp_path / "spool", vfs=NAME)
    faults.write_text("wal-write:eio")
    assert isinstance(spool.try_accept(spool.draft())[0], SpoolError)
    spool.loop.until(lambda: spool.broken)
    spool.close()


def test_with_a_full_disk_mail_is_refused_and_outcomes_are_kept_until_there_is_room(
    tmp_path: Path, faults: Path
) -> None:
    spool = SpoolUnderTest(tmp_path / "spool", vfs=NAME)
    gone, back = spool.accept(("a@gmail.com", GMAIL))[0], spool.accept(("b@gmail.com", GMAIL))[0]
    faults.write_text("write:full")
    settled: list[bool] = []
    later = spool.clock.time + 60
    spool.spool.settle([delivered(gone), deferred(back, later)], lambda: settled.append(True))
    (refused,) = spool.try_accept(spool.draft())
    assert refused is not None
    assert refused.is_full
    assert not settled
    faults.unlink()
    assert spool.try_accept(spool.draft(("c@gmail.com", GMAIL))) == [None]
    spool.loop.until(lambda: settled)
    assert [entry.address for entry in spool.due()[0]] == ["c@gmail.com"]
    assert spool.due()[1] == later
    assert not spool.broken
    spool.close()


def test_outcomes_kept_for_want_of_room_are_written_without_another_message_coming(
    tmp_path: Path, faults: Path
) -> None:
    spool = SpoolUnderTest(tmp_path / "spool", vfs=NAME)
    (entry,) = spool.accept()
    faults.write_text("write:full")
    settled: list[bool] = []
    spool.spool.settle([delivered(entry)], lambda: settled.append(True))
    spool.due()
    faults.unlink()
    spool.loop.until(lambda: settled)
    spool.close()


def test_the_log_must_be_copied_back_before_anything_is_accepted(
    tmp_path: Path, faults: Path
) -> None:
    spool = SpoolUnderTest(tmp_path / "spool", vfs=NAME)
    spool.accept()
    faults.write_text("db-write:eio")  # so that closing cannot copy it either
    spool.close()
    assert spool.reports or spool.broken or not spool.spool._commit.closed_cleanly
    with pytest.raises(SpoolError, match="cannot be opened"):
        SpoolUnderTest(tmp_path / "spool", vfs=NAME)
    faults.unlink()
    after = SpoolUnderTest(tmp_path / "spool", vfs=NAME)
    assert len(after.due()[0]) == 1
    after.close()


def test_an_entry_without_its_message_is_held_and_reported_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    import apsw

    spool = SpoolUnderTest(tmp_path)
    (lost,) = spool.accept(("lost@gmail.com", GMAIL))
    spool.accept(("found@gmail.com", GMAIL))
    spool.close()
    with apsw.Connection(str(tmp_path / "0.sqlite")) as connection:
        connection.execute("DELETE FROM message WHERE number = ?", (lost.message.number,))
    connection.close()
    spool = SpoolUnderTest(tmp_path)
    assert [entry.address for entry in spool.due()[0]] == ["found@gmail.com"]
    assert "message is missing" in spool.reports[0]
    assert len(spool.due()[0]) == 1
    assert spool.ask(spool.spool.counts()).held == 1
    assert len(spool.reports) == 1
    spool.close()


def test_a_damaged_message_does_not_stop_its_queue(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    body = b"Subject: x\r\n\r\n" + b"y" * 12_000 + b"\r\n"
    for n in range(20):
        spool.accept((f"{n}@gmail.com", GMAIL), body=body)
    spool.close()
    file = tmp_path / "0.sqlite"
    break_a_page(file)
    spool = SpoolUnderTest(tmp_path)
    found = spool.due()[0]
    assert 15 <= len(found) < 20
    assert spool.reports
    assert not spool.broken
    held = 20 - len(found)
    assert spool.ask(spool.spool.counts()).held == held
    spool.accept(("new@gmail.com", QueueKey("other.example", "default")))
    spool.close()


def test_a_directory_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot be opened"):
        SpoolUnderTest(tmp_path / "file" / "spool")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.sqlite").write_bytes(b"no database at all" * 1000)
    with pytest.raises(SpoolError, match="cannot be opened"):
        SpoolUnderTest(tmp_path)
    # And its lock was let go of.
    (tmp_path / "0.sqlite").unlink()
    SpoolUnderTest(tmp_path).close()


def test_a_spool_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    import apsw

    SpoolUnderTest(tmp_path).close()
    connection = apsw.Connection(str(tmp_path / "0.sqlite"))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SpoolError, match="newer release"):
        SpoolUnderTest(tmp_path)


def test_what_comes_after_close_or_a_broken_disk_gets_no_answer_that_looks_good(
    tmp_path: Path, faults: Path
) -> None:
    loop = TurnedLoop()
    spool = SpoolUnderTest(tmp_path / "spool", vfs=NAME)
    (entry,) = spool.accept()
    faults.write_text("sync:eio")
    settled: list[bool] = []
    spool.spool.settle([delivered(entry)], lambda: settled.append(True))
    spool.loop.until(lambda: spool.broken)
    with pytest.raises(SpoolError):
        spool.ask(spool.spool.list_messages(Filter()))
    assert not settled
    spool.close()
    assert open_spool is not None
    assert loop.turns == 0


def test_when_the_disk_cannot_be_read_due_answers_all_the_same_and_tries_later(
    tmp_path: Path, faults: Path
) -> None:
    spool = SpoolUnderTest(tmp_path / "spool", vfs=NAME)
    spool.accept()
    spool.close()
    spool = SpoolUnderTest(tmp_path / "spool", vfs=NAME)
    faults.write_text("read:eio")
    assert spool.due() == ([], spool.clock.time + 60)
    assert "cannot be read" in spool.reports[0]
    assert not spool.broken
    faults.unlink()
    assert len(spool.due()[0]) == 1
    spool.close()
