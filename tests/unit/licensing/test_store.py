"""Real files in a folder of the test's; time is an argument."""

import json
import os
import resource
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.envelope import encode_envelope, format_armour, parse_armour
from licensing.errors import LicenseError
from licensing.model.fields import REVOCATIONS
from licensing.model.license import Kind, License, Limitation
from licensing.model.trust import Revocation, Revocations
from licensing.store import MAX_FILE_BYTES, MAX_FILES, LicenseStore, file_name
from licensing.trust import Trust
from tests.support.vendor import ENDS, ISSUED, STARTS, Vendor

NOW = (STARTS + timedelta(days=10)).timestamp()
SECOND = timedelta(seconds=1)


class Node:
    """A machine on which licences are installed, and the vendor it believes."""

    def __init__(self, place: Path, vendor: Vendor | None = None) -> None:
        self.vendor = vendor or Vendor()
        self.dir, self.state = place / "license.d", place / "state"
        self.trust = self.vendor.trust
        self.store = LicenseStore(self.dir, self.state, self.trust)

    def restart(self) -> None:
        self.store = LicenseStore(self.dir, self.state, self.trust)

    def install(self, found: License, now: float = NOW, **options: Any) -> None:
        file = format_armour(self.vendor.sign_license(found)).encode()
        self.store.install(file, now, **options)

    def put(self, found: License, name: str) -> Path:
        """By hand, as an operator or a tool for configuration would."""
        self.dir.mkdir(exist_ok=True)
        path = self.dir / name
        path.write_bytes(format_armour(self.vendor.sign_license(found)).encode())
        return path

    def chosen(self, now: float = NOW) -> list[tuple[str, int]]:
        found = self.store.read(now).chosen
        return sorted((each.license.license_id, each.license.revision) for each in found)

    def reasons(self, now: float = NOW) -> list[str]:
        return sorted(each.code for each in self.store.read(now).passed_over)

    def refusal(self, data: bytes, now: float = NOW) -> str:
        before = snapshot(self.dir)
        with pytest.raises(LicenseError) as caught:
            self.store.install(data, now)
        assert snapshot(self.dir) == before
        return caught.value.code


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def revised(found: License, revision: int, **changes: Any) -> License:
    return msgspec.structs.replace(found, revision=revision, **changes)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


# -- installing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_what_is_installed_is_in_force_and_after_a_restart_too(node: Node, kind: Kind) -> None:
    found = node.vendor.license(kind, quantity=2)
    node.install(found)
    for _ in range(2):
        selection = node.store.read(NOW)
        assert [each.license for each in selection.chosen] == [found]
        assert selection.seats == 2
        assert selection.passed_over == selection.staged == selection.altered == ()
        node.restart()


def test_files_are_for_their_owner_only_and_nothing_half_written_is_left(node: Node) -> None:
    found = node.vendor.license(Kind.VOLUME)
    node.install(found)
    files = [path for path in (node.dir, node.state) for path in path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == sorted(
        [file_name(found), file_name(found), "store.json"]
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_installing_twice_changes_nothing(node: Node) -> None:
    file = node.vendor.file(Kind.VOLUME)
    node.store.install(file, NOW)
    before = snapshot(node.dir)
    node.store.install(file, NOW)
    assert snapshot(node.dir) == before
    assert len(node.chosen()) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed"),
        (b"hello", "malformed"),
        (b"\xff" * 100, "malformed"),
        (b"x" * (MAX_FILE_BYTES + 1), "too_large"),
    ],
)
def test_what_is_no_licence_is_refused(node: Node, data: bytes, code: str) -> None:
    node.install(node.vendor.license(Kind.VOLUME))
    assert node.refusal(data) == code
    assert len(node.chosen()) == 1


def test_a_licence_whose_fields_are_wrong_is_refused_though_it_is_signed(node: Node) -> None:
    wrong = node.vendor.license(Kind.VOLUME, limitation=Limitation.NONE)
    assert node.refusal(format_armour(node.vendor.sign_license(wrong)).encode()) == "fields"


def test_a_licence_that_is_over_is_refused(node: Node) -> None:
    file = node.vendor.file(Kind.VOLUME)
    assert node.refusal(file, (ENDS + timedelta(days=31)).timestamp()) == "ended"


FILE_VENDOR = Vendor()
FILE = FILE_VENDOR.file(Kind.STANDARD_SERVER, quantity=2)


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node on which FILE is installed; every example finds it as it was."""
    node = Node(tmp_path_factory.mktemp("holder"), FILE_VENDOR)
    node.store.install(FILE, NOW)
    return node


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_any_changed_byte_of_a_file_is_refused_and_the_installed_one_stays(
    holder: Node, position: int, difference: int
) -> None:
    node = holder
    changed = bytearray(FILE)
    changed[position] ^= difference
    before = snapshot(node.dir)
    try:
        node.store.install(bytes(changed), NOW)
    except LicenseError:
        assert snapshot(node.dir) == before
    else:
        # Only what is no part of the envelope may differ: space between the lines, and hints for people.
        assert _meaning(bytes(changed)) == _meaning(FILE)
    assert [each.license.quantity for each in node.store.read(NOW).chosen] == [2]


def _meaning(file: bytes) -> tuple[str, str]:
    envelope = parse_armour(file)
    return envelope.payload_type, envelope.payload_sha256()


# -- terms and revisions ------------------------------------------------------------------------------


def test_a_renewal_installed_early_takes_over_at_its_second_with_no_gap(node: Node) -> None:
    present = node.vendor.license(Kind.VOLUME)
    node.install(present)
    renewal = revised(
        present,
        2,
        not_before=ENDS,
        expires_at=ENDS + timedelta(days=365),
        terminate_at=ENDS + timedelta(days=365),
    )
    node.install(renewal)
    assert [each.license.revision for each in node.store.read(NOW).staged] == [2]

    def revisions(at: datetime) -> list[int]:
        return [each.license.revision for each in node.store.read(at.timestamp()).chosen]

    assert revisions(ENDS - SECOND) == [1]
    assert revisions(ENDS) == [2]
    node.restart()
    assert revisions(ENDS + SECOND) == [2]


def test_a_licence_before_its_term_is_staged(node: Node) -> None:
    node.install(node.vendor.license(Kind.VOLUME), ISSUED.timestamp())
    for at, chosen, staged in ((STARTS - SECOND, 0, 1), (STARTS, 1, 0)):
        selection = node.store.read(at.timestamp())
        assert (len(selection.chosen), len(selection.staged)) == (chosen, staged)


def test_an_upgrade_takes_the_file_of_the_revision_before_away(node: Node) -> None:
    present = node.vendor.license(Kind.STANDARD_SERVER)
    node.install(present)
    node.install(revised(present, 2, quantity=5))
    assert node.store.read(NOW).seats == 5
    assert [path.name for path in node.dir.iterdir()] == [file_name(revised(present, 2))]


def test_a_licence_that_is_over_is_chosen_only_where_nothing_better_is(node: Node) -> None:
    short = node.vendor.license(Kind.VOLUME, terminate_at=ENDS)
    node.install(short)
    late = (ENDS + SECOND).timestamp()
    assert node.chosen(late) == [(short.license_id, 1)]  # it says EXPIRED, and since when
    better = node.vendor.license(
        Kind.VOLUME, expires_at=ENDS + timedelta(days=9), terminate_at=ENDS + timedelta(days=9)
    )
    node.install(better, late)
    assert node.chosen(late) == [(better.license_id, 1)]
    assert node.reasons(late) == ["ended"]


def test_a_licence_that_another_supersedes_is_not_in_force(node: Node) -> None:
    old = node.vendor.license(Kind.STANDARD_SERVER)
    new = node.vendor.license(Kind.VOLUME, supersedes=(old.license_id,))
    node.install(old)
    node.install(new)  # no --replace is needed: the vendor says so
    assert node.chosen() == [(new.license_id, 1)]
    assert node.reasons() == ["superseded"]


def test_when_a_licence_was_seen_first_stays_over_renewal_and_restart(node: Node) -> None:
    present = node.vendor.license(Kind.VOLUME)
    node.install(present)
    node.restart()
    node.install(revised(present, 2), NOW + 100)
    assert [each.first_seen for each in node.store.read(NOW + 200).chosen] == [NOW]


# -- several licences ---------------------------------------------------------------------------------


def test_seats_of_different_server_licences_add_up_and_a_copied_file_adds_nothing(
    node: Node,
) -> None:
    one = node.vendor.license(Kind.STANDARD_SERVER, quantity=2)
    node.install(one)
    node.install(node.vendor.license(Kind.STANDARD_SERVER, quantity=3))
    assert node.store.read(NOW).seats == 5
    (node.dir / "again.lic").write_bytes((node.dir / file_name(one)).read_bytes())
    assert node.store.read(NOW).seats == 5
    assert node.reasons() == ["twin"]


SINGLE = [Kind.ENTERPRISE_SERVER, Kind.VOLUME, Kind.HOT_BACKUP, Kind.DEVELOPMENT]


@pytest.mark.parametrize("there", SINGLE)
@pytest.mark.parametrize("coming", SINGLE)
def test_kinds_that_do_not_mix_replace_each_other_only_when_told(
    node: Node, there: Kind, coming: Kind
) -> None:
    first, second = node.vendor.license(there), node.vendor.license(coming)
    node.install(first)
    if there is coming:
        node.install(second)
        return
    file = format_armour(node.vendor.sign_license(second)).encode()
    assert node.refusal(file) == "mixed"
    assert node.chosen() == [(first.license_id, 1)]
    node.install(second, replace_others=True)
    assert node.chosen() == [(second.license_id, 1)]
    assert node.reasons() == []


def test_of_kinds_mixed_by_hand_production_and_what_was_first_stays(node: Node) -> None:
    server = node.vendor.license(Kind.ENTERPRISE_SERVER)
    node.put(node.vendor.license(Kind.DEVELOPMENT, issued_at=ISSUED - SECOND), "a.lic")
    node.put(node.vendor.license(Kind.VOLUME, issued_at=ISSUED + SECOND), "b.lic")
    node.put(server, "c.lic")
    assert node.chosen() == [(server.license_id, 1)]
    assert node.reasons() == ["mixed", "mixed"]


def test_of_two_volume_licences_one_is_in_force_until_it_is_over(node: Node) -> None:
    first = node.vendor.license(Kind.VOLUME, issued_at=ISSUED - SECOND)
    second = node.vendor.license(Kind.VOLUME, expires_at=ENDS + SECOND)
    node.install(first)
    node.install(second)
    assert node.chosen() == [(first.license_id, 1)]
    assert node.reasons() == ["one_only"]
    assert node.chosen(ENDS.timestamp()) == [(second.license_id, 1)]


# -- files altered, missing, foreign ------------------------------------------------------------------


def test_an_altered_file_is_served_from_its_copy_and_said(node: Node) -> None:
    found = node.vendor.license(Kind.VOLUME)
    node.install(found)
    path = node.dir / file_name(found)
    path.write_bytes(path.read_bytes()[:-40])
    node.restart()
    selection = node.store.read(NOW)
    assert [each.license for each in selection.chosen] == [found]
    assert selection.chosen[0].is_copy
    assert selection.altered == (path,)
    assert not selection.is_tampered


def test_an_altered_file_without_a_copy_is_tampered_and_a_foreign_one_is_not(node: Node) -> None:
    found = node.vendor.license(Kind.VOLUME)
    node.install(found)
    path = node.dir / file_name(found)
    path.write_bytes(b"nothing")
    (node.state / "good" / path.name).unlink()
    selection = node.store.read(NOW)
    assert selection.is_tampered and selection.altered == (path,)
    path.rename(node.dir / "foreign.lic")
    selection = node.store.read(NOW)
    assert not selection.is_tampered and selection.chosen == ()


def test_a_file_that_is_removed_is_no_longer_in_force(node: Node) -> None:
    found = node.vendor.license(Kind.VOLUME)
    node.install(found)
    (node.dir / file_name(found)).unlink()
    assert node.chosen() == []


def test_what_cannot_be_read_is_said_and_the_others_are_read(node: Node) -> None:
    found = node.vendor.license(Kind.VOLUME)
    node.install(found)
    os.mkfifo(node.dir / "pipe.lic")
    (node.dir / "folder.lic").mkdir()
    (node.dir / "notes.txt").write_text("not looked at")
    assert node.chosen() == [(found.license_id, 1)]
    assert node.reasons() == ["unreadable", "unreadable"]


def test_more_files_than_the_bound_are_not_looked_at(node: Node) -> None:
    node.dir.mkdir()
    for number in range(MAX_FILES + 2):
        (node.dir / f"{number:03}.lic").write_text("x")
    assert node.reasons().count("too_many") == 2
    assert node.refusal(node.vendor.file(Kind.VOLUME)) == "too_many"


def test_copies_are_bounded(node: Node) -> None:
    copies = node.state / "good"
    copies.mkdir(parents=True)
    for number in range(300):
        (copies / f"old{number}.lic").write_text("x")
    node.install(node.vendor.license(Kind.VOLUME))
    assert len(list(copies.iterdir())) == 256
    assert len(node.chosen()) == 1


def test_licences_installed_by_several_threads_are_all_remembered(node: Node) -> None:
    every = [node.vendor.license(Kind.STANDARD_SERVER) for _ in range(12)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(node.install, every))
    assert node.store.read(NOW).seats == 12
    memory = json.loads((node.state / "store.json").read_text())
    assert sorted(memory["first_seen"]) == sorted(each.license_id for each in every)


@pytest.mark.parametrize("room", [0, 1000])
def test_where_the_disk_is_full_nothing_is_installed_and_the_old_licence_stays(
    node: Node, room: int
) -> None:
    present = node.vendor.license(Kind.VOLUME)
    node.install(present)
    file = format_armour(node.vendor.sign_license(revised(present, 2))).encode()
    before = snapshot(node.dir) | snapshot(node.state / "good")
    with no_file_longer_than(room), pytest.raises(OSError):
        node.store.install(file, NOW)
    assert snapshot(node.dir) | snapshot(node.state / "good") == before
    assert node.chosen() == [(present.license_id, 1)]
    node.store.install(file, NOW)
    assert node.chosen() == [(present.license_id, 2)]


def test_what_could_not_be_written_is_written_when_there_is_room_again(node: Node) -> None:
    node.put(node.vendor.license(Kind.VOLUME), "volume.lic")
    with no_file_longer_than(0):
        selection = node.store.read(NOW)
    assert len(selection.chosen) == 1 and "cannot be written" in selection.unremembered
    assert node.store.read(NOW + 5).unremembered == ""
    node.restart()
    assert node.store.read(NOW + 9).chosen[0].first_seen == NOW


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Every write beyond fails in this process, as on a full disk (EFBIG for ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# -- memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["store.json", "roots.json", "revocations.json"])
def test_memory_that_others_can_read_is_refused(node: Node, name: str) -> None:
    node.vendor.rotate()
    node.store.adopt_roots(tuple(node.vendor.roots))
    node.install(node.vendor.license(Kind.VOLUME))
    node.store.keep_revocations(node.vendor.revocations(1))
    (node.state / name).chmod(0o644)
    with pytest.raises(LicenseError, match="chmod 0600") as caught:
        node.restart()
    assert caught.value.code == "permissions"


@pytest.mark.parametrize("name", ["store.json", "roots.json", "revocations.json"])
def test_memory_that_is_damaged_is_said_and_the_licence_stays(node: Node, name: str) -> None:
    node.vendor.rotate()
    node.store.adopt_roots(tuple(node.vendor.roots))
    node.install(node.vendor.license(Kind.VOLUME))
    node.store.keep_revocations(node.vendor.revocations(1))
    (node.state / name).write_bytes(b"{")
    node.restart()
    assert len(node.chosen()) == 1
    assert [name in each for each in node.store.troubles] == [True]


def test_a_state_directory_that_cannot_be_written_stops_nothing(node: Node) -> None:
    found = node.vendor.license(Kind.VOLUME)
    node.put(found, "volume.lic")
    node.state.write_text("a file where a folder belongs")
    with pytest.raises(OSError):
        node.restart()
    selection = node.store.read(NOW)
    assert [each.license for each in selection.chosen] == [found]
    assert "cannot be written" in selection.unremembered


def test_newer_roots_of_a_licence_file_are_kept(node: Node) -> None:
    node.vendor.rotate(new_keys=True)
    node.vendor.delegate("license-signing")
    envelope = msgspec.structs.replace(
        node.vendor.issue(Kind.VOLUME, issued_at=node.vendor.root.issued_at),
        roots=tuple(node.vendor.roots[1:]),
    )
    late = (node.vendor.root.issued_at + timedelta(days=100)).timestamp()
    node.store.install(format_armour(envelope).encode(), late)
    node.restart()
    assert node.store.trust.root.version == 2
    assert not node.store.adopt_roots(tuple(node.vendor.roots))


def test_a_root_of_somebody_else_is_not_kept(node: Node) -> None:
    thief = Vendor()
    thief.rotate()
    with pytest.raises(LicenseError):
        node.store.adopt_roots(tuple(thief.roots))
    assert not node.state.exists()


# -- revocations --------------------------------------------------------------------------------------


def _revocation(found: License, at: datetime) -> Revocation:
    return Revocation(license_id=found.license_id, effective_at=at, reason="termination")


def test_a_revocation_is_known_before_it_is_effective_and_after_a_restart(node: Node) -> None:
    found = node.vendor.license(Kind.VOLUME)
    node.install(found)
    at = datetime.fromtimestamp(NOW, STARTS.tzinfo) + timedelta(days=30)
    assert node.store.keep_revocations(node.vendor.revocations(7, _revocation(found, at)))
    node.restart()
    (each,) = node.store.read(NOW).chosen
    assert each.revocation == _revocation(found, at)
    assert not each.has_ended(NOW)
    assert each.has_ended(at.timestamp())
    # Where nothing else is installed it stays: it says REVOKED, and why.
    assert len(node.chosen(at.timestamp())) == 1
    file = format_armour(node.vendor.sign_license(found)).encode()
    assert node.refusal(file, at.timestamp()) == "revoked"


def test_the_number_of_revocations_only_rises(node: Node) -> None:
    found = node.vendor.license(Kind.VOLUME)
    assert node.store.keep_revocations(node.vendor.revocations(2, _revocation(found, ENDS)))
    assert not node.store.keep_revocations(node.vendor.revocations(2))
    with pytest.raises(LicenseError, match="number 1"):
        node.store.keep_revocations(node.vendor.revocations(1))
    assert node.store.revocations_number == 2


def test_a_revocation_that_is_not_signed_by_a_revocation_key_is_ignored(node: Node) -> None:
    node.install(node.vendor.license(Kind.VOLUME))
    listed = Revocations(number=1, issued_at=ISSUED)
    for envelope in (
        Vendor().revocations(1),
        node.vendor.sign(REVOCATIONS, listed, role="server-online"),
        node.vendor.sign(REVOCATIONS, listed, role="license-signing"),
    ):
        with pytest.raises(LicenseError):
            node.store.keep_revocations(envelope)
    assert node.store.revocations_number == 0
    assert node.store.read(NOW).chosen[0].revocation is None


def test_a_root_named_by_hand_installs_development_licences_only(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.trust = Trust.load(encode_envelope(node.vendor.roots[0]), is_named=True)
    node.restart()
    assert node.refusal(node.vendor.file(Kind.VOLUME)) == "not_production"
    node.install(node.vendor.license(Kind.DEVELOPMENT))
    assert len(node.chosen()) == 1
