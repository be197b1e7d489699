"""`sluice license …`: install, look, activate, report. Commands only; who answers them is handed in.

`make_app(ask)` makes the group. `ask(verb, config, socket, **arguments)` asks the running server – or what lies on the disk,
where none runs – and ends the command with words if that fails. `status` ends with the state's own exit code: 0 valid, 1 notice,
2 grace, 3 held or limited, 4 stopped, 5 unlicensed.
"""

import gzip
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from licensing.calendar import say_time
from licensing.reconcile import compare, count_deliveries

Ask = Callable[..., Any]
Row = dict[str, Any]

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="the configuration file", envvar="SLUICE_CONFIG"),
]
Socket = Annotated[
    Path | None, typer.Option("--socket", "-s", help="the control socket", envvar="SLUICE_SOCKET")
]
Json = Annotated[bool, typer.Option("--json", help="answer as JSON")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="write it to this file")]
File = Annotated[Path, typer.Argument(help="the file, as it came from the vendor")]

Reconcile = Annotated[
    list[Path] | None,
    typer.Option(
        help="an accounting file, compressed or not, once for each: compare with its deliveries; 1 if they differ"
    ),
]

MAX_FILE_BYTES = 4 << 20
NOTICE = (
    "This licence is for the named licensee alone: not to be transferred, resold, rented or given to others; report unauthorised"
    " use to the vendor (terms, section 8.7)."
)


def make_app(ask: Ask) -> typer.Typer:
    """The group of commands, answered by `ask`."""
    app = typer.Typer(no_args_is_help=True, help="The licence: install, look, activate, report.")
    reports = typer.Typer(no_args_is_help=True)
    Looking(ask).add_to(app)
    Changing(ask).add_to(app)
    Reports(ask).add_to(reports)
    app.add_typer(reports, name="report", help="Reports to the vendor: now, show, export, import.")
    return app


def show_reconciled(counted: Row, files: list[Path], as_json: bool) -> None:
    """The ledger beside the records of these files, day by day; ends the command with 1 if they differ."""
    recorded: Counter[str] = Counter()
    for file in files:
        try:
            with open_records(file) as lines:
                recorded.update(count_deliveries(lines))
        except (OSError, EOFError, ValueError, zlib.error) as error:
            typer.secho(f"{file}: {error}", err=True, fg="red")
            raise typer.Exit(2) from None
    found = compare({day: each["counted"] for day, each in counted.items()}, recorded)
    if as_json:
        show_json(found)
    else:
        for day, each in found["days"].items():
            typer.echo(f"  {day}  {each['counted']:>12}  {each['recorded']:>12}")
        text = f"counted {found['counted']}, on record {found['recorded']}: "
        typer.echo(text + (f"difference {found['difference']}" if found["difference"] else "equal"))
    raise typer.Exit(1 if found["difference"] else 0)


def open_records(file: Path) -> TextIO:
    """The text of an accounting file, compressed or not."""
    opener = gzip.open if file.suffix == ".gz" else open
    return cast(TextIO, opener(file, "rt", encoding="utf-8", errors="replace", newline=""))


class Looking:
    """Commands that change nothing."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def add_to(self, app: typer.Typer) -> None:
        """Hang them up."""
        app.command("status")(self.status)
        app.command("show")(self.show)
        app.command("usage")(self.usage)
        app.command("events")(self.events)
        app.command("request")(self.request)
        app.command("test-connection")(self.test_connection)

    def status(self, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
        """What the licence allows now, and why; the exit code says the state."""
        found = self._ask("license.status", config, socket)
        if as_json:
            show_json(found)
        else:
            for line in status_lines(found):
                typer.echo(line)
        raise typer.Exit(0 if found["lab"] else found["exit_code"])

    def show(self, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
        """The installed licences: who, what, until when."""
        found = self._ask("license.status", config, socket)
        licenses = [*found.get("licenses", ()), *found.get("staged", ())]
        if as_json:
            show_json({"licenses": licenses, "passed_over": found.get("passed_over", [])})
            return
        for each in licenses:
            for line in license_lines(each):
                typer.echo(line)
        for each in found.get("passed_over", ()):
            typer.secho(f"passed over: {each['file']}: {each['reason']}", fg="yellow")
        typer.echo(NOTICE if licenses else "no licence is installed: `sluice license install FILE`")

    def usage(
        self,
        config: Config = None,
        socket: Socket = None,
        as_json: Json = False,
        reconcile: Reconcile = None,
    ) -> None:
        """Emails counted here beside those the vendor has signed for, which are what is billed."""
        found = self._ask("license.usage", config, socket)
        if reconcile:
            show_reconciled(found["days"], reconcile, as_json)
            return
        if as_json:
            show_json(found)
            return
        typer.echo(f"counted {found['counted']}, confirmed {found['acknowledged']}")
        for day, each in found["days"].items():
            typer.echo(f"  {day}  {each['counted']:>12}  {each['acknowledged']:>12}")

    def events(
        self,
        count: Annotated[int, typer.Option(help="how many, the latest first")] = 20,
        config: Config = None,
        socket: Socket = None,
        as_json: Json = False,
    ) -> None:
        """What happened to the licence, the latest first."""
        found = self._ask("license.events", config, socket, count=count)["events"]
        if as_json:
            show_json(found)
            return
        for each in found:
            typer.echo(f"{say_time(each['at'])}  {each['code']}  {each['text']}")

    def request(self, output: Output = None, config: Config = None, socket: Socket = None) -> None:
        """A request for a seat, to carry to the vendor's portal by hand."""
        write(self._ask("license.request", config, socket)["text"], output)

    def test_connection(
        self, config: Config = None, socket: Socket = None, as_json: Json = False
    ) -> None:
        """The way to the vendor, step by step: name, proxy, TLS, HTTP."""
        steps = self._ask("license.test-connection", config, socket)["steps"]
        if as_json:
            show_json(steps)
        else:
            for step in steps:
                typer.echo("  ".join(f"{name}: {value}" for name, value in step.items()))
        raise typer.Exit(0 if all(step.get("ok", True) for step in steps) else 1)


class Changing:
    """Commands that change something on this server."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def add_to(self, app: typer.Typer) -> None:
        """Hang them up."""
        app.command("install")(self.install)
        app.command("activate")(self.activate)
        app.command("deactivate")(self.deactivate)

    def install(
        self,
        file: File,
        replace: Annotated[
            bool, typer.Option("--replace", help="take away what cannot stand beside it")
        ] = False,
        config: Config = None,
        socket: Socket = None,
        as_json: Json = False,
    ) -> None:
        """Install a licence, or an activation from the portal. A bad file changes nothing."""
        text = read(file)
        found = self._ask("license.install", config, socket, text=text, replace=replace)
        if as_json:
            show_json(found)
        elif "kind" in found:
            typer.echo(
                f"installed {found['license_id']}, revision {found['revision']}: {found['kind']}"
            )
        else:
            typer.echo(f"installed the activation {found['activation_id']}: {found['seats']} seats")

    def activate(self, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
        """Take this server's seat at the vendor now."""
        found = self._ask("license.activate", config, socket)
        if as_json:
            show_json(found)
            return
        for each in found["activations"]:
            typer.echo(f"{each['license_id']}: activated, {each['seats']} seats")

    def deactivate(
        self, config: Config = None, socket: Socket = None, as_json: Json = False
    ) -> None:
        """Report for the last time and give the seat back, to move the licence to another server."""
        found = self._ask("license.deactivate", config, socket)
        if as_json:
            show_json(found)
        else:
            typer.echo("the seat is free; this server takes and delivers no mail under it any more")


class Reports:
    """Commands about reports."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def add_to(self, app: typer.Typer) -> None:
        """Hang them up."""
        app.command("now")(self.now)
        app.command("show")(self.show)
        app.command("export")(self.export)
        app.command("import")(self.take)

    def now(self, config: Config = None, socket: Socket = None, as_json: Json = False) -> None:
        """Report to the vendor now."""
        found = self._ask("license.report.now", config, socket)
        if as_json:
            show_json(found)
        else:
            typer.echo(f"{found['outcome']}  {found['failure']}".rstrip())
        raise typer.Exit(1 if found["failure"] else 0)

    def show(
        self,
        count: Annotated[int, typer.Option("--last", help="how many, the newest first")] = 1,
        config: Config = None,
        socket: Socket = None,
        as_json: Json = False,
    ) -> None:
        """What was sent to the vendor, every byte of it, and what it says."""
        sent = self._ask("license.report.show", config, socket, count=count)["sent"]
        if as_json:
            show_json(sent)
            return
        for each in sent:
            typer.echo(json.dumps(each["statement"], indent=2, ensure_ascii=False))
            typer.echo(f"as sent: {each['bytes']}")
        if not sent:
            typer.echo("nothing was sent yet")

    def export(self, output: Output = None, config: Config = None, socket: Socket = None) -> None:
        """The report, to carry to the vendor's portal by hand."""
        write(self._ask("license.report.export", config, socket)["text"], output)

    def take(
        self, file: File, config: Config = None, socket: Socket = None, as_json: Json = False
    ) -> None:
        """Take what the portal answered."""
        found = self._ask("license.report.import", config, socket, text=read(file))
        if as_json:
            show_json(found)
        else:
            typer.echo(str(found["outcome"]))


# -- for people ---------------------------------------------------------------------------------------------


def status_lines(found: Row) -> list[str]:
    """The status, as people read it."""
    if found["lab"]:
        return ["lab mode: needs no licence, reaches loopback only"]
    kinds = ", ".join(each["kind"] for each in found.get("licenses", ())) or "no licence"
    lines = [f"{kinds}: {found['state']}"]
    lines += [found["hold"] or found["reason"]] if found["hold"] or found["reason"] else []
    lines += [f"until {say_time(found['deadline'])}"] if found.get("deadline") else []
    lines += [each["text"] for each in found["remarks"] if each["text"] not in lines]
    connections = found["connections"]
    limit = "any number" if connections["limit"] is None else connections["limit"]
    lines.append(f"connections {connections['in_use']}/{limit} (peak {connections['peak']})")
    volume = found.get("volume")
    if volume:
        lines.append(
            f"volume {volume.get('used')} of {volume.get('quota')} in {volume.get('period')}"
        )
        lines.append(f"  {volume['left']} Emails at hand, {volume.get('under_way', 0)} under way")
    report = found.get("report") or {}
    if report.get("last_contact"):
        lines.append(f"the vendor was reached {say_time(report['last_contact'])}")
    if report.get("failure"):
        lines.append(f"the last report failed: {report['failure']}")
    lines += [found["trouble"]] if found.get("trouble") else []
    return lines


def license_lines(each: Row) -> list[str]:
    """A licence, as people read it."""
    lines = [
        f"{each['license_id']}, revision {each['revision']}: {each['kind']} × {each['quantity']}",
        f"  for {each['licensee']} ({each['customer_id']}), order {each['order_ref']}",
        f"  from {each['not_before']} to {each['expires_at']}, at the latest {each['terminate_at']}",
        f"  support until {each['support_until']}, updates until {each['updates_until']}",
    ]
    activation = each["activation_id"]
    lines.append(f"  activated: {activation}" if activation else "  not activated")
    lines += [f"  {each['refusal']}"] if each["refusal"] else []
    return lines


def show_json(answer: Any) -> None:
    """The answer as it came."""
    json.dump(answer, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def read(file: Path) -> str:
    """The text of a file; words and the end of the command where that cannot be."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError("it is too large")
        return data.decode("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        typer.secho(f"sluice: {file} is no licence file: {reason}", err=True, fg="red")
        raise typer.Exit(1) from None


def write(text: str, output: Path | None) -> None:
    """To the file, or to standard output."""
    if output is None:
        typer.echo(text)
    else:
        output.write_text(text + "\n", "utf-8")
        typer.echo(f"written to {output}")
