"""Processes of one server die at random under load: workers, the follower, the one that starts them, the supervisor.

What lives goes on: no restart of the server is needed for a worker or the follower. Afterwards every acknowledged message has
arrived, each delivery stands in the records once, and what arrived twice was marked; and at no time did the destination see more
connections than `total_connections`, whoever held them when it died.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.load import SMALL, Ledger, Load
from tests.crash.verdict import (
    a_sink,
    delivering_to,
    drain_and_release,
    judge,
    read_records,
)
from tests.support.daemon import Daemon, ended

CONNECTIONS_OUT = 6
WORKERS = 3
SOAK = pytest.mark.soak


def a_server(place: Path, port: int, more: str = "") -> Daemon:
    return Daemon(
        place,
        default=delivering_to(port),
        server=f"workers = {WORKERS}\ntotal_connections = {CONNECTIONS_OUT}\n{more}",
    )


def kill(daemon: Daemon, name: str) -> int:
    """SIGKILL to the process of this name; its pid."""
    pid: int = daemon.ask("status")["processes"][name]
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_until(what: Callable[[], bool], timeout_s: float = 20.0) -> None:
    until = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.05)


def is_replaced(daemon: Daemon, name: str, before: int) -> bool:
    status = daemon.ask("status")
    return status["processes"].get(name, before) != before and not status["silent"]


@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=SOAK)])
def test_workers_and_follower_killed_under_load_are_replaced_and_lose_nothing(
    tmp_path: Path, rounds: int
) -> None:
    ledger, rng = Ledger(), random.Random()
    with a_sink(tmp_path, delay_ms=3) as sink, ended(a_server(tmp_path, sink.port)) as daemon:
        daemon.start()
        with Load(daemon.port, ledger, sizes=SMALL):
            for turn in range(rounds):
                name = "follower 0" if turn % 4 == 3 else f"worker {rng.randrange(WORKERS)}"
                time.sleep(rng.uniform(0.1, 0.6))
                before = kill(daemon, name)
                wait_until(lambda name=name, before=before: is_replaced(daemon, name, before))  # type: ignore[misc]
        drain_and_release(daemon)
        assert daemon.stop() == 0
        verdict = judge(ledger, sink.dump, read_records(tmp_path))
        verdict.require()
        assert verdict.acknowledged > 50


@pytest.mark.parametrize("name", ["nursery", "supervisor"])
def test_without_supervisor_or_nursery_all_end_and_the_next_start_goes_on(
    tmp_path: Path, name: str
) -> None:
    ledger = Ledger()
    with a_sink(tmp_path, delay_ms=3) as sink, ended(a_server(tmp_path, sink.port)) as daemon:
        daemon.start()
        pids = [*daemon.ask("status")["processes"].values()]
        with Load(daemon.port, ledger, sizes=SMALL):
            time.sleep(0.7)
            if name == "nursery":
                kill(daemon, name)
                assert daemon.wait_for_exit(40) == 75
            else:
                daemon.kill()
            daemon.start()
            assert not [pid for pid in pids if is_alive(pid)], "the old ones are gone"
            time.sleep(0.5)
        drain_and_release(daemon)
        assert daemon.stop() == 0
        verdict = judge(ledger, sink.dump, read_records(tmp_path))
        verdict.require()


def test_a_worker_that_stands_still_is_ended_with_its_stacks_and_replaced(tmp_path: Path) -> None:
    with (
        a_sink(tmp_path) as sink,
        ended(a_server(tmp_path, sink.port, 'watchdog_timeout = "2s"')) as daemon,
    ):
        daemon.start()
        before: int = daemon.ask("status")["processes"]["worker 1"]
        os.kill(before, signal.SIGSTOP)
        began = time.monotonic()
        answer = daemon.ask("status")
        assert time.monotonic() - began < 2.0
        assert answer["silent"] == [1], "it is named"
        wait_until(lambda: is_replaced(daemon, "worker 1", before))
        assert "nothing was heard of it" in daemon.log
        assert daemon.stop() == 0


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(("first", "second"), [(3, 1), (1, 3), (4, 2)])
def test_spools_without_a_worker_are_adopted_whatever_the_numbers(
    tmp_path: Path, first: int, second: int
) -> None:
    ledger = Ledger()
    with a_sink(tmp_path) as sink:
        before = Daemon(tmp_path, default=delivering_to(sink.port), server=f"workers = {first}")
        with ended(before):
            before.start()
            for domain in ("d0", "d1", "d2"):
                before.ask("queue.pause", queue=f"{domain}.crash.example")
            with Load(before.port, ledger, sizes=SMALL):
                time.sleep(1.0)
            assert before.stop() == 0
        after = Daemon(tmp_path, default=delivering_to(sink.port), server=f"workers = {second}")
        with ended(after):
            after.start()
            assert after.totals()["queued_recipients"] > 0
            for domain in ("d0", "d1", "d2"):
                after.ask("queue.resume", queue=f"{domain}.crash.example")
            drain_and_release(after)
            assert after.stop() == 0
        verdict = judge(ledger, sink.dump, read_records(tmp_path))
        verdict.require()
        assert verdict.repeated == 0
