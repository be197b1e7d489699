"""`kill -9` at random moments under load, and once in a while during the start itself or a rotation of the records.

After the last restart every acknowledged message has arrived, what arrived twice was in flight at a kill and its record says
mayRepeat, each delivery stands in the records once, and the records could be read after every crash (reliability.md F1).
"""

import random
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mta.control.protocol import ControlError
from mta.egress.settle import MAX_UNSETTLED
from tests.crash.load import LARGE, SMALL, Ledger, Load
from tests.crash.verdict import (
    a_sink,
    delivering_to,
    drain_and_release,
    judge,
    read_records,
    read_saved_records,
    start_until_ready,
)
from tests.support.daemon import Daemon, ended

READY_S = 5.0
CONNECTIONS_OUT = 24
SOAK = pytest.mark.soak


def kill_at_random(daemon: Daemon, ledger: Ledger, rng: random.Random) -> None:
    """One life of the server: started, loaded, killed."""
    if rng.random() < 0.15:
        daemon.start(wait=False)
        with Load(daemon.port, ledger):
            time.sleep(rng.uniform(0.1, 1.5))
            daemon.kill()
        return
    daemon.start()
    read_saved_records(daemon)
    with Load(daemon.port, ledger):
        time.sleep(rng.uniform(0.05, 1.3))
        if rng.random() < 0.3:
            rotation = threading.Thread(target=rotate, args=(daemon,))
            rotation.start()
            time.sleep(rng.uniform(0, 0.05))
            daemon.kill()
            rotation.join()
        else:
            daemon.kill()


def rotate(daemon: Daemon) -> None:
    with suppress(ControlError):  # killed before it could answer
        daemon.ask("rotate")


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=SOAK)])
def test_killed_at_random_under_load_it_loses_nothing_and_marks_what_it_repeats(
    tmp_path: Path, rounds: int
) -> None:
    ledger, rng = Ledger(), random.Random()
    with a_sink(tmp_path, delay_ms=5) as sink:
        daemon = Daemon(
            tmp_path,
            default=delivering_to(sink.port),
            server=f"total_connections = {CONNECTIONS_OUT}",
        )
        with ended(daemon):
            for _ in range(rounds):
                kill_at_random(daemon, ledger, rng)
                read_records(tmp_path, torn_tail=True)
            daemon.start()
            drain_and_release(daemon)
            assert daemon.stop() == 0
        verdict = judge(ledger, sink.dump, read_records(tmp_path))
    verdict.require()
    assert verdict.repeated <= rounds * (MAX_UNSETTLED + CONNECTIONS_OUT)


@pytest.mark.serial
@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=SOAK)])
def test_killed_with_mail_queued_it_takes_mail_again_within_five_seconds_of_its_start(
    tmp_path: Path, rounds: int
) -> None:
    ledger = Ledger()
    with a_sink(tmp_path, delay_ms=50) as sink:
        daemon = Daemon(tmp_path, default=delivering_to(sink.port), server="total_connections = 2")
        with ended(daemon):
            for number in range(rounds):
                ready_s = start_until_ready(daemon)
                assert ready_s <= READY_S, f"ready only after {ready_s:.1f} s"
                with Load(daemon.port, ledger) as load:
                    load.wait_for(300 * (number + 1))
                    daemon.kill()
            ready_s = start_until_ready(daemon)
            assert ready_s <= READY_S, f"ready only after {ready_s:.1f} s"
            assert daemon.totals()["queued_recipients"] > 100


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=SOAK)])
def test_killed_with_large_messages_it_loses_none_and_leaves_no_file_behind(
    tmp_path: Path, rounds: int
) -> None:
    ledger, rng = Ledger(), random.Random()
    with a_sink(tmp_path) as sink:
        daemon = Daemon(tmp_path, default=delivering_to(sink.port), server="total_connections = 4")
        with ended(daemon):
            for _ in range(rounds):
                daemon.start()
                with Load(
                    daemon.port, ledger, connections=5, sizes=(*LARGE, SMALL[2]), recipients=(1, 2)
                ):
                    time.sleep(rng.uniform(0.3, 1.0))
                    daemon.kill()
            daemon.start()
            drain_and_release(daemon)
            assert daemon.stop() == 0
        verdict = judge(ledger, sink.dump, read_records(tmp_path))
    verdict.require()
    assert any(sent.size > 1_048_576 and sent.reply.startswith("250") for sent in ledger.messages)
    assert [path for path in (tmp_path / "spool").rglob("*.bodies/**/*") if path.is_file()] == []
