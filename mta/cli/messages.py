"""Verbs about queued messages: list, show, delete."""

from typing import Annotated, Any

import typer

from mta.cli.ask import (
    Config,
    Json,
    Socket,
    ask,
    fail,
    in_time,
    show_json,
    show_table,
    since,
    warn_of_silent,
)
from mta.model.envelope import is_message_id
from mta.model.units import format_size, parse_duration

app = typer.Typer(no_args_is_help=True)


def _checked_id(text: str) -> str:
    """A message's id as the server takes it; said at once if it is none."""
    if text and not is_message_id(text):
        raise typer.BadParameter(f"{text!r} is no message id; they look like 1f2e3d4c-17, or 17")
    return text.strip().lower()


Domain = Annotated[str, typer.Option(help="recipients of this domain")]
Vmta = Annotated[str, typer.Option(help="sent by this virtual MTA")]
Job = Annotated[str | None, typer.Option(help="of this job")]
Sender = Annotated[str | None, typer.Option(help="with this sender; * stands for anything")]
Recipient = Annotated[str, typer.Option(help="to this recipient; * stands for anything")]
Older = Annotated[str, typer.Option("--older-than", help="queued longer than this, like 2h")]
Held = Annotated[bool | None, typer.Option("--held/--not-held", help="only (not) held ones")]


@app.command("list")
def list_(
    domain: Domain = "",
    vmta: Vmta = "",
    job: Job = None,
    sender: Sender = None,
    recipient: Recipient = "",
    older_than: Older = "",
    held: Held = None,
    limit: Annotated[int, typer.Option(help="how many to show")] = 100,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Queued recipients, oldest first."""
    chosen = filter_of(domain, vmta, job, sender, recipient, older_than, held)
    _show(ask("messages.list", config, socket, limit=limit, **chosen), as_json)


@app.command()
def show(
    message: Annotated[
        str,
        typer.Argument(
            metavar="MESSAGE",
            help="the message's id, or its number alone: that of any spool",
            callback=_checked_id,
        ),
    ],
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """One message: each recipient, its state and its last answer."""
    _show(ask("messages.show", config, socket, message=message, limit=10_000), as_json)


@app.command()
def delete(
    domain: Domain = "",
    vmta: Vmta = "",
    job: Job = None,
    sender: Sender = None,
    recipient: Recipient = "",
    older_than: Older = "",
    held: Held = None,
    message: Annotated[
        str, typer.Option(help="this message, by its id", callback=_checked_id)
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="all queued mail")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say how many")] = False,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Remove queued recipients; each leaves a record marked `administrator`."""
    chosen = filter_of(domain, vmta, job, sender, recipient, older_than, held)
    answer = ask(
        "messages.delete",
        config,
        socket,
        message=message,
        all=everything,
        dry_run=dry_run,
        **chosen,
    )
    if as_json:
        show_json(answer)
    elif dry_run:
        typer.echo(f"{answer['would_delete']} recipients would be deleted")
        warn_of_silent(answer)
    else:
        typer.echo(f"{answer['deleted']} recipients deleted")
        warn_of_silent(answer)


def filter_of(
    domain: str,
    vmta: str,
    job: str | None,
    sender: str | None,
    recipient: str,
    older_than: str,
    held: bool | None,
) -> dict[str, Any]:
    """The options that choose messages, as the server takes them."""
    try:
        older_than_s = parse_duration(older_than) if older_than else 0.0
    except ValueError as error:
        fail(str(error), code=2)
    return {
        "domain": domain.lower(),
        "vmta": vmta.lower(),
        "job": job,
        "sender": sender,
        "recipient": recipient,
        "older_than_s": older_than_s,
        "held": held,
    }


def _show(answer: dict[str, Any], as_json: bool) -> None:
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
            f"held: {row['hold_reason']}" if row["held"] else in_time(row["due"]),
            row["last_reply"],
        )
        for row in answer["recipients"]
    ]
    names = ["message", "recipient", "sender", "queue", "job", "size", "queued", "tries", "next"]
    show_table([*names, "last answer"], rows)
    warn_of_silent(answer)
