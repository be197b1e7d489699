"""The pages rendered from the code are up to date, and have a word for everything."""

import re

from mta.cli.reference import (
    ACCOUNTING_PAGE,
    CLI_PAGE,
    METRICS_PAGE,
    render_accounting,
    render_cli,
    render_columns,
    render_metrics,
)
from mta.follow.records import COLUMNS

RENEW = "run: make reference"


def test_the_page_of_commands_is_up_to_date() -> None:
    assert CLI_PAGE.read_text("utf-8") == render_cli(), RENEW


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
