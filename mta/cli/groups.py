"""`sluice domains`, `sites` and `jobs`: list, pause, resume, limit."""

from typing import Annotated

import typer

from mta.cli.ask import (
    Config,
    Json,
    Row,
    Socket,
    ask,
    in_time,
    in_units,
    show_json,
    show_table,
    since,
    warn_of_silent,
)
from mta.cli.completing import of_group, words
from mta.model.units import format_size, parse_duration

Name = Annotated[str, typer.Argument(help="which one", autocompletion=of_group)]
SORTS = words("recipients", "bytes", "oldest", "name")
For = Annotated[str, typer.Option("--for", help="how long, like 1h; without it until it is ended")]


def make_app(kind: str) -> typer.Typer:
    """The commands of one kind."""
    app = typer.Typer(no_args_is_help=True)
    add_list(app, kind)
    add_pause(app, kind)
    if kind != "job":
        add_limit(app, kind)
    return app


def add_list(app: typer.Typer, kind: str) -> None:
    """`list`."""

    @app.command("list", help=f"What is queued, by {kind}, with the operator's orders.")
    def list_(
        match: Annotated[str, typer.Argument(help="part of the names")] = "",
        sort: Annotated[
            str, typer.Option(help="recipients, bytes, oldest or name", autocompletion=SORTS)
        ] = "recipients",
        limit: Annotated[int, typer.Option(help="how many to show")] = 20,
        config: Config = None,
        socket: Socket = None,
        as_json: Json = False,
    ) -> None:
        answer = ask(f"{kind}s", config, socket, match=match, sort=sort, limit=limit)
        if as_json:
            show_json(answer)
            return
        rows = [
            (
                row["name"],
                row["recipients"],
                row["held"],
                format_size(row["size_bytes"]),
                row["queues"],
                since(row["oldest_at"]),
                "; ".join(map(say, row["orders"])),
            )
            for row in answer[f"{kind}s"]
        ]
        show_table([kind, "rcpt", "held", "size", "queues", "oldest", "orders"], rows)
        least = "" if answer["total_is_exact"] else "at least "
        typer.echo(f"{len(rows)} of {least}{answer['total']} {kind}s")
        warn_of_silent(answer)


def add_pause(app: typer.Typer, kind: str) -> None:
    """`pause`, `drain` and `resume`."""

    add_stop(app, kind, "pause", f"Begin nothing new for a {kind}; mail for it is taken and waits.")
    add_stop(app, kind, "drain", f"Deliver what is queued for a {kind}, and refuse more with 451.")

    @app.command(help=f"End the pause or the drain of a {kind}.")
    def resume(
        name: Name, config: Config = None, socket: Socket = None, as_json: Json = False
    ) -> None:
        answer = ask(f"{kind}.resume", config, socket, name=name)
        show_recalled(answer, as_json, "goes on", "was neither paused nor drained")


def add_drain(app: typer.Typer, kind: str) -> None:
    """`drain` and `undrain`, for what has a pause of its own."""
    add_stop(app, kind, "drain", f"Deliver what is queued in a {kind}, and refuse more with 451.")

    @app.command(help=f"End the drain of a {kind}.")
    def undrain(
        name: Name, config: Config = None, socket: Socket = None, as_json: Json = False
    ) -> None:
        answer = ask(f"{kind}.undrain", config, socket, name=name)
        show_recalled(answer, as_json, "takes mail again", "was not drained")


def add_stop(app: typer.Typer, kind: str, verb: str, help_text: str) -> None:
    """`pause` or `drain`."""
    told_by = "sluice explain" if verb == "pause" else "orders"

    @app.command(verb, help=help_text)
    def stop(
        name: Name,
        for_: For = "",
        reason: Annotated[str, typer.Option(help=f"why, as `{told_by}` tells it")] = "",
        config: Config = None,
        socket: Socket = None,
        as_json: Json = False,
    ) -> None:
        for_s = in_units(parse_duration, for_ or "0s")
        answer = ask(f"{kind}.{verb}", config, socket, name=name, for_s=for_s, reason=reason)
        show_orders(answer, as_json)


def add_limit(app: typer.Typer, kind: str) -> None:
    """`limit` and `unlimit`."""

    @app.command(help=f"Set limits of a {kind} above those of the configuration.")
    def limit(
        name: Name,
        max_connections: Annotated[str, typer.Option(help="connections, like 2")] = "",
        connection_rate: Annotated[str, typer.Option(help="new connections, like 10/min")] = "",
        message_rate: Annotated[str, typer.Option(help="attempts, like 600/min")] = "",
        for_: For = "",
        config: Config = None,
        socket: Socket = None,
        as_json: Json = False,
    ) -> None:
        answer = ask(
            f"{kind}.limit",
            config,
            socket,
            name=name,
            max_connections=max_connections,
            connection_rate=connection_rate,
            message_rate=message_rate,
            for_s=in_units(parse_duration, for_ or "0s"),
        )
        show_orders(answer, as_json)

    @app.command(help=f"Let the limits of the configuration hold again for a {kind}.")
    def unlimit(
        name: Name, config: Config = None, socket: Socket = None, as_json: Json = False
    ) -> None:
        answer = ask(f"{kind}.unlimit", config, socket, name=name)
        show_recalled(answer, as_json, "is limited as configured", "had no order")


def show_orders(answer: Row, as_json: bool) -> None:
    """What was ordered."""
    if as_json:
        show_json(answer)
        return
    for order in answer["orders"]:
        by = f", by {order['by']} {since(order['given_at'])}" if order["by"] else ""
        typer.echo(
            f"{order['scope']} {order['name']}: {say(order)}{by}; {order['command']} ends it"
        )


def show_recalled(answer: Row, as_json: bool, done: str, nothing: str) -> None:
    """Whether there was anything to recall."""
    if as_json:
        show_json(answer)
    else:
        typer.echo(f"{answer['name']} {done if answer['recalled'] else nothing}")


def say(order: Row) -> str:
    """An order in words."""
    end = f", ends {in_time(order['until'])}" if order["until"] else ""
    if order["setting"] in ("pause", "drain"):
        reason = f": {order['value']}" if order["value"] else ""
        return f"{'paused' if order['setting'] == 'pause' else 'drained'}{reason}{end}"
    return f"{order['setting']} {order['value']}{end}"
