"""`sluice-license root` and `key`: several people, several keys, one root."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from licensing.errors import LicenseError
from licensing.store import LicenseStore
from licensing.trust import Trust
from tests.support.vendor_folder import ROOT_NAMES, Office


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office")).open()


@pytest.fixture
def ready(opened: Office, tmp_path: Path) -> Office:
    """An office where the ceremony is over."""
    return opened.copied_to(tmp_path)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_a_root_is_believed_when_two_of_three_have_signed(office: Office) -> None:
    office.make_sticks(*ROOT_NAMES)
    office.do("root", "init", *office.publics(*ROOT_NAMES))
    office.refusal("root", "export", "-o", str(office.place / "root.json"))
    assert "1 of 2" in office.do("root", "sign", "1", "--key", office.stick("anna"))
    office.refusal("root", "export", "-o", str(office.place / "root.json"))
    assert "has signed this already" in office.refusal(
        "root", "sign", "1", "--key", office.stick("anna")
    )
    assert "2 of 2" in office.do("root", "sign", "1", "--key", office.stick("cleo"))
    assert office.trust.root.version == 1
    assert office.trust.production


def test_a_stranger_s_key_signs_no_root(office: Office) -> None:
    office.make_sticks(*ROOT_NAMES, "eve")
    office.do("root", "init", *office.publics(*ROOT_NAMES))
    assert "not a key of the root" in office.refusal(
        "root", "sign", "1", "--key", office.stick("eve")
    )


def test_a_trial_root_is_not_for_production(office: Office) -> None:
    office.make_sticks("anna")
    office.do("root", "init", *office.publics("anna"), "--threshold", "1", "--trial")
    office.do("root", "sign", "1", "--key", office.stick("anna"))
    assert not office.trust.production


def test_a_second_first_root_is_refused(ready: Office) -> None:
    assert "rotate" in ready.refusal("root", "init", *ready.publics("anna"))


def test_the_mistakes_of_a_root_are_told_at_once(office: Office) -> None:
    office.make_sticks("anna")
    told = office.refusal("root", "init", *office.publics("anna", "anna"), "--threshold", "3")
    assert "named twice" in told and "cannot give 3" in told


def test_the_next_root_needs_keys_of_both(ready: Office) -> None:
    before = ready.trust
    ready.make_sticks("dora", "emil")
    ready.do("root", "rotate", *ready.publics("cleo", "dora", "emil"))
    ready.do("root", "sign", "2", "--key", ready.stick("dora"), "--key", ready.stick("emil"))
    told = ready.refusal("root", "export", "-o", str(ready.place / "root.json"))
    assert "keys of root 1: 0 of 2" in told
    # Who is in both signs for both.
    said = ready.do("root", "sign", "2", "--key", ready.stick("cleo"))
    assert "keys of root 1: 1 of 2" in said
    ready.do("root", "sign", "2", "--key", ready.stick("anna"))
    after = ready.trust
    assert after.root.version == 2
    assert before.advance(after.roots_after(1)).root == after.root


def test_old_licences_and_old_keys_are_good_after_a_planned_rotation(ready: Office) -> None:
    before, old = ready.trust, ready.issue("enterprise_server")
    ready.do("root", "rotate")
    ready.do("root", "sign", "2", "--key", ready.stick("anna"), "--key", ready.stick("bela"))
    assert ready.trust.open_license(ready.read(old))
    new = ready.issue("enterprise_server", output="second.lic")
    assert ready.read(new).roots  # it brings root 2 to those who have root 1 built in
    assert before.open_license(ready.read(new))


def test_after_a_theft_only_what_the_log_knows_stays_valid(ready: Office) -> None:
    genuine = ready.read(ready.issue("enterprise_server"))
    ready.do("root", "rotate", "--compromised", "issuing")
    ready.do("root", "sign", "2", "--key", ready.stick("anna"), "--key", ready.stick("bela"))
    root = ready.trust.root
    assert root.known_good == (ready.log()[0]["sha256"],)
    assert ready.trust.open_license(genuine)
    told = ready.refusal(
        "issue", "--kind", "enterprise_server", "--licensee", "E", "--order", "O", *ready.term()
    )
    assert "no key may sign" in told
    ready.make_key("issuing2", "license-signing")
    assert ready.trust.open_license(ready.read(ready.issue("volume", *VOLUME)))


VOLUME = ("--emails", "1000", "--endpoint", "https://license.vendor.example")


def test_a_withdrawn_key_signs_no_more(ready: Office) -> None:
    kept = ready.read(ready.issue("enterprise_server", "--key", "issuing"))
    ready.do("root", "rotate", "--revoked-after", "issuing=2099-01-01")
    ready.do("root", "sign", "2", "--key", ready.stick("anna"), "--key", ready.stick("bela"))
    assert ready.trust.open_license(kept)
    ready.do("root", "rotate", "--revoked-after", "issuing=2020-01-01")
    ready.do("root", "sign", "3", "--key", ready.stick("anna"), "--key", ready.stick("bela"))
    with pytest.raises(LicenseError, match="withdrawn"):
        ready.trust.open_license(kept)


def test_a_delegation_that_is_not_signed_enough_signs_nothing(ready: Office) -> None:
    ready.do("key", "new", "late", "--unprotected")
    said = ready.do("key", "delegate", "late", "--role", "license-signing")
    assert "0 of 2" in said
    ready.refusal(
        "issue",
        *("--key", "late", "--kind", "enterprise_server", "--licensee", "E", "--order", "O"),
        *ready.term(),
    )
    for name in ("anna", "bela"):
        ready.do("root", "sign", "late", "--key", ready.stick(name))
    ready.issue("enterprise_server", "--key", "late")


def test_the_roots_and_keys_are_listed(ready: Office) -> None:
    (root,) = json.loads(ready.do("root", "show", "--json"))
    assert root["complete"] and len(root["keys"]) == 3
    keys = {each["name"]: each for each in json.loads(ready.do("key", "list", "--json"))}
    assert keys["issuing"]["role"] == "license-signing" and len(keys["issuing"]["kinds"]) == 6
    assert keys["online"]["kinds"] == []
    for text in (ready.do("root", "show"), ready.do("key", "list")):
        assert "production" in text or "server-online" in text


# -- keys ---------------------------------------------------------------------------------------------


def test_a_key_is_for_its_owner_only_and_never_written_over(office: Office) -> None:
    office.do("key", "new", "one", "--unprotected")
    path = office.folder / "keys" / "one.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "never written over" in office.refusal("key", "new", "one", "--unprotected")


def test_a_passphrase_is_asked_for_twice_and_needed_ever_after(ready: Office) -> None:
    ready.do("key", "new", "guarded", typed="open sesame\nopen sesame\n")
    assert b"ENCRYPTED" in (ready.folder / "keys" / "guarded.pem").read_bytes()
    sticks = ("--root-key", ready.stick("anna"), "--root-key", ready.stick("bela"))
    ready.do("key", "delegate", "guarded", "--role", "license-signing", *sticks)
    issue = (
        *("issue", "--key", "guarded", "--kind", "enterprise_server"),
        *("--licensee", "E", "--order", "O", *ready.term()),
    )
    assert "wrong passphrase" in ready.refusal(*issue, secret="guess")
    ready.do(*issue, secret="open sesame")
    ready.do(*issue, typed="open sesame\n")


def test_a_key_others_can_read_signs_nothing(ready: Office) -> None:
    (ready.folder / "keys" / "issuing.pem").chmod(0o640)
    told = ready.refusal(
        "issue", "--kind", "enterprise_server", "--licensee", "E", "--order", "O", *ready.term()
    )
    assert "chmod 0600" in told


@pytest.mark.parametrize("name", ["../evil", "7", "", "a b"])
def test_a_key_s_name_is_a_name(office: Office, name: str) -> None:
    assert "name has letters" in office.refusal("key", "new", name, "--unprotected")


def test_an_unknown_role_is_refused(ready: Office) -> None:
    ready.do("key", "new", "king", "--unprotected")
    assert "no role" in ready.refusal("key", "delegate", "king", "--role", "emperor")


def test_what_is_exported_is_what_a_release_loads(ready: Office) -> None:
    licence = ready.read(ready.issue("development", "--recipients", "@Example.test"))
    path = ready.place / "root.json"
    assert ready.trust.open_license(licence)
    named = Trust.load(path.read_bytes(), is_named=True)
    found, opened = named.open_license(licence)
    assert found.limits.dev is not None and found.limits.dev.recipients == ("@example.test",)
    assert not opened.production


def test_a_root_too_large_for_a_licence_file_travels_by_itself(
    ready: Office, tmp_path: Path
) -> None:
    ready.issue("enterprise_server")
    first = ready.trust
    log = ready.folder / "issued.jsonl"
    line = json.loads(log.read_text())
    others = [{**line, "sha256": f"{number:064x}"} for number in range(1_000)]
    log.write_text(log.read_text() + "".join(json.dumps(each) + "\n" for each in others))
    ready.do("root", "rotate", "--compromised", "issuing")
    ready.do("root", "sign", "2", "--key", ready.stick("anna"), "--key", ready.stick("bela"))
    ready.make_key("issuing2", "license-signing")
    path = tmp_path / "repaired.lic"
    said = ready.do(
        *("issue", "--kind", "enterprise_server", "--licensee", "E", "--order", "O"),
        *(*ready.term(), "-o", str(path)),
    )
    assert "too large to travel" in said
    store = LicenseStore(tmp_path / "license.d", tmp_path / "state", first)
    assert ready.trust.root.version == 2
    assert store.install_roots((tmp_path / "root.json").read_bytes())
    store.install(path.read_bytes(), datetime.now(UTC).timestamp())


def test_after_the_theft_of_a_root_key_the_log_keeps_what_was_issued(ready: Office) -> None:
    genuine = ready.read(ready.issue("enterprise_server"))
    (anna, *_) = json.loads(ready.do("root", "show", "--json"))[0]["keys"]
    ready.make_sticks("dora")
    ready.do("root", "rotate", "--compromised", anna, *ready.publics("bela", "cleo", "dora"))
    ready.do("root", "sign", "2", "--key", ready.stick("bela"), "--key", ready.stick("cleo"))
    assert ready.trust.open_license(genuine)
    sticks = ("--root-key", ready.stick("cleo"), "--root-key", ready.stick("dora"))
    words = ("issue", "--kind", "enterprise_server", "--licensee", "E", "--order", "O")
    assert "stolen" in ready.refusal(*words, *ready.term())
    ready.do("key", "delegate", "issuing", "--role", "license-signing", *sticks)
    assert ready.trust.open_license(ready.read(ready.issue("enterprise_server")))
