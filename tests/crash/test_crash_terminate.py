"""SIGTERM in the middle of everything: what was begun is finished, the exit code is 0, and nothing is lost or sent twice.

Unlike a kill it may leave no doubt either: every client that sent its final dot hears what became of its message, and one that
hears a refusal can send again without a second copy arriving (reliability.md F9).
"""

import random
import time
from pathlib import Path

import pytest

from tests.crash.load import LARGE, SMALL, Fate, Ledger, Load
from tests.crash.verdict import (
    a_sink,
    delivering_to,
    drain,
    judge,
    read_records,
)
from tests.support.daemon import Daemon, ended

STOPPED_S = 30.0


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=pytest.mark.soak)])
def test_told_to_stop_under_load_it_loses_nothing_repeats_nothing_and_leaves_no_doubt(
    tmp_path: Path, rounds: int
) -> None:
    ledger = Ledger()
    with a_sink(tmp_path, delay_ms=5) as sink:
        daemon = Daemon(tmp_path, default=delivering_to(sink.port), server="total_connections = 24")
        with ended(daemon):
            for _ in range(rounds):
                daemon.start()
                with Load(daemon.port, ledger, connections=10, sizes=(*SMALL, LARGE[0])):
                    time.sleep(random.uniform(0.2, 0.8))
                    began = time.monotonic()
                    assert daemon.stop() == 0
                    assert time.monotonic() - began < STOPPED_S
            daemon.start()
            drain(daemon)
            assert daemon.stop() == 0
        verdict = judge(ledger, sink.dump, read_records(tmp_path))
    verdict.require()
    assert (verdict.repeated, verdict.marked) == (0, 0)
    assert verdict.refused_arrived == 0, "told to send again, and delivered"
    unsure = ledger.of(Fate.UNSURE)
    assert not unsure, f"{len(unsure)} clients never heard what became of their message"
