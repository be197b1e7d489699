"""A33: a Development licence in production: who is not on its list waits, with the reason; every message and the greeting say so.

Nothing bounces. Installed in its place, a production licence lets what waited go on by itself, unmarked.
"""

import smtplib
from pathlib import Path

import pytest

from mta.runtime.license import Entitlement, Stamp
from tests.scenario.stage import Letter, Stage, hand_in, kinds, wait_until
from tests.support.daemon import Daemon
from tests.support.licensed import an_entitlement, licensed

LIST = ("@example.test", "boss@real.example")
PRODUCTION = an_entitlement()
MARK = b"X-Sluice-License: development\r\n"


def development(*, loopback: bool) -> Entitlement:
    stamp = Stamp("X-Sluice-License: development", LIST, loopback=loopback)
    return an_entitlement(max_connections=2, stamp=stamp)


def held_reasons(daemon: Daemon) -> dict[str, str]:
    rows = daemon.ask("messages.list", limit=1000)["recipients"]
    return {row["recipient"]: row["hold_reason"] for row in rows if row["held"]}


def greeting(daemon: Daemon) -> str:
    with smtplib.SMTP() as client:
        return client.connect("127.0.0.1", daemon.port)[1].decode()


@pytest.mark.parametrize("workers", [1, 2])
def test_a33_who_is_not_on_the_list_is_held_and_everything_is_marked(
    tmp_path: Path, workers: int
) -> None:
    mail = ("a@example.test", "Boss@Real.example", "customer@real.example", "b@other.example")
    with Stage() as stage:
        host = stage.witness()
        with licensed(
            tmp_path,
            development(loopback=False),
            default=f'hosts = ["{host.host}"]\nexpire_after = "30s"',
            server=f"workers = {workers}",
        ) as (daemon, guard):
            assert "DEVELOPMENT" in greeting(daemon)
            hand_in(daemon, [Letter((each,)) for each in mail])
            host.wait_for(2)
            wait_until(
                lambda: set(held_reasons(daemon)) == {"customer@real.example", "b@other.example"},
                lambda: str(daemon.ask("messages.list")),
            )
            assert all(
                each.startswith("development licence: ") for each in held_reasons(daemon).values()
            )
            waits = daemon.ask("explain", what=_id_of(daemon, "b@other.example"))["waits"]
            assert "development licence" in waits[0]["what"]
            for recipient in ("a@example.test", "Boss@Real.example"):
                (taken,) = host.mailbox.of(recipient)
                assert taken.data.startswith(MARK), taken.data[:200]
            guard.allow(PRODUCTION)
            host.wait_for(4)
            assert not host.mailbox.of("b@other.example")[0].data.startswith(MARK)
            assert "DEVELOPMENT" not in greeting(daemon)
            assert set(kinds(daemon.records())) == {"d"}


def test_a33_what_was_queued_under_production_is_judged_too_and_this_machine_may_always_be_written_to(
    tmp_path: Path,
) -> None:
    with Stage() as stage:
        host = stage.witness()
        more = f'[domain."here.example"]\nhosts = ["{host.host}"]'
        with licensed(
            tmp_path,
            PRODUCTION,
            default='hosts = ["192.0.2.1:9"]\nconnect_timeout = "1s"',
            more=more,
        ) as (daemon, guard):
            for domain in ("far.example", "here.example"):
                daemon.ask("queue.pause", queue=domain)
                hand_in(daemon, [Letter((f"m{n}@{domain}",)) for n in range(3)])
            guard.allow(development(loopback=True))
            wait_until(lambda: "DEVELOPMENT" in greeting(daemon), "it is not told")
            for domain in ("far.example", "here.example"):
                daemon.ask("queue.resume", queue=domain)
            host.wait_for(3)
            assert host.mailbox.of("m0@here.example")[0].data.startswith(MARK)
            wait_until(
                lambda: len(held_reasons(daemon)) == 3, lambda: str(daemon.ask("messages.list"))
            )


@pytest.mark.parametrize("body_cache", ["0", "32M"])
def test_a33_a_message_is_marked_wherever_its_body_comes_from(
    tmp_path: Path, body_cache: str
) -> None:
    # From memory, from the disk, or read ahead of its turn: those of the last kind once went out unmarked.
    with Stage() as stage:
        host = stage.witness()
        with licensed(
            tmp_path,
            development(loopback=False),
            default=f'hosts = ["{host.host}"]\nmax_connections = 1',
            server=f'body_cache = "{body_cache}"',
        ) as (daemon, _):
            daemon.ask("queue.pause", queue="example.test")
            hand_in(daemon, [Letter((f"m{n}@example.test",)) for n in range(40)])
            daemon.ask("queue.resume", queue="example.test")
            host.wait_for(40)
            sent = [host.mailbox.of(f"m{n}@example.test")[0].data for n in range(40)]
            assert all(each.startswith(MARK) for each in sent)
            assert all(each.count(MARK) == 1 for each in sent)


def _id_of(daemon: Daemon, recipient: str) -> str:
    rows = daemon.ask("messages.list", recipient=recipient)["recipients"]
    found: str = rows[0]["id"]
    return found
