"""Verbs about the server as a whole: status, queues, orders, explain, resolve, reload, rotate, shutdown."""

import collections
from typing import Annotated

import typer

from mta.cli.ask import (
    Config,
    Json,
    Row,
    Socket,
    ask,
    in_time,
    show_json,
    show_table,
    show_waits,
    since,
    warn_of_silent,
)
from mta.cli.completing import QUEUE_ORDERS, VMTAS, anything
from mta.cli.groups import show_orders
from mta.model.units import format_duration, format_size


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    for command in (status, queues, orders, explain, resolve, reload, rotate, shutdown):
        app.command()(command)


def status(config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """How the server is: rates, totals, connections, disk, lag."""
    answer = ask("status", config, socket)
    if as_json:
        show_json(answer)
        return
    totals = collections.Counter(answer["totals"])  # nobody answered: nothing is known to be there
    lab = "  LAB: reaches loopback only" if answer["lab"] else ""
    typer.echo(
        f"sluice {answer['version']} on {answer['hostname']}, pid {answer['pid']},"
        f" up {format_duration(answer['uptime_s'])}{lab}"
    )
    rows = [
        ("messages in", totals["messages_in"], f"{totals['last_minute_in']} in the last minute"),
        (
            "delivered",
            totals["delivered"],
            f"{totals['last_minute_delivered']} in the last minute",
        ),
        ("deferred attempts", totals["deferred"], ""),
        ("bounced", totals["bounced"], f"{totals['expired']} of them expired"),
        (
            "queued recipients",
            totals["queued_recipients"],
            f"{totals['queued_messages']} messages in {totals['queues']} queues,"
            f" {totals['held']} held",
        ),
        ("connections", f"{totals['connections_in']} in, {totals['connections_out']} out", ""),
        ("spool", format_size(totals["spool_bytes"]), _intake(answer["workers"])),
        ("loop lag p99", f"{answer['loop_lag_p99_ms']} ms", ""),
    ]
    rows += [("out of service", name, why) for name, why in _vmtas_out(answer["workers"]).items()]
    rows += _licence(answer.get("license", {"lab": True}))
    for follower in answer["followers"]:
        behind = f"{follower['waiting']} events waiting"
        rows.append((follower["name"], follower["trouble"] or "writing", behind))
    show_table(["", "", ""], rows)
    if len(answer["workers"]) + len(answer["silent"]) > 1:
        show_workers(answer)
    warn_of_silent(answer)


def _licence(license: Row) -> list[tuple[str, object, str]]:
    """Kind, state, connections and volume; nothing in lab mode."""
    if license["lab"]:
        return []
    kinds = ", ".join(each["kind"] for each in license.get("licenses", ()))
    text = license["hold"] or license["reason"] or license.get("trouble", "")
    rows: list[tuple[str, object, str]] = [
        ("licence", f"{kinds} {license['state']}".strip(), text),
    ]
    rows += [("", "", each["text"]) for each in license["remarks"]]
    found = license["connections"]
    limit = "any" if found["limit"] is None else found["limit"]
    shown = f"{found['in_use']}/{limit} (peak {found['peak']})"
    rows.append(("licence connections", shown, ""))
    volume = license.get("volume")
    if volume:
        left = f"{volume['left']} at hand"
        of = ""
        if volume.get("quota"):
            of = f"{volume['used'] or 0} of {volume['quota']} used by all servers"
        rows.append(("licence volume", left, of))
    return rows


def _vmtas_out(workers: list[Row]) -> dict[str, str]:
    """Virtual MTAs that are out of service in some worker, and why."""
    return {name: why for each in workers for name, why in each.get("vmtas_out", {}).items()}


def _intake(workers: list[Row]) -> str:
    """Why mail is not taken, where it is not."""
    closed = {each["intake"] for each in workers} - {"open"}
    return "; ".join(sorted(closed))


def show_workers(answer: Row) -> None:
    """A line for each worker; one that did not answer has nothing but that."""
    rows: list[tuple[object, ...]] = [
        (number, "does not answer", "", "", "", "", "") for number in answer["silent"]
    ]
    for each in answer["workers"]:
        totals = each["totals"]
        rows.append(
            (
                each["number"],
                each["intake"],
                totals["last_minute_in"],
                totals["last_minute_delivered"],
                totals["queued_recipients"],
                f"{totals['connections_in']} in, {totals['connections_out']} out",
                f"{each['loop_lag_p99_ms']} ms",
            )
        )
    rows.sort(key=lambda row: int(str(row[0])))
    names = ["worker", "intake", "in/min", "out/min", "queued", "connections", "lag p99"]
    show_table(names, rows)


def queues(
    match: Annotated[str, typer.Argument(help="part of the queues' names")] = "",
    sort: Annotated[
        str,
        typer.Option(help="recipients, bytes, oldest, due or domain", autocompletion=QUEUE_ORDERS),
    ] = "recipients",
    limit: Annotated[int, typer.Option(help="how many to show")] = 20,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """The queues, largest first."""
    answer = ask("queues", config, socket, match=match, sort=sort, limit=limit)
    if as_json:
        show_json(answer)
        return
    rows = [
        (
            row["queue"],
            row["recipients"],
            format_size(row["size_bytes"]),
            row["connections"],
            "paused" if row["paused"] else row["mode"],
            since(row["oldest_at"]),
            in_time(max(row["next_at"] or 0, row["due"] or 0)),
            row["reason"],
        )
        for row in answer["queues"]
    ]
    names = ["queue", "rcpt", "size", "conn", "mode", "oldest", "next", "last error"]
    show_table(names, rows)
    least = "" if answer["total_is_exact"] else "at least "
    typer.echo(f"{len(rows)} of {least}{answer['total']} queues")
    if answer["missing"]:
        most = (
            format_size(answer["missing"]) if sort == "bytes" else f"{answer['missing']} recipients"
        )
        typer.echo(f"too many alike to compare over all workers: others may have up to {most}")
    warn_of_silent(answer)


def orders(config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """The operator's pauses and limits that hold now, with their ends."""
    show_orders(ask("orders", config, socket), as_json)


def explain(
    what: Annotated[
        str,
        typer.Argument(help="a message's id, a domain, or domain/vmta", autocompletion=anything),
    ],
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Why a message or a queue waits, until when, and where that is set."""
    answer = ask("explain", config, socket, what=what)
    if as_json:
        show_json(answer)
        return
    if not answer["waits"]:
        typer.echo(f"{what} waits for nothing: it is empty, or being delivered")
    show_waits(answer["waits"])
    warn_of_silent(answer)


def resolve(
    domain: Annotated[str, typer.Argument(help="where its mail would go")],
    vmta: Annotated[
        str, typer.Option(help="sent by this virtual MTA", autocompletion=VMTAS)
    ] = "default",
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Where a domain's mail goes, asked now."""
    answer = ask("resolve", config, socket, domain=domain, vmta=vmta)
    if as_json:
        show_json(answer)
        return
    if "candidates" not in answer:
        why = answer.get("fails") or answer.get("waits")
        typer.secho(f"{domain}: {why}", fg="red")
        raise typer.Exit(1)
    typer.echo(f"{answer['domain']} by {answer['vmta']}: site {answer['site']}")
    rows = [
        (each["preference"], each["host"], each["address"], each["port"])
        for each in answer["candidates"]
    ]
    show_table(["pref", "host", "address", "port"], rows)


def reload(config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """Read the configuration again; a bad one changes nothing."""
    answer = ask("reload", config, socket)
    if as_json:
        show_json(answer)
        return
    typer.echo("configuration reloaded")
    for note in answer["notes"]:
        typer.secho(note, fg="yellow")


def rotate(config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
    """Begin new accounting files."""
    answer = ask("rotate", config, socket)
    if as_json:
        show_json(answer)
        return
    for name, file in answer["finished"].items():
        typer.echo(f"{name}: {file or 'nothing was written since the last time'}")


def shutdown(
    drain: Annotated[
        bool, typer.Option("--drain", help="first deliver what is due, taking nothing new")
    ] = False,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Stop the server; what is queued stays in the spool."""
    answer = ask("shutdown", config, socket, drain=drain)
    if as_json:
        show_json(answer)
    else:
        typer.echo("draining, then stopping" if drain else "stopping")
