"""What a report says of the moment, beside the books: put together here for every licence that reports."""

import hashlib
import hmac

from licensing.fingerprint import Match, match
from licensing.installation import Installation
from licensing.model.activation import Activation
from licensing.model.license import License
from licensing.reporter import Circumstances


def fingerprint_match(home: Installation, held: Activation) -> Match:
    """How much of the machine is as it was at this activation."""
    return match(held.fp, home.machine.fingerprint(held.license_id))


def circumstances(
    home: Installation, found: License, held: Activation, *, version: str, final: bool = False
) -> Circumstances:
    """This moment, for a report under this licence and seat."""
    boot = home.read_clocks().boot_id
    key = f"sluice-boot-v1|{found.license_id}".encode()
    return Circumstances(
        license=found,
        seats=held.seats,
        fp_match=str(fingerprint_match(home, held)),
        boot=hmac.new(boot.encode(), key, hashlib.sha256).hexdigest()[:32],
        times=home.times(),
        flags=tuple(sorted(home.books.findings)),
        version=version,
        final=final,
    )
