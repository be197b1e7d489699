"""The server's process stands still for a while and goes on: a paused virtual machine, a debugger, a machine out of memory.

Time has passed and nothing was done in it. That is no reason to give anything up: no message expires, no dialogue is said to
have timed out whose answer is there to be read, and rates do not make up for what was missed.
"""

import os
import signal
import time
from collections import Counter
from pathlib import Path

from mta.lab.tempers import Temper
from tests.scenario.stage import Stage, hand_in, kinds, one_letter, require_rate

FROZEN_S = 3.0


def test_a_server_that_stood_still_expires_nothing_and_makes_no_storm(tmp_path: Path) -> None:
    with Stage() as stage:
        busy, rated = stage.witness(Temper(delay_s=0.05)), stage.witness()
        default = (
            f'hosts = ["{busy.host}"]\nmax_recipients_per_message = 1\nexpire_after = "30s"\n'
            # All shorter than the standstill.
            'timeouts = { mail = "1s", rcpt = "1s", data = "1s", body = "1s", end_of_data = "1s" }'
        )
        more = f'[domain."rated.example"]\nhosts = ["{rated.host}"]\nmessage_rate = "20/s"'
        with stage.server(tmp_path, default=default, more=more) as daemon:
            hand_in(daemon, one_letter(200, "busy.example"))
            hand_in(daemon, one_letter(100, "rated.example"))
            busy.wait_for(40)
            rated.wait_for(20)
            os.kill(daemon.pid, signal.SIGSTOP)
            try:
                stopped = time.monotonic()
                time.sleep(FROZEN_S)
            finally:
                os.kill(daemon.pid, signal.SIGCONT)
            resumed = time.monotonic()
            busy.wait_for(200)
            rated.wait_for(100)
            daemon.wait_for(delivered=300)
            before = [each.at for each in rated.arrivals if each.at < stopped + 0.1]
            after = [each.at for each in rated.arrivals if each.at >= resumed]
            assert len(before) + len(after) == 100
            require_rate(after, 20.0)
            assert max(Counter(busy.recipients).values()) == 1
            assert busy.peak <= 10
            found = kinds(daemon.records())
            assert (found["d"], found["b"], found["t"]) == (300, 0, 0)
