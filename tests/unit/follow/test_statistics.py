"""The statistics follower: each event counted once whatever fails, sums exact however much is folded, and the file bounded."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.follow import statistics
from mta.follow.follower import Follower, Pruning
from mta.follow.refused import Question, read_refused
from mta.follow.statistics import NAME, StatisticsFile, StatisticsSink
from mta.follow.tally import HOUR_S, OTHERS, Counts, Key, Tally, fold_reply, fold_rows
from mta.model.event import Attempt, QueueDeferred
from tests.support.fake_spool import MIDDAY, FakeClock, FakeSpool, an_attempt


def a_refusal(kind: str = "b", **changes: object) -> Attempt:
    values: dict[str, object] = {
        "code": 550,
        "enhanced": "5.1.1",
        "text": "no such user",
        "category": "bad-mailbox",
        "verdict": "hard",
        "fault": "recipient",
        "site": "big",
    }
    return an_attempt(kind, **(values | changes))


class Room:
    def __init__(self, path: Path, max_lag: int = 1_000_000) -> None:
        self.path = path / "statistics.sqlite"
        self.spool = FakeSpool()
        self.clock = FakeClock()
        self.pruning = Pruning([NAME, "other"], NAME, max_lag)
        self.begin()

    def begin(self) -> None:
        """The process starts, or starts again."""
        self.file = StatisticsFile(self.path)
        self.follower = Follower(
            NAME,
            StatisticsSink(self.file),
            [self.spool],
            self.file,
            self.clock,
            self.pruning,
            save_every_s=2.0,
        )

    def settle(self) -> None:
        """Until all is counted and saved."""
        for _ in range(4):
            self.follower.step()
            self.clock.advance(6.0)
        self.follower.step()

    def ask(self, **question: object) -> dict[str, object]:
        return read_refused(self.path, Question(**question), self.clock.wall())  # type: ignore[arg-type]

    def total(self) -> dict[str, int]:
        total = self.ask()["total"]
        assert isinstance(total, dict)
        return total


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_refusals_are_shown_by_what_is_asked_with_their_share_and_their_words(room: Room) -> None:
    room.spool.commit(
        [
            *[an_attempt(site="big")] * 6,
            a_refusal(text="<a1@x.example> no such user"),
            a_refusal(text="<b2@x.example> no such user"),
            a_refusal("t", category="quota-issues", verdict="soft", domain="b.example", job="news"),
            a_refusal(by="administrator"),
            a_refusal(by="expired", category="message-expired", verdict="soft"),
            QueueDeferred(MIDDAY, "c.example", "default", 421, "", "busy", False, "other", 1, 0.0),
        ]
    )
    room.settle()
    answer = room.ask(by="category")
    rows = {row["name"]: row for row in answer["rows"]}  # type: ignore[attr-defined]
    assert set(rows) == {"bad-mailbox", "quota-issues", "message-expired", "other"}
    assert (rows["bad-mailbox"]["refused"], rows["bad-mailbox"]["attempts"]) == (2, 9)
    assert rows["bad-mailbox"]["share"] == round(2 / 9, 4)
    assert rows["bad-mailbox"]["line"] == [0] * 23 + [2]
    assert rows["message-expired"]["expired"] == 1 and rows["other"]["queues"] == 1
    assert room.total()["refused"] == 3 and room.total()["bounced"] == 2
    assert answer["replies"][0] == {  # type: ignore[index]
        "reply": "550 5.1.1 (address) no such user",
        "category": "bad-mailbox",
        "verdict": "hard",
        "count": 2,
    }
    (row,) = room.ask(by="domain", job="news")["rows"]  # type: ignore[misc]
    assert (row["name"], row["refused"], row["attempts"]) == ("b.example", 1, 1)
    (row,) = room.ask(by="site", verdict="hard", domain="example.net")["rows"]  # type: ignore[misc]
    assert (row["name"], row["refused"], row["attempts"]) == ("big", 2, 8)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("unknown user a@b.example", "unknown user c.d@e.example"),
        ("blocked 192.0.2.1, see https://x.example/1", "blocked 192.0.2.77, see https://x.example/2"),
        ("try later [mx1.p.example] 1f00ab9912 - gsmtp", "try later [mx27.p.example] 88aa41c0 - gsmtp"),
        ("rate: 120 in 60", "rate: 9 in 3600"),
    ],
)  # fmt: skip
def test_refusals_that_say_the_same_become_one_text(one: str, other: str) -> None:
    assert fold_reply(550, "5.7.1", one) == fold_reply(550, "5.7.1", other)


def test_names_that_providers_give_their_refusals_stay() -> None:
    assert fold_reply(550, "", "5.7.1 blocked (S3150) AUP#1310 RL000001") == (
        "550 5.7.1 blocked (S3150) AUP#1310 RL000001"
    )
    assert fold_reply(550, "", "a\x1b[2J") == "550 a\\x1b[2J"


names = st.sampled_from(["a", "b", "c", "d"])
keys = st.builds(Key, st.just(1), names, names, names, names, names, names, names)


@given(
    rows=st.dictionaries(keys, st.lists(st.integers(0, 9), min_size=5, max_size=5), max_size=60),
    limit=st.integers(2, 20),
)
def test_folding_keeps_every_sum_and_no_more_rows_than_allowed(
    rows: dict[Key, Counts], limit: int
) -> None:
    folded = fold_rows(rows, limit)
    assert len(folded) <= limit
    assert [sum(each) for each in zip(*folded.values(), strict=True)] == [
        sum(each) for each in zip(*rows.values(), strict=True)
    ]


def test_a_campaign_to_very_many_domains_keeps_the_large_and_counts_the_others(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "OPEN_ROWS", 40)
    monkeypatch.setattr(statistics, "CLOSED_ROWS", 20)
    for start in range(0, 500, 50):
        batch = [a_refusal(domain=f"d{start + n}.example", site="") for n in range(50)]
        room.spool.commit([*batch, *[an_attempt(domain="large.example", site="")] * 9])
        room.settle()
    room.clock.advance(2 * HOUR_S)
    room.settle()
    rows = apsw.Connection(str(room.path)).execute("select count(*) from counts").get
    assert int(str(rows)) <= 20
    assert room.total() | {"share": 0} == {
        "name": "all", "attempts": 590, "refused": 500, "bounced": 500, "deferred": 0,
        "expired": 0, "queues": 0, "share": 0,
    }  # fmt: skip
    by_domain = room.ask(by="domain")["rows"]
    assert by_domain[0]["name"] == OTHERS and by_domain[0]["refused"] > 450  # type: ignore[index]
    assert room.ask(domain="d1.example")["unnamed"] > 450  # type: ignore[operator]


@settings(max_examples=15, deadline=None)
@given(
    fails=st.lists(st.sampled_from(["full", "again", "none"]), min_size=1, max_size=6),
)
def test_each_event_is_counted_once_whatever_fails_between(
    fails: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    room = Room(tmp_path_factory.mktemp("room"))
    for number, what in enumerate(fails, 1):
        room.spool.commit([a_refusal()] * 3)
        room.follower.step()
        if what == "full":
            room.file._opened().pragma("max_page_count", 1)
            room.spool.commit([a_refusal(domain=f"d{number}x{n}.example") for n in range(300)])
            room.clock.advance(3)
            room.follower.step()
            assert "full" in room.follower.status().trouble
            room.file._opened().pragma("max_page_count", 100_000)
        if what == "again":
            room.begin()  # what was not saved is gone with the process
        room.settle()
        assert room.total()["bounced"] == 3 * number + 300 * fails[:number].count("full")


def test_after_a_kill_counts_and_cursor_agree(tmp_path: Path) -> None:
    path = tmp_path / "statistics.sqlite"
    program = (
        "import sys; from pathlib import Path\n"
        "from mta.follow.statistics import StatisticsFile\n"
        "from tests.support.fake_spool import an_attempt\n"
        "file = StatisticsFile(Path(sys.argv[1])); number = 0\n"
        "while True:\n"
        "    batch = [(number + n, an_attempt('b')) for n in range(1, 8)]\n"
        "    file.tally.add(batch); number += 7\n"
        "    file.save('statistics', {'spool': number}, '')\n"
        "    print(number, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(20):
        told = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    done, _ = StatisticsFile(path).load(NAME)
    counted = apsw.Connection(str(path)).execute("select sum(bounced) from counts").get
    assert done["spool"] >= told and int(str(counted)) == done["spool"]


def test_a_damaged_file_is_set_aside_and_counting_begins_anew(room: Room) -> None:
    room.spool.commit([a_refusal()])
    room.settle()
    room.file.close()
    room.path.write_bytes(b"not a database at all" * 1000)
    room.begin()
    room.spool.commit([a_refusal(), a_refusal()])
    room.settle()
    assert room.follower.status().trouble == ""
    assert room.total()["bounced"] in (2, 3)  # with what was not pruned yet
    assert room.path.with_name("statistics.sqlite.damaged").exists()


def test_events_are_not_kept_for_ever_for_statistics_that_cannot_be_written(tmp_path: Path) -> None:
    room = Room(tmp_path / "there is no such directory", max_lag=10)
    for _ in range(4):
        room.spool.commit([a_refusal()] * 5)
        room.settle()
        room.pruning.saved(room.spool, "other", room.spool._last)
    assert "unable to open" in room.follower.status().trouble
    assert room.spool.pruned == 20


def test_hours_beyond_the_last_thirty_days_go_and_their_room_with_them(room: Room) -> None:
    room.spool.commit([a_refusal(domain=f"d{n}.example", job="j" * 90) for n in range(7000)])
    room.settle()
    room.settle()
    room.file.close()
    size = room.path.stat().st_size
    room.clock.advance(31 * 86_400)
    room.begin()
    for _ in range(20):
        room.settle()
    room.file._opened().execute("pragma wal_checkpoint(truncate)").fetchall()
    assert apsw.Connection(str(room.path)).execute("select count(*) from counts").get == 0
    assert room.path.stat().st_size < max(size // 2, 1_200_000)


def test_a_delivery_costs_little() -> None:
    tally, batch = Tally(), [(n, an_attempt()) for n in range(2000)]
    began = time.process_time()
    for _ in range(10):
        tally.add(batch)
    assert (
        time.process_time() - began
    ) / 20_000 < 20e-6  # about 1 µs; many times that on a busy machine
