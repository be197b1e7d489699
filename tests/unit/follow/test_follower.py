"""The follower: each event in the file once, in order, whatever happens between two steps."""

import csv
import json
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mta.follow.accounting import AccountingSink
from mta.follow.cursors import CursorFile
from mta.follow.follower import (
    BATCH_EVENTS,
    RETRY_CAP_S,
    EventSource,
    Follower,
    Followers,
    Pruning,
)
from mta.follow.recordfile import RecordDisk
from mta.policy.rules import AccountingRules
from tests.support.fake_spool import MIDDAY, FakeClock, FakeSpool, an_attempt

ONE_DAY = 86_400.0


class FullDisk(RecordDisk):
    """A log disk that is full until it is not."""

    def __init__(self) -> None:
        self.is_full = False

    def write(self, fd: int, data: bytes) -> None:
        if self.is_full:
            super().write(fd, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        super().write(fd, data)


class Room:
    """A directory, a spool, a clock, and followers begun anew as often as wanted."""

    def __init__(self, path: Path, **rules: object) -> None:
        self.path = path
        self.spool = FakeSpool()
        self.clock = FakeClock()
        self.pruning = Pruning()
        self.disk = FullDisk()
        self.cursors = CursorFile(path / "followers.sqlite")
        self.rules = AccountingRules("main", str(path / "acct.csv"), **rules)  # type: ignore[arg-type]

    def follower(self, name: str = "main", **options: int) -> Follower:
        sink = AccountingSink(self.rules, self.disk)
        sources: Sequence[EventSource] = [self.spool]
        return Follower(name, sink, sources, self.cursors, self.clock, self.pruning, **options)

    def deliver(self, count: int, *, offer: bool = True) -> None:
        self.spool.commit([an_attempt(message=n) for n in range(count)], offer=offer)

    def event_ids(self, pattern: str = "acct*.csv") -> list[int]:
        return event_ids(self.path, pattern)


def event_ids(path: Path, pattern: str = "acct*.csv") -> list[int]:
    """The ids in all files, oldest file first."""
    files = sorted(path.glob(pattern), key=lambda file: (file.name == "acct.csv", file.name))
    ids = []
    for file in files:
        with file.open(newline="") as lines:
            ids += [
                int(row["eventId"].partition(":")[2]) for row in csv.DictReader(lines, strict=True)
            ]
    return ids


def settle(follower: Follower) -> None:
    while follower.step() <= 0:
        pass


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_events_from_before_the_start_and_after_it_stand_in_the_file_in_order(room: Room) -> None:
    room.deliver(3, offer=False)
    follower = room.follower()
    settle(follower)
    room.deliver(2)
    settle(follower)
    assert room.event_ids() == [1, 2, 3, 4, 5]


def test_a_follower_that_keeps_up_does_not_read_the_table(room: Room) -> None:
    follower = room.follower()
    settle(follower)
    reads = room.spool.reads
    for _ in range(5):
        room.deliver(10)
        settle(follower)
    assert room.spool.reads == reads
    assert len(room.event_ids()) == 50


def test_a_follower_that_does_not_keep_up_reads_the_table_and_returns_to_memory(room: Room) -> None:
    follower = room.follower(memory_events=10)
    settle(follower)
    for _ in range(6):
        room.deliver(4)
    assert follower.status().waiting == 8
    settle(follower)
    assert room.event_ids() == list(range(1, 25))
    reads = room.spool.reads
    room.deliver(2)
    settle(follower)
    assert room.spool.reads == reads
    assert room.event_ids() == list(range(1, 27))


def test_an_event_that_was_read_before_it_was_offered_stands_once(room: Room) -> None:
    follower = room.follower()
    batch = room.spool.commit([an_attempt()], offer=False)
    settle(follower)
    room.spool.offer(batch)
    room.deliver(1)
    settle(follower)
    assert room.event_ids() == [1, 2]


def test_a_backlog_is_taken_in_batches(room: Room) -> None:
    room.deliver(2 * BATCH_EVENTS + 1, offer=False)
    follower = room.follower()
    follower.step()
    assert follower.status().cursors[room.spool.uuid] == BATCH_EVENTS
    settle(follower)
    assert room.event_ids() == list(range(1, 2 * BATCH_EVENTS + 2))


def test_a_row_that_cannot_be_read_hides_nothing_behind_it(room: Room) -> None:
    room.deliver(BATCH_EVENTS + 10, offer=False)
    room.spool.unreadable = {5}
    follower = room.follower()
    settle(follower)
    room.deliver(1)
    settle(follower)
    wanted = set(range(1, BATCH_EVENTS + 12)) - {5}
    assert room.event_ids() == sorted(wanted)


def test_only_what_is_saved_is_pruned_and_only_when_every_follower_has_it(room: Room) -> None:
    first, second = room.follower("first"), room.follower("second")
    room.deliver(3)
    room.rules = AccountingRules("second", str(room.path / "other.csv"))
    settle(first)
    assert room.spool.pruned == 0
    settle(second)
    assert room.spool.pruned == 3


def test_a_restart_goes_on_after_the_last_event(room: Room) -> None:
    room.deliver(3, offer=False)
    settle(room.follower())
    room.deliver(2)
    settle(room.follower())
    assert room.event_ids() == [1, 2, 3, 4, 5]


def test_events_that_make_no_record_move_the_cursor_too(room: Room) -> None:
    follower = room.follower()
    room.spool.commit([an_attempt("t")])
    settle(follower)
    assert room.spool.pruned == 1
    assert room.event_ids() == []


def test_two_spools_share_a_file_and_have_a_cursor_each(room: Room) -> None:
    other = FakeSpool("fedcba9876543210fedcba9876543210")
    sink = AccountingSink(room.rules)
    follower = Follower("main", sink, [room.spool, other], room.cursors, room.clock, room.pruning)
    room.deliver(2)
    other.commit([an_attempt()])
    settle(follower)
    assert follower.status().cursors == {room.spool.uuid: 2, other.uuid: 1}
    assert sorted(room.event_ids()) == [1, 1, 2]


def test_a_full_log_disk_is_said_in_the_status_and_nothing_is_lost_or_written_twice(
    room: Room,
) -> None:
    follower = room.follower()
    room.deliver(2)
    settle(follower)
    room.disk.is_full = True
    for _ in range(5):
        room.deliver(2)
        wait_s = follower.step()
        assert 0 < wait_s <= RETRY_CAP_S
        assert "No space left" in follower.status().trouble
        room.clock.advance(wait_s)
    assert room.spool.pruned == 2
    room.disk.is_full = False
    settle(follower)
    assert follower.status().trouble == ""
    assert room.event_ids() == list(range(1, 13))


def test_a_follower_in_trouble_waits_longer_each_time_up_to_a_cap(room: Room) -> None:
    follower = room.follower()
    room.disk.is_full = True
    waits = []
    for _ in range(6):
        waits.append(follower.step())
        room.clock.advance(waits[-1])
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_unread_events_beyond_the_limit_make_the_intake_wait(room: Room) -> None:
    follower = room.follower()
    followers = Followers({"main": follower}, [room.spool], max_event_bytes=1000)
    room.disk.is_full = True
    assert not followers.is_behind
    room.deliver(20)
    follower.step()
    assert followers.is_behind
    room.disk.is_full = False
    room.clock.advance(RETRY_CAP_S)
    settle(follower)
    assert not followers.is_behind


def test_a_new_day_begins_a_new_file_named_by_the_old_one(room: Room) -> None:
    follower = room.follower()
    room.deliver(1)
    settle(follower)
    room.clock.advance(ONE_DAY)
    settle(follower)
    room.deliver(1)
    settle(follower)
    assert room.event_ids("acct-2019-02-08-0000.csv") == [1]
    assert room.event_ids("acct.csv") == [2]


def test_a_file_without_a_record_is_not_finished(room: Room) -> None:
    follower = room.follower()
    settle(follower)
    room.clock.advance(ONE_DAY)
    settle(follower)
    answer = follower.rotate()
    settle(follower)
    assert answer.result(0) == ""
    assert [file.name for file in room.path.glob("acct*")] == ["acct.csv"]


def test_a_full_file_is_finished(tmp_path: Path) -> None:
    room = Room(tmp_path, max_size=2000)
    follower = room.follower()
    for _ in range(10):
        room.deliver(2)
        settle(follower)
        room.clock.advance(1)
    assert len(list(tmp_path.glob("acct-*.csv"))) >= 2
    assert room.event_ids() == list(range(1, 21))


def test_the_command_finishes_a_file_with_all_that_was_committed_before_it(room: Room) -> None:
    room.deliver(BATCH_EVENTS + 5, offer=False)
    follower = room.follower()
    answer = follower.rotate()
    settle(follower)
    assert Path(answer.result(0)).name == "acct-2019-02-08-0000.csv"
    assert len(room.event_ids("acct-*.csv")) == BATCH_EVENTS + 5


def test_the_command_is_answered_with_the_error_when_the_disk_is_full(room: Room) -> None:
    follower = room.follower()
    room.deliver(1)
    settle(follower)
    room.disk.is_full = True
    answer = follower.rotate()
    follower.step()
    with pytest.raises(OSError, match="No space left"):
        answer.result(0)
    room.disk.is_full = False
    room.clock.advance(RETRY_CAP_S)
    settle(follower)
    assert room.event_ids() == [1]


def test_the_thread_takes_what_comes_and_ends_with_everything_saved(room: Room) -> None:
    follower = room.follower()
    followers = Followers({"main": follower}, [room.spool])
    followers.start()
    for _ in range(20):
        room.deliver(50)
    # The last commit was never offered, as when the loop ends before its callbacks ran.
    room.deliver(1, offer=False)
    assert followers.rotate("main")["main"].result(10)
    assert followers.stop()
    assert room.event_ids() == list(range(1, 1002))
    assert room.spool.pruned == 1001


def test_a_fault_of_ours_is_said_and_tried_again(room: Room) -> None:
    follower = room.follower()
    room.spool.commit([an_attempt(queued_at="not a number")])
    wait_s = follower.step()
    assert wait_s > 0
    assert follower.status().trouble.startswith("our fault: ")


# A crash at every step

Die = Callable[[], None]


class DyingDisk(RecordDisk):
    """Calls `die` before each call, and in the middle of each write. A kill needs no real fsync."""

    def __init__(self, die: Die) -> None:
        self._die = die

    def open(self, path: Path, flags: int) -> int:
        self._die()
        return super().open(path, flags)

    def write(self, fd: int, data: bytes) -> None:
        self._die()
        middle = len(data) // 2
        super().write(fd, data[:middle])
        self._die()
        super().write(fd, data[middle:])

    def truncate(self, fd: int, size: int) -> None:
        self._die()
        super().truncate(fd, size)

    def fsync(self, fd: int) -> None:
        self._die()

    def rename(self, old: Path, new: Path) -> None:
        self._die()
        super().rename(old, new)


class DyingCursors(CursorFile):
    """Calls `die` before and after each commit."""

    def __init__(self, path: Path, die: Die) -> None:
        super().__init__(path)
        self._db.execute("pragma synchronous = off").fetchall()
        self._die = die

    def save(self, follower: str, done: Mapping[str, int], place: str) -> None:
        self._die()
        super().save(follower, done, place)
        self._die()


COMMITS = 5


def follow_until_dead(path: Path, steps: int) -> None:
    """Events, rotations by size, by command and by day; SIGKILL to ourselves at call number `steps`."""
    left = steps

    def die() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    clock, spool = FakeClock(), FakeSpool()
    rules = AccountingRules("main", str(path / "acct.csv"), max_size=1500)
    cursors = DyingCursors(path / "followers.sqlite", die)
    follower = Follower(
        "main", AccountingSink(rules, DyingDisk(die)), [spool], cursors, clock, Pruning()
    )
    # Events that the cursor has are pruned in a real spool: commit them all, read from the cursor.
    for commit in range(COMMITS):
        spool.commit([an_attempt(), an_attempt("b"), an_attempt("t")])
        clock.at = MIDDAY + (ONE_DAY if commit >= COMMITS // 2 else 0) + commit * 2
        if commit == 1:
            follower.rotate()
        settle(follower)


def in_a_child(run: Callable[[], None]) -> bool:
    """Whether it came to its end without being killed."""
    child = os.fork()
    if child == 0:
        try:
            run()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder of no disk: what a killed process wrote stays there all the same, and a sync costs nothing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as path:
        yield Path(path)


def test_killed_at_every_step_each_event_stands_in_the_files_once(in_memory: Path) -> None:
    wanted = [number for number in range(1, COMMITS * 3 + 1) if number % 3]
    step = 0
    finished = False
    while not finished:
        step += 1
        path = in_memory / str(step)
        path.mkdir()
        finished = in_a_child(lambda path=path, step=step: follow_until_dead(path, step))  # type: ignore[misc]
        # Killed once more in what comes after, at a step that wanders; then to its end.
        if not finished and step % 2:
            in_a_child(lambda path=path, step=step: follow_until_dead(path, 1 + step % 7))  # type: ignore[misc]
        assert in_a_child(lambda path=path: follow_until_dead(path, 0))  # type: ignore[misc]
        assert event_ids(path) == wanted, f"killed at step {step}"
        for file in path.glob("acct-*.csv"):
            assert re.fullmatch(r"acct-2019-02-0[89]-\d{4}\.csv", file.name)
    assert step > 60


def test_what_a_follower_still_to_be_built_has_not_read_is_not_pruned(tmp_path: Path) -> None:
    room = Room(tmp_path)
    first = room.follower("fast")
    room.deliver(50)
    settle(first)
    assert room.spool.pruned == 50
    room.deliver(50, offer=False)
    room.pruning = Pruning(["fast", "slow"])
    again = room.follower("fast")
    settle(again)
    assert room.spool.pruned == 50  # nobody knows yet where the slow one stands
    settle(room.follower("slow"))
    assert room.spool.pruned == 100


def test_a_file_of_json_lines_is_cut_at_its_place_and_goes_on_after_a_crash(tmp_path: Path) -> None:
    room = Room(tmp_path, format="jsonl")
    room.deliver(3)
    settle(room.follower())
    path = tmp_path / "acct.csv"
    with path.open("ab") as file:
        file.write(b'{"type":"d","eventId":"0123456789ab:4"}\n{"type"')  # written, and not saved
    room.deliver(2)
    settle(room.follower())
    numbers = [
        json.loads(line)["eventId"].partition(":")[2] for line in path.read_text().splitlines()
    ]
    assert numbers == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(("before", "after"), [("csv", "jsonl"), ("jsonl", "csv")])
def test_another_format_begins_a_file_of_its_own(tmp_path: Path, before: str, after: str) -> None:
    room = Room(tmp_path, format=before)
    room.deliver(2)
    settle(room.follower())
    written = (tmp_path / "acct.csv").read_bytes()
    room.rules = replace(room.rules, format=after)
    room.deliver(1)
    settle(room.follower())
    (moved,) = tmp_path.glob("acct-*.csv")
    assert moved.read_bytes() == written
    (*_, last) = (tmp_path / "acct.csv").read_text().splitlines()
    assert last.startswith('{"type"' if after == "jsonl" else "d,")
