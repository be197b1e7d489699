"""What the commands that ask a running server share: where it is, who asks, and how its answers are shown."""

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from licensing.errors import LicenseError
from licensing.server.admin_client import AdminClient

Server = Annotated[
    str, typer.Option("--server", envvar="SLUICE_LICENSE_SERVER", help="URL of the admin port.")
]
Cert = Annotated[
    Path,
    typer.Option(
        "--cert", envvar="SLUICE_LICENSE_CERT", help="Your certificate, PEM.", exists=True
    ),
]
Key = Annotated[
    Path,
    typer.Option("--cert-key", envvar="SLUICE_LICENSE_CERT_KEY", help="Its key, PEM.", exists=True),
]
Authority = Annotated[
    Path | None,
    typer.Option("--ca", envvar="SLUICE_LICENSE_CA", help="Who signed the server's certificate."),
]
License = Annotated[str, typer.Option("--license", help="Id of the licence.")]
OfLicense = Annotated[str | None, typer.Option("--license", help="Only of this licence.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the server said, as JSON.")]


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """A command that gets the server it asks as `client`; the options that name it stand behind its own."""

    def whose(server: Server, cert: Cert, cert_key: Key, ca: Authority = None) -> AdminClient:
        return AdminClient(server, cert, cert_key, ca)

    shared = inspect.signature(whose).parameters

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        client = whose(**{name: given.pop(name) for name in shared})
        try:
            command(client, **given)
        except LicenseError as error:
            complain(error)
            raise typer.Exit(1) from None

    _, *own = inspect.signature(command).parameters.values()
    with_options.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *shared.values())]
    )
    return with_options


def list_rows(
    client: AdminClient, what: str, license: str | None, columns: tuple[str, ...], as_json: bool
) -> None:
    """All of a licence or of all licences; as a table only these columns. Raises LicenseError."""
    found = client.get(what, license=license)
    if as_json:
        show_json(found)
    else:
        show_table([{name: row[name] for name in columns} for row in found])


def show_json(found: Any) -> None:
    """What the server said."""
    Console().print_json(json.dumps(found))


def show_table(rows: list[dict[str, Any]]) -> None:
    """For people."""
    console = Console()
    if not rows:
        console.print("none")
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)


def complain(error: LicenseError) -> None:
    """Why it was not done."""
    Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False)
