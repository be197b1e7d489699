"""The tree of `sluice-license`, and how it says no."""

from pathlib import Path

from tests.support.vendor_folder import Office

COMMANDS = {"root", "key", "issue", "renew", "upgrade", "revoke", "activate-offline", "inspect"}


def test_every_command_of_the_vendor_is_there(tmp_path: Path) -> None:
    listed = {line.split()[0] for line in Office(tmp_path).do("--help").splitlines() if line}
    assert listed >= COMMANDS


def test_what_is_missing_is_told_in_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    office = Office(tmp_path)
    assert "root init" in office.refusal("key", "delegate", "x", "--role", "revocation")
    assert str(tmp_path / "none.lic") in office.refusal("inspect", str(tmp_path / "none.lic"))
