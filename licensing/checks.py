"""A look at the licence files without a guard: what is installed, for `config check`."""

from pathlib import Path

from licensing.envelope import MAX_ENVELOPE_BYTES, parse_armour
from licensing.errors import LicenseError
from licensing.files import read_bounded
from licensing.model.license import License
from licensing.trust import Trust


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
