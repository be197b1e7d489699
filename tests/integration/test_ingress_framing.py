"""Where a message ends, and what may be in it: smuggling, dots, line lengths, loops, and input that never ends.

A real server with a strict listener and one that normalises, both delivering to a host that keeps the raw wire. Only
CRLF.CRLF ends DATA (RFC 5321 §4.1.1.4); reliability.md S1, S4, S5, S6, Q1.
"""

import itertools
import socket
import struct
from collections.abc import Iterator

import psutil
import pytest

from tests.support.daemon import Daemon, free_port, running
from tests.support.host import Host, wire_faults
from tests.support.secrets import write_certificate
from tests.support.wire import Wire, wait_until

CR, LF, CRLF, NUL = b"\r", b"\n", b"\r\n", b"\0"
# What stands around the dot: everything that some server somewhere took for a line's end (VU#302671), but for the one that is.
BEFORE = (LF, CR, CRLF, CR + CRLF, LF + CR, CRLF + NUL)
AFTER = (LF, CR, CRLF, CR + CRLF, NUL + CRLF)
NOT_THE_END = [
    before + b"." + after
    for before, after in itertools.product(BEFORE, AFTER)
    if not (
        before.endswith(CRLF) and after == CRLF
    )  # that one is the end, whatever stands before it
]
SIZES = [30_000_000, pytest.param(100_000_000, marks=pytest.mark.soak)]
RSS_GROWTH = (
    12_000_000  # far below what was sent: the buffers of two sockets and what the allocator keeps
)


@pytest.fixture(scope="module")
def server(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    place = tmp_path_factory.mktemp("framing")
    write_certificate(place)
    normalizing = free_port()
    with running(
        place,
        default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
        listener='tls_cert = "cert.pem"\ntls_key = "key.pem"',
        more=f"""
[[listener]]
address = "127.0.0.1:{normalizing}"
relay_from = ["127.0.0.0/8"]
bare_newline = "normalize"
""",
    ) as daemon:
        daemon.normalizing = normalizing  # type: ignore[attr-defined]
        yield daemon


@pytest.fixture
def normalizing(server: Daemon) -> int:
    port: int = server.normalizing  # type: ignore[attr-defined]
    return port


def smuggler(sequence: bytes, recipient: str) -> bytes:
    """A message that holds a second one behind a sequence that must not end it, and its true end."""
    inner = b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\n"
    return (
        b"From: a@sender.example\r\nSubject: one\r\nX-To: %s\r\n\r\nfirst" % recipient.encode()
        + sequence
        + inner
        + b"Subject: two\r\n\r\nsmuggled\r\n.\r\n"
    )


@pytest.mark.parametrize("sequence", NOT_THE_END, ids=[repr(each)[2:-1] for each in NOT_THE_END])
def test_a_false_end_of_data_gets_one_550_and_no_second_message(
    server: Daemon, host: Host, sequence: bytes
) -> None:
    before = len(host.messages)
    with Wire(server.port) as wire:
        wire.greet()
        wire.envelope("a@sender.example", "strict@example.net")
        wire.send(smuggler(sequence, "strict") + b"NOOP\r\nQUIT\r\n")
        replies = wire.rest().splitlines()
    # One for the message, one for NOOP, one for QUIT: nothing in between was taken for a command.
    assert [line[:9] for line in replies] == ["550 5.6.0", "250 2.0.0", "221 2.0.0"]
    assert len(host.messages) == before
    assert server.totals()["queued_recipients"] == 0


@pytest.mark.parametrize("sequence", NOT_THE_END, ids=[repr(each)[2:-1] for each in NOT_THE_END])
def test_normalised_it_goes_out_as_one_clean_message(
    server: Daemon, host: Host, normalizing: int, sequence: bytes
) -> None:
    recipient = f"n{sequence.hex()}@example.net"
    with Wire(normalizing) as wire:
        wire.greet()
        wire.envelope("a@sender.example", recipient)
        wire.send(smuggler(sequence, recipient) + b"QUIT\r\n")
        replies = wire.rest().splitlines()
    assert [line[:3] for line in replies] == ["550" if NUL in sequence else "250", "221"]
    if NUL in sequence:
        return  # no newline is a NUL: there is nothing to normalise
    wait_for_recipient(host, recipient)
    got = host.message_to(recipient)
    assert wire_faults(got.wire) == []
    assert b"RCPT TO:<victim@example.net>" in got.data
    assert not any("victim" in rcpt for each in host.messages for rcpt in each.rcpts)


def wait_for_recipient(host: Host, address: str) -> None:
    wait_until(lambda: any(address in each.recipients for each in host.messages))


def test_a_bare_cr_before_the_true_end_refuses_the_message_and_what_follows_are_commands(
    server: Daemon,
) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        wire.envelope()
        wire.send(b"Subject: x\r\n\r\nfirst\r\r\n.\r\nNOOP\r\nQUIT\r\n")
        replies = wire.rest().splitlines()
    assert [line[:9] for line in replies] == ["550 5.6.0", "250 2.0.0", "221 2.0.0"]


def test_lines_of_dots_survive_the_way_in_and_out(server: Daemon, host: Host) -> None:
    body = b".\r\n..\r\n...\r\n.x\r\n. \r\n\r\n.\r\n.QUIT\r\n" + b"." * 998 + b"\r\n"
    with Wire(server.port) as wire:
        wire.greet()
        answer = wire.deliver(b"Subject: dots\r\n\r\n" + body, "a@s.example", "dots@example.net")
        assert answer.startswith("250 2.6.0")
    wait_for_recipient(host, "dots@example.net")
    got = host.message_to("dots@example.net")
    assert got.data.endswith(b"\r\n\r\n" + body)
    assert wire_faults(got.wire) == []


@pytest.mark.parametrize("size", [1, 2, 3])
def test_however_the_final_dot_is_cut_it_is_found(server: Daemon, host: Host, size: int) -> None:
    recipient = f"cut{size}@example.net"
    message = b"Subject: cut\r\n\r\n..x\r\nbody\r\n.\r\n"
    with Wire(server.port) as wire:
        wire.greet()
        wire.envelope("a@sender.example", recipient)
        for at in range(0, len(message), size):
            wire.send(message[at : at + size])
        assert wire.reply().startswith("250 2.6.0")
    wait_for_recipient(host, recipient)
    assert host.message_to(recipient).data.endswith(b"\r\n\r\n.x\r\nbody\r\n")


@pytest.mark.parametrize("hurry", ["before the greeting", "after the greeting"])
def test_a_whole_dialogue_in_one_write_is_answered_in_order(
    server: Daemon, host: Host, hurry: str
) -> None:
    one = (
        "MAIL FROM:<a@s.example>\r\nRCPT TO:<p{0}@example.net>\r\nDATA\r\n"
        "Subject: {0}\r\n\r\n{0}\r\n.\r\n"
    )
    names = [f"{hurry[:5].strip()}{number}" for number in range(5)]
    text = "EHLO c\r\n" + "".join(one.format(name) for name in names) + "QUIT\r\n"
    with Wire(server.port) as wire:
        greeting = [] if hurry.startswith("before") else [wire.reply()]
        wire.send(text.encode())
        replies = greeting + wire.rest().splitlines()
    codes = [line[:3] for line in replies if line[3:4] == " "]
    assert codes == ["220", "250", *(["250", "250", "354", "250"] * 5), "221"]
    for name in names:
        wait_for_recipient(host, f"p{name}@example.net")


def test_input_pipelined_behind_starttls_is_never_obeyed(server: Daemon) -> None:
    with Wire(server.port) as wire:
        assert "STARTTLS" in wire.greet()
        wire.send(b"STARTTLS\r\nMAIL FROM:<evil@x.example>\r\nRCPT TO:<v@example.net>\r\n")
        # RFC 3207 §4.2: nothing of it may be read as if it were protected. The connection ends.
        rest = wire.rest()
    assert "250" not in rest
    assert rest == "" or rest.startswith(("220", "554 5.5.0"))


def test_what_was_said_in_the_clear_is_forgotten_after_starttls(server: Daemon) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        assert wire.ask("MAIL FROM:<a@sender.example>").startswith("250")
        assert wire.ask("STARTTLS").startswith("503")  # not inside a transaction
        wire.ask("RSET")
        assert "STARTTLS" not in wire.start_tls()
        assert wire.ask("RCPT TO:<b@example.net>").startswith("503 5.5.1")
        assert wire.ask("STARTTLS").startswith("503 5.5.1")


def test_after_starttls_ehlo_must_come_again(server: Daemon) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        assert wire.ask("STARTTLS").startswith("220")
        wire.secure()
        assert wire.ask("MAIL FROM:<a@sender.example>").startswith("503 5.5.1")


@pytest.mark.parametrize("by_reset", [False, True])
def test_a_client_that_cuts_at_the_handshake_leaves_its_place(
    server: Daemon, by_reset: bool
) -> None:
    # Some of them left a connection that was counted for ever: nobody was told that it had ended.
    linger = struct.pack("ii", 1, 0)
    for number in range(150):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.recv(1000)
            client.sendall(b"EHLO me.example\r\n")
            client.recv(1000)
            if by_reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.sendall(b"STARTTLS\r\n")
            if number % 3:
                client.recv(1000)
            if number % 3 == 2:
                client.sendall(b"\x16\x03\x01")  # as a ClientHello begins
    wait_until(lambda: not server.totals()["connections_in"])


@pytest.mark.parametrize(("hops", "answer"), [(50, "250 2.6.0"), (51, "554 5.4.6")])
def test_more_than_fifty_received_fields_are_a_loop(server: Daemon, hops: int, answer: str) -> None:
    field = b"Received: from a.example by b.example; Mon, 23 Nov 2026 07:41:00 +0000\r\n"
    with Wire(server.port) as wire:
        wire.greet()
        reply = wire.deliver(field * hops + b"Subject: loop\r\n\r\nbody\r\n")
    assert reply.startswith(answer)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        pytest.param(b"NOOP " + b"x" * 2041 + CRLF, "250 2.0.0", id="2048 bytes"),
        pytest.param(b"NOOP " + b"x" * 2042 + CRLF, "500 5.5.2", id="2049 bytes"),
        pytest.param(
            b"MAIL FROM:<" + b"a" * 100_000 + b"@x.example>" + CRLF, "500 5.5.2", id="100 kB"
        ),
        pytest.param(b"NOOP\n", "500 5.5.2", id="LF alone"),
        pytest.param(b"NOOP \x00\r\n", "250", id="NUL in NOOP"),
        pytest.param("MAIL FROM:<jörg@x.example>\r\n".encode(), "553 5.6.7", id="UTF-8 address"),
        pytest.param(b"MAIL FROM:<j\xf6rg@x.example>\r\n", "501 5.5.2", id="Latin-1 address"),
        pytest.param(b"MAIL FROM:<a@x.example>\x00\r\n", "501 5.5.2", id="NUL"),
        pytest.param(
            b"MAIL FROM:<a@x.example\rRCPT TO:<v@y.example>\r\n", "501 5.5.2", id="CR inside"
        ),
        pytest.param(b"FROBNICATE\r\n", "500 5.5.2", id="unknown"),
        pytest.param(b"BDAT 5 LAST\r\n12345", "503 5.5.1", id="BDAT"),
        pytest.param(b"VRFY root\r\n", "252", id="VRFY"),
    ],
)
def test_an_odd_command_is_answered_and_the_session_lives(
    server: Daemon, line: bytes, answer: str
) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        wire.send(line)
        if answer == "250":  # a control character is refused even where it does no harm
            answer = "501 5.5.2"
        assert wire.reply().startswith(answer)
        assert wire.ask("NOOP") == "250 2.0.0 Ok"


def test_a_text_line_beyond_998_bytes_is_refused(server: Daemon) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        assert wire.deliver(b"Subject: x\r\n\r\n" + b"x" * 998 + CRLF).startswith("250 2.6.0")
        assert wire.deliver(b"Subject: x\r\n\r\n" + b"x" * 999 + CRLF).startswith("550 5.6.0")
        assert wire.deliver(b"Subject: x\r\n\r\nstill here\r\n").startswith("250 2.6.0")


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        pytest.param(b"X-A: 1\r\n" * 999, "250 2.6.0", id="999 lines"),
        pytest.param(b"X-A: 1\r\n" * 1001, "552 5.3.4", id="1001 lines"),
        pytest.param(b"X-A: " + b"a" * 990 + b"\r\n", "250 2.6.0", id="a long field"),
        pytest.param((b"X-A: " + b"a" * 900 + b"\r\n") * 400, "552 5.3.4", id="360 kB"),
        pytest.param((b"X-A: " + b"a" * 900 + b"\r\n") * 2000, "552 5.3.4", id="1.8 MB"),
        pytest.param(b"From: a@x.example\r\nFrom: b@x.example\r\n", "550 5.6.0", id="two authors"),
        pytest.param(
            b"Subject: x\r\nno field at all\r\n", "550 5.6.0", id="a line that is no field"
        ),
    ],
)
def test_a_header_has_bounds(server: Daemon, header: bytes, answer: str) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        assert wire.deliver(header + b"\r\nbody\r\n").startswith(answer)
        assert wire.ask("NOOP") == "250 2.0.0 Ok"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("place", "answer"), [("command", "500 5.5.2"), ("text", "55"), ("header", "55")]
)
def test_bytes_without_a_line_end_take_no_memory(
    server: Daemon, place: str, answer: str, size: int
) -> None:
    process = psutil.Process(server.pid)
    chunk = b"x" * 1_000_000
    with Wire(server.port) as wire:
        wire.greet()
        if place != "command":
            wire.envelope()
            wire.send(b"X-Long: " if place == "header" else b"Subject: x\r\n\r\n")
        before = peak = process.memory_info().rss
        for _ in range(size // len(chunk)):
            wire.send(chunk)
            peak = max(peak, process.memory_info().rss)
        wire.send(CRLF if place == "command" else b"\r\n.\r\n")
        assert wire.reply(60).startswith(answer)
        assert wire.ask("NOOP") == "250 2.0.0 Ok"
    assert peak - before < RSS_GROWTH, f"{place}: grew by {(peak - before) / 1e6:.1f} MB"
    assert server.totals()["intake_memory"] == 0


def test_a_declared_size_beyond_the_limit_is_refused_at_mail(server: Daemon) -> None:
    with Wire(server.port) as wire:
        offer = wire.greet()
        assert "SIZE 104857600" in offer
        assert wire.ask("MAIL FROM:<a@x.example> SIZE=104857601").startswith("552 5.3.4")
        assert wire.ask("MAIL FROM:<a@x.example> SIZE=104857600").startswith("250")
        wire.ask("RSET")
        assert wire.ask("MAIL FROM:<a@x.example> SIZE=-1").startswith("501 5.5.4")
        assert wire.ask("MAIL FROM:<a@x.example> SIZE=99999999999999999999999").startswith(
            ("552 5.3.4", "501 5.5.4")
        )
