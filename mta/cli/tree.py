"""The tree of commands as its pages tell it: what `docs/cli.md` and the manual pages have in common."""

from collections.abc import Iterator
from typing import Any

import typer

# What every command to a running server takes; told once a page.
OF_THE_SERVER = ("config", "socket", "as_json")

EXIT_STATUS = (
    ("0", "done"),
    ("1", "not done: the server refused it, or what was checked is not sound"),
    ("2, 64", "the command line is wrong"),
    ("69", "no server answers"),
    ("75", "`sluice run`: it cannot start, or the spool's disk failed; starting again may help"),
    ("78", "the configuration has mistakes, or cannot be read"),
)


def children(command: Any) -> Iterator[tuple[str, Any]]:
    """The commands of a group, in its order; none for a command."""
    if not hasattr(command, "list_commands"):
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield name, command.get_command(context, name)


def spellings(param: Any) -> list[str]:
    # Typer adds --no-x to every flag; it is worth telling only where it has a name of its own.
    return [*param.opts, *(opt for opt in param.secondary_opts if not opt.startswith("--no-"))]


def argument(param: Any) -> str:
    name = param.metavar or param.name.upper()
    return name if param.required else f"[{name}]"
