"""A host that answers 421 for a while, then works again.

Its queue backs off, each rest twice as long as the one before, up to the cap: a storm is answered with fewer and fewer
connections, not with more. No recipient pays a try, nothing bounces, and once the host works, everything arrives, each message
once and within the rest that was running.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

from mta.lab.tempers import Moment, Temper
from tests.scenario.stage import (
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
SHORTENED = 0.9  # a tenth of a rest may be taken off
LATE_S = 0.5
MESSAGES = 200
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


def waves(host: Witness) -> list[list[float]]:
    """The connections, those of one moment together: the first find out that the host refuses, and may be many."""
    found: list[list[float]] = []
    for at in list(host.opened):
        if found and at - found[-1][-1] < INITIAL_S / 2:
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
