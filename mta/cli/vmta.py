"""Verbs about virtual MTAs: the list, pause, resume, drain; and `messages reroute`."""

from typing import Annotated

import typer

from mta.cli.ask import (
    Config,
    Json,
    Row,
    Socket,
    ask,
    show_json,
    show_table,
    show_words,
    warn_of_silent,
)
from mta.cli.choosing import TO_CHANGE, choosing
from mta.cli.completing import QUEUES, VMTAS

app = typer.Typer(no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="the virtual MTA", autocompletion=VMTAS)]


def vmtas(config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """The virtual MTAs: addresses, state, queued recipients, connections, rates."""
    answer = ask("vmtas", config, socket)
    if as_json:
        show_json(answer)
        return
    rows = [
        (
            row["vmta"],
            ", ".join(row["addresses"]) or ("" if row["state"] == "gone" else "any"),
            row["state"],
            row["recipients"],
            _of(row["connections"], row["total_connections"]),
            _of(row["delivered_last_minute"], row["total_message_rate"]),
            ", ".join(row["pools"]),
            row["reason"],
        )
        for row in answer["vmtas"]
    ]
    names = ["virtual MTA", "addresses", "state", "queued", "conn", "out/min", "pools", "reason"]
    show_table(names, rows)
    warn_of_silent(answer)


def _of(used: int, limit: object) -> str:
    return str(used) if limit is None else f"{used} (limit {limit})"


@app.command()
def pause(name: Name, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """Stop a virtual MTA: its mail waits, and expires on time; pools pass it over; running transactions finish."""
    answer = ask("vmta.pause", config, socket, vmta=name)
    show_words(answer, as_json, "{vmta} is paused; its mail waits for sluice vmta resume {vmta}")


@app.command()
def resume(name: Name, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """End a pause or a drain."""
    show_words(ask("vmta.resume", config, socket, vmta=name), as_json, "{vmta} goes on")


@app.command()
def drain(name: Name, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """Take a virtual MTA out of its pools; what it has, and mail that names it, still goes out."""
    text = "{vmta} is drained: its pools pass it over; sluice vmtas shows what is left"
    show_words(ask("vmta.drain", config, socket, vmta=name), as_json, text)


@choosing("status", *TO_CHANGE)
def reroute(
    *,
    to: Annotated[
        str, typer.Option(help="the virtual MTA or pool that shall send it", autocompletion=VMTAS)
    ],
    queue: Annotated[
        str, typer.Option(help="of this queue, domain/vmta", autocompletion=QUEUES)
    ] = "",
    chosen: Row,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Move queued recipients to another virtual MTA or pool; what is being delivered stays."""
    answer = ask("messages.reroute", config, socket, to=to, queue=queue, **chosen)
    text = (
        "{would_move} recipients would go to {to}"
        if chosen["dry_run"]
        else "{moved} recipients moved to {to}"
    )
    show_words(answer, as_json, text)
