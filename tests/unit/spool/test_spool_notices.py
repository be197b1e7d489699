"""What the spool owes to senders: kept with its message until a notice is accepted, over any crash, and never paid twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from mta.model.envelope import Entry
from mta.spool.check import check_spool
from mta.spool.database import VERSION
from mta.spool.store import Settlement
from mta.spool.words import OwedNotice
from tests.support.spools import GMAIL, SpoolUnderTest, an_attempt, delivered


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[SpoolUnderTest]:
    under_test = SpoolUnderTest(tmp_path / "spool")
    yield under_test
    under_test.close()


def failed(entry: Entry, at: float) -> Settlement:
    return Settlement(entry, None, an_attempt(entry, "b", at), owes_notice=True)


def owed(
    spool: SpoolUnderTest, number: int, content: int = 1000, limit: int = 100
) -> OwedNotice | None:
    found: OwedNotice | None = spool.ask(spool.spool.owed_notice(number, limit, content))
    return found


def messages(spool: SpoolUnderTest) -> int:
    return int(
        spool.ask(spool.spool.call(lambda queries: queries._one("SELECT count(*) FROM message")[0]))
    )


def test_a_message_stays_until_its_sender_was_told(spool: SpoolUnderTest) -> None:
    first, second, good = spool.accept(
        ("a@gmail.com", GMAIL), ("b@gmail.com", GMAIL), ("c@gmail.com", GMAIL)
    )
    number = first.message.number
    spool.settle(failed(first, 10.0), delivered(good))
    spool.settle(failed(second, 11.0))
    assert spool.due() == ([], None)
    assert spool.ask(spool.spool.owed_notices(10.0, 10)) == ([number], 11.0)
    found = owed(spool, number)
    assert found is not None
    assert [failure.recipient for failure in found.failures] == ["a@gmail.com", "b@gmail.com"]
    assert found.message.envid == "abc"
    assert found.content == b"Received: here\r\nSubject: a\r\n\r\nb\r\n"
    assert found.is_whole

    notice = spool.draft(("news@example.com", GMAIL), sender="")
    notice.answers = (number, [failure.entry for failure in found.failures])
    assert spool.try_accept(notice) == [None]
    assert owed(spool, number) is None
    assert spool.ask(spool.spool.owed_notices(99.0, 10)) == ([], None)
    assert messages(spool) == 1


def test_what_is_owed_survives_a_restart_and_the_spool_is_sound(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    (entry,) = spool.accept()
    spool.settle(failed(entry, 10.0))
    spool.close()
    (report,) = check_spool(tmp_path)
    assert report.problems == []
    spool = SpoolUnderTest(tmp_path)
    assert owed(spool, entry.message.number) is not None
    spool.spool.waive_notice(entry.message.number)
    assert owed(spool, entry.message.number) is None
    assert messages(spool) == 0
    spool.close()


def test_a_message_with_recipients_left_outlives_its_notice(spool: SpoolUnderTest) -> None:
    bad, waiting = spool.accept(("a@gmail.com", GMAIL), ("b@gmail.com", GMAIL))
    spool.settle(failed(bad, 10.0))
    spool.spool.waive_notice(bad.message.number)
    assert messages(spool) == 1
    spool.settle(delivered(waiting))
    assert messages(spool) == 0


def test_a_notice_that_is_refused_leaves_the_debt(spool: SpoolUnderTest, monkeypatch: Any) -> None:
    (entry,) = spool.accept()
    spool.settle(failed(entry, 10.0))
    notice = spool.draft(("news@example.com", GMAIL), sender="")
    notice.answers = (entry.message.number, [entry.number])
    notice.message.sender = "\ud800"  # what no database takes
    (error,) = spool.try_accept(notice)
    assert error is not None
    assert owed(spool, entry.message.number) is not None


def test_only_so_much_of_a_message_is_read_for_a_notice(spool: SpoolUnderTest) -> None:
    (entry,) = spool.accept(body=b"Subject: a\r\n\r\n" + b"x" * 5000 + b"\r\n")
    spool.settle(failed(entry, 10.0))
    found = owed(spool, entry.message.number, content=100)
    assert found is not None
    assert len(found.content) == 100
    assert not found.is_whole


def test_a_body_in_a_file_comes_back_and_goes_with_its_notice(spool: SpoolUnderTest) -> None:
    spill = spool.spool.new_spill()
    done: list[Any] = []
    spill.write(b"Subject: a\r\n\r\n" + b"x" * 5000)
    spill.finish(done.append)
    spool.loop.until(lambda: done)
    (entry,) = spool.accept(body=done[0])
    spool.settle(failed(entry, 10.0))
    found = owed(spool, entry.message.number, content=100)
    assert found is not None
    assert found.content.startswith(b"Received: here\r\nSubject: a\r\n\r\nxxx")
    assert Path(done[0].path).exists()
    spool.spool.waive_notice(entry.message.number)
    assert owed(spool, entry.message.number) is None
    spool.loop.until(lambda: not Path(done[0].path).exists())


def test_a_spool_of_the_first_release_is_brought_up_to_date(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    (entry,) = spool.accept()
    spool.close()
    database = apsw.Connection(str(tmp_path / "0.sqlite"))
    database.execute(
        "DROP TABLE notice; DROP INDEX recipient_due; ALTER TABLE recipient DROP COLUMN release_at;"
        " ALTER TABLE recipient DROP COLUMN priority; PRAGMA user_version = 1;"
        " CREATE INDEX recipient_due ON recipient (queue, due, id, message, size, job) WHERE held = 0"
    )
    database.close()
    spool = SpoolUnderTest(tmp_path)
    (found,), _ = spool.due()
    spool.settle(failed(found, 10.0))
    assert owed(spool, entry.message.number) is not None
    spool.close()
    database = apsw.Connection(str(tmp_path / "0.sqlite"))
    assert database.pragma("user_version") == VERSION
    database.close()
