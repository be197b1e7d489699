"""The door: who floods the server is turned away before TLS, and only who does."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from licensing.server.doors import CONNECTS, MAX_SHUT, REFUSALS, SHUT_S, Doors, source_of
from licensing.server.serve import listening
from tests.support.licence_office import Twin, a_volume
from tests.support.licence_wire import a_wire
from tests.support.vendor import Vendor


class Clock:
    now = 1_000.0


def test_who_is_refused_too_often_finds_the_door_shut_for_a_while_and_others_do_not() -> None:
    clock = Clock()
    doors = Doors(lambda: clock.now)
    assert [doors.refused("a") for _ in range(REFUSALS.burst)] == [False] * REFUSALS.burst
    assert doors.refused("a") and not doors.may_enter("a")
    assert doors.may_enter("b") and doors.turned_away == 1
    clock.now += SHUT_S
    assert doors.may_enter("a")


def test_connects_have_a_rate_and_a_burst() -> None:
    clock = Clock()
    doors = Doors(lambda: clock.now)
    assert all(doors.may_enter("a") for _ in range(CONNECTS.burst))
    assert not doors.may_enter("a")
    clock.now += 1
    assert sum(doors.may_enter("a") for _ in range(200)) == CONNECTS.per_second


def test_a_flood_from_many_addresses_takes_no_memory_without_end() -> None:
    doors = Doors(lambda: 1.0)
    doors._refusals = type(doors._refusals)(type(REFUSALS)(1, 1))
    for number in range(MAX_SHUT + 10):
        doors.refused(str(number))
        doors.refused(str(number))
    assert len(doors._shut_until) == MAX_SHUT


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no:address", "no:address"),
    ],
)
def test_an_ipv6_network_is_one_address(address: str, source: str) -> None:
    assert source_of(address) == source


async def test_a_shut_door_closes_connections_unread_and_opens_again() -> None:
    clock = Clock()
    doors = Doors(lambda: clock.now)
    app = web.Application()

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app.router.add_get("/", hello)
    async with listening(app, ("127.0.0.1", 0), None, doors) as port:
        for _ in range(REFUSALS.burst + 1):
            doors.refused("127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        clock.now += SHUT_S
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{port}/") as answer,
        ):
            assert await answer.text() == "hello"


async def test_nonsense_on_and_on_ends_the_connection(tmp_path: Path) -> None:
    async with a_wire(tmp_path, Vendor()) as wire:
        with pytest.raises(aiohttp.ClientError):
            for _ in range(2 * REFUSALS.burst):
                assert (await wire.ask("POST", "/v1/reports", b"nonsense")).status in (400, 429)


async def test_a_licence_we_never_sold_is_refused_before_its_signature_is_looked_at(
    tmp_path: Path,
) -> None:
    vendor = Vendor()
    async with a_wire(tmp_path, vendor) as wire:
        stranger = Twin(a_volume(Vendor(), 1_000), "0" * 64)
        request = stranger.request(int(wire.clock()))
        forged = type(request)(
            payload_type=request.payload_type, payload=request.payload, signatures=()
        )
        answer = await wire.send("/v1/activations", forged)
        assert (answer.status, b"UNKNOWN_LICENSE" in answer.body) == (403, True)
