"""Who may come in, how often, how slowly: AUTH, relaying, connections, quotas, deadlines, memory.

One real server with a listener for each rule, spoken to by raw sockets. RFC 4954 (AUTH only inside TLS), RFC 5321 §4.5.3.2
(time-outs); reliability.md S11, S13, L1, L2, D14; issue: "Ingress".
"""

import base64
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, free_port, running
from tests.support.host import Host
from tests.support.secrets import write_certificate, write_users
from tests.support.wire import Wire, wait_until

PASSWORD = "s3cret and ünïcode"
# A hash may name its own cost: a twentieth of ours, so that a flood of checks does not take all of the test's time.
CHEAP = (
    f"scrypt$4096$8$1${base64.b64encode(bytes(16)).decode()}${base64.b64encode(bytes(32)).decode()}"
)
MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
NAMES = (
    "strangers",  # relays for nobody without login
    "implicit",
    "plain",  # users, but no TLS: nobody can log in
    "few",
    "hasty",
    "quota",
)

MORE = """
[[listener]]
address = "127.0.0.1:{strangers}"
relay_from = ["192.0.2.0/24"]
tls_cert = "cert.pem"
tls_key = "key.pem"
auth_users = "users.toml"

[[listener]]
address = "127.0.0.1:{implicit}"
relay_from = []
tls = "implicit"
tls_cert = "cert.pem"
tls_key = "key.pem"
auth_users = "users.toml"

[[listener]]
address = "127.0.0.1:{plain}"
relay_from = ["127.0.0.2/32"]

[[listener]]
address = "127.0.0.1:{few}"
relay_from = ["127.0.0.0/8"]
max_connections = 4
max_connections_per_source = 2
max_recipients = 100

[[listener]]
address = "127.0.0.1:{hasty}"
relay_from = ["127.0.0.0/8"]
command_timeout = "1s"
transaction_timeout = "4s"
min_data_rate = 1000000

[[listener]]
address = "127.0.0.1:{quota}"
relay_from = ["127.0.0.0/8"]
max_messages_per_hour = 3
max_recipients_per_day = 5
"""


class House:
    """The server and the port of each listener."""

    def __init__(self, place: Path, host: Host) -> None:
        write_certificate(place)
        users = write_users(place, ada=PASSWORD, bob="b")
        with users.open("a") as file:
            file.write(f'"eve" = "{CHEAP}"\n')
        self.ports = {name: free_port() for name in NAMES}
        self.settings = {
            "default": f'hosts = ["{host.name}"]\nretry = ["1h"]',
            "more": MORE.format(**self.ports),
        }


@pytest.fixture(scope="module")
def house(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    place = tmp_path_factory.mktemp("admission")
    house = House(place, host)
    with running(place, **house.settings) as daemon:
        house.daemon = daemon  # type: ignore[attr-defined]
        yield house


@pytest.fixture
def server(house: House) -> Daemon:
    daemon: Daemon = house.daemon  # type: ignore[attr-defined]
    return daemon


@pytest.fixture
def ports(house: House) -> dict[str, int]:
    return house.ports


# -- AUTH and relaying ------------------------------------------------------------------------------------------


def test_a_source_that_is_not_listed_may_not_relay(ports: dict[str, int]) -> None:
    with Wire(ports["strangers"]) as wire:
        wire.greet()
        assert wire.ask("MAIL FROM:<a@sender.example>").startswith("250")
        assert wire.ask("RCPT TO:<b@example.net>").startswith("550 5.7.1")
        assert wire.ask("DATA").startswith("554 5.5.1")


@pytest.mark.parametrize(
    "address",
    [
        "user%example.net@mta.test.example",
        "example.net!user@mta.test.example",
        '"user@example.net"@mta.test.example',
        "user@[127.0.0.1]",
        "user@[IPv6:::ffff:127.0.0.1]",
        "postmaster@mta.test.example",
    ],
)
def test_no_form_of_address_opens_the_relay(ports: dict[str, int], address: str) -> None:
    with Wire(ports["strangers"]) as wire:
        wire.greet()
        wire.ask("MAIL FROM:<a@mta.test.example>")
        assert wire.ask(f"RCPT TO:<{address}>").startswith("550 5.7.1")
        assert wire.ask("RCPT TO:<@mta.test.example:user@example.net>").startswith("501 5.1.3")


def test_a_listed_source_relays_and_its_neighbour_does_not(ports: dict[str, int]) -> None:
    for source, code in {"127.0.0.2": "250", "127.0.0.3": "550"}.items():
        with Wire(ports["plain"], source=source) as wire:
            wire.greet()
            wire.ask("MAIL FROM:<a@sender.example>")
            assert wire.ask("RCPT TO:<b@example.net>").startswith(code)


def test_auth_is_offered_and_taken_inside_tls_only(ports: dict[str, int]) -> None:
    with Wire(ports["strangers"]) as wire:
        assert "AUTH" not in wire.greet()
        assert wire.auth_plain("ada", PASSWORD).startswith("538 5.7.11")
        assert "AUTH PLAIN" in wire.start_tls()
        assert wire.auth_plain("ada", PASSWORD).startswith("235 2.7.0")
        assert "AUTH" not in wire.ask("EHLO client.example")  # RFC 4954 §4: not again
        assert wire.auth_plain("ada", PASSWORD).startswith("503 5.5.1")


def test_who_has_logged_in_may_relay_and_the_record_names_the_user(
    server: Daemon, host: Host, ports: dict[str, int]
) -> None:
    with Wire(ports["strangers"]) as wire:
        wire.greet()
        wire.start_tls()
        assert wire.auth_plain("ada", PASSWORD).startswith("235")
        assert wire.deliver(MESSAGE, "a@s.example", "user@example.net").startswith("250 2.6.0")
    wait_until(lambda: any("user@example.net" in each.recipients for each in host.messages))
    assert b"with ESMTPSA id " in host.message_to("user@example.net").data
    wait_until(
        lambda: (
            [
                (each["type"], each["rcvSmtpUser"])
                for each in server.records()
                if each["rcpt"] == "user@example.net"
            ]
            == [("d", "ada")]
        )
    )


def test_over_implicit_tls_auth_is_offered_at_once(ports: dict[str, int]) -> None:
    with Wire(ports["implicit"], tls=True) as wire:
        offer = wire.greet()
        assert "AUTH PLAIN" in offer
        assert "STARTTLS" not in offer
        assert wire.ask("STARTTLS").startswith("503")
        assert wire.auth_plain("bob", "b").startswith("235")
        assert wire.deliver(MESSAGE).startswith("250 2.6.0")


def test_without_users_auth_is_not_offered(ports: dict[str, int]) -> None:
    with Wire(ports["plain"]) as wire:
        assert "AUTH" not in wire.greet()
        assert wire.auth_plain("ada", PASSWORD).startswith("503 5.5.1")


@pytest.mark.parametrize(
    ("user", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("ADA", PASSWORD)]
)
def test_bad_credentials_are_535_whoever_they_name(
    ports: dict[str, int], user: str, password: str
) -> None:
    with Wire(ports["implicit"], source="127.0.0.21", tls=True) as wire:
        wire.greet()
        assert wire.auth_plain(user, password).startswith("535 5.7.8")
        wire.ask("MAIL FROM:<a@sender.example>")
        assert wire.ask("RCPT TO:<b@example.net>").startswith("550 5.7.1")


def test_what_is_no_credential_is_refused_by_its_own_code(ports: dict[str, int]) -> None:
    with Wire(ports["implicit"], tls=True) as wire:
        wire.greet()
        assert wire.ask("AUTH CRAM-MD5").startswith("504 5.5.4")
        assert wire.ask("AUTH PLAIN not*base64").startswith("501 5.5.2")
        assert wire.ask("AUTH PLAIN") == "334 "
        assert wire.ask("*").startswith("501 5.7.0")
        assert wire.ask("AUTH PLAIN") == "334 "
        assert wire.ask("x" * 5000).startswith("500 5.5.6")
        assert wire.ask("AUTH PLAIN") == "334 "
        token = base64.b64encode(b"ada\0ada\0" + PASSWORD.encode()).decode()
        assert wire.ask(token).startswith("235 2.7.0")


def test_a_flood_of_logins_is_answered_454_and_the_good_one_is_remembered(
    server: Daemon, ports: dict[str, int]
) -> None:
    """2 threads and 50 places: of 90 at once some are told to come again, and the loop stays free."""
    flood = 90

    def log_in(stack: ExitStack, number: int) -> Wire:
        wire = stack.enter_context(Wire(ports["implicit"], source="127.0.0.22", tls=True))
        wire.greet()
        return wire

    with ExitStack() as stack:
        with ThreadPoolExecutor(8) as pool:
            wires = list(pool.map(lambda n: log_in(stack, n), range(flood)))
        good = stack.enter_context(Wire(ports["implicit"], tls=True))
        good.greet()
        assert good.auth_plain("bob", "b").startswith("235")
        again = stack.enter_context(Wire(ports["implicit"], tls=True))
        again.greet()
        token = base64.b64encode(b"\0eve\0wrong").decode()
        for wire in wires:
            wire.send(f"AUTH PLAIN {token}\r\n".encode())
        started = time.monotonic()
        # A success is remembered: it needs no place in the queue.
        assert again.auth_plain("bob", "b").startswith("235")
        server.ask("status")
        assert time.monotonic() - started < 2.0
        answers = [wire.reply(60)[:9] for wire in wires]
    assert set(answers) == {"535 5.7.8", "454 4.7.0"}
    # Those that were being checked when the flood came, and the 50 places.
    assert answers.count("535 5.7.8") >= 50


def test_auth_login_is_taken_as_well(ports: dict[str, int]) -> None:
    with Wire(ports["implicit"], source="127.0.0.23", tls=True) as wire:
        wire.greet()
        assert wire.ask("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert wire.ask(base64.b64encode(b"ada").decode()) == "334 UGFzc3dvcmQ6"
        assert wire.ask(base64.b64encode(PASSWORD.encode()).decode()).startswith("235 2.7.0")


def test_guessing_is_stopped_logged_and_locks_nobody_out(
    server: Daemon, ports: dict[str, int]
) -> None:
    """Three tries a connection, then ever longer waits for this address; another one logs in at once."""

    def guess() -> list[str]:
        """What a connection hears until it is closed."""
        heard = []
        with Wire(ports["implicit"], source="127.0.0.24", tls=True) as wire:
            wire.greet()
            while not heard or heard[-1] != "421 4.7.0":
                heard.append(wire.auth_plain("guess", "eve")[:9])
            assert wire.rest() == ""
        return heard

    def log_in(source: str) -> str:
        with Wire(ports["implicit"], source=source, tls=True) as wire:
            wire.greet()
            return wire.auth_plain("bob", "b")

    assert guess() == ["535 5.7.8", "535 5.7.8", "421 4.7.0"]
    assert guess()[:1] == ["535 5.7.8"]
    assert "454 4.7.0" in guess()
    line = next(each for each in server.log.splitlines() if "127.0.0.24" in each)
    assert 'event="authentication failed" peer=127.0.0.24 user=guess' in line
    assert log_in("127.0.0.25").startswith("235")


# -- connections, quotas ----------------------------------------------------------------------------------------


def test_connections_are_limited_per_source_and_per_listener(ports: dict[str, int]) -> None:
    port = ports["few"]
    with ExitStack() as stack:
        held = [stack.enter_context(Wire(port, source=f"127.0.0.{host}")) for host in (2, 2, 3)]
        for wire in held:
            wire.greet()
        with Wire(port, source="127.0.0.2") as third:
            assert third.reply().startswith("421 4.7.0")
            assert third.rest() == ""
        last = stack.enter_context(Wire(port, source="127.0.0.4"))
        last.greet()
        with Wire(port, source="127.0.0.5") as fifth:
            assert fifth.reply().startswith("421 4.7.0")
        # One that goes makes room for the next, even for one that waits already.
        with Wire(port, source="127.0.0.5") as waiting:
            held[0].ask("QUIT")
            held[0].sock.close()
            assert waiting.reply().startswith("220")


def test_hour_and_day_quotas_are_kept_over_a_restart(tmp_path: Path, host: Host) -> None:
    house = House(tmp_path, host)
    daemon = Daemon(tmp_path, **house.settings)
    port = house.ports["quota"]
    daemon.start()
    try:
        with Wire(port, source="127.0.0.2") as wire:
            wire.greet()
            for _ in range(2):
                assert wire.deliver(MESSAGE).startswith("250 2.6.0")
        assert daemon.stop() == 0
        daemon.start()
        with Wire(port, source="127.0.0.2") as wire:
            wire.greet()
            assert wire.ask("MAIL FROM:<a@s.example>").startswith("250")  # the third
            for number in range(3):  # two were named before
                assert wire.ask(f"RCPT TO:<r{number}@example.net>").startswith("250")
            assert wire.ask("RCPT TO:<r4@example.net>").startswith("451 4.7.1")
            wire.ask("RSET")
            assert wire.ask("MAIL FROM:<a@s.example>").startswith("451 4.7.1")
        with Wire(port, source="127.0.0.9") as other:
            other.greet()
            assert other.deliver(MESSAGE).startswith("250 2.6.0")
    finally:
        daemon.stop()


def test_one_recipient_more_than_allowed_is_452_and_the_others_stay(
    ports: dict[str, int],
) -> None:
    with Wire(ports["few"], source="127.0.0.7") as wire:
        wire.greet()
        wire.ask("MAIL FROM:<a@s.example>")
        assert wire.ask("RCPT TO:<r@[192.0.2.1]>").startswith("550 5.1.2")
        assert wire.ask("RCPT TO:<>").startswith("501 5.1.3")
        for number in range(100):
            assert wire.ask(f"RCPT TO:<r{number}@example.net>").startswith("250")
        assert wire.ask("RCPT TO:<r100@example.net>").startswith("452 4.5.3")
        assert wire.ask("DATA").startswith("354")
        wire.send(MESSAGE + b".\r\n")
        assert wire.reply().startswith("250 2.6.0")


# -- deadlines --------------------------------------------------------------------------------------------------


def seconds_until_421(wire: Wire, words: str) -> float:
    started = time.monotonic()
    assert wire.reply().startswith(words)
    assert wire.rest() == ""
    return time.monotonic() - started


def test_a_client_that_says_nothing_is_sent_away(ports: dict[str, int]) -> None:
    with Wire(ports["hasty"]) as wire:
        wire.greet()
        assert 0.9 <= seconds_until_421(wire, "421 4.4.2") < 5


def test_a_client_that_goes_silent_in_a_message_is_sent_away_and_nothing_is_kept(
    server: Daemon, ports: dict[str, int]
) -> None:
    with Wire(ports["hasty"]) as wire:
        wire.greet()
        wire.envelope()
        wire.send(b"Subject: half\r\n\r\n" + b"x" * 500)
        assert 0.9 <= seconds_until_421(wire, "421 4.4.2") < 5
    assert server.totals()["intake_memory"] == 0


def test_a_transaction_as_a_whole_has_a_deadline(ports: dict[str, int]) -> None:
    with Wire(ports["hasty"]) as wire:
        wire.greet()
        wire.ask("MAIL FROM:<a@s.example>")
        started = time.monotonic()
        answers = []
        while time.monotonic() - started < 15:
            time.sleep(0.3)
            answers.append(wire.ask("RCPT TO:<b@example.net>"))
            if not answers[-1].startswith("250"):
                break
        assert answers[-1].startswith("421 4.4.2")
        assert 3.5 <= time.monotonic() - started < 8


def test_a_command_that_drips_in_is_cut_off_when_its_time_is_over(ports: dict[str, int]) -> None:
    """A byte now and then does not end a command, and so buys no time."""
    with Wire(ports["hasty"]) as wire:
        wire.greet()
        started = time.monotonic()
        with pytest.raises(OSError):
            for byte in itertools.repeat(b"N", 100):
                wire.send(byte)
                time.sleep(0.3)
        assert time.monotonic() - started < 10  # its command may take 1 s


def test_a_message_that_drips_in_is_cut_off_for_being_slow(ports: dict[str, int]) -> None:
    with Wire(ports["hasty"]) as wire:
        wire.greet()
        wire.envelope()
        started = time.monotonic()
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                try:
                    wire.send(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert wire.reply().startswith("421 4.4.2 The message comes too slowly")
        finally:
            stop.set()
            thread.join()
        assert time.monotonic() - started < 3.5  # before the transaction's own deadline


def test_a_client_of_junk_is_sent_away(server: Daemon) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        wire.send(b"FROBNICATE\r\n" * 200)
        rest = wire.rest().splitlines()
    assert 90 <= len(rest) <= 120
    assert rest[-1].startswith("421 4.7.0")


# -- memory -----------------------------------------------------------------------------------------------------


def test_many_unfinished_messages_spill_before_they_use_up_the_memory(tmp_path: Path) -> None:
    """Twelve clients send 280 kB each at the same time through 1 MB; each is read to its end."""
    with (
        Host() as host,
        running(
            tmp_path,
            server='intake_memory = "1M"',
            default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
        ) as daemon,
        ExitStack() as stack,
    ):
        half = b"Subject: half\r\n\r\n" + (b"x" * 78 + b"\r\n") * 3_500
        wires = [stack.enter_context(Wire(daemon.port)) for _ in range(12)]
        for number, wire in enumerate(wires):
            wire.greet()
            wire.envelope("a@s.example", f"m{number}@example.net")
        for wire in wires:
            wire.sock.settimeout(10)
            wire.send(half)
        for wire in wires:
            wire.send(b".\r\n")
            assert wire.reply().startswith("250 2.6.0")
        host.wait_for(messages=12)
        assert all(each.data.endswith(half.partition(b"\r\n\r\n")[2]) for each in host.messages)
        assert daemon.totals()["intake_memory"] == 0


def test_when_intake_memory_is_used_up_mail_is_452_until_those_who_hold_it_are_gone(
    tmp_path: Path,
) -> None:
    """Clients that never end their headers hold all of it; they fall silent and are sent away."""
    with (
        Host() as host,
        running(
            tmp_path,
            server='intake_memory = "1M"',
            listener='command_timeout = "3s"',
            default=f'hosts = ["{host.name}"]\nretry = ["1h"]',
        ) as daemon,
        ExitStack() as stack,
    ):
        endless = (b"X-Filler: " + b"x" * 68 + b"\r\n") * 3_500  # 280 kB of a header
        wires = [stack.enter_context(Wire(daemon.port)) for _ in range(5)]
        for wire in wires:
            wire.greet()
            wire.envelope()
        for wire in wires:
            wire.sock.settimeout(0.2)
            with suppress(TimeoutError):  # no longer read from: that is the point
                wire.send(endless)
        with Wire(daemon.port) as other:
            other.greet()
            assert other.ask("MAIL FROM:<a@s.example>").startswith("452 4.3.1")
        assert 1_048_576 <= daemon.totals()["intake_memory"] < 3_000_000
        assert "452" in daemon.ask("status")["workers"][0]["intake"]
        wait_until(lambda: daemon.totals()["intake_memory"] == 0)
        with Wire(daemon.port) as other:
            other.greet()
            assert other.deliver(MESSAGE).startswith("250 2.6.0")
