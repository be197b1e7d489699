"""Renders the reference pages from the schema: the commented `config/sluice.toml` and
`docs/configuration.md`. `python -m mta.config.reference` rewrites both; a test compares them.

In the TOML file help is behind `# `, a setting that may be taken over behind `#` alone, so that
removing that one character sets it. As it stands the file is a valid configuration.
"""

import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mta.config.kinds import LIMIT_FORM, RATE_FORM, UNLIMITED, Form, format_value
from mta.config.schema import (
    AccountingSection,
    AuthSection,
    BounceSection,
    DkimSection,
    DnsSection,
    LicenseSection,
    ListenerSection,
    LoggingSection,
    MetricsSection,
    PoolSection,
    QueueSection,
    SelectionSection,
    ServerSection,
    SiteSection,
    SourceSection,
    TimeoutsSection,
    VmtaSection,
)
from mta.policy.rules import QueuePolicy

ROOT = Path(__file__).parents[2]
TOML_FILE = ROOT / "config" / "sluice.toml"
PAGE = ROOT / "docs" / "configuration.md"

_WIDTH = 96
_QUEUE_DEFAULTS = QueuePolicy()

# Header, model, and whether the header itself is set in the file as it stands.
_SECTIONS: tuple[tuple[str, type[BaseModel], bool], ...] = (
    ("[server]", ServerSection, True),
    ("[[listener]]", ListenerSection, True),
    ("[dns]", DnsSection, True),
    ("[vmta.a]", VmtaSection, False),
    ("[pool.bulk]", PoolSection, False),
    ("[selection]", SelectionSection, True),
    ("[source.crm]", SourceSection, False),
    ("[site.google]", SiteSection, False),
    ("[default]", QueueSection, True),
    ("[[dkim]]", DkimSection, False),
    ("[accounting.main]", AccountingSection, False),
    ("[bounce]", BounceSection, True),
    ("[license]", LicenseSection, True),
    ("[metrics]", MetricsSection, True),
    ("[logging]", LoggingSection, True),
)

_UNITS = """\
Durations are written `90s`, `10m`, `1h30m`, `4d12h`, or as a plain number of seconds; sizes
`64k`, `250M`, `1G` (powers of 1024), or as a plain number of bytes; rates `10/s`, `600/min`,
`5000/h`, `1/10s`. A limit or rate may be "unlimited"."""

_PLACES = """\
Each value of a queue – one domain, sent from one virtual MTA – is looked up by itself, and the
most specific place that sets it wins: `[vmta.a.domain."gmail.com"]`, `[domain."gmail.com"]`,
`[vmta.a.site.google]`, `[site.google]`, `[vmta.a]`, `[default]`. Any key of `[default]` may
stand in each of them. `sluice config explain gmail.com --vmta a` shows every value and the
place it comes from."""

_COUNTING = """\
`max_connections`, `connection_rate` and `message_rate` count per site and virtual MTA. A domain
of a named site shares the site's limit with the site's other domains; what `[domain.X]` sets
then counts for that domain in addition. A domain without a named site is its own site, and what
`[domain.X]` sets is its limit. Totals have keys of their own: `total_connections` and
`total_message_rate` of `[server]` and `[vmta.X]`."""

_FILES = """\
`include` names more files, relative to the main one. A table may stand in one of the files
only; `[[listener]]` and `[[dkim]]` add up. Relative paths start at the file that names them; a path
that begins with `%d/` leads to the credentials of the service (`LoadCredential=` of systemd)."""

_CHECKING = """\
`sluice config check --config FILE` tells every mistake at once, each with its file, line and
key, and ends with status 78 if there is one. A list entry is counted from 1:
`listener[2].address` is the second listener's. A running server that is told to reload a file
with a mistake goes on with the old one."""

_EXAMPLES = """\
# Values for one domain; any key of [default] may stand here.
#[domain."example.net"]
#tls = "require"

# Values for one site, and for one domain, from one virtual MTA only.
#[vmta.a.site.google]
#message_rate = "300/min"

#[vmta.a.domain."example.net"]
#max_connections = 5
"""


def render_toml() -> str:
    """The commented reference file."""
    parts = [
        "# Sluice: its configuration, every key with its default. Rendered from the schema by",
        "# `python -m mta.config.reference`; do not edit by hand. A line behind `#` without a blank",
        "# is a setting: remove the `#` to set it. `sluice config check` tells every mistake.",
        "#",
        *_comment(_plain(_UNITS)),
        "#",
        *_comment(_plain(_FILES)),
        '#include = ["conf.d/*.toml"]',
        "",
    ]
    for header, model, is_set in _SECTIONS:
        parts += _comment(_doc(model))
        if model is QueueSection:
            parts += ["#", *_comment(_plain(_PLACES)), "#", *_comment(_plain(_COUNTING))]
        elif issubclass(model, QueueSection):
            parts += _comment("Any key of [default] may stand here too.")
        parts += [header if is_set else f"#{header}", ""]
        for name, info in _own_fields(model):
            parts += _toml_key(name, info, is_set)
        if model is QueueSection:
            parts += [_EXAMPLES]
    return "\n".join(parts).rstrip("\n") + "\n"


def render_page() -> str:
    """The reference page, in Markdown."""
    parts = [
        "# Configuration",
        "",
        "Rendered from the schema by `python -m mta.config.reference`; do not edit by hand. The same "
        "as a file to start from: [`config/sluice.toml`](../config/sluice.toml).",
        "",
        "## How it is written and read",
        "",
        *("\n".join((_UNITS, "", _FILES, "", _CHECKING, "")).split("\n")),
        "## Which value wins, and what it counts",
        "",
        *("\n".join((_PLACES, "", _COUNTING, "")).split("\n")),
    ]
    for header, model, _ in _SECTIONS:
        parts += [f"## `{header}`", "", _doc(model), ""]
        if issubclass(model, QueueSection) and model is not QueueSection:
            parts += ["Any key of `[default]` may stand here too.", ""]
        parts += _table(_own_fields(model))
        if model is QueueSection:
            parts += ["### `auth`", "", _doc(AuthSection), ""]
            parts += _table(iter(AuthSection.model_fields.items()))
            parts += ["### `timeouts`", "", _doc(TimeoutsSection), ""]
            parts += _table(iter(TimeoutsSection.model_fields.items()), are_examples_defaults=True)
    return "\n".join(parts).rstrip("\n") + "\n"


def _own_fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a section: not the tables within it, nor what it shares with [default]."""
    is_queue_place = issubclass(model, QueueSection) and model is not QueueSection
    shared = QueueSection.model_fields if is_queue_place else {}
    for name, info in model.model_fields.items():
        # A table with a form of its own is a value; other tables hold sections.
        if name not in shared and (_form(info) or get_origin(info.annotation) is not dict):
            yield name, info


def _toml_key(name: str, info: FieldInfo, is_header_set: bool) -> list[str]:
    help_text = f"{info.description} {_kind_and_default(name, info)}"
    extra = _extra(info)
    value = extra["example"] or _default_text(name, info)
    mark = "" if extra["shown"] and is_header_set else "#"
    return [*_comment(help_text), f"{mark}{name} = {value}", ""]


def _kind_and_default(name: str, info: FieldInfo) -> str:
    kind = _kind(info)
    if info.is_required():
        return f"({kind}; must be set)"
    default = _default_text(name, info)
    return f"({kind}; default {default})" if default else f"({kind})"


def _table(
    fields: Iterator[tuple[str, FieldInfo]], *, are_examples_defaults: bool = False
) -> list[str]:
    rows = ["| key | kind | default | meaning |", "|---|---|---|---|"]
    for name, info in fields:
        extra = _extra(info)
        default = _default_text(name, info)
        if are_examples_defaults:
            default = extra["example"]
        meaning = info.description or ""
        if extra["example"] and extra["example"] != default:
            meaning += f" Example: `{extra['example']}`."
        shown = "must be set" if info.is_required() else f"`{default}`" if default else "not set"
        rows.append(f"| `{name}` | {_kind(info)} | {shown} | {meaning} |")
    return [*rows, ""]


def _extra(info: FieldInfo) -> dict[str, Any]:
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


def _form(info: FieldInfo) -> Form | None:
    return next((item for item in info.metadata if isinstance(item, Form)), None)


def _kind(info: FieldInfo) -> str:
    form = _form(info)
    if form is not None:
        return form.name
    annotation: Any = info.annotation
    for choice in (annotation, *get_args(annotation)):
        if get_origin(choice) is Literal:
            is_list = choice is not annotation
            words = ", ".join(format_value(item) for item in get_args(choice))
            return f"list of {words}" if is_list else words
        if isinstance(choice, type) and issubclass(choice, Enum):
            return ", ".join(format_value(item.value) for item in choice)
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return "table"
    return "list of texts" if get_origin(annotation) is tuple else "text"


def _default_text(name: str, info: FieldInfo) -> str:
    """The default as TOML; "" where a key is not set by default."""
    if info.is_required():
        return ""
    form = _form(info)
    value = info.default
    is_queue_value = QueueSection.model_fields.get(name) is info
    if is_queue_value:
        value = getattr(_QUEUE_DEFAULTS, name)
    if value is None:
        return format_value(UNLIMITED) if form in (LIMIT_FORM, RATE_FORM) else ""
    if value in ("", (), {}):
        return ""
    return form.write(value) if form else format_value(value)


def _doc(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _plain(text: str) -> str:
    return " ".join(text.split())


def _comment(text: str) -> list[str]:
    return [
        f"# {line}"
        for line in textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    ]


def main() -> None:
    """Rewrite both pages."""
    TOML_FILE.write_text(render_toml(), "utf-8")
    PAGE.write_text(render_page(), "utf-8")


if __name__ == "__main__":
    main()
