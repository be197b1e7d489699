"""Thousands wait for one domain; one message comes for another.

With three connections in all, and the one domain's host slow, the other's message is delivered within five seconds, again and
again, and the connections go back to where the work is.
"""

import time
from pathlib import Path

import pytest

from mta.lab.tempers import Temper
from tests.scenario.stage import Letter, Stage, hand_in, one_letter

SERVED_S = 5.0


@pytest.mark.parametrize("waiting", [4_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_with_three_connections_in_all_a_single_message_is_served_within_five_seconds(
    tmp_path: Path, waiting: int
) -> None:
    with Stage() as stage:
        big, small = stage.witness(Temper(delay_s=0.02)), stage.witness()
        with stage.server(
            tmp_path,
            default=f'hosts = ["{small.host}"]\nmax_recipients_per_message = 1',
            server="total_connections = 3",
            more=f'[domain."big.example"]\nhosts = ["{big.host}"]',
        ) as daemon:
            for first in range(0, waiting, 1_000):
                hand_in(daemon, one_letter(1_000, "big.example", first=first))
            big.wait_for(20)
            for n in range(6):
                began = time.monotonic()
                hand_in(daemon, [Letter((f"m@s{n}.example",))])
                small.wait_for(n + 1, SERVED_S - (time.monotonic() - began))
            before = big.mailbox.recipients
            assert before < waiting, "nothing waited any more: the test shows nothing"
            big.wait_for(before + 50)
            assert stage.crowd.peak == 3
