"""The reference pages: rendered from the schema, up to date, and true."""

import re
import tomllib
from pathlib import Path

from mta.config.files import Tree, read_tree
from mta.config.load import load
from mta.config.reference import PAGE, TOML_FILE, render_page, render_toml
from mta.config.report import Report
from mta.config.schema import ConfigFile
from mta.config.sections import read_sections
from mta.model.envelope import QueueKey
from mta.policy.rules import QueuePolicy, ServerRules


def the_file_with_every_setting(tmp_path: Path) -> Tree:
    path = tmp_path / "sluice.toml"
    path.write_text(re.sub(r"^#(?=[a-z\[])", "", render_toml(), flags=re.MULTILINE), "utf-8")
    problems: list = []
    tree = read_tree(path, problems)
    assert problems == []
    return tree


def test_the_reference_file_is_up_to_date() -> None:
    assert TOML_FILE.read_text("utf-8") == render_toml(), "run: python -m mta.config.reference"


def test_the_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == render_page(), "run: python -m mta.config.reference"


def test_the_reference_file_is_a_valid_configuration_that_sets_nothing_but_what_must_be() -> None:
    settings = load(TOML_FILE)
    assert settings.server == ServerRules("mta.example.com", "/var/spool/sluice")
    policy = settings.book.policy(QueueKey("x.example", "default"), "x.example")
    assert policy == QueuePolicy(places={})


def test_every_setting_of_the_reference_file_may_be_taken_over_as_it_stands(tmp_path: Path) -> None:
    report = Report(the_file_with_every_setting(tmp_path))
    read_sections(report.tree, report)
    assert report.problems == []


def test_the_reference_file_has_every_key_of_every_section(tmp_path: Path) -> None:
    values = the_file_with_every_setting(tmp_path).values
    assert set(values) == set(ConfigFile.model_fields)
    for name, model in (("server", "ServerSection"), ("dns", "DnsSection")):
        fields = ConfigFile.model_fields[name].annotation.model_fields
        assert set(values[name]) == set(fields), model
    listener = ConfigFile.model_fields["listener"].annotation.__args__[0]
    assert set(values["listener"][0]) == set(listener.model_fields)
    assert set(values["default"]) == set(ConfigFile.model_fields["default"].annotation.model_fields)


def test_every_key_has_a_help_text() -> None:
    for line in render_page().splitlines():
        if line.startswith("| `"):
            assert len(line.split("|")[4].strip()) > 10, line


def test_the_reference_file_is_plain_toml() -> None:
    tomllib.loads(TOML_FILE.read_text("utf-8"))
