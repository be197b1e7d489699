"""The virtual MTA of a large backlog is lost: its mail is moved while other mail is delivered, and the server dies in the middle.

Every message is in one queue or the other at any time, arrives once, and what is delivered beside hardly notices. With 100,000
messages (`soak`) the whole move has 60 s.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mta.control.protocol import ControlError
from mta.model.envelope import QueueKey
from mta.runtime.vmta_states import VmtaState, VmtaStates
from tests.scenario.stage import Stage, Witness, hand_in, letters, wait_until
from tests.support.daemon import Daemon
from tests.support.spools import FakeClock, SpoolUnderTest

VMTAS = """
[vmta.a]
[vmta.b]
[vmta.c]
[selection]
default = "c"
[domain."beside.example"]
hosts = ["{beside}"]
"""
CHUNK = 1000
MOVE_WITHIN_S = 60.0


def queued(daemon: Daemon) -> dict[str, int]:
    return {row["vmta"]: row["recipients"] for row in daemon.ask("vmtas")["vmtas"]}


def a_backlog(place: Path, count: int) -> None:
    """So much mail waits for `a`, which is out of service, as an earlier life of the server left it."""
    key = QueueKey("far.example", "a")
    spool = SpoolUnderTest(place / "spool", clock=FakeClock(time.time()))
    for first in range(0, count, CHUNK):
        numbers = range(first, min(first + CHUNK, count))
        drafts = [spool.draft((f"m{n}@far.example", key)) for n in numbers]
        assert spool.try_accept(*drafts) == [None] * len(drafts)
    spool.close()
    for name in "ab":
        VmtaStates(place / "spool").put(name, VmtaState.PAUSED)


@contextmanager
def backlogged(place: Path, count: int) -> Iterator[tuple[Daemon, Witness, Witness]]:
    """A server with that backlog; the hosts of it, and of the mail beside it."""
    a_backlog(place, count)
    with Stage() as stage:
        host, beside = stage.witness(), stage.witness()
        with stage.server(
            place,
            default=f'hosts = ["{host.host}"]\nmax_connections = 10',
            more=VMTAS.format(beside=beside.host),
        ) as daemon:
            assert queued(daemon)["a"] == count
            yield daemon, host, beside


def all_once(host: Witness, count: int) -> None:
    host.wait_for(count, timeout_s=200)
    assert Counter(host.recipients) == {f"m{n}@far.example": 1 for n in range(count)}


def test_killed_in_the_middle_of_a_move_no_message_is_lost_or_sent_twice(tmp_path: Path) -> None:
    count = 4000
    with backlogged(tmp_path, count) as (daemon, host, _):
        moving = threading.Thread(target=move, args=(daemon,))
        moving.start()
        wait_until(lambda: queued(daemon)["b"] > 0, "the move never began")
        daemon.kill()
        moving.join()
        daemon.start()
        found = queued(daemon)
        assert found["a"] + found["b"] == count
        daemon.ask("messages.reroute", to="b", vmta="a")
        assert queued(daemon) == {"a": 0, "b": count, "c": 0}
        daemon.ask("vmta.resume", vmta="b")
        all_once(host, count)


def move(daemon: Daemon) -> None:
    with suppress(ControlError):  # killed before it could answer
        daemon.ask("messages.reroute", to="b", vmta="a")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_a_move_of_a_backlog_does_not_stall_what_is_delivered_beside(
    tmp_path: Path, count: int
) -> None:
    with backlogged(tmp_path, count) as (daemon, host, beside):
        stop = threading.Event()
        feeder = threading.Thread(target=feed, args=(daemon, stop))
        feeder.start()
        wait_until(lambda: len(beside.arrivals) > 20, "nothing is delivered beside")
        began = time.monotonic()
        assert daemon.ask("messages.reroute", to="b", vmta="a")["moved"] == count
        took = time.monotonic() - began
        ended = time.monotonic()
        stop.set()
        feeder.join()
        times = [
            began,
            *(each.at for each in beside.arrivals if began < each.at < ended),
            ended,
        ]
        longest = max(after - before for before, after in itertools.pairwise(times))
        print(
            f"{count} moved in {took:.1f} s; {len(times) - 2} delivered beside, "
            f"longest pause {longest:.2f} s; lag p99 {daemon.ask('status')['loop_lag_p99_ms']} ms"
        )
        assert took < MOVE_WITHIN_S
        assert longest < 1.5
        daemon.ask("vmta.resume", vmta="b")
        all_once(host, count)


def feed(daemon: Daemon, stop: threading.Event) -> None:
    """Mail for another domain by another virtual MTA, one message after the other."""
    sent = 0
    while not stop.is_set():
        hand_in(daemon, letters(10, "beside.example", first=sent), connections=1)
        sent += 10
