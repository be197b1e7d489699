"""The manual pages: `sluice.1`, and one for each group of commands, rendered from the tree of commands.

`python -m mta.cli.reference` writes them; a test compares.
"""

from pathlib import Path
from typing import Any

import typer

from mta import __version__
from mta.cli.app import app
from mta.cli.tree import EXIT_STATUS, argument, children, spellings

MAN_PAGES = Path(__file__).parents[2] / "docs" / "man"

_FILES = (
    (
        "/etc/sluice/sluice.toml",
        "the configuration, unless --config or SLUICE_CONFIG names another",
    ),
    ("/run/sluice/control.sock", "the control socket, unless the configuration names another"),
)


def render_man() -> dict[str, str]:
    """Name of the file \u2192 page."""
    tree: Any = typer.main.get_command(app)
    pages: dict[str, str] = {}
    commands: list[str] = []
    for name, command in children(tree):
        inner = list(children(command))
        if not inner:
            commands += _command(f"sluice {name}", command)
            continue
        commands += [
            ".TP",
            f".B sluice {_roff(name)} \\fR...",
            f"{_roff(command.help)} See sluice-{name}(1).",
        ]
        told = [line for child, each in inner for line in _command(f"sluice {name} {child}", each)]
        pages[f"sluice-{name}.1"] = _page(f"sluice-{name}", command.help, f"sluice {name}", told)
    pages["sluice.1"] = _page("sluice", tree.help, "sluice", commands)
    return pages


def _page(name: str, text: str, synopsis: str, commands: list[str]) -> str:
    lines = [
        f'.TH {name.upper()} 1 "" "Sluice {__version__}" "Sluice"',
        ".SH NAME",
        f"{_roff(name)} \\- {_roff(text).rstrip('.')}",
        ".SH SYNOPSIS",
        f".B {_roff(synopsis)}",
        ".I command",
        "[options]",
        ".SH COMMANDS",
        *commands,
        ".SH EXIT STATUS",
    ]
    for code, means in EXIT_STATUS:
        lines += [".TP", f".B {code}", _roff(means)]
    lines.append(".SH FILES")
    for file, means in _FILES:
        lines += [".TP", f".I {_roff(file)}", _roff(means)]
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any) -> list[str]:
    shown = [each for each in command.params if not each.hidden and each.name != "help"]
    usage = " ".join(_roff(argument(each)) for each in shown if each.param_type_name == "argument")
    lines = [f".SS {_roff(name)} \\fI{usage}\\fR", _roff(command.help)]
    for each in shown:
        if each.param_type_name == "argument":
            term = f".I {_roff(argument(each).strip('[]'))}"
        else:
            term = f".B {', '.join(map(_roff, spellings(each)))}"
        lines += [".TP", term, _roff(each.help)]
    return lines


def _roff(text: str | None) -> str:
    """On one line; nothing of it is taken for a request or a hyphen that may be broken."""
    line = " ".join((text or "").split()).replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return f"\\&{line}" if line[:1] in (".", "'") else line
