"""`sluice spool check`: verify a spool that no server is using."""

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
    from mta.spool.check import check_spool

    paths = [directory] if directory.is_file() else sorted(directory.glob("[0-9]*.sqlite"))
    if not paths:
        fail(f"there is no spool in {directory}", "name the spool_dir of the configuration", 2)
    reports = {str(path): check_spool(path) for path in paths}
    problems = {name: report.problems for name, report in reports.items()}
    if as_json:
        show_json({"problems": problems})
    else:
        for name, report in reports.items():
            typer.echo(f"{name}: {report.messages} messages, {report.recipients} recipients")
            for problem in report.problems:
                typer.secho(f"  {problem}", fg="red")
            if not report.problems:
                typer.echo("  sound")
    raise typer.Exit(1 if any(problems.values()) else 0)
