"""The loaded configuration as rows for people and as plain values for tools: what `sluice config
show` and `explain` print. Secrets – password hashes, private keys – are left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from mta.config.kinds import UNLIMITED, Form, format_value, write_names
from mta.config.load import Settings
from mta.config.schema import (
    DkimSection,
    ListenerSection,
    QueueSection,
    ServerSection,
    TimeoutsSection,
    VmtaSection,
)
from mta.model.envelope import QueueKey
from mta.model.units import Rate, format_duration
from mta.policy.rules import AuthRules, Place

# Section header → key → value as TOML.
Shown = dict[str, dict[str, str]]

_DURATIONS = frozenset({"dns_timeout", "expire_s", "keep_s"})
_HIDDEN = frozenset({"pem", "users", "place", "name"})
_SET_ONLY = frozenset(
    {
        "identity",
        "expire_s",
        "dns_servers",
        "tls_cert",
        "tls_key",
        "tls_client_ca",
        "keep_s",
        "keep_size",
    }
)


def _forms() -> dict[str, Form]:
    """How each key is written; keys of one name are of one kind everywhere."""
    models = (
        DkimSection,
        VmtaSection,
        ListenerSection,
        ServerSection,
        QueueSection,
    )
    found: dict[str, Form] = {}
    for model in models:
        for name, info in model.model_fields.items():
            found.update((name, item) for item in info.metadata if isinstance(item, Form))
    for name, info in TimeoutsSection.model_fields.items():
        found.update((f"timeouts.{name}", item) for item in info.metadata if isinstance(item, Form))
    return found


_FORMS = _forms()


def write_value(name: str, value: Any) -> str:
    """A value of the rules as TOML; `name`: of the rules' field or the key."""
    if value is None:
        return format_value(UNLIMITED)
    if name in _DURATIONS:
        return format_value(format_duration(value))
    if name == "timeouts":
        written = (f"{step} = {write_value(f'timeouts.{step}', value[step])}" for step in value)
        return f"{{ {', '.join(written)} }}"
    form = _FORMS.get(name.removeprefix("domain_"))
    return form.write(value) if form else format_value(value)


def show(settings: Settings) -> Shown:
    """Every section as it counts, our defaults filled in; sections of queue values as they are set."""
    shown: Shown = {"server": _rules(settings.server)}
    for rules in settings.listeners:
        shown[f"listener {rules.address}"] = _rules(rules) | {
            "users": format_value(sorted(rules.users))
        }
    for vmta in settings.vmtas.values():
        shown[f"vmta.{vmta.name}"] = _rules(vmta)
    for pool in settings.pools.values():
        shown[f"pool.{pool.name}"] = {
            "vmtas": format_value(dict(pool.members)),
            "sticky": format_value(pool.sticky),
        }
    shown["selection"] = {
        "users": write_names(settings.selection.users),
        "senders": write_names(settings.selection.senders),
        "default": format_value(settings.selection.default),
    }
    for source in settings.sources:
        shown[f"source.{source.name}"] = _rules(source) | {"users": format_value(source.users)}
    for site in settings.book.sites.values():
        shown[f"site.{site.name}"] = _rules(site)
    for layer in settings.book.layers.values():
        values = {name: write_value(name, value) for name, value in layer.values.items()}
        shown[layer.place.section] = shown.get(layer.place.section, {}) | values
    for key in settings.dkim:
        shown[f"dkim {key.selector}._domainkey.{key.domain}"] = _rules(key)
    for accounting in settings.accounting:
        shown[f"accounting.{accounting.name}"] = _rules(accounting)
    shown["license"] = _rules(settings.license)
    if settings.metrics.address:
        shown["metrics"] = _rules(settings.metrics)
    shown["logging"] = _rules(settings.logging)
    return shown


def _rules(rules: Any) -> dict[str, str]:
    values = ((item.name, getattr(rules, item.name)) for item in fields(rules))
    return {
        name: write_value(name, value)
        for name, value in values
        if name not in _HIDDEN and (value or name not in _SET_ONLY)
    }


def plain(value: Any) -> Any:
    """A value for JSON: rates and networks as text, tuples as lists; durations stay seconds."""
    match value:
        case AuthRules():  # never its password
            return {"user": value.user, "tls": str(value.tls)}
        case Rate() | IPv4Network() | IPv6Network():
            return str(value)
        case Mapping():
            return {str(name): plain(item) for name, item in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
    return value


def plain_settings(settings: Settings) -> dict[str, Any]:
    """The configuration for JSON: durations in seconds, sizes in bytes, null for unlimited."""
    return {
        "file": settings.file,
        "server": _plain_rules(settings.server),
        "listeners": [
            _plain_rules(rules) | {"users": sorted(rules.users)} for rules in settings.listeners
        ],
        "vmtas": {rules.name: _plain_rules(rules) for rules in settings.vmtas.values()},
        "pools": {
            rules.name: {"vmtas": dict(rules.members), "sticky": rules.sticky}
            for rules in settings.pools.values()
        },
        "selection": {
            "users": dict(settings.selection.users),
            "senders": dict(settings.selection.senders),
            "default": settings.selection.default,
        },
        "sources": {
            rules.name: _plain_rules(rules) | {"users": list(rules.users)}
            for rules in settings.sources
        },
        "sites": {rules.name: _plain_rules(rules) for rules in settings.book.sites.values()},
        "places": {
            layer.place.section: {"file": layer.place.file, "values": plain(layer.values)}
            for layer in settings.book.layers.values()
        },
        "dkim": [_plain_rules(rules) for rules in settings.dkim],
        "accounting": {rules.name: _plain_rules(rules) for rules in settings.accounting},
        "license": _plain_rules(settings.license),
        "metrics": _plain_rules(settings.metrics),
        "logging": _plain_rules(settings.logging),
    }


def _plain_rules(rules: Any) -> dict[str, Any]:
    return {
        item.name: plain(getattr(rules, item.name))
        for item in fields(rules)
        if item.name not in _HIDDEN
    }


def explain(
    settings: Settings, domain: str, vmta: str, site: str
) -> Iterable[tuple[str, Any, Place]]:
    """Every value of one queue with its place, then the totals it shares."""
    book, key = settings.book, QueueKey(domain, vmta)
    yield from book.explain_policy(key, site)
    rules = book.vmta(vmta)
    if rules is not None:
        yield f"vmta.{vmta}.total_connections", rules.total_connections, rules.place
        yield f"vmta.{vmta}.total_message_rate", rules.total_message_rate, rules.place
    place = book.server_place
    yield "server.total_connections", settings.server.total_connections, place
    yield "server.total_message_rate", settings.server.total_message_rate, place
