"""`sluice trace`: the live dialogue."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated

import typer

from mta.cli.ask import Config, Json, Row, Socket, in_units, stream
from mta.cli.completing import anything
from mta.model.escape import escape_controls
from mta.model.units import parse_duration


def trace(
    what: Annotated[
        str,
        typer.Argument(help="a domain, domain/vmta, or a message's id", autocompletion=anything),
    ],
    for_: Annotated[str, typer.Option("--for", help="how long, at most 1h")] = "1m",
    limit: Annotated[int, typer.Option(help="how many lines, at most 100000")] = 10_000,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """The live SMTP dialogue of its connections: `>` ours, `<` the host's. Bodies are counted, secrets left out."""
    for_s = in_units(parse_duration, for_)
    with suppress(KeyboardInterrupt):
        rows = stream("trace", config, socket, what=what, for_s=for_s, limit=limit)
        _show_trace(rows, as_json)


def _show_trace(rows: Iterator[Row], as_json: bool) -> None:
    import json

    for row in rows:
        for line in row["lines"]:
            typer.echo(json.dumps(line, ensure_ascii=False) if as_json else _say(line))
        if row["dropped"]:
            typer.secho(f"{row['dropped']} lines came too fast and are lost", err=True, fg="yellow")


def _say(line: Row) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(line["at"]))
    number = f"{line['worker']}.{line['connection']}"
    peer = escape_controls(line["peer"]) + " " if line["side"] == "*" else ""
    return f"{at} {number:>6} {line['queue']} {line['side']} {peer}{line['text']}"
