"""Messages by BDAT through a real server: what arrives at the host is what DATA would have brought.

RFC 3030; reliability.md S2, S3, S7; issue: "Ingress".
"""

import time
from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon, free_port, running
from tests.support.host import Host
from tests.support.wire import Wire, wait_until

HEADER = b"From: a@sender.example\r\nSubject: by BDAT\r\n\r\n"


@pytest.fixture(scope="module")
def server(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    hasty = free_port()
    with running(
        tmp_path_factory.mktemp("bdat"),
        default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
        server='intake_memory = "4M"',
        listener='max_size = "20M"',
        more=f"""
[[listener]]
address = "127.0.0.1:{hasty}"
relay_from = ["127.0.0.0/8"]
command_timeout = "2s"
""",
    ) as daemon:
        daemon.hasty = hasty  # type: ignore[attr-defined]
        yield daemon
        assert daemon.totals()["intake_memory"] == 0


def bdat(text: bytes, *, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n%s" % (len(text), b" LAST" if last else b"", text)


def begin(wire: Wire, recipient: str) -> None:
    """MAIL and RCPT, taken."""
    assert wire.ask("MAIL FROM:<a@sender.example>").startswith("250")
    assert wire.ask(f"RCPT TO:<{recipient}>").startswith("250")


def body_at(host: Host, recipient: str) -> bytes:
    """What the host got for this recipient, without what was put in front."""
    wait_until(lambda: any(recipient in each.recipients for each in host.messages))
    data: bytes = host.message_to(recipient).data
    return data[data.index(HEADER) :]


@pytest.mark.parametrize(
    ("name", "chunks"),
    [
        ("dots", [HEADER, b".\r\n..\r\n.\r\n", b".", b"x\r\n"]),
        ("cut", [HEADER + b"one\r", b"\ntwo", b"\r\n"]),
        ("open", [HEADER + b"no line end"]),
        ("bytewise", [HEADER[i : i + 1] for i in range(len(HEADER))] + [b"b\r\n"]),
    ],
)
def test_what_the_host_gets_is_what_was_sent(
    server: Daemon, host: Host, name: str, chunks: list[bytes]
) -> None:
    recipient = f"{name}@example.net"
    with Wire(server.port) as wire:
        assert "CHUNKING" in wire.greet()
        begin(wire, recipient)
        wire.send(b"".join(bdat(each) for each in chunks) + b"BDAT 0 LAST\r\n")
        for _ in chunks:
            assert wire.reply() == "250 2.0.0 Go on"
        assert wire.reply().startswith("250 2.6.0 queued as ")
    text = b"".join(chunks)
    assert body_at(host, recipient) == (text if text.endswith(b"\r\n") else text + b"\r\n")


def test_a_large_message_in_small_chunks_goes_over_the_disk(server: Daemon, host: Host) -> None:
    text = HEADER + b"".join(b"%06d %s\r\n" % (n, b"x" * 90) for n in range(60_000))
    with Wire(server.port) as wire:
        wire.greet()
        begin(wire, "large@example.net")
        for at in range(0, len(text), 50_000):
            wire.send(bdat(text[at : at + 50_000]))
            assert wire.reply().startswith("250")
        wire.send(bdat(b"", last=True))
        assert wire.reply().startswith("250 2.6.0")
    assert body_at(host, "large@example.net") == text


def test_a_smuggler_is_refused_and_what_follows_is_not_run(server: Daemon, host: Host) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        begin(wire, "first@example.net")
        wire.send(
            bdat(HEADER + b"x\n.\r\nMAIL FROM:<evil@x.example>\r\nRCPT TO:<v@y.example>\r\n")
            + bdat(b"DATA\r\n", last=True)
            + b"NOOP\r\n"
        )
        assert wire.reply().startswith("550 5.6.0")
        assert wire.reply().startswith("503 5.5.1")
        assert wire.reply() == "250 2.0.0 Ok"
        assert wire.ask("RSET").startswith("250")
        begin(wire, "second@example.net")
        wire.send(bdat(HEADER, last=True))
        assert wire.reply().startswith("250 2.6.0")
    body_at(host, "second@example.net")
    assert not any(b"evil" in each.data for each in host.messages)


def test_rset_between_chunks_forgets_the_message_and_its_memory(server: Daemon) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        begin(wire, "gone@example.net")
        wire.send(bdat(HEADER + b"y" * 900 + b"\r\n"))
        assert wire.reply().startswith("250")
        assert server.totals()["intake_memory"] > 0
        assert wire.ask("RSET").startswith("250")
        assert server.totals()["intake_memory"] == 0
        assert wire.ask("DATA").startswith("503 5.5.1")


def test_too_big_is_said_once_the_octets_are_read_off(server: Daemon) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        begin(wire, "big@example.net")
        wire.send(b"BDAT 25000000 LAST\r\n")
        for _ in range(25):
            wire.send(b"x" * 1_000_000)
        assert wire.reply().startswith("552 5.3.4")
        assert wire.ask("NOOP") == "250 2.0.0 Ok"


def test_octets_out_of_place_win_no_time(server: Daemon) -> None:
    """A drop now and then keeps no connection open: the octets come within one `command_timeout`."""
    with Wire(server.hasty) as wire:  # type: ignore[attr-defined]
        wire.greet()
        wire.send(b"BDAT 1000\r\n")
        started = time.monotonic()
        with pytest.raises((OSError, EOFError)):
            while True:
                assert time.monotonic() < started + 15
                wire.send(b"x")
                wire.sock.settimeout(0.3)
                try:
                    got = wire.sock.recv(100)
                except TimeoutError:
                    continue
                assert got[:4] in (b"421 ", b"")
                if not got:
                    raise EOFError
    assert time.monotonic() - started < 10
