"""Clients behind a load balancer: the PROXY header is required from it, believed from nobody else, and its client is what counts.

Two workers, so that the supervisor passes the sockets on before anything is read. reliability.md S13; issue: "Ingress".
"""

import asyncio
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from mta.io.preface import read_proxy_header
from mta.model.errors import ProtocolError
from mta.smtp.proxy import SIGNATURE, Proxied
from tests.support.daemon import Daemon, free_port, running
from tests.support.host import Host
from tests.support.secrets import write_certificate
from tests.support.wire import Wire, wait_until

PROXY = "127.0.0.5"
MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
LISTED = b"PROXY TCP4 192.0.2.7 198.51.100.1 54321 25\r\n"
STRANGER = b"PROXY TCP4 203.0.113.9 198.51.100.1 54321 25\r\n"
LISTED_V2 = (
    SIGNATURE
    + struct.pack("!BBH", 0x21, 0x21, 36 + 5)
    + ip_address("2001:db8::7").packed
    + ip_address("2001:db8::1").packed
    + b"\0\x01\0\x19\x04\0\x02ab"
)
LOCAL = SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)

MORE = """
[[listener]]
address = "127.0.0.1:{plain}"
proxy_from = ["127.0.0.5"]
relay_from = ["192.0.2.0/24", "2001:db8::/64", "127.0.0.0/8"]
max_connections_per_source = 1

[[listener]]
address = "127.0.0.1:{implicit}"
proxy_from = ["127.0.0.5"]
relay_from = ["192.0.2.0/24"]
tls = "implicit"
tls_cert = "cert.pem"
tls_key = "key.pem"
"""


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {"plain": free_port(), "implicit": free_port()}


@pytest.fixture(scope="module")
def server(
    host: Host, ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    place = tmp_path_factory.mktemp("proxy")
    write_certificate(place)
    with running(
        place,
        server="workers = 2",
        default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
        more=MORE.format(**ports),
    ) as daemon:
        yield daemon


@pytest.mark.parametrize(
    ("header", "client", "local"),
    [(LISTED, "192.0.2.7", "198.51.100.1"), (LISTED_V2, "IPv6:2001:db8::7", "2001:db8::1")],
    ids=["version 1", "version 2"],
)
def test_the_client_behind_the_proxy_is_the_source(
    server: Daemon, host: Host, ports: dict[str, int], header: bytes, client: str, local: str
) -> None:
    recipient = f"{local.count(':')}@example.net"
    with Wire(ports["plain"], source=PROXY) as wire:
        wire.send(header)
        wire.greet()
        assert wire.deliver(MESSAGE, "a@s.example", recipient).startswith("250 2.6.0")
    wait_until(lambda: any(recipient in each.recipients for each in host.messages))
    assert f"[{client}]".encode() in host.message_to(recipient).data.partition(b"\r\n\r\n")[0]
    wait_until(
        lambda: any(
            f"({client.removeprefix('IPv6:')})" in each["srcMta"]
            for each in server.records()
            if each["rcpt"] == recipient
        )
    )


def test_the_header_may_come_in_drops_and_ehlo_right_behind_it(
    server: Daemon, ports: dict[str, int]
) -> None:
    with Wire(ports["plain"], source=PROXY) as wire:
        for at in range(0, len(LISTED), 9):
            wire.send(LISTED[at : at + 9])
            server.ask("status")  # a round trip: what was sent is there
        assert wire.reply().startswith("220")
    with Wire(ports["plain"], source=PROXY) as wire:
        wire.send(STRANGER + b"EHLO c.example\r\n")
        assert wire.reply().startswith("220")
        assert wire.reply().startswith("250")
        assert wire.ask("MAIL FROM:<a@s.example>").startswith("250")
        assert wire.ask("RCPT TO:<b@example.net>").startswith("550 5.7.1")


def test_the_limit_counts_clients_and_not_the_proxy(server: Daemon, ports: dict[str, int]) -> None:
    with (
        Wire(ports["plain"], source=PROXY) as one,
        Wire(ports["plain"], source=PROXY) as other,
        Wire(ports["plain"], source=PROXY) as again,
    ):
        one.send(LISTED)
        one.greet()
        other.send(STRANGER)
        other.greet()
        again.send(LISTED)
        assert again.reply().startswith("421 4.7.0")


def test_tls_from_the_first_byte_begins_behind_the_header(
    server: Daemon, ports: dict[str, int]
) -> None:
    with Wire(ports["implicit"], source=PROXY) as wire:
        wire.send(LISTED)
        wire.secure()
        wire.greet()
        assert wire.deliver(MESSAGE).startswith("250 2.6.0")


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_what_the_proxy_says_of_itself_gives_it_no_rights(
    server: Daemon, ports: dict[str, int], header: bytes
) -> None:
    with Wire(ports["plain"], source=PROXY) as wire:
        wire.send(header)
        wire.greet()
        wire.ask("MAIL FROM:<a@s.example>")
        assert wire.ask("RCPT TO:<b@example.net>").startswith("550 5.7.1")


@pytest.mark.parametrize("header", [b"EHLO c.example\r\n", b"PROXY TCP4 me you 1 2\r\n"])
def test_without_a_header_the_proxy_hears_nothing(
    server: Daemon, ports: dict[str, int], header: bytes
) -> None:
    with Wire(ports["plain"], source=PROXY) as wire:
        wire.send(header)
        assert wire.rest() == ""
    wait_until(lambda: "a connection of a proxy was closed" in server.log)


def test_nobody_else_is_served_whatever_it_says(server: Daemon, ports: dict[str, int]) -> None:
    with Wire(ports["plain"], source="127.0.0.6") as wire:
        wire.send(LISTED)
        assert wire.rest().startswith("554 5.7.1")
    with Wire(ports["implicit"], source="127.0.0.6") as wire:
        wire.send(LISTED)
        assert wire.rest() == ""


def test_a_listener_without_proxies_believes_no_header(server: Daemon) -> None:
    with Wire(server.port) as wire:
        wire.send(LISTED)
        assert wire.reply().startswith("220")
        assert wire.reply().startswith("500 5.5.2")


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
@pytest.mark.parametrize("version", ["1", "2"])
def test_swaks_is_understood(
    server: Daemon, host: Host, ports: dict[str, int], version: str, tmp_path: Path
) -> None:
    recipient = f"swaks{version}@example.net"
    family = "TCP4" if version == "1" else "AF_INET"
    done = subprocess.run(
        [
            "swaks",
            *("--server", f"127.0.0.1:{ports['plain']}", "--local-interface", PROXY),
            *("--from", "a@sender.example", "--to", recipient, "--timeout", "20"),
            *("--proxy-version", version, "--proxy-family", family),
            *("--proxy-source", "192.0.2.77", "--proxy-source-port", "4000"),
            *("--proxy-dest", "198.51.100.1", "--proxy-dest-port", "25"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(lambda: any(recipient in each.recipients for each in host.messages))
    assert b"[192.0.2.77]" in host.message_to(recipient).data


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_header_has_a_deadline_and_an_end(loop: str) -> None:
    async def read(sent: bytes, *, hang_up: bool = False) -> Proxied:
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs):
            ours.setblocking(False)
            theirs.sendall(sent)
            if hang_up:
                theirs.close()
            return await read_proxy_header(ours, 0.3)

    async def all_of_it() -> None:
        assert await read(LISTED) == Proxied("192.0.2.7", "198.51.100.1")
        with pytest.raises(TimeoutError):
            await read(LISTED[:20])
        with pytest.raises(ProtocolError):
            await read(LISTED[:20], hang_up=True)

    if loop == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        uvloop.run(all_of_it())
    else:
        asyncio.run(all_of_it())
