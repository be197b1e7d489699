"""What a configuration may not say under the licences installed: pure rules, and a look at the files for `config check`."""

from collections.abc import Iterable
from pathlib import Path

from licensing.envelope import MAX_ENVELOPE_BYTES, parse_armour
from licensing.errors import LicenseError
from licensing.files import read_bounded
from licensing.model import License
from licensing.trust import Trust


def reporting_error(installed: Iterable[License], reporting: bool) -> str:
    """Why reporting may not be switched off (C12, A22), "" where it may."""
    if reporting:
        return ""
    for found in installed:
        if found.reporting.required:
            return (
                f"[license] reporting = false: the {found.kind} licence {found.license_id} requires that outgoing HTTPS reports"
                " are enabled and not disabled (clause 8.4 of the product terms). Remove the line or set it to true"
            )
    return ""


def installed_licenses(license_dir: Path, trust: Trust) -> list[License]:
    """Those in the directory that are genuine, whatever their term; blocking. What cannot be read is not judged here."""
    found = []
    for path in sorted(license_dir.glob("*.lic")):
        try:
            license, _ = trust.open_license(
                parse_armour(read_bounded(path, 2 * MAX_ENVELOPE_BYTES))
            )
        except (LicenseError, OSError):
            continue
        found.append(license)
    return found
