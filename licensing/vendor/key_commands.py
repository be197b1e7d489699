"""`sluice-license key`: make keys, and give them their narrow scope."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from licensing.envelope import key_id
from licensing.errors import LicenseError
from licensing.model.license import Kind
from licensing.trust import read_key
from licensing.vendor import ceremony
from licensing.vendor.folder import VendorFolder
from licensing.vendor.keys import load_key, load_public, new_key
from licensing.vendor.options import (
    HERE,
    AsJson,
    Folder,
    Secret,
    asking,
    find_key,
    moment,
    now,
    say_day,
    short,
    show_json,
    show_table,
)
from licensing.vendor.root_commands import tell_delegation

app = typer.Typer(no_args_is_help=True, help="Keys: make them, say what they may sign.")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="what it is called")],
    at: Annotated[Path | None, typer.Option(help="a folder elsewhere, as on a stick")] = None,
    passphrase: Secret = None,
    unprotected: Annotated[
        bool, typer.Option("--unprotected", help="no passphrase: for a server that starts alone")
    ] = False,
    folder: Folder = HERE,
) -> None:
    """Make a private key (NAME.pem, 0600) and its public half (NAME.pub)."""
    # A root is signed by number and a delegation by name: a key must not look like a number.
    if not name.replace("-", "").replace("_", "").isalnum() or name.isdigit():
        raise LicenseError("key", "a key's name has letters, digits, - and _, and is no number")
    if not unprotected and not passphrase:
        passphrase = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True)
    path = (at or VendorFolder(folder).keys) / f"{name}.pem"
    public = new_key(path, None if unprotected else passphrase)
    typer.echo(f"{path}: {key_id(read_key(public))}")


@app.command()
def delegate(
    name: Annotated[str, typer.Argument(help="a key of the folder")],
    role: Annotated[str, typer.Option(help=", ".join(ceremony.SCOPES))],
    since: Annotated[
        datetime | None, typer.Option("--from", parser=moment, help="default: now")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", parser=moment, help="default: the role's own window")
    ] = None,
    kind: Annotated[
        list[Kind] | None, typer.Option(help="which licences it may sign; default: all kinds")
    ] = None,
    root_key: Annotated[
        list[str] | None, typer.Option(help="sign at once with these; else `root sign NAME`")
    ] = None,
    passphrase: Secret = None,
    folder: Folder = HERE,
) -> None:
    """Say what a key may sign, and when. Root keys sign it."""
    vendor = VendorFolder(folder)
    with vendor.locked():
        held = ceremony.complete_chain(vendor).root
        at = now()
        if at >= held.expires_at:
            raise LicenseError(
                "root", f"root {held.version} has expired: `sluice-license root rotate` first"
            )
        begins = since or at
        draft = ceremony.delegation(
            load_public(vendor.keys / f"{name}.pub"),
            role,
            kinds=kind or list(Kind),
            not_before=begins,
            not_after=until or begins + ceremony.WINDOWS.get(role, ceremony.YEAR),
            now=at,
        )
        for each in root_key or []:
            private = load_key(find_key(vendor, each), asking(passphrase))
            draft = ceremony.add_signature(draft, private, [held])
        vendor.put_delegation(name, draft)
    tell_delegation(vendor, name)


@app.command("list")
def list_keys(as_json: AsJson = False, folder: Folder = HERE) -> None:
    """The keys of the folder, and what each may sign."""
    vendor = VendorFolder(folder)
    delegations = vendor.delegations()
    names = sorted({path.stem for path in vendor.keys.glob("*.pub")} | set(delegations))
    found = []
    for name in names:
        given = ceremony.read_delegation(delegations[name]) if name in delegations else None
        public = given.key if given else load_public(vendor.keys / f"{name}.pub")
        found.append(
            {
                "name": name,
                "id": key_id(read_key(public)),
                "role": given.role if given else "",
                "kinds": [str(each) for each in given.kinds] if given else [],
                "from": say_day(given.not_before) if given else "",
                "to": say_day(given.not_after) if given else "",
                "here": (vendor.keys / f"{name}.pem").exists(),
            }
        )
    if as_json:
        show_json(found)
        return
    rows = [
        (
            str(each["name"]),
            short(str(each["id"])),
            str(each["role"]),
            f"{each['from']} – {each['to']}" if each["role"] else "",
            "here" if each["here"] else "elsewhere",
        )
        for each in found
    ]
    show_table("Keys", ("name", "id", "role", "window", "private half"), rows)
