"""A6: one root key signs twice, where two of three must sign."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licensing.envelope import Envelope, encode_envelope, sign
from licensing.errors import SignatureError
from licensing.model.fields import DELEGATION, ROOT
from licensing.model.license import Kind
from licensing.trust import Trust
from tests.support.vendor import Vendor


def _signed_twice(payload_type: str, payload: bytes, key: Ed25519PrivateKey) -> Envelope:
    once = sign(payload_type, payload, [key])
    (signature,) = once.signatures
    other_name = msgspec.structs.replace(signature, keyid="sha256:" + "0" * 64)
    return msgspec.structs.replace(once, signatures=(signature, signature, other_name))


def test_a06_two_signatures_of_one_key_are_one_of_two_on_a_root() -> None:
    vendor = Vendor()
    twice = _signed_twice(ROOT, vendor.roots[0].payload_bytes(), vendor.root_keys[0])
    with pytest.raises(SignatureError, match="1 of 2"):
        Trust.load(encode_envelope(twice))


def test_a06_two_signatures_of_one_key_are_one_of_two_on_the_next_root() -> None:
    vendor = Vendor()
    trust = vendor.trust
    following = vendor.rotate()
    twice = _signed_twice(ROOT, following.payload_bytes(), vendor.root_keys[0])
    with pytest.raises(SignatureError, match="1 of 2"):
        trust.advance([twice])
    assert trust.advance([following]).root.version == 2


def test_a06_two_signatures_of_one_key_are_one_of_two_on_a_delegation() -> None:
    vendor = Vendor()
    good = vendor.delegations["license-signing"].payload_bytes()
    vendor.delegations["license-signing"] = _signed_twice(DELEGATION, good, vendor.root_keys[0])
    with pytest.raises(SignatureError):
        vendor.trust.open_license(vendor.issue(Kind.VOLUME))


def test_a06_a_key_that_a_root_names_twice_counts_once() -> None:
    vendor = Vendor()
    first, *_ = vendor.root.keys
    doubled = msgspec.structs.replace(vendor.root, keys=(first, first, vendor.root.keys[1]))
    payload = msgspec.json.encode(doubled)
    with pytest.raises(SignatureError, match="1 of 2"):
        Trust.load(encode_envelope(_signed_twice(ROOT, payload, vendor.root_keys[0])))
