"""What an operator watches: `trace`, the live dialogue, and `top`, the busiest queues."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from mta.cli.ask import Config, Json, Row, Socket, ask, in_time, in_units, stream
from mta.cli.completing import QUEUE_ORDERS, anything
from mta.model.escape import escape_controls
from mta.model.units import format_duration, parse_duration

if TYPE_CHECKING:
    from rich.console import Group

TOP_QUEUES = 15


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


def top(
    every: Annotated[str, typer.Option(help="how often it is read anew")] = "2s",
    sort: Annotated[
        str,
        typer.Option(help="recipients, bytes, oldest, due or domain", autocompletion=QUEUE_ORDERS),
    ] = ("recipients"),
    config: Config = None,
    socket: Socket = None,
) -> None:
    """Rates and the first queues, refreshed until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    pause_s = max(0.5, in_units(parse_duration, every))
    # Ctrl-C ends it as it should end: quietly, the terminal as it was.
    with suppress(KeyboardInterrupt), Live(console=Console(), auto_refresh=False) as live:
        while True:
            status = ask("status", config, socket)
            queues = ask("queues", config, socket, sort=sort, limit=TOP_QUEUES)
            live.update(_page(status, queues["queues"]), refresh=True)
            time.sleep(pause_s)


def _page(status: Row, rows: list[Row]) -> "Group":
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    totals = status["totals"]
    head = Text(
        f"{status['hostname']}  up {format_duration(status['uptime_s'])}"
        f"  in {totals.get('last_minute_in', 0)}/min  out {totals.get('last_minute_delivered', 0)}/min"
        f"  queued {totals.get('queued_recipients', 0)}  held {totals.get('held', 0)}"
        f"  connections {totals.get('connections_in', 0)} in, {totals.get('connections_out', 0)} out"
        f"  lag p99 {status['loop_lag_p99_ms']} ms"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("queue", "rcpt", "conn", "in flight", "mode", "next", "last error"):
        right = name in ("rcpt", "conn", "in flight")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        values = (
            row["queue"],
            row["recipients"],
            row["connections"],
            row["in_flight"],
            "paused" if row["paused"] else row["mode"],
            in_time(max(row["next_at"] or 0, row["due"] or 0)),
            escape_controls(row["reason"]),
        )
        table.add_row(*(Text(str(value)) for value in values))
    silent = status["silent"]
    foot = Text(f"worker {', '.join(map(str, silent))} does not answer" if silent else "")
    return Group(head, table, foot)
