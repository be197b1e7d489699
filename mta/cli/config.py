"""`sluice config …`: check the configuration file, show it as it counts, explain where each value
of a queue comes from, and make the hash of a user's password: all offline, from the file alone.
Only `diff` asks the running server.

Mistakes end with status 78 (EX_CONFIG), all of them listed.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mta.cli.ask import EXIT_FAILED, Socket, ask
from mta.config.load import DEFAULT_PATH, Settings, load
from mta.config.show import Shown, plain, plain_settings, show, write_value
from mta.config.show import explain as explain_values
from mta.model.address import normalise_domain
from mta.model.errors import ConfigError, Problem
from mta.policy.passwords import hash_password

EX_USAGE = 64
EX_CONFIG = 78
SALT_BYTES = 16

app = typer.Typer(
    name="config",
    help="Check, show and explain the configuration file.",
    no_args_is_help=True,
    add_completion=False,
)

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="SLUICE_CONFIG", help="The configuration file.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


@app.command("check")
def check(config: ConfigOption = DEFAULT_PATH, as_json: JsonOption = False) -> None:
    """Tell every mistake in the configuration, each with its file, line and key."""
    settings = load_or_exit(config, as_json=as_json)
    if as_json:
        _print_json({"problems": [], "warnings": _plain_problems(settings.warnings)})
        return
    console = Console(soft_wrap=True)
    _print_warnings(console, settings.warnings)
    console.print(f"[green]{escape(settings.file)}: no mistakes[/]", highlight=False)


@app.command("show")
def show_command(config: ConfigOption = DEFAULT_PATH, as_json: JsonOption = False) -> None:
    """Show the configuration as it counts: all files together, defaults filled in, no secrets."""
    settings = load_or_exit(config, as_json=as_json)
    if as_json:
        _print_json(plain_settings(settings))
        return
    table = Table(box=None, pad_edge=False, title=f"{escape(settings.file)}", title_justify="left")
    table.add_column("section")
    table.add_column("key")
    table.add_column("value", overflow="fold")
    for section, values in show(settings).items():
        for number, (name, value) in enumerate(values.items()):
            header = f"[bold]{escape(section)}[/]" if number == 0 else ""
            table.add_row(header, name, escape(value))
        table.add_section()
    _console().print(table)


@app.command("diff")
def diff(
    config: ConfigOption = DEFAULT_PATH, socket: Socket = None, as_json: JsonOption = False
) -> None:
    """Show where the file differs from what the server runs with: what a reload or restart would change."""
    running = ask("config.running", config, socket)["sections"]
    changes = list(_changes(running, show(load_or_exit(config, as_json=as_json))))
    if as_json:
        names = ("section", "key", "running", "file")
        _print_json({"changes": [dict(zip(names, each, strict=True)) for each in changes]})
    elif not changes:
        typer.echo("the server runs with what the file says")
    else:
        table = Table(box=None, pad_edge=False)
        for column in ("section", "key", "runs with", "the file says"):
            table.add_column(column, overflow="fold")
        for row in changes:
            table.add_row(*("–" if each is None else escape(each) for each in row))
        _console().print(table)
    if changes:
        raise typer.Exit(EXIT_FAILED)


def _changes(running: Shown, file: Shown) -> Iterator[tuple[str, str, str | None, str | None]]:
    """(section, key, running value, the file's); None: not set there."""
    for section in dict.fromkeys([*running, *file]):
        before, after = running.get(section, {}), file.get(section, {})
        for key in dict.fromkeys([*before, *after]):
            if before.get(key) != after.get(key):
                yield section, key, before.get(key), after.get(key)


@app.command("explain")
def explain(
    domain: Annotated[str, typer.Argument(help="The domain mail goes to, like gmail.com.")],
    config: ConfigOption = DEFAULT_PATH,
    vmta: Annotated[str, typer.Option(help="The virtual MTA; not set: the first.")] = "",
    site: Annotated[str, typer.Option(help="The site; not set: found by --mx and domains.")] = "",
    mx: Annotated[list[str] | None, typer.Option(help="A most-preferred MX host; repeat.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show every value of a queue and the place it comes from. Asks no DNS: name the MX or site."""
    settings = load_or_exit(config, as_json=as_json)
    try:
        name = normalise_domain(domain)
        hosts = [normalise_domain(host) for host in mx or []]
    except ValueError as error:
        _fail(str(error))
    vmta = vmta.lower() or next(iter(settings.vmtas))
    if vmta not in settings.vmtas:
        _fail(f"there is no virtual MTA {vmta!r}; there are: {', '.join(settings.vmtas)}")
    if site and site not in settings.book.sites:
        _fail(f"there is no [site.{site}]; there are: {', '.join(settings.book.sites) or 'none'}")
    site = site or settings.book.site_for(name, hosts)
    rows = list(explain_values(settings, name, vmta, site))
    if as_json:
        values = {
            key: {"value": plain(value), "file": place.file, "section": place.section}
            for key, value, place in rows
        }
        _print_json({"domain": name, "vmta": vmta, "site": site, "values": values})
        return
    console = _console()
    console.print(f"[bold]{name}/{vmta}[/], site {site}", highlight=False)
    if site == name and not hosts and settings.book.sites:
        text = "its MX was not looked up; with --mx HOST or --site NAME the site's values count"
        console.print(f"[dim]{text}[/]", highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("value of", "is", "from"):
        table.add_column(column, overflow="fold")
    for key, value, place in rows:
        where = escape(str(place)) if place.file else f"[dim]{place}[/]"
        name = key if key.startswith("timeouts.") else key.rpartition(".")[2]
        table.add_row(key, escape(write_value(name, value)), where)
    console.print(table)


@app.command("password")
def password(
    user: Annotated[str, typer.Argument(help="The user that will log in.")],
    from_stdin: Annotated[bool, typer.Option("--stdin", help="Read it from stdin.")] = False,
) -> None:
    """Make the line of a users file (`auth_users`): the user and the scrypt hash of a password."""
    if from_stdin:
        text = sys.stdin.readline().rstrip("\r\n")
    else:
        text = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if not text:
        _fail("the password is empty")
    name = json.dumps(user, ensure_ascii=False)
    typer.echo(f'{name} = "{hash_password(text, os.urandom(SALT_BYTES))}"')


def load_or_exit(path: Path, *, as_json: bool = False) -> Settings:
    """The settings of a file; its mistakes are listed and end the command with status 78."""
    try:
        settings = load(path)
        check_reporting(settings)
        return settings
    except ConfigError as error:
        if as_json:
            _print_json({"problems": _plain_problems(error.problems), "warnings": []})
        else:
            console = Console(stderr=True, soft_wrap=True)
            for problem in error.problems:
                console.print(f"[red]{escape(str(problem))}[/]", highlight=False)
            count = len(error.problems)
            console.print(f"{count} {'mistake' if count == 1 else 'mistakes'}", highlight=False)
        raise typer.Exit(EX_CONFIG) from None


def check_reporting(settings: Settings) -> None:
    """What only the installed licences tell to be a mistake. Raises ConfigError."""
    if not settings.license.reporting:
        from mta.runtime import license  # heavy, and rarely needed

        license.check_reporting(settings, license.installed_kinds(settings))


def _print_warnings(console: Console, warnings: tuple[Problem, ...]) -> None:
    for warning in warnings:
        console.print(f"[yellow]warning: {escape(str(warning))}[/]", highlight=False)


def _plain_problems(problems: list[Problem] | tuple[Problem, ...]) -> list[dict[str, Any]]:
    return [
        {"file": problem.file, "line": problem.line, "key": problem.key, "text": problem.text}
        for problem in problems
    ]


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _console() -> Console:
    """Wide enough for whole values where the output is no terminal: it may be searched."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(EX_USAGE)
