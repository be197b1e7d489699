"""Notices of a licence as mail: they come where all other mail is held, are counted nowhere, and take one of its connections."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from licensing.model import Kind
from mta.config.load import load
from mta.io.clock import Clock
from mta.lab.tempers import Moment, Temper
from mta.policy.book import LICENCE_KEY
from mta.runtime.courier import Courier, NotCarried
from mta.runtime.governor import Governor
from tests.scenario.stage import Stage, Witness, wait_until
from tests.support.daemon import CONFIG
from tests.support.vendor import Vendor
from tests.support.vendored import LICENSE, vendored_daemon

NOW = datetime.now(UTC).replace(microsecond=0)
OPERATOR = "ops@notify.example"


def a_governor() -> Governor:
    loop, clock = asyncio.get_running_loop(), Clock()
    return Governor(
        clock=clock,
        post=loop.call_soon,
        call_at=lambda at, work: loop.call_at(clock.to_loop_time(at), work),
    )


def a_courier(place: Path, host: Witness, governor: Governor) -> Courier:
    config = place / "sluice.toml"
    default = f'hosts = ["{host.host}"]'
    config.write_text(
        CONFIG.format(
            server="", port=1, listener="", default=default, more="", disk=place, min_free="16M",
            lab="false",
        )
    )  # fmt: skip
    settings = load(config)
    return Courier(lambda: settings, governor, Clock())


def test_what_stops_all_mail_is_told_by_mail_that_nothing_stops(tmp_path: Path) -> None:
    vendor = Vendor()
    early = vendor.file(
        Kind.STANDARD_SERVER,
        issued_at=NOW - timedelta(days=2),
        not_before=NOW + timedelta(days=5),
        expires_at=NOW + timedelta(days=300),
        terminate_at=NOW + timedelta(days=330),
    )
    with Stage() as stage:
        host = stage.witness()
        daemon = vendored_daemon(
            tmp_path,
            vendor,
            license=f'{LICENSE}notify_email = ["{OPERATOR}"]\nnode_label = "paris"\n',
            default=f'hosts = ["{host.host}"]',
        )
        try:
            daemon.start()
            daemon.ask("license.install", text=early.decode())
            assert not daemon.ask("license.status")["deliver"]
            host.wait_for(1)
            taken = host.mailbox.of(OPERATOR)[0]
            assert taken.sender == ""
            assert b"Auto-Submitted: auto-generated\r\n" in taken.data
            assert b"paris" in taken.data
            wait_until(lambda: "a licence notice was mailed" in daemon.log, lambda: daemon.log)
            # The office tells its peak each second.
            found = daemon.ask("license.status")
            assert found["connections"]["peak"] == 1
            totals = daemon.totals()
            assert (totals["delivered"], totals["queued_recipients"]) == (0, 0)
            assert daemon.records() == []
        finally:
            daemon.stop()


async def test_a_host_that_refuses_is_said_and_the_connection_is_given_back(tmp_path: Path) -> None:
    with Stage() as stage:
        host = stage.witness(Temper(refuse={Moment.RCPT: "450 4.2.0 greylisted"}))
        governor = a_governor()
        courier = a_courier(tmp_path, host, governor)
        with pytest.raises(NotCarried, match="greylisted"):
            await courier.carry([OPERATOR], "about the licence", "A text.\n")
        assert governor.used(LICENCE_KEY) == 0


async def test_a_notice_waits_its_turn_when_all_connections_are_used(tmp_path: Path) -> None:
    with Stage() as stage:
        host = stage.witness()
        governor = a_governor()
        governor.limits({LICENCE_KEY: 1})
        taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        governor.request("other.example", ((LICENCE_KEY, 1),), taken.set_result)
        lease = await taken
        courier = a_courier(tmp_path, host, governor)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await courier.carry([OPERATOR], "about the licence", "A text.\n")
        assert host.opened == []
        governor.release(lease, True)
        async with asyncio.timeout(10):
            await courier.carry([OPERATOR], "about the licence", "A text.\n")
        assert governor.used(LICENCE_KEY) == 0
        assert [each.recipients for each in host.arrivals] == [(OPERATOR,)]
