"""The server's key: only a `server-online` one, and only with its own delegation."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from licensing.envelope import decode_envelope, encode_envelope
from licensing.errors import LicenseError
from licensing.model.fields import LICENSE, REWIND_GRANT
from licensing.model.usage import Closed, RewindGrant
from licensing.server.signer import Signer, load_signer
from tests.support.vendor import ROLES, Vendor


def test_what_it_signs_is_believed_by_who_has_only_the_root() -> None:
    vendor = Vendor()
    signer = Signer(vendor.keys["server-online"], vendor.delegations["server-online"])
    given = RewindGrant(
        in_reply_to="0" * 64,
        server_time=1_800_000_000,
        reason="FORK",
        new_epoch=2,
        closed=Closed(epoch=1, seq=1, cum=1),
        token="t",
    )
    envelope = decode_envelope(signer.sign(REWIND_GRANT, given))
    assert vendor.trust.open(envelope, REWIND_GRANT).key_id == signer.key_id


def test_a_licence_signing_key_is_refused() -> None:
    vendor = Vendor()
    with pytest.raises(LicenseError, match="never one that may sign licences"):
        Signer(vendor.keys["license-signing"], vendor.delegations["license-signing"])
    greedy = vendor.delegate(
        "server-online",
        payload_types=(LICENSE, *ROLES["server-online"]),
    )
    with pytest.raises(LicenseError, match="never one that may sign licences"):
        Signer(vendor.keys["server-online"], greedy)


def test_a_delegation_of_another_key_is_refused() -> None:
    vendor = Vendor()
    with pytest.raises(LicenseError, match="for another key"):
        Signer(Ed25519PrivateKey.generate(), vendor.delegations["server-online"])


def test_a_key_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    vendor = Vendor()
    key, delegation = tmp_path / "online.pem", tmp_path / "online.delegation"
    key.write_bytes(
        vendor.keys["server-online"].private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    delegation.write_bytes(encode_envelope(vendor.delegations["server-online"]))
    key.chmod(0o644)
    with pytest.raises(LicenseError, match="chmod 600"):
        load_signer(key, delegation)
    key.chmod(0o600)
    assert load_signer(key, delegation).is_valid(1_800_000_000)
    key.write_bytes(b"no key")
    with pytest.raises(LicenseError, match="cannot be read"):
        load_signer(key, delegation)
