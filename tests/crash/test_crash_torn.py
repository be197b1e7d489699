"""A disk that lied: the spool's log or its database is cut or changed where the server believed it safe, offline.

Of a torn log everything up to the first bad frame counts, in the order it was acknowledged, whole; what comes behind it is gone
and no part of it is taken for mail. A torn database is told by `sluice spool check`, and the server refuses it with a sentence.
Either way a start succeeds or fails for a reason that is said, and the same every time: no crash loop (reliability.md D6, F4).
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from mta.spool.check import check_spool
from tests.crash.load import Client, Fate, Ledger, hand_in_now
from tests.crash.verdict import (
    a_sink,
    delivering_to,
    drain,
    judge,
    read_arrivals,
    read_records,
)
from tests.support.daemon import Daemon, ended

MESSAGES = 14
LARGE_ONE = 5  # its body is a file
WAL_HEADER, FRAME = 32, 24 + 16_384  # https://www.sqlite.org/fileformat2.html#the_write_ahead_log
FRAMES_CHECKED = 25
REFUSED = "belongs to no message"  # a body whose row was behind the cut: removed by the next start


@dataclass(slots=True)
class Crashed:
    """What a killed server left: its files, and what it had acknowledged, in order."""

    files: Path
    ledger: Ledger

    @property
    def wal(self) -> Path:
        return self.files / "spool" / "0.sqlite-wal"

    def copy(self, to: Path) -> "Crashed":
        """Another set of the same files."""
        return Crashed(Path(shutil.copytree(self.files, to)), self.ledger)

    def kept(self) -> int:
        """How many messages are left; raises AssertionError if any of them is not whole."""
        (report,) = check_spool(self.files / "spool")
        assert [each for each in report.problems if REFUSED not in each] == []
        assert report.recipients == report.messages
        return report.messages


async def hand_in_one_by_one(port: int, ledger: Ledger) -> None:
    client = await Client.connect(port)
    for number in range(MESSAGES):
        sent = ledger.new(1_200_000 if number == LARGE_ONE else 3_000, 1)
        await client.send(sent)
        assert sent.fate is Fate.ACKNOWLEDGED
    await client.close()


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Crashed:
    """A server took mail for a host that does not answer, and was killed."""
    place, ledger = tmp_path_factory.mktemp("crashed"), Ledger()
    files = place / "files"
    files.mkdir()
    daemon = Daemon(place, default='hosts = ["127.0.0.1:1"]\nbackoff_initial = "1h"', disk=files)
    with ended(daemon):
        daemon.start()
        asyncio.run(hand_in_one_by_one(daemon.port, ledger))
        daemon.kill()
    return Crashed(files, ledger)


def test_a_log_cut_at_any_frame_holds_the_acknowledged_up_to_there(
    crashed: Crashed, tmp_path: Path
) -> None:
    torn = crashed.copy(tmp_path / "torn")
    whole = torn.wal.read_bytes()
    frames = (len(whole) - WAL_HEADER) // FRAME
    assert frames > MESSAGES
    before = 0
    for number in range(0, frames, max(1, frames // FRAMES_CHECKED)):
        for extra in (0, 1, FRAME - 1):
            torn.wal.write_bytes(whole[: WAL_HEADER + number * FRAME + extra])
            kept = torn.kept()
            assert kept >= before, f"more of the log, less mail: {number} frames"
            before = kept
    torn.wal.write_bytes(whole)
    assert torn.kept() == MESSAGES


def end_all_backoffs(daemon: Daemon) -> None:
    """The host that did not answer is another one now."""
    for row in daemon.ask("queues")["queues"]:
        daemon.ask("queue.retry", queue=row["queue"])


def cut_in_a_frame(data: bytes) -> bytes:
    return data[: WAL_HEADER + len(data) // FRAME // 2 * FRAME + 5_000]


def change_a_frame(data: bytes) -> bytes:
    at = WAL_HEADER + len(data) // FRAME * 2 // 3 * FRAME + 9_000
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def cut_the_last_byte(data: bytes) -> bytes:
    return data[:-1]


def lose_all(data: bytes) -> bytes:
    del data
    return b""


@pytest.mark.parametrize("tear", [cut_in_a_frame, change_a_frame, cut_the_last_byte, lose_all])
def test_started_on_a_torn_log_it_delivers_what_is_left_and_takes_new_mail(
    crashed: Crashed, tmp_path: Path, tear: Callable[[bytes], bytes]
) -> None:
    torn = crashed.copy(tmp_path / "files")
    torn.wal.write_bytes(tear(torn.wal.read_bytes()))
    kept = torn.kept()
    ledger = Ledger(list(crashed.ledger.messages[:kept]))
    with a_sink(tmp_path) as sink:
        daemon = Daemon(tmp_path, default=delivering_to(sink.port), disk=torn.files)
        with ended(daemon):
            daemon.start()
            sent = hand_in_now(daemon.port, ledger.new(2_000, 1, ["new.example"]))
            assert sent.fate is Fate.ACKNOWLEDGED
            end_all_backoffs(daemon)
            drain(daemon)
            assert daemon.stop() == 0
        verdict = judge(ledger, sink.dump, read_records(torn.files))
    verdict.require()
    assert (verdict.acknowledged, verdict.repeated) == (kept + 1, 0)
    assert list((torn.files / "spool").glob("*.bodies/*/*")) == []
    assert torn.kept() == 0


def test_a_body_file_that_is_torn_is_never_passed_off_as_the_message(
    crashed: Crashed, tmp_path: Path
) -> None:
    torn = crashed.copy(tmp_path / "files")
    (body,) = (torn.files / "spool").glob("*.bodies/*/*")
    body.write_bytes(body.read_bytes()[:700_000])
    (report,) = check_spool(torn.files / "spool")
    assert any("has 700000 bytes instead of" in problem for problem in report.problems)
    with a_sink(tmp_path) as sink:
        daemon = Daemon(tmp_path, default=delivering_to(sink.port), disk=torn.files)
        with ended(daemon):
            daemon.start()
            end_all_backoffs(daemon)
            daemon.wait_for(delivered=MESSAGES - 1, deferred=1)
            (left,) = daemon.ask("messages.list")["recipients"]
            assert left["last_reply"].startswith("451 4.3.0")
            assert "has 700000 bytes instead of" in left["last_reply"]
            assert daemon.stop() == 0
        assert left["recipient"] == crashed.ledger.messages[LARGE_ONE].recipients[0]
        arrived = {recipient for recipient, _, _ in read_arrivals(sink.dump)}
        assert len(arrived) == MESSAGES - 1
        assert left["recipient"] not in arrived


def copied_back(crashed: Crashed, to: Path) -> Path:
    """The same files with all of the log in the database; the database."""
    database = crashed.copy(to).files / "spool" / "0.sqlite"
    connection = apsw.Connection(str(database))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return database


@pytest.mark.parametrize("left", [0.5, 0.95])
def test_a_database_cut_short_is_told_by_the_check_and_refused_by_the_server(
    crashed: Crashed, tmp_path: Path, left: float
) -> None:
    database = copied_back(crashed, tmp_path / "files")
    whole = database.read_bytes()
    database.write_bytes(whole[: int(len(whole) * left) // 16_384 * 16_384])
    check = subprocess.run(
        [sys.executable, "-m", "mta", "spool", "check", str(database.parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert check.returncode == 1
    assert "malformed" in check.stdout
    torn = database.read_bytes()
    daemon = Daemon(tmp_path, default=delivering_to(1), disk=tmp_path / "files")
    with ended(daemon):
        daemon.start(wait=False)
        assert daemon.wait_for_exit() != 0
        assert f"{database} cannot be opened" in daemon.log
        assert "Traceback" not in daemon.log
    # What can still be saved of it is an operator's work, and was not touched.
    assert database.read_bytes() == torn
