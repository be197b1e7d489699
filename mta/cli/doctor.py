"""`sluice doctor`: looks at the machine and at DNS as the server and its receivers will, and says what to mend.

It changes nothing. `machine` and `standing` do the looking.
"""

from collections.abc import Iterator
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from mta.cli.ask import Json, show_json
from mta.cli.config import load_or_exit
from mta.cli.finding import Finding, Level
from mta.cli.lookup import Lookup
from mta.cli.machine import examine_machine, examine_way_out
from mta.cli.standing import examine_standing
from mta.config.load import DEFAULT_PATH, Settings
from mta.control.client import ControlClient
from mta.control.protocol import ControlError
from mta.model.address import normalise_domain

EXIT_FAILURES = 1
EX_USAGE = 64
SMTP_PORT = 25
RUNNING_S = 2.0
_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "red", Level.SKIPPED: None}

app = typer.Typer(add_completion=False)

Config = Annotated[
    Path, typer.Option("--config", "-c", help="the configuration file", envvar="SLUICE_CONFIG")
]


@app.command()
def doctor(
    sender: Annotated[
        list[str] | None,
        typer.Option(help="an envelope sender's domain, beside those of [[dkim]]; repeat"),
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(help="the address receivers see, where NAT changes it; repeat"),
    ] = None,
    to: Annotated[
        str, typer.Option(help="connect to a mail host of this domain, to see that port 25 is open")
    ] = "",
    port: Annotated[int, typer.Option(help="another port for --to")] = SMTP_PORT,
    config: Config = DEFAULT_PATH,
    as_json: Json = False,
) -> None:
    """Look at ports, limits, disk, clock, DNS, and at PTR, DKIM, SPF and DMARC records; say what to mend. 1: something fails."""
    settings = load_or_exit(config, as_json=as_json)
    try:
        senders = [normalise_domain(each) for each in sender or ()]
        target = normalise_domain(to) if to else ""
        public = [str(ip_address(each)) for each in address or ()]
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EX_USAGE) from None
    lookup = Lookup(settings.server.dns_servers, settings.server.dns_timeout)
    findings: list[Finding] = []
    for found in _examine(settings, lookup, senders, public, target, port):
        findings.append(found)
        if not as_json:
            _show(found)
    fails = sum(each.level is Level.FAILURE for each in findings)
    if as_json:
        show_json({"sound": not fails, "findings": [asdict(each) for each in findings]})
    else:
        _show_sum(findings)
    raise typer.Exit(EXIT_FAILURES if fails else 0)


def _examine(
    settings: Settings,
    lookup: Lookup,
    senders: list[str],
    public: list[str],
    target: str,
    port: int,
) -> Iterator[Finding]:
    yield from examine_machine(settings, lookup, is_running=_is_running(settings))
    if target:
        yield examine_way_out(target, port, lookup)
    yield from examine_standing(settings, lookup, senders, public)


def _is_running(settings: Settings) -> bool:
    try:
        with ControlClient(Path(settings.server.control_socket), RUNNING_S) as client:
            client.call("status")
    except ControlError:
        return False
    return True


def _show(found: Finding) -> None:
    level = typer.style(f"{found.level.value:<8}", fg=_COLOURS[found.level])
    typer.echo(f"{level} {found.check:<12} {found.subject}: {found.found}")
    if found.advice:
        typer.echo(f"{'':<22}→ {found.advice}")


def _show_sum(findings: list[Finding]) -> None:
    counts = {level: sum(each.level is level for each in findings) for level in Level}
    typer.echo(", ".join(f"{count} {level.value}" for level, count in counts.items() if count))
