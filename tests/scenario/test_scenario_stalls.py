"""A host that stops talking, at each step of the dialogue in turn.

It costs its own mail time and nobody else's: the other destinations keep at least 95 % of their rate, compared in one run, in
turns with and without it. The others' rate is bounded by their hosts' delay, not by the machine, so that it can be compared.
"""

import time
from pathlib import Path

import pytest

from mta.lab.tempers import Moment, Temper
from tests.scenario.stage import Stage, Witness, hand_in, kinds, one_letter

STEPS = (Moment.GREETING, Moment.EHLO, Moment.MAIL, Moment.RCPT, Moment.DATA, Moment.DOT)
GOOD = 4  # destinations that work
DELAY_S = 0.02
CONNECTIONS = 8  # of each destination
KEPT = 0.95
KEPT_AT_ONE_STEP = 0.9  # one look is short: noise


def count_for(seconds: float, good: list[Witness]) -> int:
    """Deliveries at the hosts that work in so much time."""
    before = sum(each.mailbox.messages for each in good)
    began = time.monotonic()
    time.sleep(seconds)
    after = sum(each.mailbox.messages for each in good)
    return round((after - before) * seconds / (time.monotonic() - began))


@pytest.mark.serial
@pytest.mark.parametrize("look_s", [1.0, pytest.param(10.0, marks=pytest.mark.soak)])
def test_a_host_that_stalls_at_each_step_takes_nothing_from_the_others(
    tmp_path: Path, look_s: float
) -> None:
    with Stage() as stage:
        good = [stage.witness(Temper(delay_s=DELAY_S)) for _ in range(GOOD)]
        bad = {step: stage.witness(Temper(stall=step)) for step in STEPS}
        hosts = {f"good{n}.example": each.host for n, each in enumerate(good)}
        hosts |= {f"{step}.example": each.host for step, each in bad.items()}
        more = "".join(f'[domain."{name}"]\nhosts = ["{host}"]\n' for name, host in hosts.items())
        with stage.server(
            tmp_path,
            default=f"max_connections = {CONNECTIONS}\nmax_recipients_per_message = 1",
            # Room for all that want it, none to spare.
            server=f'total_connections = {(GOOD + 1) * CONNECTIONS}\nshutdown_timeout = "1s"',
            more=more,
        ) as daemon:
            # A transaction is four replies; half of that time is spent between the looks, at most.
            enough = int((3 * len(STEPS) + 4) * (look_s + 0.5) * CONNECTIONS / (4 * DELAY_S))
            for n in range(GOOD):
                for first in range(0, enough, 1_000):
                    hand_in(daemon, one_letter(1_000, f"good{n}.example", first=first))
            time.sleep(1.0)  # all connections are open
            without, with_ = [count_for(look_s, good)], []
            for step, host in bad.items():
                hand_in(daemon, one_letter(200, f"{step}.example"))
                host_waits = time.monotonic() + 10
                while not host.open_now:
                    assert time.monotonic() < host_waits, f"nobody came to stall at {step}"
                    time.sleep(0.01)
                with_.append(count_for(look_s, good))
                assert host.open_now, f"it does not wait at {step} any more"
                daemon.ask("queue.pause", queue=f"{step}.example")
                stage.close(host)
                without.append(count_for(look_s, good))
            print("without", without, "with", with_)
            for step, before, during, after in zip(
                STEPS, without, with_, without[1:], strict=False
            ):
                usual = (before + after) / 2
                assert during >= KEPT_AT_ONE_STEP * usual, f"at {step}: {before} {during} {after}"
            usual = sum(without) / len(without)
            assert sum(with_) / len(with_) >= KEPT * usual, (without, with_)
            assert all(each.mailbox.messages < enough for each in good), "the mail ran out"
            assert kinds(daemon.records())["b"] == 0
