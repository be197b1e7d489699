"""A host that answers 421 for a while, then works again.

Its queue backs off, each rest twice as long as the one before (but for what chance takes off), up to the cap: a storm is
answered with fewer and fewer connections, not with more, and hundreds of destinations that refuse are not tried in waves. No
recipient pays a try, nothing bounces, and once the host works, everything arrives, each message once and within the rest that
was running.
"""

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from mta.lab.tempers import Moment, Temper
from tests.scenario.stage import (
    Letter,
    Stage,
    Witness,
    attempts_of,
    hand_in,
    kinds,
    letters,
    queue_row,
    wait_until,
)

INITIAL_S = 1.0
CAP_S = 3.0
SHORTENED = 0.5  # half of a rest may be taken off
LATE_S = 0.5
MESSAGES = 200
NOISE = 20  # attempts of a second that this machine, busy with others, moves into the next
REFUSALS = {
    Moment.GREETING: "421 4.3.2 come back later",
    Moment.EHLO: "421 4.3.2 come back later",
    Moment.MAIL: "421 4.3.2 come back later",
    Moment.RCPT: "421 4.3.2 come back later",
}


def test_a_storm_of_421_is_answered_with_ever_fewer_connections_and_then_all_arrives(
    tmp_path: Path,
) -> None:
    with Stage() as stage:
        hosts = {
            moment: stage.witness(Temper(refuse={moment: reply}))
            for moment, reply in REFUSALS.items()
        }
        more = "".join(
            f'[domain."{moment}.example"]\nhosts = ["{host.host}"]\n'
            for moment, host in hosts.items()
        )
        default = 'retry = ["1s"]\nbackoff_initial = "1s"\nbackoff_cap = "3s"'
        with stage.server(tmp_path, default=default, more=more) as daemon:
            for moment in hosts:
                hand_in(daemon, letters(MESSAGES, f"{moment}.example"))
            for moment, host in hosts.items():
                wait_until(lambda h=host: len(waves(h)) >= 5, f"no fifth try at {moment}")  # type: ignore[misc]
            tried = 0
            for moment, host in hosts.items():
                row = queue_row(daemon, f"{moment}.example/default")
                assert (row["mode"], row["recipients"]) == ("backoff", MESSAGES)
                assert row["attempts"] >= 4
                assert "421 4.3.2" in row["reason"]
                # One under which the queue is refused twice running is suspected, and pays for it.
                paid = sum(attempts_of(daemon, domain=f"{moment}.example"))
                assert paid <= (0 if moment in (Moment.GREETING, Moment.EHLO) else row["attempts"])
                tried += paid
                require_backoff(waves(host)[:5])
            for host in hosts.values():
                host.temper = Temper()
            for host in hosts.values():
                host.wait_for(MESSAGES, CAP_S + 10.0)
                assert max(Counter(host.recipients).values()) == 1
            daemon.wait_for(delivered=len(hosts) * MESSAGES)
            found = kinds(daemon.records())
            assert (found["d"], found["b"]) == (len(hosts) * MESSAGES, 0)
            assert tried <= found["t"] <= tried + 2 * len(hosts)
            assert found["tq"] >= 4 * len(hosts)
            for moment in hosts:
                row = queue_row(daemon, f"{moment}.example/default")
                assert row.get("mode", "normal") == "normal"


@pytest.mark.parametrize("count", [300, pytest.param(3_000, marks=pytest.mark.soak)])
def test_destinations_that_failed_together_do_not_come_back_together(
    tmp_path: Path, count: int
) -> None:
    """As after a network that was down: attempts a second stay within twice their mean, over a restart, too."""
    cap_s = 8.0 * (1 if count < 1_000 else 5)
    with Stage() as stage:
        host = stage.witness(Temper(refuse={Moment.GREETING: "421 4.3.2 come back later"}))
        default = (
            f'hosts = ["{host.host}"]\nbackoff_initial = "{cap_s / 2}s"\nbackoff_cap = "{cap_s}s"'
        )
        with stage.server(tmp_path, default=default) as daemon:
            hand_in(daemon, [Letter((f"x@d{n}.example",)) for n in range(count)])
            wait_until(lambda: len(host.opened) >= 2 * count, "no second try", 30.0 + cap_s)
            require_no_wave(host, count, cap_s)
            assert daemon.stop() == 0
            daemon.start()
            host.opened.clear()
            wait_until(lambda: len(host.opened) >= count, "no try after the restart", 30.0 + cap_s)
            require_no_wave(host, count, cap_s)
            found = kinds(daemon.records())
            assert found["b"] == found["t"] == 0
            assert daemon.totals()["queued_recipients"] == count


def require_no_wave(host: Witness, count: int, cap_s: float) -> None:
    """From now on, for the longest rest: the attempts of so many destinations."""
    began = time.monotonic()
    time.sleep(cap_s)  # the attempts within this time are what is asked
    tried = Counter(int(at - began) for at in list(host.opened) if at >= began)
    mean = count / ((1 + SHORTENED) / 2 * cap_s)
    print(f"{mean:.0f} attempts a second, {max(tried.values())} at most")
    assert max(tried.values()) <= 2.0 * mean + NOISE, sorted(tried.items())


def waves(host: Witness) -> list[list[float]]:
    """The connections, those of one moment together: the first find out that the host refuses, and may be many."""
    found: list[list[float]] = []
    for at in list(host.opened):
        if found and at - found[-1][-1] < INITIAL_S / 4:
            found[-1].append(at)
        else:
            found.append([at])
    return found


def require_backoff(tries: list[list[float]]) -> None:
    """After the first refusal one connection tries for all, after rests that double up to the cap."""
    assert [len(each) for each in tries[1:]] == [1] * len(tries[1:]), tries
    rests = [later[0] - each[-1] for each, later in pairwise(tries)]
    for n, rest in enumerate(rests):
        wanted = min(INITIAL_S * 2**n, CAP_S)
        assert wanted * SHORTENED <= rest + 0.02, f"rest {n} of {rests} is too short"
        assert rest <= wanted + LATE_S, f"rest {n} of {rests} is too long"
