"""Makes the rules of `mta.policy.rules` and the policy book out of validated sections, and checks
what no single key can tell: names that must exist, addresses that must differ, lab mode.

Each function builds what it can and reports every mistake; the caller throws the result away if
there was one.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

from mta.bounce.rules import Rule
from mta.bounce.wording import Wording
from mta.config.files import KeyPath, format_key
from mta.config.listeners import check_free
from mta.config.notice_texts import BY_SENDER, all_wordings
from mta.config.paths import read_path
from mta.config.refusals import all_rules
from mta.config.report import Report, did_you_mean
from mta.config.schema import AccountingSection, VmtaSection
from mta.config.secrets import read_dkim_key
from mta.config.sections import Sections
from mta.config.senders import DEFAULT_VMTA
from mta.follow.records import COLUMNS, fillable
from mta.model.address import parse_host_port
from mta.model.errors import ConfigError
from mta.policy.rules import (
    AccountingRules,
    DkimRules,
    LicenseRules,
    LoggingRules,
    MetricsRules,
    Place,
    ServerRules,
    SiteRules,
    VmtaRules,
)


def build_server(sections: Sections, report: Report) -> ServerRules:
    """The server's rules, with those of [dns]."""
    section = sections.server
    if section is None:
        return ServerRules(hostname="", spool_dir="")
    values = dict(section)  # not model_dump: a Rate would become a plain tuple
    for name in ("spool_dir", "control_socket", "notice_texts"):
        values[name] = read_path(values[name], ("server", name), report)
    if "." not in section.hostname and not section.lab:
        report.problem(
            ("server", "hostname"),
            f'must be a full name like "{section.hostname}.example.com": receivers refuse others',
        )
    dns = sections.dns
    return ServerRules(
        **values,
        dns_servers=dns.servers,
        dns_timeout=dns.timeout,
        dns_cache_entries=dns.cache_entries,
    )


def build_vmtas(sections: Sections, report: Report) -> dict[str, VmtaRules]:
    """The virtual MTAs by name; without any, one named `default`."""
    found = {}
    for name, section in sections.vmtas.items():
        path = ("vmta", name)
        report.check_name(name, "a virtual MTA", path)
        found[name] = _vmta(name, section, report.place(path))
    return found or {DEFAULT_VMTA: VmtaRules(DEFAULT_VMTA)}


def _vmta(name: str, section: VmtaSection, place: Place) -> VmtaRules:
    sources = section.source_addresses
    return VmtaRules(
        name=name,
        source_v4=tuple(address for address in sources if ":" not in address),
        source_v6=tuple(address for address in sources if ":" in address),
        ehlo_name=section.ehlo_name or "",
        total_connections=section.total_connections,
        total_message_rate=section.total_message_rate,
        place=place,
    )


def build_sites(sections: Sections, report: Report) -> list[SiteRules]:
    """The sites, in the order of the files: the first that matches a domain wins."""
    found = []
    for name, section in sections.sites.items():
        report.check_name(name, "a site", ("site", name))
        path = ("site", name)
        if not (section.mx or section.domains or report.is_told(path)):
            report.problem(path, "needs mx or domains: nothing can belong to it")
        found.append(SiteRules(name, section.mx, section.domains))
    for vmta, of_vmta in sections.vmtas.items():
        for name in of_vmta.site:
            if name not in sections.sites:
                text = f"there is no [site.{name}]{did_you_mean(name, sections.sites)}"
                report.problem(("vmta", vmta, "site", name), text)
    return found


def build_dkim(sections: Sections, report: Report) -> list[DkimRules]:
    """The keys to sign with, each read and loaded once."""
    seen: dict[tuple[str, str], KeyPath] = {}
    found = []
    for path, section in sections.dkim:
        name = (section.domain, section.selector)
        if name in seen:
            report.problem(path, f"has the domain and selector of {format_key(seen[name])}")
        seen[name] = path
        key = (*path, "key_file")
        key_file = read_path(section.key_file, key, report)
        found.append(
            DkimRules(
                domain=section.domain,
                selector=section.selector,
                key_file=key_file,
                pem=read_dkim_key(Path(key_file), key, report),
                header_canon=section.header_canonicalization,
                body_canon=section.body_canonicalization,
                identity=section.identity,
                expire_s=section.expire,
                place=report.place(path),
            )
        )
        _check_identity(section.identity, section.domain, (*path, "identity"), report)
    return found


def _check_identity(identity: str, domain: str, path: KeyPath, report: Report) -> None:
    """RFC 6376 §3.5: the identity's domain is the signing domain or one below it."""
    if not identity:
        return
    base = domain.removeprefix("*.")
    of_identity = identity.rpartition("@")[2].lower()
    if "@" not in identity or not (of_identity == base or of_identity.endswith("." + base)):
        report.problem(path, f"must be an address at {base} or below, like @{base}")


def build_accounting(sections: Sections, report: Report) -> list[AccountingRules]:
    """The sets of accounting files."""
    owners: dict[str, str] = {}
    found = []
    for name, section in sections.accounting.items():
        path = ("accounting", name)
        report.check_name(name, "a set of accounting files", path)
        file = read_path(section.path, (*path, "path"), report)
        if file in owners:
            text = f"[accounting.{owners[file]}] writes to this file already"
            report.problem((*path, "path"), text)
        owners[file] = name
        if not section.records and not report.is_told((*path, "records")):
            report.problem((*path, "records"), 'must name at least one record, like ["d", "b"]')
        if section.max_size < 1:
            report.problem((*path, "max_size"), "must be larger than nothing")
        _check_choice(section, path, report)
        found.append(
            AccountingRules(
                name=name,
                path=file,
                records=section.records,
                format=section.format,
                fields=section.fields,
                vmtas=section.vmtas,
                jobs=section.jobs,
                domains=section.domains,
                max_size=section.max_size,
                rotate_daily=section.rotate == "1d",
                compress=section.compress,
                keep_s=section.keep,
                keep_size=section.keep_size,
                place=report.place(path),
            )
        )
    return found


def _check_choice(section: AccountingSection, path: KeyPath, report: Report) -> None:
    """Columns that there are, and no choice by what a record does not have."""
    known = fillable(section.records)
    for field in section.fields:
        if field in COLUMNS and field not in known:
            report.problem((*path, "fields"), f"{field!r} is filled by none of these records")
        elif field not in COLUMNS:
            text = f"{field!r} is no column{did_you_mean(field, COLUMNS)}"
            report.problem((*path, "fields"), text)
    for key, record, what in (("domains", "r", "domain"), ("jobs", "tq", "job")):
        if getattr(section, key) and record in section.records:
            text = f'"{record}" records have no {what}: give them a set of their own'
            report.problem((*path, key), text)


def build_logging(sections: Sections, report: Report) -> LoggingRules:
    """The server's own log."""
    section = sections.logging
    path = read_path(section.path, ("logging", "path"), report)
    return LoggingRules(section.level, section.format, path)


def build_refusals(sections: Sections, report: Report) -> tuple[Rule, ...]:
    """What refusals mean: the operator's rules, then ours."""
    key = ("bounce", "rules")
    try:
        return all_rules(read_path(sections.bounce.rules, key, report))
    except ConfigError as error:
        for problem in error.problems:
            report.problem(key, f"{problem.file}: {problem.text}")
        return ()


def build_wordings(
    server: ServerRules, sections: Sections, report: Report
) -> Mapping[str, Wording]:
    """The words of notices by language; all languages that are named must be there."""
    try:
        found = all_wordings(server.notice_texts)
    except ConfigError as error:
        for problem in error.problems:
            report.problem(("server", "notice_texts"), f"{problem.file}: {problem.text}")
        return {}
    named: list[tuple[KeyPath, str]] = [(("server", "notice_language"), server.notice_language)]
    named += [
        (("source", name, "notice_language"), section.notice_language)
        for name, section in sections.sources.items()
        if section.notice_language
    ]
    for path, language in named:
        if language not in found and language != BY_SENDER:
            known = ", ".join(f'"{name}"' for name in sorted(found))
            text = f'there are no notices in "{language}", but in {known}; or "{BY_SENDER}"'
            report.problem(path, text)
    return found


def build_license(sections: Sections, report: Report) -> LicenseRules:
    """Where licences lie, and the way to the vendor."""
    values = sections.license.model_dump()
    for name in ("dir", "state_dir", "ca_file", "root"):
        values[name] = read_path(values[name], ("license", name), report)
    for name in ("ca_file", "root"):
        if values[name] and not Path(values[name]).is_file():
            report.problem(("license", name), f"there is no file {values[name]}")
    return LicenseRules(**values)


def build_metrics(sections: Sections, report: Report) -> MetricsRules:
    """The page of numbers."""
    address = sections.metrics.address
    if address:
        key = ("metrics",)
        taken: dict[tuple[str, int], KeyPath] = {}
        for path, section in sections.listeners:
            found = parse_host_port(section.address)
            taken[found.host, found.port] = path
        check_free(address, key, taken, report)
        if not _is_loopback(parse_host_port(address).host):
            text = "anybody who reaches this address can read the numbers: see that a firewall forbids it"
            report.warning((*key, "address"), text)
    return MetricsRules(address)


def check_lab(sections: Sections, report: Report) -> None:
    """Lab mode needs no licence, so nothing of it may reach beyond this machine."""
    if sections.server is None or not sections.server.lab:
        return
    for key, address in _addresses(sections):
        host = parse_host_port(address, default_port=0).host
        if not _is_loopback(host):
            report.problem(
                key, f"{host} is not loopback, and lab mode (server.lab) uses nothing else"
            )
    if not sections.dns.servers and not sections.default.hosts:
        text = 'lab mode (server.lab) needs a DNS server on loopback, like servers = ["127.0.0.1:5353"]'
        report.problem(("dns", "servers"), text)


def _addresses(sections: Sections) -> Iterator[tuple[KeyPath, str]]:
    for path, listener in sections.listeners:
        yield (*path, "address"), listener.address
    if sections.metrics.address:
        yield ("metrics", "address"), sections.metrics.address
    for server in sections.dns.servers:
        yield ("dns", "servers"), server
    for name, vmta in sections.vmtas.items():
        for source in vmta.source_addresses:
            yield ("vmta", name, "source_addresses"), source
    for layer, section in sections.queue_sections():
        for host in section.hosts or ():
            yield (*layer, "hosts"), host


def _is_loopback(host: str) -> bool:
    """Whether an address is loopback; names are judged when they are resolved."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return True
