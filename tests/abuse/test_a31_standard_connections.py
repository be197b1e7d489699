"""A31: a Standard licence, 8 workers, connections kept open, 500 domains: never more than 3 × quantity, seen on the wire.

Counted from our SYN to our FIN, or a RST of either side, in a packet capture: connecting, at work, idle, closing, whoever's
process holds them. And the domains take turns: all of them are served.
"""

import os
from pathlib import Path

import pytest

from mta.lab.tempers import Temper
from tests.scenario.stage import Letter, Stage, hand_in, wait_until
from tests.support.licensed import an_entitlement, licensed
from tests.support.packets import Recorder

WORKERS = 8
DOMAINS = 500
HOSTS = 5

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a packet capture needs root"),
]


def sites(hosts: list[str]) -> str:
    """A site a host, its domains spread evenly."""
    text = ""
    for number, host in enumerate(hosts):
        domains = [f"d{n}.example" for n in range(number, DOMAINS, HOSTS)]
        text += f'[site.s{number}]\ndomains = {domains!r}\nhosts = ["{host}"]\n'
    return text.replace("'", '"')


@pytest.mark.serial
@pytest.mark.parametrize("quantity", [1, 2])
def test_a31_no_more_than_three_connections_a_licence_at_any_instant(
    tmp_path: Path, quantity: int
) -> None:
    most = 3 * quantity
    with Stage() as stage:
        hosts = [stage.witness(Temper(delay_s=0.002)) for _ in range(HOSTS)]
        with (
            Recorder([host.port for host in hosts]) as wire,
            licensed(
                tmp_path,
                an_entitlement(max_connections=most),
                default='idle_timeout = "30s"\ntls = "none"',
                server=f"workers = {WORKERS}",
                more=sites([host.host for host in hosts]),
            ) as (daemon, guard),
        ):
            hand_in(daemon, [Letter((f"a@d{n}.example",)) for n in range(DOMAINS)], connections=40)
            for host in hosts:
                host.wait_for(DOMAINS // HOSTS, 90)
            assert wire.seen > HOSTS
            assert wire.peak == most, f"{wire.peak} of {most} at once, {wire.seen} in all"
            shown = daemon.ask("status")["license"]["connections"]
            assert (shown["limit"], shown["peak"]) == (most, most)
            wait_until(lambda: guard.counted.peak == most, "the guard is not told of the peak")


@pytest.mark.serial
def test_a31_a_limit_that_is_lowered_while_all_connections_work_is_reached_within_seconds(
    tmp_path: Path,
) -> None:
    with Stage() as stage:
        host = stage.witness(Temper(delay_s=0.03))
        with (
            Recorder([host.port]) as wire,
            licensed(
                tmp_path,
                an_entitlement(),
                default=f'hosts = ["{host.host}"]\ntls = "none"',
                server="workers = 2",
            ) as (daemon, guard),
        ):
            hand_in(
                daemon, [Letter((f"a{n}@d{n % 40}.example",)) for n in range(3000)], connections=20
            )
            wait_until(lambda: wire.open_now > 6, lambda: f"{wire.open_now} connections")
            guard.allow(an_entitlement(max_connections=3))
            wait_until(lambda: wire.open_now <= 3, lambda: f"{wire.open_now} connections", 10.0)
            waits = [
                wait
                for n in range(40)
                for wait in daemon.ask("explain", what=f"d{n}.example")["waits"]
            ]
            assert any(each["place"] == "licence [3 connections]" for each in waits), waits
            wire.peak = 0
            wait_until(lambda: len(host.recipients) == 3000, lambda: str(host.counts), 60.0)
            assert wire.peak <= 3
