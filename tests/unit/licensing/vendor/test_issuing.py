"""`sluice-license issue | renew | upgrade | revoke | activate-offline | inspect`, as a vendor's clerk runs them."""

import fcntl
import json
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from licensing.envelope import decode_closed, encode_envelope, format_armour
from licensing.ids import new_id
from licensing.model.activation import Activation, ActivationRequest
from licensing.model.fields import ACTIVATION, ACTIVATION_REQUEST, REVOCATIONS
from licensing.model.license import Kind, License
from licensing.model.trust import Revocations
from licensing.nodekey import NodeKey
from licensing.store import LicenseStore
from tests.support.vendor import Vendor
from tests.support.vendor_folder import Office

VOLUME = ("--emails", "1000", "--endpoint", "https://license.vendor.example")
NEEDS = {
    "volume": VOLUME,
    "hot_backup": ("--pair-group", "pair-1"),
    "development": ("--recipients", "@example.test"),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office")).open()


@pytest.fixture
def office(opened: Office, tmp_path: Path) -> Office:
    return opened.copied_to(tmp_path)


def _license(office: Office, path: Path) -> License:
    return office.trust.open_license(office.read(path))[0]


# -- issue --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_a_licence_of_each_kind_is_issued_logged_and_installed(office: Office, kind: Kind) -> None:
    path = office.issue(kind, *NEEDS.get(kind, ()), "--quantity", "2")
    found = _license(office, path)
    assert (found.kind, found.quantity, found.revision) == (kind, 2, 1)
    (line,) = office.log()
    assert line["sha256"] == office.read(path).payload_sha256()
    assert (line["license_id"], line["revision"]) == (found.license_id, 1)
    assert abs(line["at"] - datetime.now(UTC).timestamp()) < 60
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store = LicenseStore(office.place / "license.d", office.place / "state", office.trust)
    store.install(path.read_bytes(), datetime.now(UTC).timestamp())


@pytest.mark.parametrize(
    ("words", "mistakes"),
    [
        (("volume",), ("limits.volume belongs", "at least one endpoint")),
        (("volume", "--emails", "5", "--endpoint", "http://x"), ("https://",)),
        (
            ("enterprise_server", "--emails", "5", "--recipients", "@x"),
            ("limits.volume", "limits.dev"),
        ),
        (("hot_backup",), ("names its pair_group",)),
        (("standard_server", "--order", ""), ("order_ref",)),
    ],
)
def test_what_the_order_gets_wrong_is_told_at_once_and_nothing_is_issued(
    office: Office, words: tuple[str, ...], mistakes: tuple[str, ...]
) -> None:
    told = office.refusal(
        "issue", "--licensee", "E", "--order", "O", *office.term(), "--kind", *words
    )
    for each in mistakes:
        assert each in told


def test_a_term_that_ends_before_it_begins_is_refused(office: Office) -> None:
    told = office.refusal(
        *("issue", "--kind", "enterprise_server", "--licensee", "E", "--order", "O"),
        *("--from", "2027-01-01", "--to", "2026-01-01"),
    )
    assert "not_before < expires_at" in told


@pytest.mark.parametrize("text", ["tomorrow", "2027-01-01T00:00:00", "01.01.2027"])
def test_a_moment_without_a_zone_is_not_guessed(office: Office, text: str) -> None:
    result = office.run(
        *("issue", "--kind", "enterprise_server", "--licensee", "E", "--order", "O"),
        *("--from", text, "--to", "2028-01-01"),
    )
    assert result.exit_code == 2
    assert not (office.folder / "issued.jsonl").exists()


def test_a_licence_can_go_to_standard_output(office: Office) -> None:
    result = office.run(
        *("issue", "--kind", "enterprise_server", "--licensee", "E", "--order", "O"),
        *office.term(),
    )
    assert result.stdout.startswith("-----BEGIN SLUICE LICENSE-----")
    assert result.stdout.endswith("-----END SLUICE LICENSE-----\n")


def test_a_key_issues_only_the_kinds_it_was_given(office: Office) -> None:
    office.do("key", "new", "trials", "--unprotected")
    sticks = ("--root-key", office.stick("anna"), "--root-key", office.stick("bela"))
    office.do(
        *("key", "delegate", "trials", "--role", "license-signing", "--kind", "development"),
        *sticks,
    )
    office.issue("development", "--key", "trials")
    told = office.refusal(
        *("issue", "--key", "trials", "--kind", "enterprise_server"),
        *("--licensee", "E", "--order", "O", *office.term()),
    )
    assert "may not sign enterprise_server" in told


def test_two_commands_do_not_work_in_one_folder_at_once(office: Office) -> None:
    with (office.folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        told = office.refusal(
            *("issue", "--kind", "enterprise_server", "--licensee", "E", "--order", "O"),
            *office.term(),
        )
    assert "another command is at work" in told


# -- renew and upgrade --------------------------------------------------------------------------------


def test_a_renewal_begins_where_the_term_ends_and_keeps_what_was_bought(office: Office) -> None:
    first = _license(office, office.issue("volume", *VOLUME, "--overage-pct", "10"))
    path = office.place / "next.lic"
    end = f"{first.expires_at.year + 1}-01-01"
    office.do("renew", first.license_id, "--to", end, "-o", str(path))
    second = _license(office, path)
    assert (second.license_id, second.revision) == (first.license_id, 2)
    assert second.not_before == first.expires_at
    assert second.expires_at.isoformat().startswith(end)
    assert second.terminate_at - second.expires_at == first.terminate_at - first.expires_at
    kept = ("kind", "quantity", "licensee", "reporting", "count", "binding", "grace", "crit")
    assert [getattr(second, name) for name in kept] == [getattr(first, name) for name in kept]
    assert first.limits.volume is not None and second.limits.volume is not None
    assert (second.limits.volume.emails, second.limits.volume.overage_pct) == (1000, 10)


def test_an_upgrade_changes_what_is_named_and_nothing_else(office: Office) -> None:
    first = _license(office, office.issue("standard_server"))
    path = office.place / "more.lic"
    office.do("upgrade", first.license_id, "--quantity", "4", "-o", str(path))
    second = _license(office, path)
    assert second == msgspec.structs.replace(
        first,
        revision=2,
        quantity=4,
        issued_at=second.issued_at,
        limits=msgspec.structs.replace(first.limits, max_nodes=4),
    )


def test_an_upgrade_may_be_to_another_product(office: Office) -> None:
    first = _license(office, office.issue("standard_server"))
    path = office.place / "more.lic"
    office.do("upgrade", first.license_id, "--kind", "enterprise_server", "-o", str(path))
    assert _license(office, path).limits.conn_per_seat is None


def test_an_upgrade_within_the_term_does_not_begin_the_renewal_that_waits(office: Office) -> None:
    first = _license(office, office.issue("volume", *VOLUME))
    end = f"{first.expires_at.year + 1}-01-01"
    office.do("renew", first.license_id, "--to", end, "-o", str(office.place / "next.lic"))
    path = office.place / "more.lic"
    said = office.do("upgrade", first.license_id, "--emails", "5000", "-o", str(path))
    third = _license(office, path)
    assert (third.revision, third.expires_at) == (3, first.expires_at)
    assert "`renew` it again" in said


def test_an_upgrade_that_changes_nothing_is_refused(office: Office) -> None:
    first = _license(office, office.issue("standard_server"))
    assert "changes something" in office.refusal("upgrade", first.license_id)


@pytest.mark.parametrize("command", ["renew", "upgrade", "revoke"])
def test_a_licence_that_was_never_issued_is_not_changed(office: Office, command: str) -> None:
    words = {
        "renew": ("--to", "2099-01-01"),
        "upgrade": ("--quantity", "2"),
        "revoke": ("--effective-at", "2099-01-01", "--reason", "none"),
    }[command]
    unknown = "L" + "0" * 26
    assert "not in the issuance log" in office.refusal(command, unknown, *words)


def test_an_issued_file_that_was_altered_is_not_built_upon(office: Office) -> None:
    found = _license(office, office.issue("standard_server"))
    (path,) = (office.folder / "issued").iterdir()
    path.write_bytes(Vendor().file(Kind.STANDARD_SERVER))
    assert "not what the issuance log says" in office.refusal(
        "upgrade", found.license_id, "--quantity", "2"
    )


def test_a_log_that_was_edited_names_its_line(office: Office) -> None:
    found = _license(office, office.issue("standard_server"))
    office.issue("standard_server")
    log = office.folder / "issued.jsonl"
    log.write_text(log.read_text() + "{}\n")
    assert "line 3" in office.refusal("upgrade", found.license_id, "--quantity", "2")


# -- revoke -------------------------------------------------------------------------------------------


def test_a_revocation_is_never_at_once_and_its_number_rises(office: Office) -> None:
    first = _license(office, office.issue("standard_server"))
    second = _license(office, office.issue("enterprise_server"))
    now = datetime.now(UTC)
    told = office.refusal(
        *("revoke", first.license_id, "--reason", "termination"),
        *("--effective-at", (now + timedelta(hours=23)).isoformat()),
    )
    assert "at the earliest" in told
    path = office.place / "revoked"
    for number, found in enumerate((first, second), 1):
        day = f"{now + timedelta(days=20):%Y-%m-%d}"
        office.do(
            *("revoke", found.license_id, "--effective-at", day),
            *("--reason", "termination", "-o", str(path)),
        )
        opened = office.trust.open(office.read(path), REVOCATIONS)
        listed = decode_closed(opened.payload, Revocations)
        assert (listed.number, len(listed.revoked)) == (number, number)
    store = LicenseStore(office.place / "license.d", office.place / "state", office.trust)
    assert store.keep_revocations(office.read(path))


# -- activation by hand -------------------------------------------------------------------------------


def _request(node: NodeKey, found: License, sha256: str, **changes: Any) -> bytes:
    request = ActivationRequest(
        license_sha256=sha256,
        license_id=found.license_id,
        revision=found.revision,
        node_pub=node.public,
        fp={"machine_id": "0" * 32},
        server_class="vm",
        version="1.0",
        nonce="n" * 16,
        wall=1,
    )
    request = msgspec.structs.replace(request, **changes)
    return encode_envelope(node.sign(ACTIVATION_REQUEST, msgspec.json.encode(request)))


class Activating:
    """An office, a licence it issued, and nodes that ask for seats."""

    def __init__(self, office: Office, kind: str, *more: str) -> None:
        self.office = office
        path = office.issue(kind, *more)
        self.found = _license(office, path)
        self.sha256 = office.read(path).payload_sha256()

    def node(self, name: str) -> NodeKey:
        return NodeKey.of(self.office.place / name)

    def words(self, data: bytes) -> tuple[str, ...]:
        path = self.office.place / "request"
        path.write_bytes(data)
        return "activate-offline", str(path), "-o", str(self.office.place / "act.lic")

    def ask(self, name: str, **changes: Any) -> Activation:
        data = _request(self.node(name), self.found, self.sha256, **changes)
        self.office.do(*self.words(data))
        envelope = self.office.read(self.office.place / "act.lic")
        opened = self.office.trust.open(envelope, ACTIVATION, kind=self.found.kind)
        return decode_closed(opened.payload, Activation)

    def refused(self, name: str, **changes: Any) -> str:
        data = _request(self.node(name), self.found, self.sha256, **changes)
        return self.office.refusal(*self.words(data))


def test_a_node_is_activated_by_hand_and_asking_again_takes_no_second_seat(office: Office) -> None:
    licence = Activating(office, "standard_server")
    first = licence.ask("one")
    assert first.node_id == licence.node("one").id
    assert first.fp == {"machine_id": "0" * 32}
    assert first.valid_until == int(licence.found.terminate_at.timestamp())
    assert licence.ask("one").activation_id == first.activation_id
    told = licence.refused("two")
    assert "0 of 1 free" in told and first.activation_id in told
    office.do("activate-offline", "--release", first.activation_id)
    assert licence.ask("two").activation_id != first.activation_id


def test_several_seats_are_taken_by_one_node_or_by_several(office: Office) -> None:
    licence = Activating(office, "standard_server", "--quantity", "3")
    assert licence.ask("one", seats=2).seats == 2
    licence.refused("two", seats=2)
    licence.ask("two")
    licence.refused("one", seats=3)


def test_a_volume_licence_is_activated_anywhere_but_is_heard_of_again(office: Office) -> None:
    licence = Activating(office, "volume", *VOLUME)
    until = [licence.ask(name).valid_until for name in ("one", "two", "three")]
    soon = datetime.now(UTC) + timedelta(days=35)
    assert all(abs(each - soon.timestamp()) < 60 for each in until)
    by_hand = Activating(office, "volume", *VOLUME, "--offline-reports")
    assert by_hand.ask("one").valid_until == int(by_hand.found.terminate_at.timestamp())


def test_a_backup_begins_standing_by(office: Office) -> None:
    licence = Activating(office, "hot_backup", *NEEDS["hot_backup"])
    assert licence.ask("one", server_class="backup").role == "standby"


def test_a_request_for_what_was_not_issued_is_refused(office: Office) -> None:
    licence = Activating(office, "standard_server")
    assert "never issued here" in licence.refused("one", license_sha256="0" * 64)
    assert "not in the issuance log" in licence.refused("one", license_id=new_id("L", 0))
    assert "not a backup" in licence.refused("one", server_class="backup")


def test_a_request_signed_by_another_key_is_refused(office: Office) -> None:
    licence = Activating(office, "standard_server")
    other = licence.node("two").public
    assert "signature does not match" in licence.refused("one", node_pub=other)
    ack = Vendor().issue(Kind.VOLUME)
    assert "not a request" in office.refusal(*licence.words(encode_envelope(ack)))


# -- inspect ------------------------------------------------------------------------------------------


def test_a_file_is_shown_with_its_verdict(office: Office) -> None:
    path = office.issue("standard_server", "--quantity", "7")
    shown = json.loads(office.do("inspect", str(path), "--json"))
    assert shown["believed"] and shown["statement"]["quantity"] == 7
    assert shown["signed_by"]["role"] == "license-signing"
    text = office.do("inspect", str(path))
    assert re.search(r"quantity +│ 7", text) and "NOT believed" not in text


def test_a_forged_file_is_shown_and_not_believed(office: Office) -> None:
    path = office.place / "forged.lic"
    path.write_text(format_armour(Vendor().issue(Kind.VOLUME)))
    result = office.run("inspect", str(path), "--json")
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert not shown["believed"] and "signature does not match" in shown["because"]


def test_without_a_folder_a_file_is_judged_by_the_built_in_root(tmp_path: Path) -> None:
    path = tmp_path / "some.lic"
    path.write_bytes(Vendor().file(Kind.DEVELOPMENT))
    result = Office(tmp_path).run("inspect", str(path))
    assert result.exit_code == 1 and "NOT believed" in result.output
