"""Verbs about queued messages: list, show, hold, release, delete, retry, export, import."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from mta.cli.ask import (
    EXIT_FAILED,
    Config,
    Json,
    Row,
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
from mta.model.units import format_size, parse_duration, parse_size

app = typer.Typer(no_args_is_help=True)


def _checked_id(text: str) -> str:
    """A message's id as the server takes it; said at once if it is none."""
    if text and not is_message_id(text):
        raise typer.BadParameter(f"{text!r} is no message id; they look like 1f2e3d4c-17, or 17")
    return text.strip().lower()


def _in(parse: Callable[[str], Any], text: str) -> Any:
    """What a duration or size means; 0 for none."""
    try:
        return parse(text) if text else 0
    except ValueError as error:
        fail(str(error), code=2)


Domain = Annotated[str, typer.Option(help="recipients of this domain")]
Site = Annotated[str, typer.Option(help="of this site, as far as routes are known")]
Vmta = Annotated[str, typer.Option(help="sent by this virtual MTA")]
Job = Annotated[str | None, typer.Option(help="of this job")]
Sender = Annotated[str | None, typer.Option(help="with this sender; * stands for anything")]
Recipient = Annotated[str, typer.Option(help="to this recipient; * stands for anything")]
Status = Annotated[str, typer.Option(help="due, deferred or held")]
Older = Annotated[str, typer.Option("--older-than", help="queued longer than this, like 2h")]
Younger = Annotated[str, typer.Option("--younger-than", help="queued since no longer than this")]
Larger = Annotated[str, typer.Option("--larger-than", help="of more bytes than this, like 1M")]
Smaller = Annotated[str, typer.Option("--smaller-than", help="of fewer bytes than this")]
Held = Annotated[bool | None, typer.Option("--held/--not-held", help="only (not) held ones")]
MessageId = Annotated[str, typer.Option(help="this message, by its id", callback=_checked_id)]
All = Annotated[bool, typer.Option("--all", help="all queued mail")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only say how many")]


@dataclass(frozen=True, slots=True)
class _Ask:
    """How the server is asked, and how its answer is shown."""

    config: Config
    socket: Socket
    as_json: bool


@app.command("list")
def list_(
    domain: Domain = "",
    site: Site = "",
    vmta: Vmta = "",
    job: Job = None,
    sender: Sender = None,
    recipient: Recipient = "",
    status: Status = "",
    older_than: Older = "",
    younger_than: Younger = "",
    larger_than: Larger = "",
    smaller_than: Smaller = "",
    held: Held = None,
    limit: Annotated[int, typer.Option(help="how many to show")] = 100,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Queued recipients, oldest first."""
    chosen = filter_of(locals())
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
def hold(
    domain: Domain = "",
    site: Site = "",
    vmta: Vmta = "",
    job: Job = None,
    sender: Sender = None,
    recipient: Recipient = "",
    status: Status = "",
    older_than: Older = "",
    younger_than: Younger = "",
    larger_than: Larger = "",
    smaller_than: Smaller = "",
    message: MessageId = "",
    everything: All = False,
    dry_run: DryRun = False,
    reason: Annotated[str, typer.Option(help="why, as `sluice explain` tells it")] = "",
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Stop queued recipients until they are released. They do not expire meanwhile."""
    chosen = {**filter_of(locals()), "reason": reason}
    _change("hold", "held", chosen, _Ask(config, socket, as_json))


@app.command()
def release(
    domain: Domain = "",
    site: Site = "",
    vmta: Vmta = "",
    job: Job = None,
    sender: Sender = None,
    recipient: Recipient = "",
    older_than: Older = "",
    younger_than: Younger = "",
    larger_than: Larger = "",
    smaller_than: Smaller = "",
    message: MessageId = "",
    everything: All = False,
    dry_run: DryRun = False,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Let held recipients go on at once."""
    _change("release", "released", filter_of(locals()), _Ask(config, socket, as_json))


@app.command()
def delete(
    domain: Domain = "",
    site: Site = "",
    vmta: Vmta = "",
    job: Job = None,
    sender: Sender = None,
    recipient: Recipient = "",
    status: Status = "",
    older_than: Older = "",
    younger_than: Younger = "",
    larger_than: Larger = "",
    smaller_than: Smaller = "",
    held: Held = None,
    message: MessageId = "",
    everything: All = False,
    dry_run: DryRun = False,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Remove queued recipients; each leaves a record marked `administrator`. What is being delivered stays."""
    _change("delete", "deleted", filter_of(locals()), _Ask(config, socket, as_json))


@app.command()
def retry(
    domain: Domain = "",
    site: Site = "",
    vmta: Vmta = "",
    job: Job = None,
    sender: Sender = None,
    recipient: Recipient = "",
    status: Status = "",
    older_than: Older = "",
    younger_than: Younger = "",
    larger_than: Larger = "",
    smaller_than: Smaller = "",
    message: MessageId = "",
    everything: All = False,
    dry_run: DryRun = False,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Try recipients that are not held now, and end the backoff of their queues. A pause stays."""
    _change("retry", "due", filter_of(locals()), _Ask(config, socket, as_json))


@app.command("export")
def export_(
    to: Annotated[
        Path, typer.Argument(help="a directory, or a file that ends in .tar, .tar.gz or .tgz")
    ],
    domain: Domain = "",
    site: Site = "",
    vmta: Vmta = "",
    job: Job = None,
    sender: Sender = None,
    recipient: Recipient = "",
    status: Status = "",
    older_than: Older = "",
    younger_than: Younger = "",
    larger_than: Larger = "",
    smaller_than: Smaller = "",
    held: Held = None,
    message: MessageId = "",
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Copy queued messages to disk, each as ID.eml with its envelope as ID.json. They stay queued."""
    from mta.cli.export import export, show_export

    answer = export(to, filter_of(locals()), config, socket)
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
    if how.as_json:
        show_json(answer)
        return
    if chosen["dry_run"]:
        typer.echo(f"{answer[f'would_{verb}']} recipients would be {done}")
    else:
        typer.echo(f"{answer[done]} recipients {done}")
    warn_of_silent(answer)


def filter_of(given: Row) -> Row:
    """The verb's arguments from the options of a command, those of them that it has."""
    chosen: Row = {
        name: given[name]
        for name in ("job", "sender", "recipient", "status", "held", "message", "dry_run")
        if name in given
    }
    for name in ("domain", "site", "vmta"):
        chosen[name] = given[name].lower()
    for name in ("older_than", "younger_than"):
        chosen[f"{name}_s"] = float(_in(parse_duration, given[name]))
    for name in ("larger_than", "smaller_than"):
        chosen[name] = _in(parse_size, given[name])
    if "everything" in given:
        chosen["all"] = given["everything"]
    return chosen


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
