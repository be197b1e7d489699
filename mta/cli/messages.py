"""Verbs about queued messages: list, show, hold, release, delete, retry, export, import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mta.cli.ask import (
    EXIT_FAILED,
    Config,
    Json,
    Row,
    Socket,
    ask,
    in_time,
    show_json,
    show_table,
    show_words,
    since,
    warn_of_silent,
)
from mta.cli.choosing import TO_CHANGE, checked_id, choosing
from mta.model.units import format_size

app = typer.Typer(no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class _Ask:
    """How the server is asked, and how its answer is shown."""

    config: Config
    socket: Socket
    as_json: bool


@app.command("list")
@choosing("status", "held")
def list_(
    chosen: Row,
    limit: Annotated[int, typer.Option(help="how many to show")] = 100,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Queued recipients, oldest first."""
    _show(ask("messages.list", config, socket, limit=limit, **chosen), as_json)


@app.command()
def show(
    message: Annotated[
        str,
        typer.Argument(
            metavar="MESSAGE",
            help="the message's id, or its number alone: that of any spool",
            callback=checked_id,
        ),
    ],
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """One message: each recipient, its state and its last answer."""
    _show(ask("messages.show", config, socket, message=message, limit=10_000), as_json)


@app.command()
@choosing("status", *TO_CHANGE)
def hold(
    chosen: Row,
    reason: Annotated[str, typer.Option(help="why, as `sluice explain` tells it")] = "",
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Stop queued recipients until they are released. They do not expire meanwhile."""
    chosen = {**chosen, "reason": reason}
    _change("hold", "held", chosen, _Ask(config, socket, as_json))


@app.command()
@choosing(*TO_CHANGE)
def release(
    chosen: Row,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Let held recipients go on at once."""
    _change("release", "released", chosen, _Ask(config, socket, as_json))


@app.command()
@choosing("status", "held", *TO_CHANGE)
def delete(
    chosen: Row,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Remove queued recipients; each leaves a record marked `administrator`. What is being delivered stays."""
    _change("delete", "deleted", chosen, _Ask(config, socket, as_json))


@app.command()
@choosing("status", *TO_CHANGE)
def retry(
    chosen: Row,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Try recipients that are not held now, and end the backoff of their queues. A pause stays."""
    _change("retry", "due", chosen, _Ask(config, socket, as_json))


@app.command("export")
@choosing("status", "held", "message")
def export_(
    to: Annotated[
        Path, typer.Argument(help="a directory, or a file that ends in .tar, .tar.gz or .tgz")
    ],
    chosen: Row,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Copy queued messages to disk, each as ID.eml with its envelope as ID.json. They stay queued."""
    from mta.cli.export import export, show_export

    answer = export(to, chosen, config, socket)
    if as_json:
        show_json(answer)
    else:
        show_export(answer, to)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="what `export` wrote")],
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Queue exported messages. One that is here, or was imported before, is not taken again."""
    from mta.cli.export import import_, show_import

    answer = import_(source, config, socket)
    if as_json:
        show_json(answer)
    else:
        show_import(answer)
    if answer["refused"]:
        raise typer.Exit(EXIT_FAILED)


def _change(verb: str, done: str, chosen: Row, how: _Ask) -> None:
    answer = ask(f"messages.{verb}", how.config, how.socket, **chosen)
    words = f"{{would_{verb}}} recipients would be {done}"
    show_words(answer, how.as_json, words if chosen["dry_run"] else f"{{{done}}} recipients {done}")


def _show(answer: Row, as_json: bool) -> None:
    if as_json:
        show_json(answer)
        return
    rows = [
        (
            row["id"],
            row["recipient"],
            row["sender"] or "<>",
            row["queue"],
            row["job"],
            format_size(row["size"]),
            since(row["received_at"]),
            row["attempts"],
            _next(row),
            row["last_reply"],
        )
        for row in answer["recipients"]
    ]
    names = ["message", "recipient", "sender", "queue", "job", "size", "queued", "tries", "next"]
    show_table([*names, "last answer"], rows)
    warn_of_silent(answer)


def _next(row: Row) -> str:
    if row["status"] == "in flight":
        return "being delivered"
    return f"held: {row['hold_reason']}" if row["held"] else in_time(row["due"])
