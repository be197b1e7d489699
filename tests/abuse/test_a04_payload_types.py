"""A4: a statement of one kind is presented as another."""

import msgspec
import pytest

from licensing import model
from licensing.errors import LicenseError, SignatureError
from licensing.model import Kind
from tests.support.vendor import Vendor

TYPES = (
    model.LICENSE,
    model.ROOT,
    model.DELEGATION,
    model.REVOCATIONS,
    model.ACTIVATION,
    model.USAGE_ACK,
    model.REWIND_GRANT,
)


@pytest.mark.parametrize("claimed", [each for each in TYPES if each != model.LICENSE])
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
    ack = vendor.sign(model.USAGE_ACK, vendor.license(Kind.VOLUME))
    with pytest.raises(SignatureError):
        vendor.trust.open_license(ack)
    with pytest.raises(LicenseError):
        vendor.trust.open_license(msgspec.structs.replace(ack, payload_type=model.LICENSE))


def test_a04_a_delegation_is_no_root() -> None:
    vendor = Vendor()
    disguised = msgspec.structs.replace(
        vendor.delegations["license-signing"], payload_type=model.ROOT
    )
    with pytest.raises(LicenseError):
        vendor.trust.advance([disguised])
