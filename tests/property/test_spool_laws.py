"""Whatever is done to a spool, and wherever its disk dies: what was acknowledged is there, and what is there was asked for."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mta.model.envelope import Entry, QueueKey
from mta.model.errors import SpoolError
from mta.queue.actions import QueueState
from mta.spool.check import check_spool
from mta.spool.words import Filter
from tests.support.fake_disk import NAME, FaultyVfs
from tests.support.spools import FakeClock, SpoolUnderTest, deferred, delivered

KEYS = [QueueKey(f"{name}.example", "default") for name in "abc"]
keys = st.sampled_from(KEYS)


class SpoolMachine(RuleBasedStateMachine):
    """A scheduler's view of a spool, and a disk that dies between any two of its operations."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._path = Path(self._directory.name)
        self._faults = self._path / "faults"
        self._vfs = FaultyVfs(self._faults)
        self._clock = FakeClock()
        self._there: dict[int, Entry] = {}  # acknowledged, or found
        self._perhaps: list[list[Entry]] = []  # messages refused when the disk died
        self._unsettled: dict[int, float | None] = {}  # outcomes never acknowledged
        self._loaded: set[QueueKey] = set()
        self._paused: set[QueueKey] = set()
        self._postponed: set[QueueKey] = set()  # keys with a durable row of ours
        self._open()

    def _open(self) -> None:
        self._spool = SpoolUnderTest(self._path / "spool", vfs=NAME, clock=self._clock)
        self._loaded = set()

    def teardown(self) -> None:
        self._spool.close()
        assert [report.problems for report in check_spool(self._path / "spool")] == [[]]
        self._vfs.unregister()
        self._directory.cleanup()

    # What a worker does

    @rule(recipients=st.lists(keys, min_size=1, max_size=3), job=st.sampled_from(["", "x"]))
    def accept(self, recipients: list[QueueKey], job: str) -> None:
        draft = self._spool.draft(*[(f"u@{key.domain}", key) for key in recipients], job=job)
        (error,) = self._spool.try_accept(draft)
        if error is None:
            self._there.update((entry.number, entry) for entry in draft.entries)
            self._loaded.update(recipients)
        else:
            assert isinstance(error, SpoolError)
            self._perhaps.append(draft.entries)

    @precondition(lambda self: self._there)
    @rule(data=st.data(), again_in=st.none() | st.integers(0, 100), count=st.integers(1, 3))
    def settle(self, data: st.DataObject, again_in: int | None, count: int) -> None:
        numbers = data.draw(
            st.lists(st.sampled_from(sorted(self._there)), max_size=count, unique=True)
        )
        batch = []
        for number in numbers:
            entry = self._there[number]
            due = None if again_in is None else self._clock.time + again_in
            batch.append(delivered(entry) if due is None else deferred(entry, due))
            self._unsettled[number] = due
        done: list[bool] = []
        self._spool.spool.settle(batch, lambda: done.append(True))
        self._spool.loop.until(lambda: done or self._spool.broken)
        if done:
            self._apply_settled(numbers)
        self._wait()

    @rule(key=keys)
    def evict(self, key: QueueKey) -> None:
        if key in self._loaded:
            waiting = [entry.due for entry in self._there.values() if entry.key == key]
            self._spool.spool.evict(key, min(waiting, default=None))
            self._loaded.discard(key)
            self._wait()

    @rule(key=keys, paused=st.booleans())
    def pause(self, key: QueueKey, paused: bool) -> None:
        if not self._spool.broken:
            self._spool.spool.postpone(QueueState(key, paused=paused), None)
            self._wait()
            self._postponed.add(key)
            (self._paused.add if paused else self._paused.discard)(key)

    @rule(seconds=st.integers(0, 60))
    def wait(self, seconds: int) -> None:
        self._clock.time += seconds

    # What happens to it

    @rule(operations=st.integers(1, 40))
    def die_after(self, operations: int) -> None:
        """The disk dies after so many more writes, truncations or syncs."""
        self._faults.write_text(f"change:eio:{operations}")

    @rule()
    def restart(self) -> None:
        broken = bool(self._spool.broken)
        self._spool.close()
        self._faults.unlink(missing_ok=True)
        unsure = self._postponed if broken else set()
        self._open()
        for key in unsure:  # whether the last of it was written nobody knows
            self._spool.spool.postpone(QueueState(key, paused=key in self._paused), None)
        self._wait()
        self._look()

    def _wait(self) -> None:
        """Until all that was handed over is written: the same steps then meet the same disk."""
        self._spool.loop.until(self._spool.spool.call(lambda _: None).done)

    def _look(self) -> None:
        """Compare with what the disk has, and go on from there."""
        listed = self._spool.ask(self._spool.spool.list_messages(Filter(), 10_000))
        found = {one.entry.number: one.entry for one in listed}
        for number, entry in self._there.items():
            if number in self._unsettled:
                due = self._unsettled[number]
                assert number in found or due is None
                assert number not in found or found[number].due in (entry.due, due)
            else:
                assert number in found, "an acknowledged entry is lost"
                assert found[number].due == entry.due
        refused = {entry.number for entries in self._perhaps for entry in entries}
        assert set(found) <= set(self._there) | refused, "an entry nobody asked for"
        for entries in self._perhaps:
            there = {entry.number in found for entry in entries}
            assert len(there) == 1, "half a message"
        for entry in found.values():
            assert not isinstance(self._spool.body(entry.message), Exception)
        self._there = found
        self._perhaps, self._unsettled = [], {}

    def _apply_settled(self, numbers: list[int]) -> None:
        for number in numbers:
            due = self._unsettled.pop(number)
            if due is None:
                del self._there[number]
            else:
                self._there[number].due = due

    @invariant()
    def every_queue_with_something_due_is_found(self) -> None:
        if self._spool.broken or self._faults.exists():
            return
        # What becomes due at the very moment up to which all has been found is due a moment later.
        self._clock.time += 0.001
        names, _ = self._spool.due_queues()
        self._loaded.update(QueueKey(*name.split("/")) for name in names)
        now = self._clock.time
        due = {entry.key for entry in self._there.values() if entry.due <= now}
        assert due - self._paused <= self._loaded
        for key in due:
            entries, _ = self._spool.due(key)
            wanted = {n for n, e in self._there.items() if e.key == key and e.due <= now}
            assert {entry.number for entry in entries} == wanted


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=25, stateful_step_count=25)
