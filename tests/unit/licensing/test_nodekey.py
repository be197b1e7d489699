import base64
import os
import stat
from pathlib import Path

import pytest

from licensing.envelope import verify
from licensing.errors import LicenseError
from licensing.nodekey import NodeKey, node_id, shred
from licensing.trust import read_key


def test_a_key_is_made_once_and_is_the_same_ever_after(tmp_path: Path) -> None:
    state = tmp_path / "license"
    first = NodeKey.of(state)
    assert NodeKey.of(state).id == NodeKey.load(state / "node.key").id == first.id
    assert stat.S_IMODE((state / "node.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert os.listdir(state) == ["node.key"]  # nothing half-written beside it


def test_the_id_is_26_small_letters_and_digits_of_the_digest() -> None:
    # SHA-256 of 32 zero bytes begins 66687aadf862bd77…
    assert node_id(bytes(32)) == "mzuhvlpymk6xo3epygfy5h4oea"
    key = node_id(bytes(range(32)))
    assert len(key) == 26 and key == key.lower() and key.isalnum()


def test_others_can_verify_what_it_signs(tmp_path: Path) -> None:
    key = NodeKey.create(tmp_path / "node.key")
    public = read_key(key.public)
    assert node_id(base64.b64decode(key.public)) == key.id
    payload, _ = verify(key.sign("t", b"payload"), "t", {"": public})
    assert payload == b"payload"


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    before = NodeKey.create(path)
    with pytest.raises(LicenseError, match="never replaced"):
        NodeKey.create(path)
    assert NodeKey.load(path).id == before.id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    NodeKey.create(path)
    path.chmod(mode)
    with pytest.raises(LicenseError, match="chmod 0600") as caught:
        NodeKey.of(tmp_path)
    assert caught.value.code == "permissions"


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(LicenseError, match="put back the file"):
        NodeKey.of(tmp_path)
    assert path.read_bytes() == content


def test_a_file_far_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.touch(0o600)
    path.write_bytes(b"x" * 5000)
    with pytest.raises(LicenseError, match="4096 bytes"):
        NodeKey.load(path)


def test_a_credential_stands_before_the_file(tmp_path: Path) -> None:
    credentials, state = tmp_path / "credentials", tmp_path / "state"
    given = NodeKey.create(credentials / "node.key")
    assert NodeKey.of(state, credentials).id == given.id
    assert not state.exists()
    # systemd guards it by an ACL, whose mask shows as the rights of the group.
    (credentials / "node.key").chmod(0o440)
    assert NodeKey.of(state, credentials).id == given.id
    assert NodeKey.of(state, tmp_path / "none").id != given.id


def test_a_shredded_key_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    before = NodeKey.create(path)
    shred(path)
    shred(path)  # twice does no harm
    assert not path.exists()
    assert NodeKey.of(tmp_path).id != before.id
