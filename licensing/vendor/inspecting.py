"""`sluice-license inspect`: what a signed file says, and whether it would be believed. Nothing is needed but the file."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from licensing.envelope import Envelope, decode_envelope, key_id, parse_armour
from licensing.errors import LicenseError
from licensing.files import read_bounded
from licensing.model.fields import ACTIVATION_REQUEST, LICENSE, ROOT
from licensing.trust import MAX_ROOT_BYTES, Trust, read_key
from licensing.vendor.activating import read_request
from licensing.vendor.ceremony import read_delegation
from licensing.vendor.folder import MAX_FILE_BYTES, VendorFolder
from licensing.vendor.options import HERE, AsJson, Folder, show_json, show_table


def inspect_command(
    file: Annotated[Path, typer.Argument(help="a licence, activation, request, or list")],
    as_json: AsJson = False,
    root: Annotated[
        Path | None, typer.Option(help="judge by this root; default: the folder's, or the built-in")
    ] = None,
    folder: Folder = HERE,
) -> None:
    """Show a signed file. Exit code 0: it is believed, 1: it is not, and why."""
    data = read_bounded(file, MAX_FILE_BYTES)
    envelope = decode_envelope(data) if data.lstrip()[:1] == b"{" else parse_armour(data)
    verdict = _verdict(envelope, data, root, folder)
    found = {
        "type": envelope.payload_type,
        "sha256": envelope.payload_sha256(),
        "signed_by": _signer(envelope),
        "believed": verdict is None,
        "because": verdict or "",
        "statement": _statement(envelope),
    }
    if as_json:
        show_json(found)
    else:
        _show(found)
    if verdict is not None:
        raise typer.Exit(1)


def _verdict(envelope: Envelope, data: bytes, root: Path | None, folder: Path) -> str | None:
    """Why it is not believed, or None."""
    try:
        if envelope.payload_type == ACTIVATION_REQUEST:
            read_request(data)
            return None
        trust = _trust(root, folder)
        if envelope.payload_type == LICENSE:
            trust.open_license(envelope)
        elif envelope.payload_type == ROOT:
            trust.advance([*envelope.roots, envelope])
        else:
            trust.open(envelope, envelope.payload_type)
    except LicenseError as error:
        return str(error)
    return None


def _trust(root: Path | None, folder: Path) -> Trust:
    if root is not None:
        return Trust.load(read_bounded(root, MAX_ROOT_BYTES))
    vendor = VendorFolder(folder)
    return vendor.trust() if vendor.roots() else Trust.built_in()


def _signer(envelope: Envelope) -> dict[str, Any]:
    names = [each.keyid for each in envelope.signatures]
    if envelope.delegation is None:
        return {"keys": names}
    try:
        given = read_delegation(envelope.delegation)
        key = key_id(read_key(given.key))
    except LicenseError as error:
        return {"keys": names, "delegation": str(error)}
    return {
        "keys": names,
        "delegated_to": key,
        "role": given.role,
        "from": given.not_before,
        "to": given.not_after,
    }


def _statement(envelope: Envelope) -> Any:
    """Not verified: what the payload says, or claims to say."""
    try:
        return msgspec.json.decode(envelope.payload_bytes())
    except (LicenseError, msgspec.DecodeError):
        return None


def _show(found: dict[str, Any]) -> None:
    verdict = "believed" if found["believed"] else f"NOT believed: {found['because']}"
    typer.echo(f"{found['type']}\nsha256 {found['sha256']}\n{verdict}\n")
    statement = found["statement"]
    fields = statement if isinstance(statement, dict) else {"payload": statement}
    rows = [(name, _plain(value)) for name, value in fields.items() if value not in (None, [], "")]
    rows += [(f"signed: {name}", _plain(value)) for name, value in found["signed_by"].items()]
    show_table("What it says", ("field", "value"), rows)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_plain(each)}" for name, each in value.items())
    return msgspec.json.encode(value).decode()
