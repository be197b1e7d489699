"""The volume follower: deliveries counted once, with the cursor they were read up to, however often the ledger fails."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.follow.follower import Follower, Pruning
from mta.follow.volume import NAME, VolumeCount, VolumeCursors, VolumeSink
from mta.model.envelope import NOTICE
from tests.support.fake_spool import FakeClock, FakeSpool, an_attempt


class Ledger:
    """A `Meter`: counts and cursors together; fails before or after it has kept them, when asked to."""

    def __init__(self) -> None:
        self.emails = 0
        self.kept: dict[str, int] = {}
        self.fails: list[str] = []

    def cursors(self) -> dict[str, int]:
        self._fail("cursors")
        return dict(self.kept)

    def delivered(self, counts: list[VolumeCount]) -> None:
        self._fail("before")
        for spool, since, upto, emails, at in counts:
            assert len(at) == emails
            assert all(since < each <= upto for each in at)
            assert since == self.kept.get(spool, 0) < upto
            self.kept[spool] = upto
            self.emails += emails
        self._fail("after")

    def _fail(self, where: str) -> None:
        if where in self.fails:
            self.fails.remove(where)
            raise OSError(f"{where} it was kept")


class Room:
    def __init__(self) -> None:
        self.spools = [FakeSpool("a" * 32), FakeSpool("b" * 32)]
        self.ledger = Ledger()
        self.clock = FakeClock()
        self.pruning = Pruning([NAME])
        self.begin()

    def begin(self) -> None:
        """The follower's process starts, or starts again."""
        sink = VolumeSink()
        cursors = VolumeCursors(sink, self.ledger, dict(self.ledger.kept))
        self.follower = Follower(
            NAME, sink, self.spools, cursors, self.clock, self.pruning, memory_events=20
        )

    def settle(self) -> None:
        for _ in range(200):
            wait_s = self.follower.step()
            if self.follower.status().trouble:
                self.clock.advance(max(wait_s, 0.1))
            elif wait_s > 0:
                return
        raise AssertionError(self.follower.status())


def test_only_deliveries_count_and_nothing_is_pruned_before_it_is_counted() -> None:
    room = Room()
    first, second = room.spools
    first.commit([an_attempt(kind) for kind in "dtbdd"])
    second.commit([an_attempt("d")])
    room.ledger.fails = ["before"] * 3
    room.follower.step()
    assert (first.pruned, room.ledger.emails) == (0, 0)
    room.settle()
    assert room.ledger.emails == 4
    assert room.ledger.kept == {first.uuid: 5, second.uuid: 1}
    assert (first.pruned, second.pruned) == (5, 1)


def test_a_notice_we_wrote_ourselves_is_no_email() -> None:
    room = Room()
    room.spools[0].commit([an_attempt("d"), an_attempt("d", source_kind=NOTICE)])
    room.settle()
    assert room.ledger.emails == 1


@pytest.mark.parametrize("where", ["before", "after", "cursors"])
def test_a_failing_ledger_changes_no_count(where: str) -> None:
    room = Room()
    spool = room.spools[0]
    for _ in range(5):
        spool.commit([an_attempt("d")] * 7)
        room.ledger.fails = [where, "before", where]
        room.settle()
    assert room.ledger.emails == 35


def test_where_the_ledger_does_not_answer_at_the_start_nothing_is_pruned_and_it_is_asked_later() -> (
    None
):
    room = Room()
    spool = room.spools[0]
    spool.commit([an_attempt("d")] * 3)
    room.settle()
    sink = VolumeSink()
    cursors = VolumeCursors(sink, room.ledger, None)
    late = Follower(NAME, sink, room.spools, cursors, room.clock, Pruning([NAME]))
    spool.commit([an_attempt("d")] * 4)
    room.ledger.fails = ["cursors"]
    room.follower = late
    room.settle()
    assert room.ledger.emails == 7


STEPS = st.lists(
    st.sampled_from(["deliver", "quiet", "step", "kill", "before", "after", "cursors"]),
    max_size=60,
)


@settings(max_examples=60)
@given(steps=STEPS)
def test_whatever_fails_and_whoever_is_killed_every_delivery_counts_once(steps: list[str]) -> None:
    room = Room()
    delivered = 0
    for number, what in enumerate(steps):
        spool = room.spools[number % 2]
        if what in ("deliver", "quiet"):
            spool.commit([an_attempt("d"), an_attempt("t")] * 4, offer=what == "deliver")
            if what == "quiet":
                spool.offer([])  # whoever offers lost them
            delivered += 4
        elif what == "step":
            room.follower.step()
            room.clock.advance(1.0)
        elif what == "kill":
            room.begin()
        else:
            room.ledger.fails.append(what)
    room.settle()
    room.settle()
    assert room.ledger.emails == delivered
