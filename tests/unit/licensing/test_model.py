"""C20, C30: what ever leaves a customer's server stands in two closed lists, and growing one of them breaks this test."""

import hashlib
import json
from typing import Any

import msgspec
import pytest

from licensing.envelope import decode_closed
from licensing.errors import EnvelopeError
from licensing.model.activation import ActivationRequest
from licensing.model.usage import UsageReport

# Raising one of these needs a new version of the statement and a line in the documentation of what is sent (C30).
REPORT_SCHEMA = "f26503e037a5f56a805c6fe99985ace4503407e49ec76bda37203314d3777aa1"
REQUEST_SCHEMA = "91e32bfc60ba167a4b7ed82e2a449a2b36d31a2dda6f94a312f3c6fbe056f92f"

REPORT: dict[str, Any] = {
    "license_id": "L01JDQ4Z8XK5TQ0V3N7W2M9RBC",
    "revision": 4,
    "activation_id": "A01JDQ4Z8XK5TQ0V3N7W2M9RBC",
    "node_id": "k5q2",
    "epoch": 3,
    "seq": 1482,
    "token": "t_7Jk",
    "cum": 918273,
    "days": {"2026-11-22": 180123},
    "leases": [{"id": "ls_1", "fence": 77, "used": 7345}],
    "want": {"emails": 20000, "rate_1h": 14900},
    "role": "primary",
    "seats": 1,
    "conn_peak": 3,
    "prev": "0" * 64,
    "head": "1" * 64,
    "fp_match": "4/5",
    "boot": "2" * 32,
    "wall": 1795411500,
    "version": "1.4.2",
}


def _hash(kind: type) -> str:
    _, parts = msgspec.json.schema_components([kind])
    shapes = {
        name: {key: value for key, value in part.items() if key != "description"}
        for name, part in parts.items()
    }
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()


def test_the_complete_list_of_report_fields() -> None:
    assert _hash(UsageReport) == REPORT_SCHEMA


def test_the_complete_list_of_activation_request_fields() -> None:
    assert _hash(ActivationRequest) == REQUEST_SCHEMA


def test_a_report_is_read() -> None:
    assert decode_closed(json.dumps(REPORT).encode(), UsageReport).cum == 918273


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hostname", "mx1.customer.example"),
        ("want", {"emails": 1, "rate_1h": 1, "domain": "customer.example"}),
        ("leases", [{"id": "l", "fence": 1, "used": 1, "to": "a@b.example"}]),
        ("days", {"customer.example": 1}),
        ("flags", ["a@b.example"]),
        ("fp_match", "customer.example"),
        ("seq", 0),
        ("cum", -1),
    ],
)
def test_a_report_with_anything_more_is_refused(path: str, value: object) -> None:
    with pytest.raises(EnvelopeError):
        decode_closed(json.dumps({**REPORT, path: value}).encode(), UsageReport)
