"""What the spool owes to senders: kept with its message until a notice is accepted, over any crash, and never paid twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from mta.model.envelope import Entry
from mta.model.event import local_attempt
from mta.model.told import Action, Told
from mta.spool.check import check_spool
from mta.spool.database import VERSION
from mta.spool.store import Settlement
from mta.spool.words import OwedNotice, Seen
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
    assert [each.attempt.recipient for each in found.told] == ["a@gmail.com", "b@gmail.com"]
    assert found.message.envid == "abc"
    assert found.content == b"Received: here\r\nSubject: a\r\n\r\nb\r\n"
    assert found.is_whole

    notice = spool.draft(("news@example.com", GMAIL), sender="")
    notice.answers = (number, [each.attempt.entry for each in found.told])
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


def a_delay(entry: Entry) -> Told:
    attempt = local_attempt(entry, "t", 5.0, enhanced="4.2.1", text="later")
    return Told(Action.DELAYED, attempt, 99.0)


def owe(spool: SpoolUnderTest, *delays: Told, seen: Seen) -> None:
    spool.ask(spool.spool.owe_delays(delays, seen, 5.0))


def test_a_delay_is_owed_with_how_far_the_look_came_over_a_restart(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    assert spool.spool.seen == Seen()
    first, _ = spool.accept(("a@gmail.com", GMAIL), ("b@gmail.com", GMAIL))
    seen = Seen(first.number, {7: (3, 4)})
    owe(spool, a_delay(first), seen=seen)
    spool.close()
    spool = SpoolUnderTest(tmp_path)
    assert spool.spool.seen == seen
    found = owed(spool, first.message.number)
    assert found is not None
    assert [(each.action, each.until) for each in found.told] == [(Action.DELAYED, 99.0)]
    spool.close()
    (report,) = check_spool(tmp_path)
    assert report.problems == []


def test_a_delay_that_is_over_is_not_told(spool: SpoolUnderTest) -> None:
    first, second = spool.accept(("a@gmail.com", GMAIL), ("b@gmail.com", GMAIL))
    owe(spool, a_delay(first), a_delay(second), seen=Seen(second.number))
    spool.settle(delivered(first))
    found = owed(spool, first.message.number)
    assert found is not None
    assert [each.attempt.recipient for each in found.told] == ["b@gmail.com"]
    assert found.over == (first.number,)


def test_a_failure_takes_the_place_of_its_delay_and_not_the_other_way_round(
    spool: SpoolUnderTest,
) -> None:
    first, second = spool.accept(("a@gmail.com", GMAIL), ("b@gmail.com", GMAIL))
    owe(spool, a_delay(first), seen=Seen())
    spool.settle(failed(first, 10.0), failed(second, 11.0))
    owe(spool, a_delay(second), seen=Seen())  # found before it failed
    found = owed(spool, first.message.number)
    assert found is not None
    assert [each.action for each in found.told] == [Action.FAILED, Action.FAILED]


def test_no_delay_is_owed_of_what_is_gone(spool: SpoolUnderTest) -> None:
    (entry,) = spool.accept()
    spool.settle(delivered(entry))
    owe(spool, a_delay(entry), seen=Seen(entry.number))
    assert spool.ask(spool.spool.owed_notices(99.0, 10)) == ([], None)


def test_what_is_folded_needs_no_message_and_is_paid_like_a_notice(spool: SpoolUnderTest) -> None:
    entries = [spool.accept()[0] for _ in range(3)]
    spool.settle(*(failed(entry, 10.0 + n) for n, entry in enumerate(entries)))
    folds = [
        spool.spool.fold_notice(e.message.number, [e.number], "me@home.example", 2) for e in entries
    ]
    assert [spool.ask(fold) for fold in folds] == [0, 0, 1]
    assert messages(spool) == 0
    assert spool.ask(spool.spool.owed_notices(99.0, 10)) == ([], None)
    assert spool.ask(spool.spool.digests("", 10)) == ["me@home.example"]
    told, over = spool.ask(spool.spool.digest("me@home.example", 10))
    assert [each.attempt.entry for each in told] == [entry.number for entry in entries[:2]]
    assert over == ()
    notice = spool.draft(("news@example.com", GMAIL), sender="")
    notice.answers = (0, [each.attempt.entry for each in told])
    assert spool.try_accept(notice) == [None]
    assert spool.ask(spool.spool.digests("", 10)) == []


def test_a_digest_survives_a_restart_and_the_spool_is_sound(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    (entry,) = spool.accept()
    spool.settle(failed(entry, 10.0))
    assert (
        spool.ask(
            spool.spool.fold_notice(entry.message.number, [entry.number], "me@home.example", 9)
        )
        == 0
    )
    spool.close()
    (report,) = check_spool(tmp_path)
    assert report.problems == []
    spool = SpoolUnderTest(tmp_path)
    assert spool.ask(spool.spool.digests("", 10)) == ["me@home.example"]
    spool.close()


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


def test_of_a_body_that_cannot_be_read_the_sender_is_told_all_the_same(
    spool: SpoolUnderTest,
) -> None:
    spill = spool.spool.new_spill()
    done: list[Any] = []
    spill.write(b"Subject: a\r\n\r\n" + b"x" * 5000)
    spill.finish(done.append)
    spool.loop.until(lambda: done)
    (entry,) = spool.accept(body=done[0])
    spool.settle(failed(entry, 10.0))
    Path(done[0].path).unlink()
    found = owed(spool, entry.message.number, content=10_000)
    assert found is not None
    assert found.content == b"Received: here\r\n"
    assert not found.is_whole
