"""A4: a statement of one kind is presented as another."""

import msgspec
import pytest

from licensing.errors import LicenseError, SignatureError
from licensing.model.fields import (
    ACTIVATION,
    DELEGATION,
    LICENSE,
    REVOCATIONS,
    REWIND_GRANT,
    ROOT,
    USAGE_ACK,
)
from licensing.model.license import Kind
from tests.support.vendor import Vendor

TYPES = (
    LICENSE,
    ROOT,
    DELEGATION,
    REVOCATIONS,
    ACTIVATION,
    USAGE_ACK,
    REWIND_GRANT,
)


@pytest.mark.parametrize("claimed", [each for each in TYPES if each != LICENSE])
def test_a04_a_licence_is_taken_for_nothing_else(claimed: str) -> None:
    vendor = Vendor()
    licence = vendor.issue(Kind.VOLUME)
    with pytest.raises(SignatureError):
        vendor.trust.open(licence, claimed)
    # Nor when the envelope says so too: the type is under the signature.
    relabelled = msgspec.structs.replace(licence, payload_type=claimed)
    with pytest.raises(SignatureError, match="does not match"):
        vendor.trust.open(relabelled, claimed)


def test_a04_an_ack_is_no_licence() -> None:
    vendor = Vendor()
    ack = vendor.sign(USAGE_ACK, vendor.license(Kind.VOLUME))
    with pytest.raises(SignatureError):
        vendor.trust.open_license(ack)
    with pytest.raises(LicenseError):
        vendor.trust.open_license(msgspec.structs.replace(ack, payload_type=LICENSE))


def test_a04_a_delegation_is_no_root() -> None:
    vendor = Vendor()
    disguised = msgspec.structs.replace(vendor.delegations["license-signing"], payload_type=ROOT)
    with pytest.raises(LicenseError):
        vendor.trust.advance([disguised])
