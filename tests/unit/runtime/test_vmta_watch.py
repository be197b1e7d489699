"""Which virtual MTAs are in service: what is found, who is told, what is woken, and what is kept over a restart."""

import errno
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mta.io.clock import Clock
from mta.policy.rules import Place, PoolRules, VmtaRules
from mta.queue.scheduler import Scheduler
from mta.runtime.vmta_states import VmtaState, VmtaStates
from mta.runtime.vmta_watch import ADDRESSES_A_LOOK, VmtaWatch, is_local_address
from tests.support.fake_disk import FaultyDisk
from tests.support.queue_world import FakeBook

PLACE = Place("sluice.toml", "vmta.a")
POOL = PoolRules("p", (("a", 1), ("b", 1)))


@dataclass
class Woken:
    """A spool that remembers what it was asked to wake."""

    asked: list[Collection[str] | None] = field(default_factory=list)

    def wake_parked(self, vmtas: Collection[str] | None, done: Callable[[], None]) -> None:
        self.asked.append(vmtas)
        done()


class Machine:
    """One worker's virtual MTAs on a machine whose addresses come and go."""

    def __init__(self, place: Path, *vmtas: VmtaRules) -> None:
        self.here = {address for each in vmtas for address in (*each.source_v4, *each.source_v6)}
        self.spool = Woken()
        self.sources = SimpleNamespace(missing_sources=frozenset())
        self.delivered: dict[str, int] = {}
        self.kicks = 0
        self.states = VmtaStates(place)
        self.scheduler = Scheduler(FakeBook(vmtas=frozenset(each.name for each in vmtas)))
        self.watch = VmtaWatch(
            spool_dir=place,
            scheduler=self.scheduler,
            spools=[self.spool],
            sources=self.sources,
            delivered=self.delivered,
            clock=Clock(),
            on_change=self._kick,
            is_here=lambda address: address in self.here,
        )
        self.use(*vmtas)

    def use(self, *vmtas: VmtaRules) -> None:
        settings: Any = SimpleNamespace(
            vmtas={each.name: each for each in vmtas}, pools={"p": POOL}
        )
        self.watch.use(settings)

    def turns(self, count: int = 4) -> str:
        return "".join(str(self.watch.pools.choose("p", "")) for _ in range(count))

    def _kick(self) -> None:
        self.kicks += 1


def a(*sources: str) -> VmtaRules:
    return VmtaRules("a", tuple(sources), place=PLACE)


def b() -> VmtaRules:
    return VmtaRules("b")


def test_one_whose_address_is_gone_leaves_its_pool_and_comes_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path, a("192.0.2.1"), b())
    assert machine.turns() == "abab"
    machine.here.clear()
    machine.watch.look()
    assert machine.turns() == "bbbb"
    stop = machine.scheduler.stop_of("a")
    assert stop is not None and stop.place == PLACE
    assert "this machine has no address 192.0.2.1" in stop.detail
    assert machine.watch.out() == {"a": "virtual MTA without its source address"}
    assert machine.watch.gauge() == {"a": 1, "b": 0}
    machine.here.add("192.0.2.1")
    machine.watch.look()
    assert machine.turns() == "abab"
    assert machine.scheduler.stop_of("a") is None
    assert machine.spool.asked == [None, {"a"}]


def test_of_several_addresses_those_that_are_left_are_used(tmp_path: Path) -> None:
    machine = Machine(tmp_path, a("192.0.2.1", "192.0.2.2"), b())
    machine.here.discard("192.0.2.1")
    machine.watch.look()
    assert machine.sources.missing_sources == {"192.0.2.1"}
    assert machine.turns() == "abab"


def test_with_many_addresses_a_look_is_short_and_all_are_seen_in_turn(tmp_path: Path) -> None:
    count = ADDRESSES_A_LOOK * 2 + 1
    many = [VmtaRules(f"v{n}", (f"10.0.{n // 250}.{n % 250}",)) for n in range(count)]
    machine = Machine(tmp_path, *many)
    machine.here.clear()
    looks = []
    for _ in range(3):
        machine.watch.look()
        looks.append(len(machine.watch.stops))
    assert looks == [ADDRESSES_A_LOOK, 2 * ADDRESSES_A_LOOK, count]


def test_what_the_operator_said_is_acted_upon_at_once_and_after_a_restart(tmp_path: Path) -> None:
    machine = Machine(tmp_path, a(), b())
    machine.states.put("a", VmtaState.PAUSED)
    machine.states.put("b", VmtaState.DRAINED)
    machine.watch.decide()
    for each in (machine, Machine(tmp_path, a(), b())):
        assert each.scheduler.stop_of("a") is not None
        assert each.scheduler.stop_of("b") is None
        assert each.watch.out() == {"a": "virtual MTA paused", "b": "virtual MTA drained"}
    machine.states.put("a", VmtaState.RUNNING)
    machine.watch.look()
    assert machine.watch.out() == {"b": "virtual MTA drained"}
    assert machine.turns() == "aaaa"


def test_a_look_at_what_did_not_change_does_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, a("192.0.2.1"), b())
    before = machine.kicks
    for _ in range(5):
        machine.watch.look()
    assert machine.kicks == before
    assert machine.spool.asked == [None]


def test_a_virtual_mta_that_is_put_back_has_its_queues_woken(tmp_path: Path) -> None:
    machine = Machine(tmp_path, b())
    machine.use(a(), b())
    assert machine.spool.asked == [None, {"a"}]


def test_rows_tell_of_those_that_are_gone_and_count_the_last_minute(tmp_path: Path) -> None:
    machine = Machine(tmp_path, b())
    machine.delivered["b"] = 5
    machine.watch.look()
    machine.delivered["b"] = 12
    by_name = {row["vmta"]: row for row in machine.watch.rows({"old": (7, 2), "b": (1, 1)})}
    assert (by_name["old"]["state"], by_name["old"]["recipients"]) == ("gone", 7)
    assert by_name["old"]["reason"].startswith("virtual MTA gone")
    assert (by_name["b"]["state"], by_name["b"]["delivered_last_minute"]) == ("running", 7)


def test_a_file_that_cannot_be_read_or_written_changes_nothing(tmp_path: Path) -> None:
    states = VmtaStates(tmp_path)
    states.put("a", VmtaState.PAUSED)
    states.path.write_bytes(b"{")
    states.read()
    assert states.of("a") is VmtaState.PAUSED
    disk = FaultyDisk()
    disk.failing["fsync"] = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        VmtaStates(tmp_path, disk).put("b", VmtaState.PAUSED)
    states.path.unlink()
    states.read()
    assert states.of("a") is VmtaState.RUNNING


def test_an_address_is_local_if_one_can_bind_to_it() -> None:
    assert is_local_address("127.0.0.9")
    assert not is_local_address("192.0.2.1")
    assert not is_local_address("2001:db8::1")
