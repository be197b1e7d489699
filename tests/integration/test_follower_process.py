"""The follower process, really one: fed by spools of this process, asked over its link, killed and started again."""

import asyncio
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mta.config.load import Settings, load
from mta.io.door import door_pair, pass_on
from mta.io.link import Link
from mta.model.errors import SpoolError
from mta.runtime.calls import Asker
from mta.runtime.messages import Answer, Beat, Fault, Start, Started, of_process
from mta.runtime.process import EVENTS as NOTE
from mta.runtime.records import LocalRecords, Records, RemoteRecords
from tests.support.feeds import DEADLINE_S, FedWorker, event_numbers, until

PROGRAM = """\
import socket, sys, uvloop
from mta.runtime.follower_process import serve
link, door = (socket.socket(fileno=int(each)) for each in sys.argv[1:])
sys.exit(uvloop.run(serve(link, door)))
"""
CONFIG = """\
[server]
hostname = "mta.test.example"
spool_dir = "{path}"
control_socket = "control.sock"
[[listener]]
address = "127.0.0.1:2525"
relay_from = ["127.0.0.0/8"]
[accounting.main]
path = "{path}/acct.csv"
"""


def _run(ends: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *ends], pass_fds=[int(each) for each in ends]
    )


class Supervisor:
    """As much of one as a follower process needs; the workers live in this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "sluice.toml").write_text(CONFIG.format(path=path))
        self.settings: Settings = load(path / "sluice.toml")
        self.workers = [FedWorker(path, number) for number in (0, 1)]
        self.asker = Asker()
        self.records: Records = RemoteRecords(self.asker)
        self.heard: list[Any] = []
        self._ended: list[subprocess.Popen[bytes]] = []

    async def start(self, spools: tuple[int, ...] = (0, 1)) -> None:
        """A follower process, and its connections."""
        link, its_link = socket.socketpair()
        self.door, its_door = door_pair()
        ends = [str(each.fileno()) for each in (its_link, its_door)]
        self.process = _run(ends)
        self._ended.append(self.process)
        its_link.close()
        its_door.close()
        self.heard.clear()
        self.asker.link = self.link = new = Link(
            of_process, self._received, lambda: self.asker.lost(new)
        )
        await self.link.open(link)
        self.link.send(Start(pickle.dumps(self.settings), spools, 0.0))
        for worker in self.workers:
            self.connect(worker)

    def connect(self, worker: FedWorker) -> None:
        """A socket from this worker to the follower."""
        ours, its = socket.socketpair()
        worker.feed.attach(ours)
        assert pass_on(self.door, NOTE, its.fileno())
        its.close()

    async def exit_code(self) -> int:
        """Of the process, which ends."""
        await until(lambda: self.process.poll() is not None)
        await until(lambda: self.link.is_lost)  # its questions fail before the next one is asked
        self.door.close()
        assert self.process.returncode is not None
        return self.process.returncode

    async def kill(self) -> None:
        """As the kernel would."""
        os.kill(self.process.pid, signal.SIGKILL)
        assert await self.exit_code() == -signal.SIGKILL

    def check(self) -> None:
        """Each event once, in order."""
        for worker in self.workers:
            files = [*sorted(self.path.glob("acct-*.csv")), self.path / "acct.csv"]
            assert event_numbers(files, worker.uuid) == list(range(1, worker.written + 1))

    async def close(self) -> None:
        for process in self._ended:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        self.link.close()
        self.door.close()
        for worker in self.workers:
            await worker.close()

    def _received(self, message: Any) -> None:
        self.heard.append(message)
        if isinstance(message, Answer | Fault):
            self.asker.answered(message)


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    await supervisor.start()
    yield supervisor
    await supervisor.close()


def kinds(supervisor: Supervisor) -> set[type]:
    return {type(message) for message in supervisor.heard}


async def test_it_follows_is_asked_and_finishes(supervisor: Supervisor) -> None:
    supervisor.workers[0].deliver(10)
    await supervisor.records.start()
    assert kinds(supervisor) >= {Started, Beat}
    (started,) = [each for each in supervisor.heard if isinstance(each, Started)]
    assert started.spools == tuple((n, each.uuid) for n, each in enumerate(supervisor.workers))
    supervisor.workers[1].deliver(10)
    await supervisor.workers[1].all_written()
    finished = await supervisor.records.rotate()
    assert Path(finished["main"]).name.startswith("acct-")
    assert finished.keys() == {"main"}
    status, statistics = await supervisor.records.status()
    assert (status["name"], status["trouble"]) == ("accounting.main", "")
    assert (statistics["name"], statistics["trouble"]) == ("statistics", "")
    assert status["cursors"] == {worker.uuid: 10 for worker in supervisor.workers}
    for worker in supervisor.workers:
        worker.deliver(5)
        await worker.all_written()
    assert await supervisor.records.stop()
    assert await supervisor.exit_code() == 0
    supervisor.check()
    with pytest.raises(SpoolError):
        await supervisor.records.rotate()
    (status,) = await supervisor.records.status()
    assert "follower process" in status["trouble"]


async def test_killed_at_any_moment_the_next_one_records_each_event_once(
    supervisor: Supervisor,
) -> None:
    chance = random.Random(7)

    async def deliver() -> None:
        while True:
            for worker in supervisor.workers:
                worker.deliver(chance.randint(1, 60))
            await asyncio.sleep(0.003)

    delivering = asyncio.create_task(deliver())
    for _ in range(5):
        await supervisor.records.start()
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(chance.uniform(0, 0.15))
            supervisor.connect(chance.choice(supervisor.workers))
        await asyncio.sleep(chance.uniform(0, 0.3))
        await supervisor.kill()
        await supervisor.start()
    delivering.cancel()
    await supervisor.records.start()
    for worker in supervisor.workers:
        await worker.all_written()
    assert await supervisor.records.stop()
    assert await supervisor.exit_code() == 0
    assert sum(worker.written for worker in supervisor.workers) > 2000
    supervisor.check()
    # Nobody needs them any more.
    await until(lambda: not any(each.spool.pending_event_bytes for each in supervisor.workers))


async def test_a_worker_that_starts_again_is_followed_on(supervisor: Supervisor) -> None:
    await supervisor.records.start()
    for _ in range(3):
        for worker in supervisor.workers:
            worker.deliver(20)
            await worker.all_written()
        await supervisor.workers[0].restart()
        supervisor.workers[0].deliver(3)
        supervisor.connect(supervisor.workers[0])
    await supervisor.workers[0].all_written()
    wanted = {worker.uuid: worker.written for worker in supervisor.workers}
    async with asyncio.timeout(DEADLINE_S):
        while (await supervisor.records.status())[0]["cursors"] != wanted:
            await asyncio.sleep(0.02)
    assert await supervisor.records.stop()
    supervisor.check()


async def test_a_signal_to_the_whole_group_does_not_end_it_but_a_request_to_end_does(
    supervisor: Supervisor,
) -> None:
    await supervisor.records.start()
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(supervisor.process.pid, number)
    supervisor.workers[0].deliver(4)
    await supervisor.workers[0].all_written()
    assert (await supervisor.records.status())[0]["trouble"] == ""
    os.kill(supervisor.process.pid, signal.SIGTERM)
    assert await supervisor.exit_code() == 0
    supervisor.check()


async def test_it_ends_when_the_supervisor_is_gone_even_before_it_follows(
    supervisor: Supervisor,
) -> None:
    await supervisor.records.start()
    supervisor.link.close()
    assert await supervisor.exit_code() == 0
    await supervisor.start(spools=(0, 1, 2))  # which nobody names
    await until(lambda: Beat in kinds(supervisor))
    assert Started not in kinds(supervisor)
    supervisor.link.close()
    assert await supervisor.exit_code() == 0


async def test_two_never_write_the_same_files(supervisor: Supervisor) -> None:
    await supervisor.records.start()
    spools = [worker.spool for worker in supervisor.workers]
    second = LocalRecords(supervisor.settings, spools, spools[0].clock)
    with pytest.raises(SpoolError, match=str(supervisor.process.pid)):
        await second.start()
    assert await supervisor.records.stop()
    await supervisor.exit_code()
    supervisor.workers[0].deliver(4)
    await supervisor.workers[0].all_written()
    await second.start()
    supervisor.workers[0].deliver(4)
    await supervisor.workers[0].all_written()
    assert await second.rotate()
    assert await second.stop()
    supervisor.check()


async def test_without_any_accounting_set_events_do_not_fill_the_spool(tmp_path: Path) -> None:
    text = CONFIG.format(path=tmp_path).partition("[accounting.main]")[0]
    (tmp_path / "sluice.toml").write_text(text)
    worker = FedWorker(tmp_path)
    worker.deliver(50)
    await worker.all_written()
    records = LocalRecords(load(tmp_path / "sluice.toml"), [worker.spool], worker.spool.clock)
    await records.start()
    worker.deliver(1)
    await until(lambda: worker.spool.pending_event_bytes == 0)
    assert [each["name"] for each in await records.status()] == ["statistics"]
    assert await records.stop()
    await worker.close()
