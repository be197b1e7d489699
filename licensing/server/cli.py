"""The vendor's commands for the server: `serve`, and what its people ask a running one. `sluice-license` mounts `app`."""

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from licensing.errors import LicenseError
from licensing.model.fields import REVOCATIONS
from licensing.server.admin_client import AdminClient
from licensing.server.asking import (
    AsJson,
    License,
    OfLicense,
    asking,
    complain,
    list_rows,
    show_json,
    show_table,
)
from licensing.server.post import Smarthost
from licensing.server.roles import Roles
from licensing.server.serve import ServeOptions, run, tls_context
from licensing.server.signer import Signer, credential, load_signer, read_envelope
from licensing.trust import Trust

EX_CONFIG = 78
KEY_CREDENTIAL = "server-online.pem"

app = typer.Typer(no_args_is_help=True, help="The licence server, and its operator's commands.")
node_app = typer.Typer(no_args_is_help=True, help="Servers that have a seat.")
lease_app = typer.Typer(no_args_is_help=True, help="Blocks of Emails in the hands of nodes.")
finding_app = typer.Typer(no_args_is_help=True, help="What does not fit: rewinds, forks, clones.")
contact_app = typer.Typer(no_args_is_help=True, help="Who gets the notices of a licence by mail.")
app.add_typer(node_app, name="node")
app.add_typer(contact_app, name="contact")
app.add_typer(lease_app, name="lease")
app.add_typer(finding_app, name="finding")


# -- serving ------------------------------------------------------------------------------------------


@app.command()
def serve(
    db: Annotated[Path, typer.Option(help="The books; made if missing.")],
    tls_cert: Annotated[Path, typer.Option(help="Certificate chain of both ports, PEM.")],
    tls_key: Annotated[Path, typer.Option(help="Its key, PEM.")],
    delegation: Annotated[Path, typer.Option(help="The delegation of the server-online key.")],
    key: Annotated[
        Path | None,
        typer.Option(
            help=f"The server-online key, PKCS8 PEM; without it the systemd credential {KEY_CREDENTIAL}."
        ),
    ] = None,
    passphrase: Annotated[
        str | None, typer.Option(envvar="SLUICE_LICENSE_PASSPHRASE", help="Of the key.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="The vendor's root; without it the one built in.")
    ] = None,
    listen: Annotated[str, typer.Option(help="ADDRESS:PORT for nodes.")] = "0.0.0.0:8443",
    admin_listen: Annotated[
        str | None, typer.Option(help="ADDRESS:PORT for the vendor's people; needs --admin-ca.")
    ] = None,
    admin_ca: Annotated[
        Path | None, typer.Option(help="Who signs the certificates of the vendor's people, PEM.")
    ] = None,
    latest_version: Annotated[str, typer.Option(help="Told to nodes as available.")] = "",
    operator: Annotated[
        list[str] | None,
        typer.Option(
            help="A name or unit (CN, OU) in the certificates of people who may change things; repeatable."
        ),
    ] = None,
    viewer: Annotated[
        list[str] | None,
        typer.Option(help="The same of people who may only look. Without both: everybody changes."),
    ] = None,
    smarthost: Annotated[
        str | None, typer.Option(help="HOST:PORT that takes our mail; without it none is sent.")
    ] = None,
    smarthost_tls: Annotated[
        str, typer.Option(help="starttls, tls, or none (this machine only).")
    ] = "starttls",
    smarthost_user: Annotated[str | None, typer.Option(help="To log in there.")] = None,
    smarthost_password: Annotated[
        str | None, typer.Option(envvar="SLUICE_LICENSE_SMARTHOST_PASSWORD", help="Of that user.")
    ] = None,
    mail_from: Annotated[str, typer.Option(help="Who our mail is from.")] = "",
    mail_copy: Annotated[
        list[str] | None, typer.Option(help="An address of yours that gets every letter, too.")
    ] = None,
    recover: Annotated[
        bool, typer.Option("--recover", help="The books were restored from a backup.")
    ] = False,
) -> None:
    """Answer nodes until SIGTERM. Exit 75: the disk failed, 78: a setting is wrong."""

    try:
        if (admin_listen is None) != (admin_ca is None):
            raise LicenseError("admin", "--admin-listen and --admin-ca belong together")
        trust = _trust(root)
        options = ServeOptions(
            database=db,
            listen=_address(listen),
            tls=tls_context(tls_cert, tls_key),
            admin_listen=_address(admin_listen) if admin_listen else None,
            admin_tls=tls_context(tls_cert, tls_key, admin_ca) if admin_ca else None,
            latest_version=latest_version,
            recover=recover,
            roles=Roles(frozenset(operator or ()), frozenset(viewer or ())),
            smarthost=_smarthost(
                smarthost, smarthost_tls, mail_from, smarthost_user, smarthost_password
            ),
            copies=tuple(mail_copy or ()),
        )
        signer = _signer(key, delegation, passphrase, trust)
        status = _run_on_uvloop(run(options, signer, trust))
    except LicenseError as error:
        complain(error)
        raise typer.Exit(EX_CONFIG) from None
    raise typer.Exit(status)


def _smarthost(
    address: str | None, tls: str, sender: str, user: str | None, password: str | None
) -> Smarthost | None:
    if address is None:
        return None
    if "@" not in sender:
        raise LicenseError("smarthost", "--smarthost needs --mail-from, an address of yours")
    host = Smarthost(*_address(address), sender, tls, user, password)
    host.check()
    return host


def _run_on_uvloop(main: Coroutine[Any, Any, int]) -> int:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _trust(root: Path | None) -> Trust:
    if root is None:
        return Trust.built_in()
    try:
        # Not `is_named`: this is the vendor's own machine, and what it believes binds no customer.
        return Trust.load(root.read_bytes())
    except OSError as error:
        raise LicenseError("root", f"the root {root} cannot be read: {error}") from error


def _signer(key: Path | None, delegation: Path, passphrase: str | None, trust: Trust) -> Signer:
    path = key or credential(KEY_CREDENTIAL)
    if path is None:
        raise LicenseError(
            "key", f"say --key FILE, or give the service the credential {KEY_CREDENTIAL}"
        )
    return load_signer(path, delegation, passphrase, trust.roots_after(1))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise LicenseError("listen", f"{text} is not ADDRESS:PORT")
    return host.strip("[]"), int(port)


# -- asking -------------------------------------------------------------------------------------------


@app.command(name="import")
@asking
def import_(
    client: AdminClient,
    file: Annotated[
        Path, typer.Argument(help="What issue, renew, upgrade or revoke wrote.", exists=True)
    ],
) -> None:
    """Tell the server of a licence or of revocations. A higher revision goes to its nodes with their next report."""
    text = file.read_bytes()
    is_list = read_envelope(text).payload_type == REVOCATIONS
    show_json(client.post("revocations" if is_list else "licenses", text))


@app.command()
@asking
def usage(
    client: AdminClient,
    license: License,
    since: Annotated[str | None, typer.Option(help="First UTC day, YYYY-MM-DD.")] = None,
    until: Annotated[str | None, typer.Option(help="Last UTC day.")] = None,
    as_json: AsJson = False,
) -> None:
    """Emails of a licence by UTC day, over all its nodes."""
    found = client.get("usage", license=license, since=since, until=until)
    if as_json:
        show_json(found)
        return
    rows = [{"day": day, "emails": emails} for day, emails in found["days"].items()]
    show_table([*rows, {"day": "all", "emails": found["emails"]}])


@contact_app.command("set")
@asking
def contact_set(
    client: AdminClient,
    license: License,
    address: Annotated[
        list[str] | None, typer.Argument(help="All addresses; none: nobody is told.")
    ] = None,
) -> None:
    """Say who gets the notices of a licence by mail, from now on."""
    body = json.dumps({"contacts": address or []}).encode()
    show_json(client.post(f"licenses/{license}/contacts", body))


@contact_app.command("show")
@asking
def contact_show(client: AdminClient, license: License) -> None:
    """Who gets the notices of a licence."""
    show_json(client.get(f"licenses/{license}/contacts"))


@contact_app.command("letters")
@asking
def contact_letters(
    client: AdminClient, license: OfLicense = None, as_json: AsJson = False
) -> None:
    """What was written to them, and what became of it."""
    columns = ("notice", "recipient", "made_at", "tries", "settled_at", "failure")
    list_rows(client, "letters", license, columns, as_json)


@node_app.command("list")
@asking
def node_list(client: AdminClient, license: OfLicense = None, as_json: AsJson = False) -> None:
    """Who has a seat."""
    columns = (
        "activation_id",
        "license_id",
        "label",
        "server_class",
        "seats",
        "version",
        "last_seen",
    )
    list_rows(client, "nodes", license, columns, as_json)


@node_app.command("release")
@asking
def node_release(client: AdminClient, activation: str) -> None:
    """Free a seat. Its leases stay reserved until `lease reclaim`."""
    show_json(client.post(f"nodes/{activation}/release"))


@lease_app.command("list")
@asking
def lease_list(client: AdminClient, license: License, as_json: AsJson = False) -> None:
    """The open leases of a licence."""
    columns = ("id", "activation_id", "period", "emails", "used", "use_until")
    list_rows(client, "leases", license, columns, as_json)


@lease_app.command("reclaim")
@asking
def lease_reclaim(
    client: AdminClient,
    lease: str,
    assume_used: Annotated[
        bool,
        typer.Option(
            "--assume-used", help="Count the rest as used, until its node says otherwise."
        ),
    ] = False,
) -> None:
    """Take back what is left of a lease whose node is gone."""
    body = json.dumps({"assume_used": assume_used}).encode()
    show_json(client.post(f"leases/{lease}/reclaim", body))


@finding_app.command("list")
@asking
def finding_list(client: AdminClient, license: OfLicense = None, as_json: AsJson = False) -> None:
    """Findings, the open ones first."""
    columns = (
        "id",
        "code",
        "license_id",
        "activation_id",
        "times",
        "last_at",
        "cleared_by",
        "detail",
    )
    list_rows(client, "findings", license, columns, as_json)


@finding_app.command("clear")
@asking
def finding_clear(client: AdminClient, finding: int) -> None:
    """Settle a finding; one of moved seats allows ten more moves."""
    show_json(client.post(f"findings/{finding}/clear"))


if __name__ == "__main__":
    app()
