"""A volume licence on a real server: Emails run out, mail waits, more come, mail goes on; and every one is counted once.

What the sink took, the `d` records and the count beside the guard's cursors are the same, also when workers or the whole server
are killed in the middle.
"""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from mta.lab.tempers import Moment, Temper
from mta.runtime.license import Entitlement, Injection, State
from tests.scenario.stage import Letter, Stage, hand_in, kinds, letters, wait_until
from tests.support.daemon import Daemon
from tests.support.licensed import an_entitlement, licensed

METERED = an_entitlement(is_metered=True)
OVER = Entitlement(
    State.OVER_LIMIT,
    Injection.UNTIL_FULL,
    deliver=False,
    is_metered=True,
    reason="no Emails are left",
)


MAIL_BETWEEN_KILLS = 200


def mail(count: int, domains: int = 10, first: int = 0) -> list[Letter]:
    return [Letter((f"m{n}@d{n % domains}.example",)) for n in range(first, first + count)]


def is_whole(daemon: Daemon) -> bool:
    """Whether nothing is queued and every process does its work."""
    status = daemon.ask("status")
    return (
        len(status["workers"]) == 2
        and not status["totals"]["queued_recipients"]
        and {each["name"] for each in status["followers"]}
        == {"accounting.main", "volume", "statistics"}
        and not any(each["trouble"] for each in status["followers"])
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_exactly_the_emails_there_are_go_out_and_the_rest_when_there_are_more(
    tmp_path: Path, workers: int
) -> None:
    with Stage() as stage:
        host = stage.witness()
        default, server = f'hosts = ["{host.host}"]', f"workers = {workers}"
        with licensed(tmp_path, METERED, emails=150, default=default, server=server) as (
            daemon,
            guard,
        ):
            hand_in(daemon, mail(400), connections=20)
            host.wait_for(150)
            wait_until(lambda: guard.counted.emails == 150, lambda: str(guard.counted))

            def waits() -> list[str]:
                answer = daemon.ask("explain", what="d1.example")["waits"]
                return [each["what"] for each in answer]

            assert any("an Email" in each for each in waits())
            guard.allow(OVER, emails=150)
            wait_until(
                lambda: any("no Emails are left" in each for each in waits()), lambda: str(waits())
            )
            assert len(host.recipients) == 150
            guard.allow(METERED, emails=400)
            host.wait_for(400)
            daemon.wait_for(delivered=400)
            wait_until(lambda: guard.counted.emails == 400, lambda: str(guard.counted))
            assert kinds(daemon.records())["d"] == 400
            assert len(set(host.recipients)) == 400


def test_an_attempt_that_fails_brings_its_email_back(tmp_path: Path) -> None:
    with Stage() as stage:
        good = stage.witness()
        full = stage.witness(Temper(refuse={Moment.RCPT: "452 4.2.2 mailbox full"}))
        more = f'[domain."full.example"]\nhosts = ["{full.host}"]'
        default = f'hosts = ["{good.host}"]\nretry = ["1s"]'
        with licensed(tmp_path, METERED, emails=10, default=default, more=more) as (daemon, guard):
            hand_in(daemon, letters(30, "full.example"))
            daemon.wait_for(deferred=40)  # each more than once, out of ten Emails
            hand_in(daemon, letters(10, "good.example"))
            good.wait_for(10)
            wait_until(lambda: guard.counted.emails == 10, lambda: str(guard.counted))


VICTIMS = ("worker", "follower", "server")


@pytest.mark.parametrize("victim", VICTIMS)
def test_whoever_is_killed_every_delivery_is_counted_once(tmp_path: Path, victim: str) -> None:
    count_over_kills(tmp_path, [victim] * 3)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [100])
def test_after_a_hundred_kills_every_delivery_is_counted_once(tmp_path: Path, kills: int) -> None:
    count_over_kills(tmp_path, [VICTIMS[number % len(VICTIMS)] for number in range(kills)])


def count_over_kills(place: Path, victims: Sequence[str]) -> None:
    """Kill one after the other under load; in the end the count, the records and what arrived are the same."""
    count = MAIL_BETWEEN_KILLS * (len(victims) + 1)
    with Stage() as stage:
        host = stage.witness(Temper(delay_s=0.001))
        default = f'hosts = ["{host.host}"]\nmax_connections = 4'
        with licensed(place, METERED, emails=2 * count, default=default, server="workers = 2") as (
            daemon,
            guard,
        ):
            hand_in(daemon, mail(count), connections=20)
            for number, victim in enumerate(victims, 1):
                at = number * MAIL_BETWEEN_KILLS
                wait_until(lambda at=at: len(set(host.recipients)) >= at, "no mail goes out")
                kill(daemon, victim)
            wait_until(lambda: is_whole(daemon), lambda: str(daemon.ask("status")), 60.0)
            records = kinds(daemon.records())["d"]
            assert records == count
            wait_until(lambda: guard.counted.emails == records, lambda: str(guard.counted))
            # What was in flight at a kill may have arrived twice, and its event never written.
            assert set(host.recipients) == {each for one in mail(count) for each in one.recipients}
            # Nobody holds what nobody can deliver: all of the rest is there again.
            left = 2 * count - records
            wait_until(
                lambda: daemon.ask("status")["license"]["volume"]["left"] == left,
                lambda: str(daemon.ask("status")["license"]),
            )


def kill(daemon: Daemon, victim: str) -> None:
    """End one of its processes, or all with the supervisor, which is then started again."""
    if victim == "server":
        daemon.kill()
        daemon.start()
        return
    name = "worker 0" if victim == "worker" else "follower 0"
    pid = daemon.ask("status")["processes"].get(name)
    with suppress(ProcessLookupError):  # it is still being buried
        if pid:
            os.kill(pid, signal.SIGKILL)
