"""What a server does that its licence stops: the door, the greeting, the hold, and how all of it goes on by itself.

The licence is one that the test writes while the server runs (`tests.support.licensed`); everything else is real.
"""

import smtplib
import time
from pathlib import Path

import pytest

from mta.lab.tempers import Temper
from mta.runtime.license import UNLICENSED, Entitlement, Injection, State
from tests.scenario.stage import Letter, Stage, hand_in, letters, queue_row, wait_until
from tests.support.daemon import Daemon
from tests.support.licensed import an_entitlement, licensed

VALID = an_entitlement()
EXPIRED = Entitlement(State.EXPIRED, Injection.REFUSED, deliver=False, reason="it has expired")
OVER = Entitlement(
    State.OVER_LIMIT, Injection.UNTIL_FULL, deliver=False, reason="no Emails are left"
)
SOON_S = 5.0  # "within seconds"


def greeting_and_mail(daemon: Daemon) -> tuple[str, tuple[int, str]]:
    """The 220, and what MAIL hears."""
    with smtplib.SMTP() as client:
        _, hello = client.connect("127.0.0.1", daemon.port)
        client.ehlo("client.example")
        code, text = client.mail("a@load.example")
        return hello.decode(), (code, text.decode())


@pytest.mark.parametrize("workers", [1, 3])
def test_without_a_licence_it_runs_takes_nothing_delivers_nothing_and_says_so(
    tmp_path: Path, workers: int
) -> None:
    with Stage() as stage:
        host = stage.witness()
        default = f'hosts = ["{host.host}"]'
        server = f"workers = {workers}"
        with licensed(tmp_path, VALID, default=default, server=server) as (daemon, guard):
            daemon.ask("queue.pause", queue="kept.example")
            hand_in(daemon, letters(5, "kept.example"))
        guard.allow(UNLICENSED)
        daemon.start()
        try:
            hello, answer = greeting_and_mail(daemon)
            assert "UNLICENSED" in hello
            assert answer[0] == 451 and answer[1].startswith("4.7.0")
            status = daemon.ask("status")
            assert status["license"]["state"] == "unlicensed"
            assert "sluice license install" in status["license"]["hold"]
            assert "unlicensed" in daemon.log
            daemon.ask("queue.resume", queue="kept.example")
            daemon.ask("queue.retry", queue="kept.example")
            waits = daemon.ask("explain", what="kept.example")["waits"]
            assert any(each["what"].startswith("licence hold: ") for each in waits), waits
            row = queue_row(daemon, "kept.example/default")
            assert row["recipients"] == 5 and row["mode"] == "held"
            assert "licence hold" in row["reason"]
            assert not host.opened
            guard.allow(VALID)
            host.wait_for(5, SOON_S)
            assert greeting_and_mail(daemon)[1][0] == 250
        finally:
            assert daemon.stop() == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_held_mail_stays_through_a_kill_does_not_age_and_goes_on_by_itself(
    tmp_path: Path, workers: int
) -> None:
    expire_s = 2.0
    with Stage() as stage:
        host = stage.witness()
        default = f'hosts = ["{host.host}"]\nexpire_after = "{expire_s:.0f}s"'
        server = f"workers = {workers}"
        with licensed(tmp_path, OVER, default=default, server=server) as (daemon, guard):
            mail = [Letter((f"m{n}@d{n % 20}.example",)) for n in range(200)]
            hand_in(daemon, mail)  # OVER_LIMIT takes mail and holds it
            assert daemon.totals()["queued_recipients"] == 200
            daemon.kill()
            wait_until(lambda: starts(daemon), "it does not start again")
            time.sleep(2 * expire_s)  # longer than anything may wait: only the hold explains it
            assert daemon.totals()["queued_recipients"] == 200
            assert not host.opened
            guard.allow(VALID)
            host.wait_for(200, SOON_S)
            assert daemon.wait_for(delivered=200)["expired"] == 0


def starts(daemon: Daemon) -> bool:
    daemon.start()
    return True


def test_what_is_in_a_transaction_when_the_hold_comes_is_finished_and_nothing_new_is_begun(
    tmp_path: Path,
) -> None:
    with Stage() as stage:
        slow = stage.witness(Temper(delay_s=0.05))
        default = f'hosts = ["{slow.host}"]\nmax_connections = 2'
        with licensed(tmp_path, VALID, default=default) as (daemon, guard):
            hand_in(daemon, letters(40, "slow.example"))
            slow.wait_for(2)
            guard.allow(EXPIRED)
            wait_until(lambda: not daemon.totals()["connections_out"], "connections stay")
            taken = len(slow.recipients)
            assert daemon.totals()["delivered"] == taken
            time.sleep(1.0)
            assert len(slow.recipients) == taken
            assert greeting_and_mail(daemon)[1][0] == 451
            guard.allow(VALID)
            slow.wait_for(40)
            assert len(set(slow.recipients)) == len(slow.recipients)


def test_a_standby_sends_clients_away_and_delivers_nothing(tmp_path: Path) -> None:
    standby = Entitlement(State.STANDBY, Injection.STANDBY, deliver=False, reason="a standby")
    with (
        Stage() as stage,
        licensed(tmp_path, standby, default=f'hosts = ["{stage.witness().host}"]') as (daemon, _),
    ):
        _, answer = greeting_and_mail(daemon)
        assert answer[0] == 421 and answer[1].startswith("4.3.2")
