"""Loads the operator's file: TOML in, `Settings` out, or one ConfigError with every mistake.

files     what stands where, over all included files
sections  each table against the schema
build     rules, the policy book, and checks over several keys
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mta.bounce.rules import Rule
from mta.bounce.wording import Wording
from mta.config import build, senders
from mta.config.files import read_tree
from mta.config.report import Report
from mta.config.sections import read_sections
from mta.model.errors import ConfigError, Problem
from mta.policy.book import Book
from mta.policy.orders import Order
from mta.policy.rules import (
    AccountingRules,
    DkimRules,
    LicenseRules,
    ListenerRules,
    LoggingRules,
    MetricsRules,
    Place,
    PoolRules,
    SelectionRules,
    ServerRules,
    SourceRules,
    VmtaRules,
)

DEFAULT_PATH = Path("/etc/sluice/sluice.toml")


@dataclass(frozen=True, slots=True)
class Settings:
    """One configuration, whole and checked; a reload makes a new one."""

    file: str
    server: ServerRules
    listeners: tuple[ListenerRules, ...]
    vmtas: Mapping[str, VmtaRules]
    pools: Mapping[str, PoolRules]
    selection: SelectionRules
    sources: tuple[SourceRules, ...]
    wordings: Mapping[str, Wording]  # of notices, by language
    book: Book
    dkim: tuple[DkimRules, ...]
    accounting: tuple[AccountingRules, ...]
    license: LicenseRules
    reporting_at: tuple[str, int]  # file and line of license.reporting
    metrics: MetricsRules
    logging: LoggingRules
    warnings: tuple[Problem, ...]
    orders: tuple[Order, ...] = ()  # of the operator; `book` follows them
    refusals: tuple[Rule, ...] = ()  # what refusals mean, the first that fits


def load(path: Path | str) -> Settings:
    """Read and check the configuration. Raises ConfigError with all mistakes at once.

    Relative paths within start at the file that names them; certificates, keys and users are read.
    """
    problems: list[Problem] = []
    tree = read_tree(Path(path), problems)
    report = Report(tree)
    if problems:  # half a tree would only lead to mistakes that are none
        raise ConfigError(problems)
    sections = read_sections(tree, report)
    server = build.build_server(sections, report)
    vmtas = build.build_vmtas(sections, report)
    pools = senders.build_pools(sections, vmtas, report)
    names = [*vmtas, *pools]
    book = Book(
        server=server,
        server_place=Place(tree.origin(("server",)).file, "server"),
        vmtas=vmtas.values(),
        sites=build.build_sites(sections, report),
        layers=build.build_layers(sections, report),
    )
    reporting = tree.origin(("license", "reporting"))
    settings = Settings(
        file=tree.main.file,
        server=server,
        listeners=tuple(build.build_listeners(sections, names, report)),
        vmtas=vmtas,
        pools=pools,
        selection=senders.build_selection(sections, names, vmtas, report),
        sources=tuple(senders.build_sources(sections, report)),
        wordings=build.build_wordings(server, sections, report),
        book=book,
        dkim=tuple(build.build_dkim(sections, report)),
        accounting=tuple(build.build_accounting(sections, report)),
        license=build.build_license(sections, report),
        reporting_at=(reporting.file, reporting.line),
        metrics=build.build_metrics(sections, report),
        logging=build.build_logging(sections, report),
        warnings=(),
        refusals=build.build_refusals(sections, report),
    )
    build.check_lab(sections, report)
    if report.problems:
        raise ConfigError(sorted(report.problems, key=lambda problem: (problem.file, problem.line)))
    _warn_of_directories(settings, report)
    return replace(settings, warnings=tuple(report.warnings))


def _warn_of_directories(settings: Settings, report: Report) -> None:
    """Only warnings: who checks a configuration is often not the user the server runs as."""
    spool = Path(settings.server.spool_dir)
    if not os.access(_nearest(spool), os.W_OK):
        report.warning(("server", "spool_dir"), f"this user cannot write to {spool}")
    state = Path(settings.license.state_dir)
    if not settings.server.lab and not os.access(_nearest(state), os.W_OK):
        report.warning(("license", "state_dir"), f"this user cannot write to {state}")
    for rules in settings.accounting:
        directory = Path(rules.path).parent
        if not os.access(_nearest(directory), os.W_OK):
            path = ("accounting", rules.name, "path")
            report.warning(path, f"this user cannot write to {directory}")


def _nearest(path: Path) -> Path:
    """The path, or the nearest directory above that exists: there it would be made."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
