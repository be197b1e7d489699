"""A small tmpfs with spool and records on it fills up, to `min_free` or to the last byte, in space or in inodes, under load.

Clients hear 452 4.3.1, at MAIL or at the end of DATA, and nothing else; what is queued goes out meanwhile; once there is room
again mail is taken within 10 s without anybody's help. Nothing acknowledged is lost, nothing is sent twice, and every delivery
stands in the records, which lie on the same disk (reliability.md L4, F6).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.crash.disks import SmallDisk, a_small_disk
from tests.crash.load import LARGE, Fate, Ledger, Load, Sent, hand_in_now
from tests.crash.verdict import a_sink, delivering_to, drain, judge, read_records
from tests.support.daemon import Daemon, ended

pytestmark = pytest.mark.root

NOTICED_S = 5.0  # the disk is looked at once a second
RECOVERED_S = 10.0
FULL = "452 4.3.1"
LATER = "later.example"


@contextmanager
def a_server(place: Path, disk: SmallDisk, *, min_free: str) -> Iterator[Daemon]:
    """A server on that disk, and a sink for all of its mail."""
    with a_sink(place) as sink:
        daemon = Daemon(
            place,
            default=delivering_to(sink.port),
            disk=disk.path,
            min_free=min_free,
        )
        with ended(daemon):
            daemon.start()
            yield daemon


def small(ledger: Ledger) -> Sent:
    return ledger.new(2_000, 1)


def queue_for_later(daemon: Daemon, ledger: Ledger, messages: int) -> None:
    """Hand in mail for a queue that is paused."""
    daemon.ask("queue.pause", queue=LATER)
    for _ in range(messages):
        sent = hand_in_now(daemon.port, ledger.new(4_000, 1, [LATER]))
        assert sent.fate is Fate.ACKNOWLEDGED


def wait_until_copied_back(disk: SmallDisk, size: int) -> None:
    """Wait until so many bytes of mail have left the log for the database: done when idle."""
    until = time.monotonic() + 15
    while (disk.path / "spool" / "0.sqlite").stat().st_size < size:
        assert time.monotonic() < until, "the log was not copied back"
        time.sleep(0.1)


def wait_until_refused(daemon: Daemon, ledger: Ledger, within_s: float = NOTICED_S) -> Sent:
    """Hand in until a message is refused; that message."""
    until = time.monotonic() + within_s
    while (sent := hand_in_now(daemon.port, small(ledger))).fate is not Fate.REFUSED:
        assert time.monotonic() < until, "mail is still taken"
        time.sleep(0.05)
    return sent


def wait_until_closed(daemon: Daemon) -> None:
    """Wait until the server says on its control socket that it takes no mail, and why."""
    until = time.monotonic() + NOTICED_S
    while not daemon.ask("status")["workers"][0]["intake"].startswith(FULL):
        assert time.monotonic() < until, "the disk is nearly full and the door open"
        time.sleep(0.05)


def require_recovery(daemon: Daemon, ledger: Ledger, since: float) -> None:
    """Mail is taken again in time, and goes out."""
    while hand_in_now(daemon.port, small(ledger)).fate is not Fate.ACKNOWLEDGED:
        assert time.monotonic() < since + RECOVERED_S, f"no mail is taken:\n{daemon.log[-2000:]}"
        time.sleep(0.1)
    assert time.monotonic() < since + RECOVERED_S


def finish(daemon: Daemon, ledger: Ledger, place: Path) -> None:
    """Drain, stop, judge: with all that happened nothing is lost, nothing was sent twice."""
    drain(daemon)
    assert daemon.stop() == 0
    assert ledger.refusals() <= {FULL}, ledger.refusals()
    verdict = judge(ledger, place / "sink.dump", read_records(daemon.disk))
    verdict.require()
    assert (verdict.repeated, verdict.marked, verdict.refused_arrived) == (0, 0, 0)
    assert daemon.log.count("fault of ours") == 0


def test_under_min_free_mail_is_refused_at_the_door_and_what_is_queued_goes_out(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    with (
        a_small_disk(tmp_path, 160) as disk,
        a_server(tmp_path, disk, min_free="25%") as daemon,
    ):
        queue_for_later(daemon, ledger, 30)
        with Load(daemon.port, ledger, connections=2, sizes=(1_000, 4_000), pause_s=0.05):
            disk.fill(leave_bytes=36 << 20)
            wait_until_closed(daemon)
            assert hand_in_now(daemon.port, small(ledger)).reply.startswith(FULL)
            daemon.ask("queue.resume", queue=LATER)
            drain(daemon, timeout_s=20)
            assert hand_in_now(daemon.port, small(ledger)).reply.startswith(FULL)
            disk.empty()
            require_recovery(daemon, ledger, time.monotonic())
        finish(daemon, ledger, tmp_path)


def test_full_to_the_last_byte_what_is_queued_still_goes_out_and_is_recorded_later(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    with (
        a_small_disk(tmp_path, 48) as disk,
        a_server(tmp_path, disk, min_free="1K") as daemon,
    ):
        queue_for_later(daemon, ledger, 100)
        wait_until_copied_back(disk, 100 * 4_000)
        disk.fill(leave_bytes=0)
        wait_until_refused(daemon, ledger)
        daemon.ask("queue.resume", queue=LATER)
        drain(daemon, timeout_s=20)
        disk.fill(leave_bytes=0)
        wait_until_refused(daemon, ledger)
        disk.empty()
        require_recovery(daemon, ledger, time.monotonic())
        finish(daemon, ledger, tmp_path)


def test_full_to_the_last_byte_it_refuses_loses_nothing_and_recovers_by_itself(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    with (
        a_small_disk(tmp_path, 48) as disk,
        a_server(tmp_path, disk, min_free="1K") as daemon,
    ):
        for _ in range(2):
            with Load(daemon.port, ledger, connections=6) as load:
                load.wait_for(len(ledger.of(Fate.ACKNOWLEDGED)) + 50)
                disk.fill(leave_bytes=200_000)
                wait_until_refused(daemon, ledger, 20.0)
                disk.fill(leave_bytes=0)  # and again what was given back meanwhile
                time.sleep(0.5)
                disk.empty()
                require_recovery(daemon, ledger, time.monotonic())
        finish(daemon, ledger, tmp_path)


def test_killed_with_a_full_disk_it_starts_again_and_loses_nothing(tmp_path: Path) -> None:
    ledger = Ledger()
    with (
        a_small_disk(tmp_path, 48) as disk,
        a_server(tmp_path, disk, min_free="1K") as daemon,
    ):
        with Load(daemon.port, ledger, connections=6) as load:
            load.wait_for(50)
            disk.fill(leave_bytes=200_000)
            wait_until_refused(daemon, ledger, 20.0)
            daemon.kill()
        disk.empty()
        daemon.start()
        require_recovery(daemon, ledger, time.monotonic())
        drain(daemon)
        assert daemon.stop() == 0
        judge(ledger, tmp_path / "sink.dump", read_records(disk.path)).require()


def test_without_free_inodes_mail_is_refused_at_the_door_until_there_are_some(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    with (
        a_small_disk(tmp_path, 48, inodes=300) as disk,
        a_server(tmp_path, disk, min_free="10%") as daemon,
    ):
        assert hand_in_now(daemon.port, small(ledger)).fate is Fate.ACKNOWLEDGED
        disk.fill_inodes(leave=20)
        assert wait_until_refused(daemon, ledger).reply.startswith(FULL)
        disk.empty()
        require_recovery(daemon, ledger, time.monotonic())
        finish(daemon, ledger, tmp_path)


def test_a_body_that_finds_no_inode_for_its_file_is_refused_and_small_mail_is_taken(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    with (
        a_small_disk(tmp_path, 48, inodes=300) as disk,
        a_server(tmp_path, disk, min_free="1K") as daemon,
    ):
        disk.fill_inodes(leave=0)
        large = hand_in_now(daemon.port, ledger.new(LARGE[0], 1))
        assert large.reply.startswith(FULL)
        assert hand_in_now(daemon.port, small(ledger)).fate is Fate.ACKNOWLEDGED
        disk.empty()
        again = hand_in_now(daemon.port, ledger.new(LARGE[0], 1))
        assert again.fate is Fate.ACKNOWLEDGED
        finish(daemon, ledger, tmp_path)


def test_a_body_that_finds_no_room_for_its_file_is_refused_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    with (
        a_small_disk(tmp_path, 48) as disk,
        a_server(tmp_path, disk, min_free="1K") as daemon,
    ):
        disk.fill(leave_bytes=1_500_000)
        large = hand_in_now(daemon.port, ledger.new(LARGE[2], 1))
        assert large.reply.startswith(FULL)
        drain(daemon)
        assert list(disk.path.glob("spool/*.bodies/*/*")) == []
        disk.empty()
        assert hand_in_now(daemon.port, ledger.new(LARGE[2], 1)).fate is Fate.ACKNOWLEDGED
        finish(daemon, ledger, tmp_path)
