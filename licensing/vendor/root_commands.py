"""`sluice-license root`: the ceremony. Init and rotate draft, sign adds a signature, export is what a release builds in."""

from pathlib import Path
from typing import Annotated, Any

import typer

from licensing.envelope import Envelope, key_id
from licensing.errors import LicenseError
from licensing.files import write_atomically
from licensing.trust import read_key
from licensing.vendor import ceremony
from licensing.vendor.folder import VendorFolder
from licensing.vendor.keys import load_key, load_public
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

app = typer.Typer(no_args_is_help=True, help="Roots of trust: several people, several keys.")

Publics = Annotated[list[Path], typer.Option("--key", help="a .pub file; once for each root key")]
Years = Annotated[int, typer.Option(min=1, max=20, help="how long it is valid")]


@app.command()
def init(
    key: Publics,
    threshold: Annotated[int, typer.Option(min=1, help="how many of the keys must sign")] = 2,
    years: Years = ceremony.ROOT_YEARS,
    trial: Annotated[
        bool, typer.Option("--trial", help="not for production: Development licences only")
    ] = False,
    folder: Folder = HERE,
) -> None:
    """Draft the first root from public keys. Then `root sign 1`, each with their own key."""
    vendor = VendorFolder(folder)
    with vendor.locked():
        if vendor.roots():
            raise LicenseError("root", "there is a root already: `root rotate` drafts the next")
        publics = [load_public(path) for path in key]
        draft = ceremony.first_root(
            publics, threshold=threshold, now=now(), years=years, production=not trial
        )
        path = vendor.put_root(1, draft)
    typer.echo(f"{path}: not signed yet; `sluice-license root sign 1 --key …` {threshold} times")


@app.command()
def rotate(
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="a .pub file; all keys of the new root")
    ] = None,
    threshold: Annotated[int | None, typer.Option(min=1)] = None,
    years: Years = ceremony.ROOT_YEARS,
    compromised: Annotated[
        list[str] | None,
        typer.Option(help="the id of a stolen key: only what the log says it signed stays valid"),
    ] = None,
    revoked_after: Annotated[
        list[str] | None,
        typer.Option(help="KEYID=MOMENT: nothing it signs from then on is believed"),
    ] = None,
    folder: Folder = HERE,
) -> None:
    """Draft the next root: new keys, withdrawn keys, or only a new date. Keys of both roots sign it."""
    vendor = VendorFolder(folder)
    with vendor.locked():
        held = ceremony.complete_chain(vendor).root
        changes: dict[str, Any] = {"threshold": threshold or held.threshold}
        if key:
            changes["keys"] = tuple(load_public(path) for path in key)
        stolen = {*held.compromised, *map(_full_id(vendor), compromised or [])}
        changes["compromised"] = tuple(sorted(stolen))
        changes["known_good"] = tuple(
            sorted({*held.known_good, *ceremony.known_good(vendor, sorted(stolen))})
        )
        changes["revoked_after"] = held.revoked_after | dict(
            _withdrawal(vendor, text) for text in revoked_after or []
        )
        draft = ceremony.next_root(held, now=now(), years=years, **changes)
        vendor.put_root(held.version + 1, draft)
    good = len(changes["known_good"])
    typer.echo(f"root {held.version + 1} is drafted; {good} statements of stolen keys stay valid")
    _tell(vendor, held.version + 1)


@app.command()
def sign(
    what: Annotated[str, typer.Argument(help="the version of a root, or the name of a key")],
    key: Annotated[list[str], typer.Option("--key", help="a root key (.pem)")],
    passphrase: Secret = None,
    folder: Folder = HERE,
) -> None:
    """Add a signature to the draft of a root, or of a key's delegation."""
    vendor = VendorFolder(folder)
    with vendor.locked():
        for name in key:
            private = load_key(find_key(vendor, name), asking(passphrase))
            if what.isdigit():
                version = int(what)
                signers = ceremony.signers_of_root(vendor.roots(), version)
                draft = _numbered(vendor, version)
                vendor.put_root(version, ceremony.add_signature(draft, private, signers))
            else:
                held = ceremony.complete_chain(vendor).root
                draft = _named(vendor, what)
                vendor.put_delegation(what, ceremony.add_signature(draft, private, [held]))
    _tell(vendor, int(what)) if what.isdigit() else tell_delegation(vendor, what)


@app.command()
def show(as_json: AsJson = False, folder: Folder = HERE) -> None:
    """The roots, their keys, and how far each is signed."""
    vendor = VendorFolder(folder)
    drafts = vendor.roots()
    found = []
    for envelope in drafts:
        root = ceremony.read_root(envelope)
        signings = ceremony.signings(envelope, ceremony.signers_of_root(drafts, root.version))
        found.append(
            {
                "version": root.version,
                "production": root.production,
                "issued_at": say_day(root.issued_at),
                "expires_at": say_day(root.expires_at),
                "signatures": [str(each) for each in signings],
                "complete": all(each.is_complete for each in signings),
                "keys": [key_id(read_key(each)) for each in root.keys],
                "compromised": list(root.compromised),
                "known_good": len(root.known_good),
            }
        )
    if as_json:
        show_json(found)
        return
    rows = [
        (
            str(each["version"]),
            "production" if each["production"] else "trial",
            f"{each['issued_at']} – {each['expires_at']}",
            "\n".join(map(str, each["signatures"])),  # type: ignore[call-overload]
            "\n".join(map(short, each["keys"])),  # type: ignore[call-overload]
            "\n".join(map(short, each["compromised"])),  # type: ignore[call-overload]
        )
        for each in found
    ]
    show_table("Roots", ("root", "for", "valid", "signed", "keys", "compromised"), rows)


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="root.json of a release")],
    folder: Folder = HERE,
) -> None:
    """All roots as one file, as a release builds it in (`licensing/root.json`)."""
    trust = ceremony.complete_chain(VendorFolder(folder))
    write_atomically(output, trust.dump(), mode=0o644)
    typer.echo(f"{output}: root {trust.root.version}")


def tell_delegation(vendor: VendorFolder, name: str) -> None:
    """How far a delegation is signed."""
    held = ceremony.complete_chain(vendor).root
    for each in ceremony.signings(_named(vendor, name), [held]):
        typer.echo(f"the delegation of {name}, {each}")


def _tell(vendor: VendorFolder, version: int) -> None:
    drafts = vendor.roots()
    for each in ceremony.signings(drafts[version - 1], ceremony.signers_of_root(drafts, version)):
        typer.echo(f"root {version}, {each}")


def _numbered(vendor: VendorFolder, version: int) -> Envelope:
    drafts = vendor.roots()
    if not 1 <= version <= len(drafts):
        raise LicenseError("root", f"there is no root {version}")
    return drafts[version - 1]


def _named(vendor: VendorFolder, name: str) -> Envelope:
    found = vendor.delegations().get(name)
    if found is None:
        raise LicenseError("key", f"nothing is delegated to {name}: `sluice-license key delegate`")
    return found


def _full_id(vendor: VendorFolder) -> Any:
    """A key by its id, or by its name in the folder."""

    def find(text: str) -> str:
        public = vendor.keys / f"{text}.pub"
        if public.exists():
            return key_id(read_key(load_public(public)))
        if text.startswith("sha256:") and len(text) == 71:
            return text
        raise LicenseError("key", f"{text} is neither a key of {vendor.keys} nor sha256:…")

    return find


def _withdrawal(vendor: VendorFolder, text: str) -> tuple[str, Any]:
    name, _, when = text.partition("=")
    return _full_id(vendor)(name), moment(when)
