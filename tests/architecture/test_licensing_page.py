"""docs/licensing.md tells every field that is sent, every state and its exit code: no field without a line there (C20, C30)."""

import re
from pathlib import Path

import pytest

import licensing.remarks
from licensing.entitlement import Entitlement, Injection, Remark, State
from licensing.facts import BORNE, CURED
from licensing.model.activation import ActivationRequest, Deactivation
from licensing.model.license import Kind
from licensing.model.usage import UsageReport
from licensing.remarks import EXPIRY_DAYS, VOLUME_PERCENT
from mta.cli.reference import render_cli

PAGE = (Path(__file__).parents[2] / "docs" / "licensing.md").read_text("utf-8")


def section(begins: str, ends: str) -> str:
    found = re.search(re.escape(begins) + r"(.*?)" + re.escape(ends), PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| (.*?) \|", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("begins", "ends", "statement"),
    [
        ("With each report", "With an activation", UsageReport),
        ("With an activation", "With a deactivation", ActivationRequest),
        ("With a deactivation", "## Time", Deactivation),
    ],
)
def test_every_field_that_is_sent_is_told_and_no_other(
    begins: str, ends: str, statement: type
) -> None:
    text = section(begins, ends)
    cells = "".join(first_cells(text)) if "|" in text else text
    told = re.findall(r"`([a-z_0-9]+)`", cells)
    assert sorted(told) == sorted(statement.__struct_fields__)  # type: ignore[attr-defined]


def test_every_kind_is_told() -> None:
    told = {
        cell.lower().replace(" ", "_") for cell in first_cells(section("## Kinds", "## States"))
    }
    assert {kind.value for kind in Kind} <= told


def test_every_state_is_told_with_its_exit_code() -> None:
    rows = re.findall(
        r"^\| ([a-z_]+) \|.*\| ([^|]+) \|$", section("## States", "What is borne"), re.M
    )
    told = {state: code for state, code in rows if state != "state"}
    assert set(told) == {state.value for state in State}
    for state in State:
        plain = Entitlement(state)
        assert told[state.value].startswith(str(plain.exit_code))
    assert "1 with a notice" in told["valid"]
    assert Entitlement(State.VALID, remarks=(Remark("a", "b"),)).exit_code == 1
    assert "before the term 3" in told["pending"]
    assert Entitlement(State.PENDING, Injection.UNTIL_FULL, deliver=False).exit_code == 3


def test_the_thresholds_are_those_of_the_code() -> None:
    *days, last = EXPIRY_DAYS
    assert f"{', '.join(map(str, days))} and {last} days before" in PAGE
    *percents, last = VOLUME_PERCENT
    assert f"{', '.join(map(str, percents))} and {last} % of a volume" in PAGE
    assert len(CURED) == 3  # the row of the vendor's findings names each
    assert len(BORNE) == 5  # the rows of the machine and the ledger do


def test_every_command_that_the_page_and_the_remarks_name_is_there() -> None:
    remarks = Path(licensing.remarks.__file__).read_text("utf-8")
    there = set(re.findall(r"^##+ sluice license ([a-z-]+)", render_cli(), re.MULTILINE))
    named = re.findall(r"(?:`|^    )sluice license ([a-z-]+)", PAGE + remarks, re.MULTILINE)
    assert len(named) > 15
    assert set(named) <= there
