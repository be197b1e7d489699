"""A process killed at any moment, and a power cut: what the next start makes of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mta.spool.inflight import Inflight, read_inflight
from mta.spool.words import Filter
from tests.support.spools import BOOT, GMAIL, SpoolUnderTest, delivered

UUID = bytes(16)

# Accepts and settles for ever, telling every acknowledgement on its standard output before the next step.
CHILD = """
import os, sys
from pathlib import Path
from tests.support.spools import SpoolUnderTest, GMAIL, delivered
spool = SpoolUnderTest(Path(sys.argv[1]), boot=bytes(range(16)))
def say(text): os.write(1, text.encode() + b"\\n")
say("ready")
n = 0
pending = []
while True:
    drafts = [spool.draft((f"{os.getpid()}.{n + i}@gmail.com", GMAIL)) for i in range(5)]
    n += 5
    for draft, answer in zip(drafts, spool.try_accept(*drafts)):
        if answer is None:
            say(f"accepted {draft.entries[0].address}")
            pending.append(draft.entries[0])
    entry = pending.pop(0)
    spool.spool.mark(entry)
    say(f"sending {entry.address}")
    spool.settle(delivered(entry))
    say(f"settled {entry.address}")
    spool.spool.unmark(entry)
"""


@pytest.mark.parametrize("lines", [1, 7, 18, 40, 95])
def test_killed_at_any_moment_no_acknowledged_message_is_lost_and_repeats_are_marked(
    tmp_path: Path, lines: int
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = [child.stdout.readline().split() for _ in range(lines)]
    child.send_signal(signal.SIGKILL)
    told += [line.split() for line in child.stdout.read().splitlines()]
    child.stdout.close()
    child.wait()
    accepted = {line[1] for line in told if line[0] == "accepted"}
    sent = {line[1] for line in told if line[0] == "sending"}
    settled = {line[1] for line in told if line[0] == "settled"}
    after = SpoolUnderTest(tmp_path)
    there = {
        one.entry.address: one.entry
        for one in after.ask(after.spool.list_messages(Filter(), 100_000))
    }
    assert accepted - sent <= set(there)
    assert settled.isdisjoint(there)
    assert all(there[address].may_repeat for address in sent & set(there))
    assert not after.spool.start.clean
    assert after.spool.start.repeated <= 1
    # Numbers go on beyond all that were given out.
    assert after.spool.next_message_number() > 1_000_000
    after.close()


def crashed_copy(spool: SpoolUnderTest, tmp_path: Path, name: str) -> Path:
    """The spool's files as a kill at this moment would leave them."""
    copy = tmp_path / name
    copy.mkdir()
    for file in spool.spool.path.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_an_entry_in_flight_at_three_crashes_is_held_as_poison(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path / "0")
    (entry,) = spool.accept(("poison@gmail.com", GMAIL))
    (other,) = spool.accept(("good@gmail.com", GMAIL))
    for crash in (1, 2, 3):
        spool.spool.mark(entry)
        path = crashed_copy(spool, tmp_path, f"after{crash}")
        spool.close()
        spool = SpoolUnderTest(path)
        found = {each.address: each for each in spool.due()[0]}
        assert not found["good@gmail.com"].may_repeat
        if crash < 3:
            assert found["poison@gmail.com"].crashes == crash
            assert found["poison@gmail.com"].may_repeat
            assert spool.spool.start.poison == []
    assert spool.spool.start.poison == [entry.number]
    assert set(found) == {other.address}
    (held,) = spool.ask(spool.spool.list_messages(Filter(held=True)))
    assert held.hold_reason.startswith("poison")
    assert spool.ask(spool.spool.release(Filter())) == 1
    assert {each.address: each.crashes for each in spool.due()[0]}["poison@gmail.com"] == 0
    spool.close()


def test_a_settled_attempt_ends_the_count_of_crashes(tmp_path: Path) -> None:
    from tests.support.spools import deferred

    spool = SpoolUnderTest(tmp_path / "0")
    (entry,) = spool.accept()
    spool.spool.mark(entry)
    path = crashed_copy(spool, tmp_path, "after")
    spool.close()
    spool = SpoolUnderTest(path)
    (entry,), _ = spool.due()
    assert entry.crashes == 1
    spool.settle(deferred(entry, spool.clock.time))
    (entry,), _ = spool.due()
    assert (entry.crashes, entry.may_repeat) == (0, True)
    spool.close()


def test_after_a_power_cut_all_that_was_due_may_repeat_and_nothing_else(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path / "0")
    spool.accept(("due@gmail.com", GMAIL))
    spool.accept(("later@gmail.com", GMAIL), due=spool.clock.time + 60)
    path = crashed_copy(spool, tmp_path, "after")
    clock = spool.clock
    spool.close()
    spool = SpoolUnderTest(path, clock=clock, boot=b"another boot id!")
    assert spool.spool.start.power_cut
    spool.accept(("new@gmail.com", GMAIL))
    spool.clock.time += 60
    found = {entry.address: entry.may_repeat for entry in spool.due()[0]}
    assert found == {"due@gmail.com": True, "later@gmail.com": False, "new@gmail.com": False}
    assert all(entry.crashes == 0 for entry in spool.due()[0])
    spool.close()
    spool = SpoolUnderTest(path, clock=clock, boot=b"another boot id!")
    assert spool.spool.start.clean
    assert spool.due()[0][0].may_repeat  # it still has not been tried since
    spool.close()


def test_closed_in_order_nothing_may_repeat_but_what_was_still_in_flight(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    (entry,) = spool.accept(("a@gmail.com", GMAIL))
    spool.accept(("b@gmail.com", GMAIL))
    spool.spool.mark(entry)
    spool.close()
    spool = SpoolUnderTest(tmp_path, boot=b"another boot id!")
    assert spool.spool.start.clean
    assert not spool.spool.start.power_cut
    assert [(each.may_repeat, each.crashes) for each in spool.due()[0]] == [(True, 0), (False, 0)]
    spool.close()


def test_the_in_flight_file_grows_and_keeps_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "inflight"
    inflight = Inflight(path, UUID, BOOT, slots=4)
    for number in range(1, 11):
        inflight.mark(number)
    inflight.mark(10)
    inflight.unmark(3)
    inflight.unmark(3)
    found = read_inflight(path, UUID, BOOT)
    assert found is not None
    assert sorted(found.numbers) == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert (found.clean, found.same_boot) == (False, True)
    inflight.close(clean=True)
    found = read_inflight(path, UUID, bytes(16))
    assert found is not None
    assert (found.clean, found.same_boot) == (True, False)
    assert read_inflight(path, BOOT, BOOT) is None


def test_a_torn_in_flight_file_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "inflight"
    path.write_bytes(b"SLUICEIF" + bytes(10))
    assert read_inflight(path, UUID, BOOT) is None
    path.write_bytes(os.urandom(4096))
    assert read_inflight(path, UUID, BOOT) is None


def test_the_lock_of_a_killed_owner_is_free(tmp_path: Path) -> None:
    (tmp_path / "0.lock").write_text("1\n")
    SpoolUnderTest(tmp_path).close()


def test_delivered_twice_is_settled_once(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    (entry,) = spool.accept()
    spool.settle(delivered(entry))
    spool.settle(delivered(entry))
    assert spool.ask(spool.spool.counts()).recipients == 0
    spool.close()
