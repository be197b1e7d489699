"""Makes the rules of `mta.policy.rules` and the policy book out of validated sections, and checks
what no single key can tell: names that must exist, addresses that must differ, lab mode.

Each function builds what it can and reports every mistake; the caller throws the result away if
there was one.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mta.bounce.rules import Rule
from mta.bounce.wording import Wording
from mta.config.files import KeyPath, format_key
from mta.config.kinds import check_name
from mta.config.notice_texts import BY_SENDER, all_wordings
from mta.config.refusals import all_rules
from mta.config.report import Report, did_you_mean
from mta.config.schema import AccountingSection, ListenerSection, QueueSection, VmtaSection
from mta.config.secrets import (
    check_authorities,
    check_certificate,
    read_certificates,
    read_dkim_key,
    read_password,
    read_users,
)
from mta.config.sections import Sections
from mta.config.senders import DEFAULT_VMTA, check_sender
from mta.follow.records import COLUMNS, fillable
from mta.model.address import HostPort, normalise_domain, parse_host_port
from mta.model.errors import ConfigError
from mta.policy.book import Layer
from mta.policy.book import Path as LayerPath
from mta.policy.rules import (
    AccountingRules,
    AuthRules,
    ClientCertificate,
    DkimRules,
    LicenseRules,
    ListenerRules,
    ListenerTls,
    LoggingRules,
    MetricsRules,
    Place,
    QueuePolicy,
    ServerRules,
    SiteRules,
    VmtaRules,
)

CREDENTIALS = "%d/"  # systemd.unit(5) writes the directory of a service's credentials so
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
MIN_RECIPIENTS = 100  # RFC 5321 §4.5.3.1.8: a server takes at least so many

_LISTENER_KEYS = frozenset(ListenerSection.model_fields) - {"auth_users", "tls", "vmta"}
_ANY_ADDRESS = {4: "0.0.0.0", 6: "::"}


def build_server(sections: Sections, report: Report) -> ServerRules:
    """The server's rules, with those of [dns]."""
    section = sections.server
    if section is None:
        return ServerRules(hostname="", spool_dir="")
    values = dict(section)  # not model_dump: a Rate would become a plain tuple
    for name in ("spool_dir", "control_socket", "notice_texts"):
        values[name] = _path(values[name], ("server", name), report)
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
        _check_name(name, "a virtual MTA", path, report)
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
        _check_name(name, "a site", ("site", name), report)
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


def build_layers(sections: Sections, report: Report) -> dict[LayerPath, Layer]:
    """What each section of queue values sets, domains in A-labels."""
    layers: dict[LayerPath, Layer] = {}
    for path, section in sections.queue_sections():
        _check_queue_values(path, section, sections.default, report)
        target = _normalised(path, report)
        if target is None:
            continue
        if target in layers:
            text = f"stands in [{layers[target].place.section}] already, written differently"
            report.problem(path, text)
            continue
        values = _set_values(section)
        if section.auth is not None:
            values["auth"] = _auth(path, section, report)
        layers[target] = Layer(report.place(path), values)
    return layers


def _auth(path: LayerPath, section: QueueSection, report: Report) -> AuthRules:
    found, key = section.auth, (*path, "auth")
    if not section.hosts:
        text = "needs hosts in the same section: a password is for hosts you name"
        report.problem(key, text)
    if not found.user or not found.user.isprintable():
        report.problem((*key, "user"), "must be a user name")
    password_file = _path(found.password_file, (*key, "password_file"), report)
    ca_file = _path(found.ca_file, (*key, "ca_file"), report)
    return AuthRules(
        found.user,
        read_password(Path(password_file), (*key, "password_file"), report),
        found.tls,
        read_certificates(Path(ca_file), (*key, "ca_file"), report) if ca_file else "",
    )


def _normalised(path: LayerPath, report: Report) -> LayerPath | None:
    if path[-2:-1] != ("domain",):
        return path
    try:
        return (*path[:-1], normalise_domain(path[-1]))
    except ValueError as error:
        hint = "; a domain stands in quotes, without wildcard" if "*" in path[-1] else ""
        report.problem(path, f"{error}{hint}")
        return None


def _set_values(section: QueueSection) -> dict[str, Any]:
    """The values a section sets; None says "unlimited"."""
    is_set = section.model_fields_set
    values = {name: getattr(section, name) for name in QueueSection.model_fields if name in is_set}
    if "timeouts" in values:
        values["timeouts"] = section.timeouts.model_dump(exclude_unset=True)
    return values


def _check_queue_values(
    path: LayerPath, section: QueueSection, default: QueueSection, report: Report
) -> None:
    ours = QueuePolicy()
    is_set = section.model_fields_set
    if "retry" in is_set and not section.retry and not report.is_told((*path, "retry")):
        report.problem((*path, "retry"), 'must name at least one duration, like ["10m"]')
    if is_set & {"backoff_initial", "backoff_cap"}:
        initial = section.backoff_initial or default.backoff_initial or ours.backoff_initial
        cap = section.backoff_cap or default.backoff_cap or ours.backoff_cap
        if initial > cap:
            name = "backoff_initial" if "backoff_initial" in is_set else "backoff_cap"
            report.problem((*path, name), "backoff_initial is longer than backoff_cap")


def build_listeners(
    sections: Sections, senders: Collection[str], report: Report
) -> list[ListenerRules]:
    """The listeners, with the users that may log in. `senders`: the names of all virtual MTAs and pools."""
    taken: dict[tuple[str, int], KeyPath] = {}
    found = []
    for path, section in sections.listeners:
        _check_free(section.address, path, taken, report)
        found.append(_listener(path, section, senders, report))
    if not sections.listeners:
        report.warning((), "there is no [[listener]]: nobody can hand in mail")
    return found


def _listener(
    path: KeyPath, section: ListenerSection, senders: Collection[str], report: Report
) -> ListenerRules:
    values = {name: getattr(section, name) for name in _LISTENER_KEYS}
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        values[name] = _path(values[name], (*path, name), report)
    tls = section.tls
    if tls is None:
        tls = ListenerTls.STARTTLS if section.tls_cert or section.tls_key else ListenerTls.NONE
    if section.tls_cert and section.tls_key:
        check_certificate(Path(values["tls_cert"]), Path(values["tls_key"]), path, report)
    elif tls is not ListenerTls.NONE or section.tls_cert or section.tls_key:
        missing = "tls_key" if section.tls_cert else "tls_cert"
        report.problem(path, f"TLS needs tls_cert and tls_key; {missing} is missing")
    _check_client_certificates(path, section, values["tls_client_ca"], tls, report)
    users: dict[str, str] = {}
    if section.auth_users:
        key = (*path, "auth_users")
        users = read_users(Path(_path(section.auth_users, key, report)), key, report)
        if tls is ListenerTls.NONE:
            report.problem(key, "nobody could log in: AUTH is offered under TLS only; set tls_cert")
    _check_relaying(path, section, report)
    if section.max_recipients < MIN_RECIPIENTS:
        text = f"must be {MIN_RECIPIENTS} or more (RFC 5321 §4.5.3.1.8)"
        report.problem((*path, "max_recipients"), text)
    for name in ("vmta_header", "job_header"):
        if not _is_field_name(values[name]):
            report.problem((*path, name), "must be the name of a header field, like X-Job")
    if section.vmta is not None:
        check_sender(section.vmta, (*path, "vmta"), senders, report)
    for user in section.vmta_header_from:
        if user != "*" and user not in users:
            text = f"there is no user {user} in auth_users{did_you_mean(user, users)}"
            report.problem((*path, "vmta_header_from"), text)
    return ListenerRules(
        **values,
        tls=tls,
        users=users,
        vmta=section.vmta or "",
        place=report.place(path),
    )


def _check_client_certificates(
    path: KeyPath, section: ListenerSection, authorities: str, tls: ListenerTls, report: Report
) -> None:
    if authorities:
        key = (*path, "tls_client_ca")
        check_authorities(Path(authorities), key, report)
        if tls is ListenerTls.NONE:
            report.problem(key, "certificates are shown under TLS only; set tls_cert")
        return
    if section.relay_certificates:
        text = "no certificate is believed without tls_client_ca; set it"
        report.problem((*path, "relay_certificates"), text)
    if section.tls_client is ClientCertificate.REQUIRED:
        text = "no certificate could be shown without tls_client_ca; set it"
        report.problem((*path, "tls_client"), text)


def _check_free(
    address: str, path: KeyPath, taken: dict[tuple[str, int], KeyPath], report: Report
) -> None:
    """Two listeners cannot share an address; the unspecified one takes all of its family."""
    found = parse_host_port(address)
    if found.port == 0:
        return
    any_address = _ANY_ADDRESS[ip_address(found.host).version]
    for (host, port), other in taken.items():
        if port == found.port and (
            host == found.host
            or (any_address in (host, found.host) and (":" in host) == (":" in found.host))
        ):
            text = f"port {port} is taken by {format_key(other)} ({HostPort(host, port)})"
            report.problem((*path, "address"), text)
            return
    taken[found.host, found.port] = path


def _check_relaying(path: KeyPath, section: ListenerSection, report: Report) -> None:
    host = parse_host_port(section.address).host
    if ip_address(host).is_loopback and not section.proxy_from:  # behind a proxy anybody may stand
        return
    for network in section.relay_from:
        if network.prefixlen == 0:
            text = f"{network} lets the whole Internet send through this server; name your networks"
            report.problem((*path, "relay_from"), text)
    if not (section.relay_from or section.auth_users or section.relay_certificates):
        text = "nobody may send here: set relay_from, auth_users or relay_certificates"
        report.warning(path, text)


def _is_field_name(text: str) -> bool:
    """RFC 5322 §2.2: printable ASCII without colon or blank."""
    return bool(text) and all("!" <= char <= "~" and char != ":" for char in text)


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
        key_file = _path(section.key_file, key, report)
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
        _check_name(name, "a set of accounting files", path, report)
        file = _path(section.path, (*path, "path"), report)
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
    path = _path(section.path, ("logging", "path"), report)
    return LoggingRules(section.level, section.format, path)


def build_refusals(sections: Sections, report: Report) -> tuple[Rule, ...]:
    """What refusals mean: the operator's rules, then ours."""
    key = ("bounce", "rules")
    try:
        return all_rules(_path(sections.bounce.rules, key, report))
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
        values[name] = _path(values[name], ("license", name), report)
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
        _check_free(address, key, taken, report)
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


def _check_name(name: str, what: str, path: KeyPath, report: Report) -> None:
    try:
        check_name(name, what)
    except ValueError as error:
        report.problem(path, str(error))


def _path(text: str, key: KeyPath, report: Report) -> str:
    """A path of the configuration: relative ones start at the file that names them, `%d/…` at systemd's credentials."""
    if not text:
        return ""
    if text.startswith(CREDENTIALS):
        directory = os.environ.get(CREDENTIALS_VARIABLE, "")
        if not directory:
            report.problem(
                key,
                f"{CREDENTIALS} is known only to a service with LoadCredential=; to check this file elsewhere, "
                f"set {CREDENTIALS_VARIABLE}=/run/credentials/sluice.service",
            )
            return text
        return str(Path(directory) / text.removeprefix(CREDENTIALS))
    return str(report.tree.origin(key).directory / text)
