"""The tree of the operator's file as validated sections.

Each table is validated for itself, and a wrong key is left out and the rest tried again: one slip
in `[server]` must not hide the three in `[[listener]]`, nor keep later checks from running.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from mta.config.files import KeyPath, Tree
from mta.config.report import Report, unknown_key
from mta.config.schema import (
    AccountingSection,
    BounceSection,
    ConfigFile,
    DkimSection,
    DnsSection,
    LicenseSection,
    ListenerSection,
    LoggingSection,
    MetricsSection,
    PoolSection,
    QueueSection,
    Section,
    SelectionSection,
    ServerSection,
    SiteSection,
    SourceSection,
    VmtaSection,
)

S = TypeVar("S", bound=Section)


@dataclass(slots=True)
class Sections:
    """What could be read; `server` is None where its hostname is missing or wrong."""

    server: ServerSection | None = None
    dns: DnsSection = field(default_factory=DnsSection)
    bounce: BounceSection = field(default_factory=BounceSection)
    logging: LoggingSection = field(default_factory=LoggingSection)
    license: LicenseSection = field(default_factory=LicenseSection)
    metrics: MetricsSection = field(default_factory=MetricsSection)
    default: QueueSection = field(default_factory=QueueSection)
    listeners: list[tuple[KeyPath, ListenerSection]] = field(default_factory=list)
    dkim: list[tuple[KeyPath, DkimSection]] = field(default_factory=list)
    vmtas: dict[str, VmtaSection] = field(default_factory=dict)
    pools: dict[str, PoolSection] = field(default_factory=dict)
    selection: SelectionSection = field(default_factory=SelectionSection)
    sources: dict[str, SourceSection] = field(default_factory=dict)
    sites: dict[str, SiteSection] = field(default_factory=dict)
    domains: dict[str, QueueSection] = field(default_factory=dict)
    accounting: dict[str, AccountingSection] = field(default_factory=dict)

    def queue_sections(self) -> Iterator[tuple[tuple[str, ...], QueueSection]]:
        """Every section of queue values with its path, the most general first."""
        yield ("default",), self.default
        for name, vmta in self.vmtas.items():
            yield ("vmta", name), vmta
        for name, site in self.sites.items():
            yield ("site", name), site
        for name, domain in self.domains.items():
            yield ("domain", name), domain
        for name, vmta in self.vmtas.items():
            for inner, section in vmta.site.items():
                yield ("vmta", name, "site", inner), section
            for inner, section in vmta.domain.items():
                yield ("vmta", name, "domain", inner), section


def read_sections(tree: Tree, report: Report) -> Sections:
    """Validate every table; mistakes go to `report`."""
    values = tree.values
    for name, value in values.items():
        if name not in ConfigFile.model_fields:
            report.problem((name,), unknown_key(name, ConfigFile, ()))
        elif name == "include":
            _check_include(value, report)
    if "server" not in values:
        report.problem(("server",), "the file lacks [server] with the server's hostname")
    return Sections(
        server=_table(ServerSection, "server", values, report),
        dns=_table(DnsSection, "dns", values, report) or DnsSection(),
        bounce=_table(BounceSection, "bounce", values, report) or BounceSection(),
        logging=_table(LoggingSection, "logging", values, report) or LoggingSection(),
        license=_table(LicenseSection, "license", values, report) or LicenseSection(),
        metrics=_table(MetricsSection, "metrics", values, report) or MetricsSection(),
        default=_table(QueueSection, "default", values, report) or QueueSection(),
        listeners=_items(ListenerSection, "listener", values, report),
        dkim=_items(DkimSection, "dkim", values, report),
        vmtas=_named(VmtaSection, "vmta", values, report),
        pools=_named(PoolSection, "pool", values, report),
        selection=_table(SelectionSection, "selection", values, report) or SelectionSection(),
        sources=_named(SourceSection, "source", values, report),
        sites=_named(SiteSection, "site", values, report),
        domains=_named(QueueSection, "domain", values, report),
        accounting=_named(AccountingSection, "accounting", values, report),
    )


def _check_include(value: Any, report: Report) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        report.problem(("include",), 'must be a list of files, like ["conf.d/*.toml"]')


def _table(model: type[S], name: str, values: Mapping[str, Any], report: Report) -> S | None:
    return _validate(model, values[name], (name,), report) if name in values else None


def _items(
    model: type[S], name: str, values: Mapping[str, Any], report: Report
) -> list[tuple[KeyPath, S]]:
    items = values.get(name, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        report.problem((name,), f"must be written as [[{name}]], once for each")
        return []
    found: list[tuple[KeyPath, S]] = []
    for index, item in enumerate(items):
        section = _validate(model, item, (name, index), report)
        if section is not None:
            found.append(((name, index), section))
    return found


def _named(model: type[S], name: str, values: Mapping[str, Any], report: Report) -> dict[str, S]:
    tables = values.get(name, {})
    if not isinstance(tables, dict):
        report.problem((name,), f"must be written as [{name}.X], once for each X")
        return {}
    found: dict[str, S] = {}
    for key, table in tables.items():
        if not isinstance(table, dict):
            text = f"must be a table [{name}.{key}], or belongs into one of [{name}.X]"
            report.problem((name, key), text)
            continue
        section = _validate(model, table, (name, key), report)
        if section is not None:
            found[key] = section
    return found


def _validate(model: type[S], value: Any, path: KeyPath, report: Report) -> S | None:
    """The section, without what is wrong in it; None where nothing usable is left."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        mistakes = error.errors()
    for mistake in mistakes:
        report.schema_problem(path, model, mistake)
    rest = deepcopy(value)
    # From the last to the first, so that items of a list keep their number until they go.
    for mistake in sorted(mistakes, key=lambda mistake: _order(mistake["loc"]), reverse=True):
        _remove(rest, mistake["loc"])
    try:
        return model.model_validate(rest)
    except ValidationError:
        return None


def _order(loc: KeyPath) -> tuple[tuple[int, str], ...]:
    return tuple((part, "") if isinstance(part, int) else (-1, part) for part in loc)


def _remove(tree: Any, loc: KeyPath) -> None:
    for part in loc[:-1]:
        tree = tree[part] if isinstance(part, int) else tree.get(part, {})
    if isinstance(tree, dict):
        tree.pop(loc[-1] if loc else "", None)
    elif isinstance(tree, list) and loc:
        del tree[int(loc[-1])]
