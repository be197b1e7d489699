"""Makes the rules of listeners – who may connect, log in and send there – and checks what their keys say together."""

from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path

from mta.config.files import KeyPath, format_key
from mta.config.paths import read_path
from mta.config.report import Report, did_you_mean
from mta.config.schema import ListenerSection
from mta.config.secrets import check_authorities, check_certificate, read_users
from mta.config.sections import Sections
from mta.config.senders import check_sender
from mta.model.address import HostPort, parse_host_port
from mta.policy.rules import ClientCertificate, ListenerRules, ListenerTls

MIN_RECIPIENTS = 100  # RFC 5321 §4.5.3.1.8: a server takes at least so many

_KEYS = frozenset(ListenerSection.model_fields) - {"auth_users", "tls", "vmta"}
_ANY_ADDRESS = {4: "0.0.0.0", 6: "::"}


def build_listeners(
    sections: Sections, senders: Collection[str], report: Report
) -> list[ListenerRules]:
    """The listeners, with the users that may log in. `senders`: the names of all virtual MTAs and pools."""
    taken: dict[tuple[str, int], KeyPath] = {}
    found = []
    for path, section in sections.listeners:
        check_free(section.address, path, taken, report)
        found.append(_listener(path, section, senders, report))
    if not sections.listeners:
        report.warning((), "there is no [[listener]]: nobody can hand in mail")
    return found


def _listener(
    path: KeyPath, section: ListenerSection, senders: Collection[str], report: Report
) -> ListenerRules:
    values = {name: getattr(section, name) for name in _KEYS}
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        values[name] = read_path(values[name], (*path, name), report)
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
        users = read_users(Path(read_path(section.auth_users, key, report)), key, report)
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


def check_free(
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
