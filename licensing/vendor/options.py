"""What the commands of `sluice-license` share: the folder, keys and their passphrases, moments, and how things are shown."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from licensing.envelope import Envelope, format_armour, key_id
from licensing.errors import LicenseError
from licensing.files import write_atomically
from licensing.trust import read_key
from licensing.vendor.ceremony import complete_chain, read_delegation
from licensing.vendor.folder import VendorFolder
from licensing.vendor.issuing import Signer
from licensing.vendor.keys import Passphrase, load_key, public_text

Folder = Annotated[
    Path, typer.Option("--folder", envvar="SLUICE_LICENSE_FOLDER", help="the vendor's folder")
]
HERE = Path()
WIDE = 200  # columns of a table that goes into a pipe: nothing is cut or folded
Secret = Annotated[
    str | None,
    typer.Option(
        envvar="SLUICE_LICENSE_PASSPHRASE",
        help="of the private keys; asked for when a key needs one and none is given",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]
Key = Annotated[
    str, typer.Option("--key", help="the signing key, by name; default: the newest in its window")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="where to write the file")]


def moment(text: str) -> datetime:
    """A day (`2026-12-01`, its beginning in UTC) or a moment with its zone (`2026-12-01T12:00:00Z`)."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a day (2026-12-01) nor a moment (2026-12-01T12:00:00Z)"
        ) from None
    if found.tzinfo is None:
        if "T" in text or " " in text:
            raise typer.BadParameter(f"{text!r} says no zone: write {text}Z for UTC")
        return found.replace(tzinfo=UTC)
    return found.astimezone(UTC)


def now() -> datetime:
    """The wall clock, in whole seconds: what the vendor's statements are dated with."""
    return datetime.now(UTC).replace(microsecond=0)


def asking(given: str | None) -> Passphrase:
    """The passphrase that was given, or a question on the terminal."""

    def ask(path: Path) -> str:
        return given or str(typer.prompt(f"Passphrase of {path}", hide_input=True))

    return ask


def find_key(folder: VendorFolder, name: str) -> Path:
    """A key by name (of the folder's) or by path."""
    own = folder.keys / f"{name}.pem"
    if own.exists():
        return own
    path = Path(name)
    if path.exists():
        return path
    raise LicenseError("key", f"there is no key {name}: neither {own} nor a file of that name")


def find_signer(folder: VendorFolder, role: str, name: str, secret: str | None) -> Signer:
    """A key that may sign in this role now, and its delegation. Raises LicenseError."""
    trust, at = complete_chain(folder), now()
    fitting = [
        (given.issued_at, given.not_before, each, given, envelope)
        for each, envelope in folder.delegations().items()
        if (given := read_delegation(envelope)).role == role
        and given.not_before <= at < given.not_after
        and (not name or each == Path(name).stem)
        and trust.may_sign_at(key_id(read_key(given.key)), at)
        and (name or (folder.keys / f"{each}.pem").exists())
    ]
    if not fitting:
        raise LicenseError(
            "key",
            f"no key{' ' + name if name else ''} may sign as {role} now:"
            f" `sluice-license key new NAME`, then `key delegate NAME --role {role}`",
        )
    *_, chosen, given, envelope = max(fitting, key=lambda each: each[:3])
    key = load_key(find_key(folder, name or chosen), asking(secret))
    if public_text(key) != given.key:
        raise LicenseError("key", f"the delegation of {chosen} is for another key")
    return Signer(key, envelope)


def hand_out(envelope: Envelope, output: Path | None) -> None:
    """To a file, or to standard output."""
    text = format_armour(envelope)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(output, text.encode())


def show_json(value: Any) -> None:
    """For programs, and people with `jq`."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def show_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """For people. Not cut to the width of a pipe: a key id is copied from here."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    is_terminal = Console().is_terminal
    Console(width=None if is_terminal else WIDE).print(table)


def say_day(at: datetime) -> str:
    """A moment for people: the day, and the time when it is not midnight."""
    return (
        f"{at:%Y-%m-%d}"
        if (at.hour, at.minute, at.second) == (0, 0, 0)
        else f"{at:%Y-%m-%dT%H:%M:%SZ}"
    )


def short(name: str) -> str:
    """A key id as people compare it."""
    return name.removeprefix("sha256:")[:16]
