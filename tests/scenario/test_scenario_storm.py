"""A host that answers 421 for a while, then works again.

Its queue backs off, each rest twice as long as the one before, up to the cap: a storm is answered with fewer and fewer
connections, not with more. No recipient pays a try, nothing bounces, and once the host works, everything arrives, each message
once and within the rest that was running.
"""

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from mta.lab.tempers import Moment, Temper
from tests.scenario.stage import (
    Stage,
    attempts_of,
    hand_in,
    kinds,
    letters,
    queue_row,
    wait_until,
)

INITIAL_S = 0.4
CAP_S = 3.2
SHORTENED = 0.9  # a tenth of a rest may be taken off
LATE_S = 0.5
MESSAGES = 300


@pytest.mark.parametrize("moment", [Moment.GREETING, Moment.EHLO, Moment.MAIL])
def test_a_storm_of_421_is_answered_with_ever_fewer_connections_and_then_all_arrives(
    tmp_path: Path, moment: Moment
) -> None:
    storm = Temper(refuse={moment: "421 4.3.2 come back later"})
    with Stage() as stage:
        host = stage.witness(storm)
        backoff = f'backoff_initial = "{INITIAL_S * 1000:.0f}ms"\nbackoff_cap = "{CAP_S}s"'
        with stage.server(
            tmp_path, default=f'hosts = ["{host.host}"]\nretry = ["1s"]\n{backoff}'
        ) as daemon:
            hand_in(daemon, letters(MESSAGES, "d.example"))
            wait_until(lambda: len(host.opened) >= 6, lambda: f"tries at {host.opened}")
            row = queue_row(daemon, "d.example/default")
            assert row["mode"] == "backoff"
            assert row["attempts"] >= 5
            assert "421 4.3.2" in row["reason"]
            assert row["next_at"] > time.time()
            # At MAIL the message under which it is refused again and again is suspected, and waits for its own time.
            tried = [each for each in attempts_of(daemon) if each]
            assert len(tried) <= (len(host.opened) if moment is Moment.MAIL else 0)
            rests = [later - at for at, later in pairwise(host.opened[:6])]
            for n, rest in enumerate(rests):
                wanted = min(INITIAL_S * 2**n, CAP_S)
                assert wanted * SHORTENED <= rest + 0.01, f"rest {n} of {rests} is too short"
                assert rest <= wanted + LATE_S, f"rest {n} of {rests} is too long"
            host.temper = Temper()
            host.wait_for(MESSAGES, CAP_S + 10.0)
            assert max(Counter(host.recipients).values()) == 1
            daemon.wait_for(delivered=MESSAGES)
            found = kinds(daemon.records())
            assert found["d"] == MESSAGES
            assert found["b"] == 0
            assert found["t"] == len(tried)
            assert found["tq"] >= 6
            assert queue_row(daemon, "d.example/default").get("mode", "normal") == "normal"
