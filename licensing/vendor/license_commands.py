"""`sluice-license issue | renew | upgrade | revoke | activate-offline`: what customers are sent. Each leaves a line in a log."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from licensing.envelope import Envelope
from licensing.errors import LicenseError
from licensing.files import read_bounded
from licensing.model.license import Kind
from licensing.vendor.activating import activate_offline, release
from licensing.vendor.folder import MAX_FILE_BYTES, VendorFolder
from licensing.vendor.issuing import issue, open_issued, renew, upgrade
from licensing.vendor.options import (
    HERE,
    Folder,
    Key,
    Output,
    Secret,
    find_signer,
    hand_out,
    moment,
    now,
    say_day,
)
from licensing.vendor.revoking import revoke
from licensing.vendor.terms import GRACE_DAYS, Order

Period = Literal["term", "year", "month"]
Quantity = Annotated[int, typer.Option(min=1, help="licences purchased: seats")]
Emails = Annotated[int | None, typer.Option(min=1, help="volume: how many in each period")]
Overage = Annotated[
    int | None,
    typer.Option(min=0, max=1000, help="volume: go on to so many per cent over; default: hold"),
]
Recipients = Annotated[
    list[str] | None, typer.Option(help="development: @domain or a whole address; repeat")
]
Endpoints = Annotated[
    list[str] | None, typer.Option("--endpoint", help="https:// of the licence server; repeat")
]
Features = Annotated[list[str] | None, typer.Option("--feature", help="as console.nodes:25")]
LicenseId = Annotated[str, typer.Argument(help="the licence: L and 26 characters")]


def issue_command(
    kind: Annotated[Kind, typer.Option(help="which of the six products")],
    licensee: Annotated[str, typer.Option(help="the customer's name")],
    order: Annotated[str, typer.Option(help="the number of the Order Form")],
    since: Annotated[datetime, typer.Option("--from", parser=moment, help="begin of the term")],
    until: Annotated[datetime, typer.Option("--to", parser=moment, help="its end, exclusive")],
    customer: Annotated[str, typer.Option(help="the customer's number; default: the name")] = "",
    quantity: Quantity = 1,
    emails: Emails = None,
    period: Annotated[Period, typer.Option(help="volume: the period of --emails")] = "month",
    overage_pct: Overage = None,
    recipients: Recipients = None,
    pair_group: Annotated[str | None, typer.Option(help="of a primary and its backup")] = None,
    endpoint: Endpoints = None,
    offline_reports: Annotated[
        bool, typer.Option("--offline-reports", help="reports may be carried by hand")
    ] = False,
    grace_days: Annotated[int, typer.Option(min=0, help="after the term")] = GRACE_DAYS,
    feature: Features = None,
    supersedes: Annotated[
        list[str] | None, typer.Option(help="a licence that this one replaces; repeat")
    ] = None,
    key: Key = "",
    output: Output = None,
    passphrase: Secret = None,
    folder: Folder = HERE,
) -> None:
    """Issue a new licence."""
    bought = Order(
        kind=kind,
        licensee=licensee,
        customer_id=customer or licensee,
        order_ref=order,
        starts=since,
        ends=until,
        quantity=quantity,
        grace_days=grace_days,
        emails=emails,
        period=period,
        overage_pct=overage_pct,
        recipients=tuple(recipients or ()),
        pair_group=pair_group,
        endpoints=tuple(endpoint or ()),
        offline_reports=offline_reports,
        features=tuple(feature or ()),
        supersedes=tuple(supersedes or ()),
    )
    vendor = VendorFolder(folder)
    signer = find_signer(vendor, "license-signing", key, passphrase)
    with vendor.locked():
        envelope = issue(vendor, signer, bought, now())
    _hand_out(vendor, envelope, output)


def renew_command(
    license_id: LicenseId,
    until: Annotated[datetime, typer.Option("--to", parser=moment, help="the new end, exclusive")],
    since: Annotated[
        datetime | None,
        typer.Option("--from", parser=moment, help="default: where the present term ends"),
    ] = None,
    order: Annotated[str | None, typer.Option(help="the number of the new Order Form")] = None,
    key: Key = "",
    output: Output = None,
    passphrase: Secret = None,
    folder: Folder = HERE,
) -> None:
    """Continue a licence: its next revision, which may be installed early and takes over with no gap."""
    changes = _given(starts=since, ends=until, order_ref=order)
    vendor = VendorFolder(folder)
    signer = find_signer(vendor, "license-signing", key, passphrase)
    with vendor.locked():
        envelope = renew(vendor, signer, license_id, now(), **changes)
    _hand_out(vendor, envelope, output)


def upgrade_command(
    license_id: LicenseId,
    kind: Annotated[Kind | None, typer.Option(help="another product")] = None,
    quantity: Annotated[int | None, typer.Option(min=1)] = None,
    emails: Emails = None,
    period: Annotated[Period | None, typer.Option()] = None,
    overage_pct: Overage = None,
    endpoint: Endpoints = None,
    recipients: Recipients = None,
    feature: Features = None,
    order: Annotated[str | None, typer.Option(help="the number of the new Order Form")] = None,
    key: Key = "",
    output: Output = None,
    passphrase: Secret = None,
    folder: Folder = HERE,
) -> None:
    """Change what a licence buys, within its term: its next revision. What is not named stays."""
    changes = _given(
        kind=kind,
        quantity=quantity,
        emails=emails,
        period=period,
        overage_pct=overage_pct,
        endpoints=tuple(endpoint) if endpoint else None,
        recipients=tuple(recipients) if recipients else None,
        features=tuple(feature) if feature else None,
        order_ref=order,
    )
    vendor = VendorFolder(folder)
    signer = find_signer(vendor, "license-signing", key, passphrase)
    with vendor.locked():
        waiting = [
            line.revision
            for line, found in vendor.revisions(license_id)
            if found.not_before > now()
        ]
        envelope = upgrade(vendor, signer, license_id, now(), **changes)
    _hand_out(vendor, envelope, output)
    if waiting:
        typer.echo(
            f"revision {waiting[-1]}, which has not begun, is now the older one: `renew` it again",
            err=True,
        )


def revoke_command(
    license_id: LicenseId,
    effective_at: Annotated[datetime, typer.Option(parser=moment, help="at least a day from now")],
    reason: Annotated[str, typer.Option(help="why, for the customer to read")],
    key: Key = "",
    output: Output = None,
    passphrase: Secret = None,
    folder: Folder = HERE,
) -> None:
    """Take a licence back from a moment on: the next list of revocations."""
    vendor = VendorFolder(folder)
    signer = find_signer(vendor, "revocation", key, passphrase)
    with vendor.locked():
        envelope = revoke(
            vendor, signer, license_id, effective_at=effective_at, reason=reason, now=now()
        )
    hand_out(envelope, output)
    typer.echo(f"{license_id} is revoked from {say_day(effective_at)} on: {reason}", err=True)


def activate_offline_command(
    request: Annotated[
        Path | None, typer.Argument(help="what `sluice license request` wrote")
    ] = None,
    release_id: Annotated[
        str | None, typer.Option("--release", help="give back the seat of this activation")
    ] = None,
    key: Key = "",
    output: Output = None,
    passphrase: Secret = None,
    folder: Folder = HERE,
) -> None:
    """Answer a request for activation that was carried here by hand."""
    vendor = VendorFolder(folder)
    if release_id is not None:
        with vendor.locked():
            release(vendor, release_id, now())
        typer.echo(f"the seat of {release_id} is free", err=True)
    if request is None:
        if release_id is None:
            raise LicenseError("request", "name the file of the request, or --release")
        return
    signer = find_signer(vendor, "license-signing", key, passphrase)
    data = read_bounded(request, MAX_FILE_BYTES)
    with vendor.locked():
        envelope = activate_offline(vendor, signer, data, now())
    hand_out(envelope, output)


def _given(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}


def _hand_out(vendor: VendorFolder, envelope: Envelope, output: Path | None) -> None:
    hand_out(envelope, output)
    version = len(vendor.roots())
    if version > 1 and not envelope.roots:
        typer.echo(
            f"root {version} is too large to travel in this file: who has not had it from the licence server or a release"
            " installs what `root export` writes first",
            err=True,
        )
    found, opened = open_issued(vendor, envelope)
    typer.echo(
        f"{found.license_id} revision {found.revision}: {found.kind} × {found.quantity} for"
        f" {found.licensee.name}, {say_day(found.not_before)} to {say_day(found.expires_at)}"
        f" (sha256 {opened.sha256[:16]}…)",
        err=True,
    )
