"""Kinds of values an operator writes: each reads its text, writes it back, and says its form.

Every kind is an annotated type for the schema. Reading raises ValueError with words for the
operator; `format_value` is the inverse and feeds the reference and `sluice config show`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import PlainValidator, Strict

from mta.model.address import is_domain, normalise_domain, parse_address, parse_host_port
from mta.model.units import (
    Rate,
    format_duration,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)
from mta.policy.admission import parse_network
from mta.policy.rules import NEVER, SEND, TELL_OTHER

UNLIMITED = "unlimited"
DNS_PORT = 53
MAX_LABEL = 64  # of a node, in the vendor's list of seats
MAX_WEIGHT = 1_000_000  # of a virtual MTA in a pool
MAX_WORKERS = 128  # a spool has a number below 256, and may outlive its worker

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SIZE_UNITS = (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10))


@dataclass(frozen=True, slots=True)
class Form:
    """How a value is written: a name for the reference, and the text of a value."""

    name: str
    write: Callable[[Any], str]


def _quoted(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)  # a TOML basic string


def _text(value: object) -> str:
    """A value as `str`, refusing what is not text: 25 for a host is a slip, not a name."""
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    return value


def _read_count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number, 1 or more")
    return value


def _read_workers(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_WORKERS:
        raise ValueError(f"must be a whole number from 0 (one for each core) to {MAX_WORKERS}")
    return value


def _read_limit(value: object) -> int | None:
    if value == UNLIMITED:
        return None
    if value == 0 and value is not False:
        raise ValueError("must be 1 or more; to stop mail, pause the queue instead")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"must be a whole number, 1 or more, or {_quoted(UNLIMITED)}")
    return value


def _read_port(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
        raise ValueError("must be a port, a whole number from 1 to 65535")
    return value


def _read_rate(value: object) -> Rate | None:
    return None if value == UNLIMITED else parse_rate(_text(value))


def _read_duration(value: object) -> float:
    if not isinstance(value, str | int | float):
        raise ValueError("must be a duration like 90s, 10m, 1h30m or 4d12h")
    return parse_duration(value)


def _read_positive(value: object) -> float:
    seconds = _read_duration(value)
    if seconds <= 0:
        raise ValueError("must be longer than nothing")
    return seconds


def _read_size(value: object) -> int:
    if not isinstance(value, str | int):
        raise ValueError("must be a size like 64k, 250M or 1G")
    return parse_size(value)


def _read_share(value: object) -> float | int:
    if not isinstance(value, str | int | float):
        raise ValueError("must be a share like 10% or a size like 5G")
    return parse_share(value)


def _read_network(value: object) -> IPv4Network | IPv6Network:
    return parse_network(_text(value))


def _read_domain(value: object) -> str:
    return normalise_domain(_text(value))


def _read_domain_pattern(value: object) -> str:
    text = _text(value)
    return "*." + normalise_domain(text[2:]) if text.startswith("*.") else normalise_domain(text)


def _read_name_pattern(value: object) -> str:
    text = _text(value)
    if not text.removeprefix("!") or not text.isprintable():
        raise ValueError(f"{text!r} is no pattern like news-* or !test")
    return text


def _read_mail_address(value: object) -> str:
    text = _text(value)
    try:
        parse_address(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no mail address: {error}") from None
    return text


def _read_notices(value: object) -> str:
    text = _text(value)
    if text in (SEND, NEVER):
        return text
    if not text.startswith(TELL_OTHER):
        raise ValueError(
            f'{text!r} must be "send", "never" or an address like "to:ops@example.com"'
        )
    return TELL_OTHER + _read_mail_address(text.removeprefix(TELL_OTHER))


def _read_sender_pattern(value: object) -> str:
    text = _text(value)
    if "@" not in text or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} is no pattern of senders like *@news.example.com")
    return text


def _read_language(value: object) -> str:
    text = _text(value)
    if not text.isascii() or not text.isalpha() or not text.islower():
        raise ValueError(f'{text!r} is no language like "de", nor "sender"')
    return text


def _read_url(value: object) -> str:
    text = _text(value)
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError(f"{text!r} is no URL like https://host.example.com:8080")
    return text


def _read_https_url(value: object) -> str:
    text = _read_url(value)
    if text and not text.startswith("https://"):
        raise ValueError(f"{text!r} must begin with https://")
    return text


def _read_label(value: object) -> str:
    text = _text(value)
    if len(text) > MAX_LABEL or not text.isprintable():
        raise ValueError(f"must have at most {MAX_LABEL} printable characters")
    return text


def _read_source(value: object) -> str:
    try:
        address = ip_address(_text(value))
    except ValueError:
        raise ValueError(f"{value!r} is no IP address; a name does not do here") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{value!r} is no address one can send from")
    return str(address)


def _read_listen_address(value: object) -> str:
    found = parse_host_port(_text(value))
    if is_domain(found.host):
        raise ValueError(f"{value!r} must be an IP address with a port, like 127.0.0.1:2525")
    return str(found)


def _read_host(value: object) -> str:
    """A next hop in one spelling; without a port (or with 0) the queue's `port` is used."""
    found = parse_host_port(_text(value), default_port=0)
    if found.port:
        return str(found)
    return f"[{found.host}]" if ":" in found.host else found.host


def _read_dns_server(value: object) -> str:
    found = parse_host_port(_text(value), DNS_PORT)
    if is_domain(found.host):
        raise ValueError(f"{value!r} must be an IP address: names need DNS to be found")
    return str(found)


def _read_weights(value: object) -> tuple[tuple[str, int], ...]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        if len(set(value)) < len(value):
            raise ValueError(
                "names a virtual MTA twice; give it a weight instead, like { a = 2, b = 1 }"
            )
        value = dict.fromkeys(value, 1)
    if not isinstance(value, dict) or not value:
        raise ValueError("must name virtual MTAs with their weights, like { a = 3, b = 1 }")
    for name, weight in value.items():
        if not isinstance(weight, int) or isinstance(weight, bool) or not 0 < weight <= MAX_WEIGHT:
            raise ValueError(
                f"the weight of {name} must be a whole number from 1 to {MAX_WEIGHT}; "
                "leave a virtual MTA out that is to get nothing"
            )
    return tuple(value.items())


def _read_names(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise ValueError('must be a table of names, like { "news" = "a" }')
    return value


def _write_weights(value: tuple[tuple[str, int], ...]) -> str:
    return format_value(dict(value))


def write_names(value: Any) -> str:
    """A table of names as TOML, whatever its keys hold."""
    inner = ", ".join(f"{_quoted(name)} = {_quoted(to)}" for name, to in dict(value).items())
    return f"{{ {inner} }}" if inner else "{}"


def check_name(text: str, what: str) -> None:
    """Raise ValueError unless `text` may name a virtual MTA, a site or an accounting set."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"{what} is named with a-z, 0-9, - and _, in lower case; not {text!r}")


def write_size(size: int) -> str:
    """The shortest exact text of a size: `250M`, `"64k"`; a plain number where no unit fits."""
    for unit, factor in _SIZE_UNITS:
        if size and size % factor == 0:
            return _quoted(f"{size // factor}{unit}")
    return str(size)


def _write_share(value: float) -> str:
    if isinstance(value, int):
        return write_size(value)
    return _quoted(f"{value * 100:g}%")


def _write_limit(value: int | None) -> str:
    return _quoted(UNLIMITED) if value is None else str(value)


def _write_rate(value: Rate | None) -> str:
    return _quoted(UNLIMITED if value is None else value)


def _write_duration(value: float) -> str:
    return _quoted(format_duration(value))


def format_value(value: object) -> str:
    """Any value of the rules as TOML, by its type alone; durations need their Form."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
        case Rate() | str() | StrEnum():
            return _quoted(value)
        case tuple() | list():
            return "[" + ", ".join(format_value(item) for item in value) + "]"
        case Mapping():
            inner = ", ".join(f"{name} = {format_value(item)}" for name, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"
    return _quoted(value)


def _write_durations(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(_write_duration(value) for value in values) + "]"


DURATION_FORM = Form("duration", _write_duration)
DURATIONS_FORM = Form("list of durations", _write_durations)
RATE_FORM = Form("rate", _write_rate)
LIMIT_FORM = Form("number", _write_limit)
SIZE_FORM = Form("size", write_size)

Duration = Annotated[float, PlainValidator(_read_duration), DURATION_FORM]
PositiveDuration = Annotated[float, PlainValidator(_read_positive), DURATION_FORM]
Durations = Annotated[tuple[PositiveDuration, ...], DURATIONS_FORM]
Limit = Annotated[int | None, PlainValidator(_read_limit), LIMIT_FORM]
Count = Annotated[int, PlainValidator(_read_count), Form("number", str)]
Port = Annotated[int, PlainValidator(_read_port), Form("port", str)]
Workers = Annotated[int, PlainValidator(_read_workers), Form("number", str)]
RateLimit = Annotated[Rate | None, PlainValidator(_read_rate), RATE_FORM]
Size = Annotated[int, PlainValidator(_read_size), SIZE_FORM]
Share = Annotated[float | int, PlainValidator(_read_share), Form("share or size", _write_share)]
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(_read_network)]
Networks = Annotated[tuple[Network, ...], Form("list of networks", format_value)]
Domain = Annotated[str, PlainValidator(_read_domain), Form("domain", format_value)]
DomainPattern = Annotated[str, PlainValidator(_read_domain_pattern), Form("domain", format_value)]
Domains = Annotated[tuple[Domain, ...], Form("list of domains", format_value)]
HostPatterns = Annotated[tuple[DomainPattern, ...], Form("list of host patterns", format_value)]
NamePattern = Annotated[str, PlainValidator(_read_name_pattern)]
NamePatterns = Annotated[tuple[NamePattern, ...], Form("list of patterns", format_value)]
Source = Annotated[str, PlainValidator(_read_source)]
Sources = Annotated[tuple[Source, ...], Form("list of IP addresses", format_value)]
MailAddress = Annotated[str, PlainValidator(_read_mail_address)]
MailAddresses = Annotated[tuple[MailAddress, ...], Form("list of addresses", format_value)]
Url = Annotated[str, PlainValidator(_read_url), Form("URL", format_value)]
HttpsUrl = Annotated[str, PlainValidator(_read_https_url), Form("URL", format_value)]
Label = Annotated[str, PlainValidator(_read_label), Form("text", format_value)]
ListenAddress = Annotated[
    str, PlainValidator(_read_listen_address), Form("address:port", format_value)
]
Host = Annotated[str, PlainValidator(_read_host)]
Hosts = Annotated[tuple[Host, ...], Form("list of hosts", format_value)]
DnsServer = Annotated[str, PlainValidator(_read_dns_server)]
DnsServers = Annotated[tuple[DnsServer, ...], Form("list of addresses", format_value)]
Weights = Annotated[
    tuple[tuple[str, int], ...],
    PlainValidator(_read_weights),
    Form("table of weights", _write_weights),
]
Names = Annotated[dict[str, str], PlainValidator(_read_names), Form("table of names", write_names)]
UserNames = Annotated[tuple[str, ...], Form("list of users", format_value)]
SenderPattern = Annotated[str, PlainValidator(_read_sender_pattern)]
SenderPatterns = Annotated[tuple[SenderPattern, ...], Form("list of senders", format_value)]
Notices = Annotated[
    str, PlainValidator(_read_notices), Form('"send", "never", "to:address"', format_value)
]
Language = Annotated[str, PlainValidator(_read_language), Form("language", format_value)]
FilePath = Annotated[str, Form("path", format_value)]
Switch = Annotated[bool, Strict(), Form("true or false", format_value)]
