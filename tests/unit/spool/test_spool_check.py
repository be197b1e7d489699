"""The offline check tells everything that is wrong, and changes nothing."""

from pathlib import Path

import apsw
import pytest

from mta.model.errors import SpoolError
from mta.spool.check import check_spool
from mta.spool.words import SpoolLocked
from tests.support.fake_disk import break_a_page
from tests.support.spools import GMAIL, SpoolUnderTest


def damage(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path / "0.sqlite"))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_a_sound_spool_is_said_to_be_sound(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    spool.accept(("a@gmail.com", GMAIL), ("b@gmail.com", GMAIL))
    spool.close()
    before = (tmp_path / "0.sqlite").read_bytes()
    (report,) = check_spool(tmp_path)
    assert report.is_sound
    assert (report.messages, report.recipients, report.events, report.queues) == (1, 2, 1, 1)
    assert (tmp_path / "0.sqlite").read_bytes() == before


def test_orphans_and_short_messages_and_bad_events_are_each_told(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    for _ in range(3):
        spool.accept()
    spool.close()
    damage(
        tmp_path,
        "DELETE FROM message WHERE number = 1",
        "DELETE FROM recipient WHERE message = 2",
        "UPDATE message SET body = x'00' WHERE number = 3",
        "UPDATE event SET data = x'c1' WHERE id = 1",
        "UPDATE message SET body_file = 'abcdef' WHERE number = 2",
    )
    (report,) = check_spool(tmp_path)
    text = "\n".join(report.problems)
    assert "recipient 1 has no message" in text
    assert "message 2 has no recipient" in text
    assert "message 3 has 17 bytes instead of" in text
    assert "message 2 its body file" in text
    assert "event 1 cannot be read" in text
    assert len(report.problems) == 5


def test_a_damaged_page_is_told_and_does_not_hide_the_rest(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    for n in range(20):
        spool.accept((f"{n}@gmail.com", GMAIL), body=b"y" * 12_000)
    spool.close()
    file = tmp_path / "0.sqlite"
    break_a_page(file)
    (report,) = check_spool(tmp_path)
    assert any("structure" in problem for problem in report.problems)
    assert report.recipients == 20


def test_a_spool_in_use_and_a_directory_without_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="no spool"):
        check_spool(tmp_path)
    spool = SpoolUnderTest(tmp_path)
    with pytest.raises(SpoolLocked):
        check_spool(tmp_path)
    spool.close()
