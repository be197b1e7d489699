"""The pages rendered from the code are up to date, and have a word for everything."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from mta.cli.answers import SHAPES
from mta.cli.app import app
from mta.cli.completing import scripts
from mta.cli.man import MAN_PAGES, render_man
from mta.cli.reference import (
    ACCOUNTING_PAGE,
    CLI_PAGE,
    COMPLETIONS,
    JSON_PAGE,
    METRICS_PAGE,
    render_accounting,
    render_cli,
    render_columns,
    render_json,
    render_metrics,
)
from mta.cli.tree import EXIT_STATUS, children
from mta.follow.records import COLUMNS

RENEW = "run: make reference"


def test_the_page_of_commands_is_up_to_date() -> None:
    assert CLI_PAGE.read_text("utf-8") == render_cli(), RENEW


def test_the_manual_pages_are_up_to_date_and_tell_every_exit_status() -> None:
    pages = render_man()
    assert {path.name: path.read_text("utf-8") for path in MAN_PAGES.glob("*.1")} == pages, RENEW
    for page in pages.values():
        told = page.partition(".SH EXIT STATUS\n")[2].partition(".SH ")[0]
        assert re.findall(r"^\.B (.+)$", told, re.MULTILINE) == [code for code, _ in EXIT_STATUS]


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_finds_no_fault_in_the_manual_pages() -> None:
    for path in MAN_PAGES.glob("*.1"):
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-z", str(path)], capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b""), path.name


def test_the_page_of_answers_is_up_to_date() -> None:
    assert JSON_PAGE.read_text("utf-8") == render_json(), RENEW


def test_every_command_with_json_has_the_shape_of_its_answer() -> None:
    tree = typer.main.get_command(app)
    commands = {
        name
        for name, command in leaves(tree)
        if any("--json" in each.opts for each in command.params)
    }
    assert len(commands) > 50
    assert commands == {name for name in SHAPES if "--" not in name}


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    inner = list(children(command))
    if not inner:
        yield name, command
    for child, each in inner:
        yield from leaves(each, f"{name} {child}".strip())


def test_the_files_that_complete_commands_are_up_to_date() -> None:
    there = {path.name: path.read_text("utf-8") for path in COMPLETIONS.iterdir()}
    assert there == scripts(), RENEW


def test_the_page_of_metrics_is_up_to_date() -> None:
    assert METRICS_PAGE.read_text("utf-8") == render_metrics(), RENEW


def test_the_columns_on_the_page_of_accounting_are_up_to_date() -> None:
    page = ACCOUNTING_PAGE.read_text("utf-8")
    assert page == render_accounting(page), RENEW


def test_every_column_of_a_record_is_on_its_page() -> None:
    assert re.findall(r"^\| `(\w+)`", render_columns(), re.MULTILINE) == list(COLUMNS)


def test_every_command_option_and_argument_says_what_it_is() -> None:
    rows = [line for line in render_cli().splitlines() if line.startswith("| `")]
    assert len(rows) > 20
    assert [row for row in rows if len(row.split("|")[3].strip()) < 5] == []


def test_every_command_says_what_it_does() -> None:
    page = render_cli()
    commands = re.findall(r"^##+ (sluice .+)\n\n(.*)", page, re.MULTILINE)
    assert len(commands) > 20
    assert [name for name, words in commands if len(words) < 10] == []
