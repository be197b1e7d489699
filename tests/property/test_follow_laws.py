"""Each event stands in the records once, in the order of its spool, whatever is cut, stopped or started again on the way."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.follow.accounting import AccountingSink
from mta.follow.cursors import CursorFile
from mta.follow.follower import Follower, Pruning
from mta.follow.remote import RemoteSources
from mta.io.clock import Clock
from mta.policy.rules import AccountingRules
from tests.support.feeds import DEADLINE_S, FedWorker, Wires, event_numbers, prune_watch, until

NAME = "accounting.main"
MAX_WAITING = 3000  # bytes: ten events
MEMORY_EVENTS = 60
REST_S = 0.01
MENDED_S = 5.0  # for the follower to take what is left


@dataclass(frozen=True)
class Deliver:
    """Outcomes in a spool."""

    spool: int
    count: int


@dataclass(frozen=True)
class Cut:
    """The connection of this spool's worker is lost."""

    spool: int


@dataclass(frozen=True)
class Connect:
    """It gets another one, whether it has lost the old one or not."""

    spool: int


@dataclass(frozen=True)
class Valve:
    """Nothing comes through to the follower any more, or to the worker, or it does again."""

    spool: int
    opened: bool
    back: bool = False


@dataclass(frozen=True)
class RestartWorker:
    """Its spool is closed and opened again."""

    spool: int


@dataclass(frozen=True)
class RestartFollower:
    """The follower is forgotten where it stands, with all its connections; another begins at the saved place."""


@dataclass(frozen=True)
class Step:
    """The follower takes a turn, while the next thing happens."""

    turns: int


@dataclass(frozen=True)
class Rest:
    """What was begun goes on for a while."""


Act = Deliver | Cut | Connect | Valve | RestartWorker | RestartFollower | Step | Rest
# By hand, that is often enough for what takes several things at once: strategies put together gave a few of each kind, and
# nothing was ever left out of a full connection.
ACTS: list[Act] = [
    *(Deliver(spool, count) for spool in (0, 1) for count in (1, 10, 10, 30, 30, 70)),
    *(Step(turns) for turns in (1, 1, 2, 2, 3, 3, 5, 5)),
    *(Rest(),) * 4,
    *(Valve(spool, opened) for spool in (0, 1) for opened in (True, True, False, False)),
    *(Valve(spool, opened, back=True) for spool in (0, 1) for opened in (True, False)),
    *(Connect(0), Connect(1), Cut(0), Cut(1)),
    *(RestartWorker(0), RestartWorker(1), RestartFollower()),
]


class World:
    """Two workers, and a follower process's inside in the same loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cursors = CursorFile(path / "followers.sqlite")
        watch = prune_watch(self._cursors, NAME)
        self._workers = [
            FedWorker(path, number, max_waiting=MAX_WAITING, watch_prune=watch) for number in (0, 1)
        ]
        self._wires = Wires()
        self._stepping: asyncio.Future[None] | None = None

    async def begin(self) -> None:
        """The follower process starts."""
        self._sources = RemoteSources([0, 1], answer_s=0.05, retry_s=0.02)
        for number in (0, 1):
            await self._connect(number)
        assert await self._sources.all_named(DEADLINE_S)
        self._follower = Follower(
            NAME,
            AccountingSink(AccountingRules("main", str(self._path / "acct.csv"))),
            self._sources.named,
            self._cursors,
            Clock(),
            Pruning(),
            memory_events=MEMORY_EVENTS,
        )

    async def do(self, act: Act) -> None:
        """One thing happens."""
        match act:
            case Deliver():
                self._workers[act.spool].deliver(act.count)
            case Cut():
                await self._wires.cut(act.spool)
            case Connect():
                await self._connect(act.spool)
            case Valve():
                wire = self._wires.last(act.spool)
                if wire is not None:
                    valve = wire.back if act.back else wire.valve
                    (valve.set if act.opened else valve.clear)()
            case RestartWorker():
                await self._workers[act.spool].all_written()
                await self._workers[act.spool].restart()
                await self._connect(act.spool)
            case Rest():
                await asyncio.sleep(REST_S)
            case RestartFollower():
                await self._stepped()
                for number in (0, 1):
                    await self._wires.cut(number)
                self._sources.close()
                await self.begin()
            case Step():
                await self._stepped()
                self._stepping = asyncio.ensure_future(asyncio.to_thread(self._steps, act.turns))

    async def end(self) -> None:
        """All is mended, and the follower takes what is left."""
        await self._stepped()
        for number, worker in enumerate(self._workers):
            wire = self._wires.last(number)
            if wire is None:
                await self._connect(number)
            else:  # no new connection: it would mend more than was broken
                wire.open()
            await worker.all_written()
        await until(lambda: all(worker.feed.is_attached for worker in self._workers))

        async def all_done() -> None:
            wanted = {worker.uuid: worker.written for worker in self._workers if worker.written}
            await asyncio.to_thread(self._steps, 1)
            while self._cursors.load(NAME)[0] != wanted:
                await asyncio.sleep(0.002)
                await asyncio.to_thread(self._steps, 1)

        await asyncio.wait_for(all_done(), MENDED_S)
        for worker in self._workers:
            numbers = event_numbers([self._path / "acct.csv"], worker.uuid)
            assert numbers == list(range(1, worker.written + 1))

    async def close(self) -> None:
        """The end of everything."""
        await self._stepped()
        await self._wires.close()
        self._sources.close()
        for worker in self._workers:
            await worker.close()
        self._cursors.close()

    async def _connect(self, number: int) -> None:
        wire = self._wires.new(number)
        self._sources.attach(wire.follower_end)
        self._workers[number].feed.attach(wire.worker_end)
        await asyncio.sleep(0)

    async def _stepped(self) -> None:
        stepping, self._stepping = self._stepping, None
        if stepping is not None:
            await stepping

    def _steps(self, turns: int) -> None:
        for _ in range(turns):
            self._follower.step()
        assert self._follower.status().trouble == ""


async def _live(path: Path, acts: list[Act]) -> None:
    world = World(path)
    await world.begin()
    try:
        for act in acts:
            await world.do(act)
            await asyncio.sleep(0.001)
        await world.end()
    finally:
        await world.close()


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(acts=st.lists(st.sampled_from(ACTS), min_size=20, max_size=60))
def test_each_event_is_recorded_once_and_in_order_whatever_is_cut(acts: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as path:
        asyncio.run(_live(Path(path), acts))
