"""Who may do what on the admin face: by name or unit of the certificate."""

import pytest

from licensing.server.roles import EVERYBODY, Roles, name_of

JANE = {"subject": ((("organizationalUnitName", "billing"),), (("commonName", "jane"),))}
ROLES = Roles(frozenset({"operations", "jim"}), frozenset({"billing"}))


def a_certificate(name: str, unit: str) -> dict[str, object]:
    return {"subject": ((("commonName", name),), (("organizationalUnitName", unit),))}


@pytest.mark.parametrize(
    ("name", "unit", "looks", "changes"),
    [
        ("jim", "elsewhere", True, True),
        ("ann", "operations", True, True),
        ("jane", "billing", True, False),
        ("joe", "elsewhere", False, False),
        ("operations", "", True, True),
    ],
)
def test_name_and_unit_give_a_role(name: str, unit: str, looks: bool, changes: bool) -> None:
    certificate = a_certificate(name, unit)
    assert (ROLES.why_not(certificate, changes=False) == "") is looks
    assert (ROLES.why_not(certificate, changes=True) == "") is changes


def test_where_nobody_is_named_everybody_with_a_certificate_is_an_operator() -> None:
    assert EVERYBODY.why_not(JANE, changes=True) == ""
    assert ROLES.why_not(None, changes=False).startswith("unnamed has no role")
    assert name_of(JANE) == "jane" and name_of(None) == "unnamed"
