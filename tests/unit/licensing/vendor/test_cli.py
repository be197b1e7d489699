"""The tree of `sluice-license`, and how it says no."""

import re
from pathlib import Path

from tests.support.vendor_folder import Office

PAGE = Path(__file__).parents[4] / "docs" / "licensing-vendor.md"
GROUPS = {"contact", "root", "key", "node", "lease", "finding"}
COMMANDS = {"root", "key", "issue", "renew", "upgrade", "revoke", "activate-offline", "inspect"}


def test_every_command_of_the_vendor_is_there(tmp_path: Path) -> None:
    listed = {line.split()[0] for line in Office(tmp_path).do("--help").splitlines() if line}
    assert listed >= COMMANDS


def test_every_command_and_option_of_the_page_is_one_that_there_is(tmp_path: Path) -> None:
    office = Office(tmp_path)
    text = PAGE.read_text("utf-8").replace("\\\n", " ")
    lines = re.findall(r"^    sluice-license ([^#\n]*)", text, re.MULTILINE)
    assert len(lines) > 15
    for line in lines:
        words = line.split()
        command = words[:2] if words[0] in GROUPS else words[:1]
        told = office.do(*command, "--help")
        options = {word for word in words if re.fullmatch("-o|--[a-z-]+", word)}
        assert {word for word in options if word not in told} == set(), line


def test_what_is_missing_is_told_in_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    office = Office(tmp_path)
    assert "root init" in office.refusal("key", "delegate", "x", "--role", "revocation")
    assert str(tmp_path / "none.lic") in office.refusal("inspect", str(tmp_path / "none.lic"))
