"""`sluice spool check`: verify a spool that no server is using."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mta.cli.ask import Json, fail, show_json

app = typer.Typer(no_args_is_help=True)


@app.callback()
def spool() -> None:
    """The spool on disk."""


@app.command()
def check(
    directory: Annotated[Path, typer.Argument(help="the spool_dir, or one .sqlite file in it")],
    as_json: Json = False,
) -> None:
    """Verify a spool offline: the database, its rows, the body files. Changes nothing."""
    from mta.model.errors import SpoolError
    from mta.spool.check import check_spool

    try:
        reports = check_spool(directory)
    except SpoolError as error:
        fail(str(error), "name the spool_dir of the configuration; the server must be stopped", 2)
    if as_json:
        show_json([asdict(report) for report in reports])
    else:
        for report in reports:
            typer.echo(f"{report.path}: {report.messages} messages, {report.recipients} recipients")
            for problem in report.problems:
                typer.secho(f"  {problem}", fg="red")
            if report.is_sound:
                typer.echo("  sound")
    raise typer.Exit(0 if all(report.is_sound for report in reports) else 1)
