"""Whether a robot wrote a message, or it is a report itself: the header says (RFC 3834 §2, RFC 6522)."""

import pytest

from mta.bounce.robots import is_automatic, is_report
from mta.mime.headers import HeaderIndex


@pytest.mark.parametrize(
    ("field", "automatic"),
    [
        (b"Auto-Submitted: no", False),
        (b"Auto-Submitted: No; by=me", False),
        (b"Auto-Submitted: auto-generated", True),
        (b"auto-submitted:\r\n auto-replied; x=y", True),
        (b"Precedence: Bulk", True),
        (b"Precedence: list", True),
        (b"Precedence: first-class", False),
        (b"Subject: precedence: bulk", False),
        (b"Auto-Submitted:", False),
    ],
)
def test_a_robot_says_so(field: bytes, automatic: bool) -> None:
    assert is_automatic(HeaderIndex(b"From: a@b.example\r\n" + field + b"\r\n")) is automatic


@pytest.mark.parametrize(
    ("kind", "report"),
    [
        (b"multipart/report; report-type=delivery-status; boundary=x", True),
        (b"Multipart/Report;boundary=x", True),
        (b"multipart/mixed; boundary=multipart/report", False),
        (b"text/plain", False),
    ],
)
def test_a_report_is_known_by_its_type(kind: bytes, report: bool) -> None:
    assert is_report(HeaderIndex(b"Content-Type: " + kind + b"\r\n")) is report
