"""A5: the id of the key is forged, or missing. It is a hint for people and decides nothing."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licensing.envelope import Envelope, sign
from licensing.errors import SignatureError
from licensing.model.fields import LICENSE
from licensing.model.license import Kind
from tests.support.vendor import Vendor


def _with_key_id(envelope: Envelope, name: str) -> Envelope:
    signature = msgspec.structs.replace(envelope.signatures[0], keyid=name)
    return msgspec.structs.replace(envelope, signatures=(signature,))


@pytest.mark.parametrize("name", ["", "sha256:" + "0" * 64, "the vendor's, honestly"])
def test_a05_a_good_signature_is_good_under_any_key_id(name: str) -> None:
    vendor = Vendor()
    envelope = _with_key_id(vendor.issue(Kind.VOLUME), name)
    _, opened = vendor.trust.open_license(envelope)
    assert opened.key_id == vendor.key_id("license-signing")


def test_a05_a_wrong_key_is_refused_under_a_good_key_id() -> None:
    vendor = Vendor()
    forged = sign(
        LICENSE,
        msgspec.json.encode(vendor.license(Kind.VOLUME)),
        [Ed25519PrivateKey.generate()],
        delegation=vendor.delegations["license-signing"],
    )
    with pytest.raises(SignatureError, match="signature does not match"):
        vendor.trust.open_license(_with_key_id(forged, vendor.key_id("license-signing")))
