"""Makes the layers of the policy book out of the sections that set values of queues, and checks what their keys say together."""

from pathlib import Path
from typing import Any

from mta.config.paths import read_path
from mta.config.report import Report
from mta.config.schema import QueueSection
from mta.config.secrets import read_certificates, read_password
from mta.config.sections import Sections
from mta.model.address import normalise_domain
from mta.policy.book import Layer
from mta.policy.book import Path as LayerPath
from mta.policy.rules import AuthRules, QueuePolicy


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
    password_file = read_path(found.password_file, (*key, "password_file"), report)
    ca_file = read_path(found.ca_file, (*key, "ca_file"), report)
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
