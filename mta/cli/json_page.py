"""Renders `docs/json.md`: what every command answers with `--json`, from the shapes in `mta.cli.answers`."""

from typing import Any

import msgspec

from mta.cli.answers import LINES, SHAPES

_HEAD = """\
# Answers in JSON

Rendered from the code by `python -m mta.cli.reference`; do not edit by hand.

With `--json` a command prints its answer as JSON on standard output, and nothing else there. `sluice schema COMMAND` prints the
JSON Schema of an answer, `sluice schema` lists the commands that have one. Every real answer in our tests is held against its
schema. Within a release an answer has these fields and no others; a later release may add some, and the
[changelog](../CHANGELOG.md) says so. Let a program ignore what it does not know.

A command that fails prints no answer: the words stand on standard error, and the [exit status](cli.md) is not 0. There are two
exceptions. A command whose exit status is its finding (`config diff`, `dkim check`, `doctor`, `spool check`, `license status`)
answers as always. One that reads a configuration with mistakes answers as `config check` does, with exit status 78.

Times are Unix times in seconds, durations are seconds, sizes are bytes. What may be absent is marked; what has no value is null
or "".

"""


def render_json() -> str:
    """The page."""
    names = list(SHAPES)
    roots, components = msgspec.json.schema_components(list(SHAPES.values()), ref_template="{name}")
    parts = [_HEAD, "## Commands\n", "| command | answer |", "|---|---|"]
    for name, root in zip(names, roots, strict=True):
        lines = ", one object a line" if name in LINES else ""
        parts.append(f"| `sluice {name}` | {_type(root)}{lines} |")
    parts += ["", "## Objects", ""]
    for name in sorted(components):
        parts += _table(name, components[name])
    return "\n".join(parts)


def _table(name: str, schema: dict[str, Any]) -> list[str]:
    required = set(schema["required"])
    rows = [f"### {name}", "", _cell(schema["description"]), "", "| field | type | meaning |"]
    rows.append("|---|---|---|")
    for field, value in schema["properties"].items():
        may_miss = "" if field in required else "May be absent. "
        meaning = may_miss + _cell(value.get("description", ""))
        rows.append(f"| `{field}` | {_type(value)} | {meaning.strip()} |")
    return [*rows, ""]


def _type(schema: dict[str, Any]) -> str:
    """A type in words; an object is linked."""
    match schema:
        case {"$ref": name}:
            return f"[{name}](#{name.lower()})"
        case {"anyOf": choices}:
            return " or ".join(_type(each) for each in choices)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "object", "additionalProperties": values} if isinstance(values, dict):
            return f"name → {_type(values)}"
        case {"type": str(name)}:
            return {"object": "object", "integer": "whole number"}.get(name, name)
    return "any"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
