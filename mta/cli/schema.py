"""`sluice schema`: the JSON Schema of what a command answers with `--json`."""

import difflib
from typing import Annotated

import typer

from mta.cli.ask import fail

USAGE = 2


def schema(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="like: queue show; without one, all are listed"),
    ] = None,
) -> None:
    """The JSON Schema of what a command answers with --json."""
    from mta.cli.answers import SHAPES, show_schema

    if not command:
        for name in SHAPES:
            typer.echo(name)
        return
    name = " ".join(command)
    if name not in SHAPES:
        near = difflib.get_close_matches(name, SHAPES, n=1)
        hint = f"did you mean {near[0]}?" if near else "sluice schema lists those that have one"
        fail(f"no command {name!r} answers in JSON", hint, USAGE)
    typer.echo(show_schema(name))
