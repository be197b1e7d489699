"""Much waits: thousands for one dead domain, one each for thousands of domains.

What stands in memory is a window of the one and nothing of the others. Once the dead host is back, mail goes out in the order of
its age, none is lost and none goes twice, with a restart in the middle.
"""

import time
from collections import Counter
from pathlib import Path

import pytest

from mta.lab.tempers import Moment, Temper
from tests.scenario.stage import (
    Letter,
    Stage,
    hand_in,
    kinds,
    queue_row,
    resident_bytes,
    wait_until,
)
from tests.support.daemon import Daemon

WINDOW = 1_000
SOAK = pytest.mark.soak


@pytest.mark.parametrize("waiting", [5_000, pytest.param(100_000, marks=SOAK)])
def test_a_backlog_goes_out_by_age_from_a_window_of_memory(tmp_path: Path, waiting: int) -> None:
    with Stage() as stage:
        host = stage.witness(Temper(listens=False))
        default = (
            f'hosts = ["{host.host}"]\nmax_recipients_per_message = 20\nmax_connections = 1\n'
            'backoff_initial = "1s"\nbackoff_cap = "2s"\n'
            f'message_rate = "{waiting * 3 // 10}/s"'  # slow enough to be stopped half-way
        )
        with stage.server(tmp_path, default=default) as daemon:
            mail = [
                Letter(tuple(f"m{n}@d.example" for n in range(first, first + 10)))
                for first in range(0, waiting, 10)
            ]
            assert hand_in(daemon, mail, connections=1) == waiting
            wait_until(lambda: queue_row(daemon, "d.example/default")["attempts"] >= 2, "no try")
            assert in_memory(daemon) <= WINDOW
            host.temper = Temper()
            stage.run(host.start())
            most = 0
            while host.mailbox.recipients < waiting // 2:
                most = max(most, in_memory(daemon))
                time.sleep(0.05)
            assert 0 < most <= WINDOW
            assert daemon.stop() == 0
            assert waiting // 2 <= host.mailbox.recipients < waiting
            daemon.start()
            host.wait_for(waiting, 30.0 + waiting / 500)
            came = host.recipients
            assert max(Counter(came).values()) == 1
            assert [int(each[1:].partition("@")[0]) for each in came] == list(range(waiting))
            wait_until(lambda: not daemon.totals()["queued_recipients"], "something is left")
            found = kinds(daemon.records())
            assert (found["d"], found["b"], found["t"]) == (waiting, 0, 0)


def in_memory(daemon: Daemon) -> int:
    """Entries of the queue that are ready or in flight."""
    row = queue_row(daemon, "d.example/default")
    return row["ready"] + row["in_flight"] if row else 0


@pytest.mark.parametrize("queues", [1_000, pytest.param(20_000, marks=SOAK)])
def test_queues_that_wait_or_are_done_leave_memory(tmp_path: Path, queues: int) -> None:
    with Stage() as stage:
        later = Temper(refuse={Moment.RCPT: "451 4.7.1 come again later"})
        host, deferring = stage.witness(), stage.witness(later)
        default = f'hosts = ["{host.host}"]\nretry = ["1h"]\nidle_timeout = "0s"'
        more = f'[vmta.a]\n[vmta.b]\nhosts = ["{deferring.host}"]\n'
        with stage.server(
            tmp_path,
            default=default,
            more=more,
            listener='vmta = "a"',
            # What connections and bodies take is not looked at here.
            server='total_connections = 50\nbody_cache = "1M"',
        ) as daemon:
            hand_in(daemon, [Letter((f"m@warm{n}.example",)) for n in range(100)])
            daemon.wait_for(delivered=100)
            before = resident_bytes(daemon)
            half = queues // 2
            hand_in(daemon, [Letter((f"m@d{n}.example",)) for n in range(half)])
            hand_in(daemon, [Letter((f"m@d{n}.example",), "b") for n in range(half)])
            daemon.wait_for(delivered=100 + half, deferred=half, timeout_s=30 + queues / 50)
            wait_until(lambda: daemon.totals()["active_queues"] == 0, lambda: f"{daemon.totals()}")
            totals = daemon.totals()
            assert (totals["queued_recipients"], totals["queues"]) == (half, half)
            grown = resident_bytes(daemon) - before
            print(f"{queues} idle queues: {grown / 1e6:.1f} MB")
            # Caches of bounded size fill up to 1 kB a queue; kept in memory, a queue alone would take 3 kB.
            assert grown <= 10_000_000 + 1_000 * queues
            # Not one of them is looked at while nothing is due.
            hand_in(daemon, [Letter(("m@one.example",))])
            host.wait_for(101 + half, 5.0)
