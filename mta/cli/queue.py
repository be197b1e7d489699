"""Verbs about one queue: show, pause, resume, retry."""

from typing import Annotated

import typer

from mta.cli.ask import (
    Config,
    Json,
    Socket,
    ask,
    in_time,
    show_json,
    show_table,
    show_waits,
    show_words,
    since,
    warn_of_silent,
)
from mta.cli.completing import QUEUES
from mta.model.units import format_size

app = typer.Typer(no_args_is_help=True)
Name = Annotated[
    str, typer.Argument(metavar="QUEUE", help="domain/vmta, or domain alone", autocompletion=QUEUES)
]


@app.command()
def show(name: Name, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """One queue: what is in it, why it waits, its policy and where each value is set."""
    row = ask("queue.show", config, socket, queue=name)
    if as_json:
        show_json(row)
        return
    facts = [
        (
            "recipients",
            f"{row['recipients']} ({row['held']} held), {format_size(row['size_bytes'])}",
        ),
        ("in memory", f"{row['ready']} ready, {row['in_flight']} in flight"),
        ("connections", row["connections"]),
        ("site", row["site"] or "not resolved yet"),
        ("mode", "paused" if row["paused"] else row["mode"]),
        ("oldest", since(row["oldest_at"])),
        ("next", in_time(max(row["next_at"] or 0, row["due"] or 0))),
        ("last error", row["reason"]),
    ]
    show_table(["", ""], facts, title=row["queue"])
    show_waits(row["waits"], "waits")
    policy = [(each["name"], each["value"], each["place"]) for each in row["policy"]]
    show_table(["setting", "value", "set in"], policy)
    warn_of_silent(row)


@app.command()
def pause(name: Name, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """Stop a queue until it is resumed; running transactions finish."""
    _change("queue.pause", name, config, socket, as_json, "{queue} is paused")


@app.command()
def resume(name: Name, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """End a queue's pause."""
    _change("queue.resume", name, config, socket, as_json, "{queue} goes on")


@app.command()
def retry(name: Name, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """Try everything in a queue now, and end its backoff."""
    _change("queue.retry", name, config, socket, as_json, "{due} recipients of {queue} are due now")


def _change(
    verb: str, name: str, config: Config, socket: Socket, as_json: bool, words: str
) -> None:
    show_words(ask(verb, config, socket, queue=name), as_json, words)
