"""What all statements are made of: the types of their payloads, and the shapes of single fields."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

# The payload types. What is signed as one can never be read as another.
LICENSE = "application/vnd.sluice.license.v1+json"
ROOT = "application/vnd.sluice.trust-root.v1+json"
DELEGATION = "application/vnd.sluice.delegation.v1+json"
REVOCATIONS = "application/vnd.sluice.revocations.v1+json"
ACTIVATION_REQUEST = "application/vnd.sluice.activation-request.v1+json"
ACTIVATION = "application/vnd.sluice.activation.v1+json"
DEACTIVATION = "application/vnd.sluice.deactivation.v1+json"
LICENSE_QUERY = "application/vnd.sluice.license-query.v1+json"
USAGE_REPORT = "application/vnd.sluice.usage-report.v1+json"
USAGE_ACK = "application/vnd.sluice.usage-ack.v1+json"
REWIND_GRANT = "application/vnd.sluice.rewind-grant.v1+json"

Moment = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Day = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
