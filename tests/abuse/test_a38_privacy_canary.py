"""A38: random words wherever a customer writes one – addresses, subjects, names in the configuration, the host's own name – and
none of them in anything that leaves for the vendor or is kept to be shown to it (C18, C20, C30). Nobody else is spoken to.

The server is the real one behind TLS that writes down what it hears. All runs in a network of its own, where every packet of
the daemon and its processes can be seen. What the operator typed as `node_label` may be told, with the activation and there only.
"""

import base64
import hashlib
import os
import smtplib
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from licensing.envelope import decode_envelope, format_armour
from licensing.model.fields import ACTIVATION_REQUEST, USAGE_REPORT
from licensing.model.license import License
from mta.control.protocol import ControlError
from mta.lab.tempers import Moment, Temper
from tests.scenario.stage import Stage, Witness, wait_until
from tests.support.canaries import a_canary, found
from tests.support.daemon import Daemon
from tests.support.licence_office import a_volume
from tests.support.licence_relay import Relay, a_recorded_vendor
from tests.support.own_network import in_a_network_of_its_own
from tests.support.packets import Targets
from tests.support.vendor import Vendor
from tests.support.vendored import vendored_daemon

NOW = datetime.now(UTC).replace(microsecond=0)
MESSAGES = 20

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="a network of its own and a packet capture need root"
)


class Words:
    """A canary for everything a customer can name. `label` alone may be told."""

    def __init__(self) -> None:
        self.label = a_canary()
        self.secret: dict[str, str] = {}

    def __call__(self, what: str) -> str:
        """The canary that stands for this."""
        return self.secret.setdefault(what, a_canary())

    def of_this_machine(self) -> dict[str, str]:
        """What names the machine the test runs on, where that is long enough to be no word of ours."""
        told = {"machine's name": socket.gethostname(), "machine id": _read("/etc/machine-id")}
        return {what: word.lower() for what, word in told.items() if len(word) >= 10}


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def a_license(vendor: Vendor) -> License:
    return msgspec.structs.replace(
        a_volume(vendor, 100_000),
        issued_at=NOW - timedelta(days=2),
        not_before=NOW - timedelta(days=1),
        expires_at=NOW + timedelta(days=300),
        terminate_at=NOW + timedelta(days=330),
    )


def a_daemon(
    place: Path, vendor: Vendor, words: Words, relay: Relay, good: Witness, bad: Witness
) -> Daemon:
    license = f"""\
[license]
dir = "license.d"
state_dir = "license"
endpoint = "https://localhost:{relay.port}"
ca_file = "{place.parent / "relay.pem"}"
node_label = "{words.label}"
notify_email = ["{words("operator")}@{words("operator's domain")}.example"]
"""
    more = f"""
[vmta.{words("virtual MTA")}]
[site.{words("site")}]
domains = ["{words("domain that refuses")}.example"]
hosts = ["{bad.host}"]
[accounting.{words("accounting")}]
path = "{words("file")}.csv"
"""
    daemon = vendored_daemon(
        place,
        vendor,
        license=license,
        default=f'hosts = ["{good.host}"]\nretry = ["1s"]',
        listener=f'vmta = "{words("virtual MTA")}"',
        server="workers = 2",
        more=more + '[dns]\nservers = ["127.0.0.1:9"]\n',
    )
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("mta.test.example", f"{words('host name')}.example"))
    return daemon


def send(daemon: Daemon, words: Words) -> None:
    """Mail full of words; a tenth of it to a host that refuses."""
    with smtplib.SMTP(
        "127.0.0.1", daemon.port, local_hostname=f"{words('client')}.example"
    ) as smtp:
        for number in range(MESSAGES):
            where = words("domain that refuses" if number % 10 == 0 else "domain")
            sender = f"{words('sender')}@{words('sending domain')}.example"
            to = f"{words('recipient')}{number}@{where}.example"
            smtp.sendmail(
                sender,
                [to],
                f"From: {words('author')} <{sender}>\r\nTo: {to}\r\nSubject: {words('subject')}\r\n"
                f"X-Job: {words('job')}\r\nX-{words('field')}: {words('value')}\r\n\r\n{words('body')}\r\n".encode(),
            )


@contextmanager
def told_everything(place: Path, words: Words) -> Iterator[tuple[Daemon, Relay, Targets]]:
    """A server that was installed, activated, sent mail, reported, was started again, and gave its seat back."""
    vendor = Vendor()
    license = a_license(vendor)
    home = place / words("directory")
    home.mkdir()
    with Stage() as stage, Targets() as wire:
        good = stage.witness()
        refusal = {Moment.RCPT: f"450 4.2.0 {words('answer')}"}
        bad = stage.witness(Temper(refuse=refusal))
        closing = AsyncExitStack()
        relay = stage.run(closing.enter_async_context(a_recorded_vendor(place, vendor, license)))
        daemon = a_daemon(home, vendor, words, relay, good, bad)
        try:
            live(daemon, vendor, license, words)
            allowed = {good.port, bad.port, relay.port, relay.server.port, daemon.port}
            strangers = {each for each in wire.seen_by if each[2] not in allowed}
            assert not strangers, f"spoken to besides vendor, hosts and listener: {strangers}"
            assert ("tcp", "127.0.0.1", relay.port) in wire.seen_by, "the capture sees nothing"
            yield daemon, relay, wire
        finally:
            if daemon.is_up:
                daemon.stop()
            stage.run(closing.aclose())


def live(daemon: Daemon, vendor: Vendor, license: License, words: Words) -> None:
    """All that makes a node speak to its vendor."""
    text = _armoured(vendor, license)
    daemon.start()
    daemon.ask("license.install", text=text)
    daemon.ask("license.activate")
    wait_until(
        lambda: daemon.ask("license.status")["state"] == "valid",
        lambda: str(daemon.ask("license.status")),
    )
    send(daemon, words)
    delivered = MESSAGES - MESSAGES // 10
    wait_until(
        lambda: daemon.ask("license.usage")["counted"] == delivered, lambda: daemon.log[-3000:]
    )
    daemon.wait_for(deferred=1)
    report(daemon)
    daemon.ask("license.request")
    daemon.kill()  # what is found at the next start is told, too
    daemon.start()
    report(daemon)
    # The vendor takes five reports at once, then one in ten seconds.
    wait_until(lambda: is_given_back(daemon), "the seat is not given back")


def is_given_back(daemon: Daemon) -> bool:
    try:
        daemon.ask("license.deactivate")
    except ControlError as error:
        assert "too often" in str(error), error
        time.sleep(1.0)  # no sooner than it was told to
        return False
    return True


def report(daemon: Daemon) -> None:
    answer = daemon.ask("license.report.now")
    assert answer["outcome"] == "acknowledged", answer


def _armoured(vendor: Vendor, license: License) -> str:
    return format_armour(vendor.sign_license(license))


@pytest.mark.root
@needs_root
def test_a38_no_word_of_the_customer_leaves_and_nobody_else_is_spoken_to(tmp_path: Path) -> None:
    in_a_network_of_its_own(lambda: look_for_canaries(tmp_path))


def look_for_canaries(place: Path) -> None:
    words = Words()
    with told_everything(place, words) as (daemon, relay, _):
        heard = relay.all_heard
        kept = {
            path.relative_to(daemon.place): path.read_bytes()
            for folder in ("license", "license.d")
            for path in (daemon.place / folder).rglob("*")
            if path.is_file()
        }
        secret = {**words.secret, **words.of_this_machine()}
        assert len(words.secret) >= 20
        names = {word: what for what, word in secret.items()}

        def leaked(data: bytes) -> list[str]:
            return sorted(names[word] for word in found(names, data))

        assert leaked(heard) == []
        assert {str(path): leaked(data) for path, data in kept.items() if leaked(data)} == {}
        # The search sees what is there to be seen: the label, which may be told at the activation and nowhere else.
        sent = b"\n".join(data for path, data in kept.items() if path.parts[1] == "sent")
        bodies = [decode_envelope(line) for line in sent.splitlines() if line]
        tell_label = {
            each.payload_type for each in bodies if found([words.label], each.payload_bytes())
        }
        assert found([words.label], heard) == {words.label}
        assert tell_label == {ACTIVATION_REQUEST}
        assert USAGE_REPORT in {each.payload_type for each in bodies}
        # And every byte that was heard is kept to be shown (C20).
        assert all(line in sent for line in _bodies(heard))


def _bodies(heard: bytes) -> list[bytes]:
    """The JSON bodies of the requests in a conversation."""
    return [
        line for line in heard.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b'{"payload')
    ]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_search_finds_a_word_in_every_disguise(depth: int) -> None:
    word = a_canary()
    for text in (
        f"x{word.upper()}y".encode(),
        word.encode().hex().encode(),
        base64.b64encode(f"ab {word} and more".encode()),
        base64.urlsafe_b64encode(f"a {word} and more".encode()),
        hashlib.sha256(word.encode()).hexdigest().encode(),
        hashlib.sha256(word.encode()).digest(),
    ):
        data = text
        for _ in range(depth):
            data = b'{"payload":"' + base64.b64encode(data) + b'"}'
        assert found([word, a_canary()], data) == {word}, text
