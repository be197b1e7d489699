"""A35 on a server: a renewal installed after the run-off. What is held goes on by itself, and its hold is no part of its age."""

import time
from pathlib import Path

import pytest

from mta.runtime.license import Entitlement, Injection, State
from tests.scenario.stage import Stage, hand_in, kinds, letters, wait_until
from tests.support.licensed import an_entitlement, licensed

EXPIRE_S = 4.0
RUNNING_OFF = Entitlement(State.EXPIRED, Injection.REFUSED, reason="the term is over")
HELD = Entitlement(
    State.EXPIRED, Injection.REFUSED, deliver=False, reason="the term is over; its run-off, too"
)


@pytest.mark.parametrize("workers", [1, 2])
def test_a35_held_mail_goes_on_by_itself_and_its_hold_is_no_part_of_its_age(
    tmp_path: Path, workers: int
) -> None:
    with Stage() as stage:
        host = stage.witness()
        with licensed(
            tmp_path,
            an_entitlement(),
            default=f'hosts = ["{host.host}"]\nexpire_after = "{EXPIRE_S:.0f}s"',
            server=f"workers = {workers}",
        ) as (daemon, guard):
            daemon.ask("queue.pause", queue="held.example")
            hand_in(daemon, letters(20, "held.example"))
            hand_in(daemon, letters(5, "flows.example"))
            host.wait_for(5)
            guard.allow(HELD)
            # Resumed before that is known to the workers, some of it would be delivered.
            wait_until(lambda: daemon.ask("status")["license"]["state"] == "expired", "not held")
            daemon.ask("queue.resume", queue="held.example")
            time.sleep(
                2 * EXPIRE_S
            )  # far beyond what it may wait: nothing but the hold explains it
            assert daemon.totals()["queued_recipients"] == 20
            assert daemon.totals()["expired"] == 0
            guard.allow(an_entitlement())
            host.wait_for(25, 5.0)
            assert set(kinds(daemon.records())) == {"d"}


def test_a35_in_its_run_off_a_server_takes_nothing_and_delivers_what_it_has(tmp_path: Path) -> None:
    with Stage() as stage:
        host = stage.witness()
        with licensed(tmp_path, an_entitlement(), default=f'hosts = ["{host.host}"]') as (
            daemon,
            guard,
        ):
            daemon.ask("queue.pause", queue="late.example")
            hand_in(daemon, letters(10, "late.example"))
            guard.allow(RUNNING_OFF)
            daemon.ask("queue.resume", queue="late.example")
            host.wait_for(10)
            with pytest.raises(BaseExceptionGroup, match="TaskGroup"):
                hand_in(daemon, letters(1, "late.example"))
