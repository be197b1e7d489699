"""`sluice doctor` against the lab's nameserver: every record right, and each of them wrong in turn."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta.cli import machine
from mta.dkim.keys import dns_record, generate, load_key
from mta.lab.nameserver import DnsTemper
from tests.support.cli import Ended, run
from tests.support.daemon import free_port
from tests.support.host import Host
from tests.support.names import Names

# Public ones, or they would not be judged; nothing is sent there.
ADDRESS, ADDRESS_V6 = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
REVERSED = "14.215.184.93.in-addr.arpa"
NAME = "mta.sender.example"

CONFIG = """
[server]
hostname = "mta.sender.example"
spool_dir = "spool"
control_socket = "control.sock"
[[listener]]
address = "127.0.0.1:{port}"
relay_from = ["127.0.0.0/8"]
[dns]
servers = ["{dns}"]
timeout = "1s"
[[dkim]]
domain = "sender.example"
selector = "s1"
key_file = "s1.pem"
[vmta.a]
source_addresses = ["{address}"]
"""


class Patient:
    """A configuration, its names – all of them right – and the doctor's answer."""

    def __init__(self, place: Path, names: Names) -> None:
        self.names, self.dns = names, names.dns
        self.port = free_port()
        pem = generate("rsa", 2048)
        (place / "s1.pem").write_bytes(pem)
        (place / "s1.pem").chmod(0o600)
        self.config = place / "sluice.toml"
        self.config.write_text(CONFIG.format(port=self.port, dns=names.address, address=ADDRESS))
        self.dns.add(NAME, "A", ADDRESS)
        self.dns.add(REVERSED, "PTR", f"{NAME}.")
        self.dns.add_text("s1._domainkey.sender.example", dns_record(load_key(pem)))
        self.dns.add_text("sender.example", "v=spf1 include:_spf.sender.example -all")
        self.dns.add_text("_spf.sender.example", f"v=spf1 ip4:{ADDRESS} -all")
        self.dns.add_text("_dmarc.sender.example", "v=DMARC1; p=quarantine")

    def replace_text(self, name: str, text: str) -> None:
        self.dns.remove(name, "TXT")
        self.dns.add_text(name, text)

    def see(self, *words: str) -> tuple[Ended, dict[str, dict[str, Any]]]:
        """How it ended, and the findings by kind."""
        ended = run("doctor", *words, "--json", "--config", str(self.config))
        return ended, {each["check"]: each for each in json.loads(ended.out)["findings"]}


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    with Names() as names:
        yield Patient(tmp_path, names)


STANDING = ("hostname", "ptr", "dkim", "spf", "dmarc")


def test_where_all_is_right_nothing_is_to_be_done(patient: Patient) -> None:
    ended, found = patient.see()
    assert ended.code == 0
    for check in (*STANDING, "dns", "port", "descriptors"):
        assert found[check]["level"] == "ok", found[check]
        assert found[check]["advice"] == ""


@pytest.mark.parametrize(
    ("what", "check", "level", "advice"),
    [
        ("no address", "hostname", "failure", f"A {ADDRESS}"),
        ("other address", "hostname", "warning", "ehlo_name"),
        ("no PTR", "ptr", "failure", "hosting provider"),
        ("unconfirmed PTR", "ptr", "failure", NAME),
        ("other PTR", "ptr", "warning", "set ehlo_name to other.example"),
        ("no key", "dkim", "failure", "v=DKIM1"),
        ("other key", "dkim", "failure", "v=DKIM1"),
        ("revoked key", "dkim", "failure", "v=DKIM1"),
        ("no SPF", "spf", "warning", f"ip4:{ADDRESS}"),
        ("SPF of others", "spf", "failure", f"ip4:{ADDRESS}"),
        ("soft SPF", "spf", "warning", f"ip4:{ADDRESS}"),
        ("broken SPF", "spf", "failure", "mend it"),
        ("no DMARC", "dmarc", "warning", "_dmarc.sender.example"),
    ],
)
def test_what_is_wrong_is_found_with_what_to_do(
    patient: Patient, what: str, check: str, level: str, advice: str
) -> None:
    dns, key = patient.dns, "s1._domainkey.sender.example"
    match what:
        case "no address":
            dns.remove(NAME, "A")
        case "other address":
            dns.remove(NAME, "A")
            dns.add(NAME, "A", "93.184.215.15")
        case "no PTR":
            dns.remove(REVERSED, "PTR")
        case "unconfirmed PTR" | "other PTR":
            dns.remove(REVERSED, "PTR")
            dns.add(REVERSED, "PTR", "other.example.")
            if what == "other PTR":
                dns.add("other.example", "A", ADDRESS)
        case "no key":
            dns.remove(key, "TXT")
        case "other key":
            patient.replace_text(key, dns_record(load_key(generate("rsa", 2048))))
        case "revoked key":
            patient.replace_text(key, "v=DKIM1; p=")
        case "no SPF":
            dns.remove("sender.example", "TXT")
        case "SPF of others":
            patient.replace_text("_spf.sender.example", "v=spf1 ip4:192.0.2.1 -all")
        case "soft SPF":
            patient.replace_text("sender.example", "v=spf1 mx ~all")
        case "broken SPF":
            patient.replace_text("sender.example", "v=spf1 ipv4:192.0.2.1 -all")
        case "no DMARC":
            dns.remove("_dmarc.sender.example", "TXT")
    ended, found = patient.see()
    assert found[check]["level"] == level, found[check]
    assert advice in found[check]["advice"]
    assert ended.code == any(each["level"] == "failure" for each in found.values())


def test_what_no_server_can_say_is_not_called_wrong(patient: Patient) -> None:
    patient.dns.temper = DnsTemper.SERVFAIL
    ended, found = patient.see()
    assert {found[check]["level"] for check in STANDING} == {"skipped"}
    assert found["dns"]["level"] == "failure" and ended.code == 1


def test_a_server_that_is_silent_is_a_failure(patient: Patient) -> None:
    text = patient.config.read_text().replace(patient.dns.address, f"127.0.0.1:{free_port()}")
    patient.config.write_text(text)
    ended, found = patient.see()
    assert found["dns"]["level"] == "failure" and ended.code == 1


def test_a_port_that_another_program_has_is_a_failure(patient: Patient) -> None:
    with socket.create_server(("127.0.0.1", patient.port)):
        ended, found = patient.see()
    assert found["port"]["level"] == "failure" and "ss -ltnp" in found["port"]["advice"]
    assert ended.code == 1


def test_a_domain_of_senders_and_an_address_behind_nat_are_judged_when_named(
    patient: Patient,
) -> None:
    ended, found = patient.see("--sender", "Other.Example", "--address", ADDRESS_V6)
    assert found["ptr"]["subject"] == ADDRESS_V6 and found["ptr"]["level"] == "failure"
    assert found["spf"]["subject"] == f"other.example from {ADDRESS_V6}"
    assert f"ip6:{ADDRESS_V6}" in found["spf"]["advice"]
    assert ended.code == 1


def test_an_address_that_receivers_do_not_see_is_not_judged(patient: Patient) -> None:
    text = patient.config.read_text().replace(ADDRESS, "192.168.7.7")
    patient.config.write_text(text)
    ended, found = patient.see()
    assert "--address" in found["address"]["advice"]
    assert not {"spf", "ptr", "hostname"} & found.keys()
    assert found["dkim"]["level"] == "ok" and ended.code == 0


def test_the_way_out_is_tried_where_asked_for(patient: Patient) -> None:
    with Host() as host:
        patient.dns.add("there.example", "MX", "10 mx.there.example.")
        patient.dns.add("mx.there.example", "A", "127.0.0.1")
        _, found = patient.see("--to", "there.example", "--port", str(host.port))
        assert found["way out"]["level"] == "ok" and "220" in found["way out"]["found"]
    ended, found = patient.see("--to", "there.example", "--port", str(free_port()))
    assert found["way out"]["level"] == "failure" and ended.code == 1


def test_people_read_one_line_a_finding_and_its_advice(patient: Patient) -> None:
    patient.dns.remove(REVERSED, "PTR")
    ended = run("doctor", "--config", str(patient.config))
    assert f"failure  ptr          {ADDRESS}: has no PTR record" in ended.out
    assert "→ ask whoever owns the address" in ended.out
    assert ended.out.rstrip().splitlines()[-1].endswith("skipped") or "1 failure" in ended.out


def test_a_configuration_with_mistakes_ends_with_78(tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text("[server]\nhostname = 3\n")
    assert run("doctor", "--config", str(tmp_path / "sluice.toml")).code == 78


@pytest.mark.parametrize(
    ("seconds", "kind", "level"),
    [
        (0.001, "ext4", "ok"),
        (0.5, "ext4", "warning"),
        (0.000001, "ext4", "warning"),
        (0.000001, "tmpfs", "ok"),
    ],
)
def test_a_disk_is_judged_by_how_soon_it_syncs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, kind: str, level: str
) -> None:
    monkeypatch.setattr(machine, "_time_syncs", lambda place: [seconds] * 3)
    monkeypatch.setattr(machine, "_file_system", lambda place: kind)
    found = {each.check: each for each in machine.examine_disk(tmp_path / "not" / "yet")}
    assert found["sync"].level.value == level
    assert found["sync"].subject == str(tmp_path)


def test_the_real_disk_and_clock_are_looked_at(tmp_path: Path) -> None:
    checks = [each.check for each in machine.examine_disk(tmp_path)]
    assert "sync" in checks
    assert machine._file_system(tmp_path)
    assert machine.examine_clock().level.value in ("ok", "warning", "skipped")
