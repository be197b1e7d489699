"""How a command asks the running server, and how what it answers is shown."""

import json
import os
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from mta.control.client import ControlClient
from mta.control.protocol import ControlError
from mta.model.units import format_duration

DEFAULT_CONFIG = Path("/etc/sluice/sluice.toml")
DEFAULT_SOCKET = Path("/run/sluice/control.sock")
EXIT_FAILED = 1
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE: no server answers
CHANGE_TIMEOUT_S = 300.0

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="find the socket in this file", envvar="SLUICE_CONFIG"),
]
Socket = Annotated[
    Path | None, typer.Option("--socket", "-s", help="the control socket", envvar="SLUICE_SOCKET")
]
Json = Annotated[bool, typer.Option("--json", help="answer as JSON")]

Row = dict[str, Any]
T = TypeVar("T")


def ask(verb: str, config: Path | None, socket: Path | None, **args: Any) -> Any:
    """The server's answer; on an error say it and end the command."""
    try:
        with _connect(config, socket) as client:
            return client.call(verb, **args)
    except ControlError as error:
        fail(error.text, error.hint, EXIT_FAILED)


def stream(verb: str, config: Path | None, socket: Path | None, **args: Any) -> Iterator[Any]:
    """The items of the server's answer as they come; on an error say it and end the command."""
    try:
        with _connect(config, socket) as client:
            yield from client.stream(verb, **args)
    except ControlError as error:
        fail(error.text, error.hint, EXIT_FAILED)


def _connect(config: Path | None, socket: Path | None) -> ControlClient:
    try:
        return ControlClient(socket or socket_of(config), CHANGE_TIMEOUT_S)
    except ControlError as error:
        fail(error.text, error.hint, EXIT_UNAVAILABLE)


def socket_of(config: Path | None) -> Path:
    """The control socket that a configuration names; only that is read, so a faulty file still leads to its server."""
    chosen = config or DEFAULT_CONFIG
    if config is None and not os.access(chosen, os.R_OK):
        return DEFAULT_SOCKET
    try:
        server = tomllib.loads(chosen.read_text()).get("server", {})
    except (OSError, tomllib.TOMLDecodeError) as error:
        fail(f"cannot read {chosen}: {error}", "name the socket with --socket instead", 78)
    named = Path(server.get("control_socket", DEFAULT_SOCKET))
    return named if named.is_absolute() else chosen.parent / named


def fail(text: str, hint: str = "", code: int = EXIT_FAILED) -> NoReturn:
    """Say what is wrong and what to do, and end."""
    typer.secho(f"sluice: {text}", err=True, fg="red")
    if hint:
        typer.echo(f"  {hint}", err=True)
    raise typer.Exit(code)


def in_units(parse: Callable[[str], T], text: str) -> T:
    """What a duration or size of the command line means; ends the command where it means nothing."""
    try:
        return parse(text)
    except ValueError as error:
        fail(str(error), code=2)


def show_json(answer: Any) -> None:
    """The answer as it came."""
    json.dump(answer, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def show_words(answer: Row, as_json: bool, words: str) -> None:
    """The answer as it came, or what it says in these words."""
    if as_json:
        show_json(answer)
    else:
        typer.echo(words.format(**answer))
        warn_of_silent(answer)


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = ""
) -> None:
    """Rows under their headings; numbers to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, name in enumerate(columns):
        is_number = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    Console().print(table)


def warn_of_silent(answer: Row) -> None:
    """Say which workers did not answer in time."""
    if answer.get("silent"):
        names = ", ".join(str(number) for number in answer["silent"])
        typer.secho(f"worker {names} did not answer; what is shown lacks it", err=True, fg="yellow")


def show_waits(waits: Sequence[Row], whose: str = "") -> None:
    """Each reason with its end, its place and the command that ends it. `whose`: said instead of each one's name."""
    for wait in waits:
        place = f"  ({wait['place']})" if wait["place"] else ""
        until = f", {in_time(wait['until'])}" if wait["until"] else ""
        command = wait["command"]
        end = f"; {command} ends it" if command and command not in wait["what"] else ""
        typer.echo(f"{whose or wait['of']}: {wait['what']}{until}{end}{place}")


def in_time(at: float | None) -> str:
    """`in 5m` or `3s ago`; "" for no time."""
    if not at or at > 1e11:
        return ""
    left = at - time.time()
    return f"in {format_duration(max(1, round(left)))}" if left > 0 else since(at)


def since(at: float | None) -> str:
    """`3s ago`; "" for no time."""
    return f"{format_duration(max(0, round(time.time() - at)))} ago" if at else ""
