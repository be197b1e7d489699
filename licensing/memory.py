"""What is remembered of licences over restarts: the highest revision that was in force, and when each was seen first. Pure.

Remembered by key, so that a stolen key's revision 10⁹ does not bar the repair (A36); and weighed over all keys that were not
stolen, so that a planned rotation opens no way back to an older revision (A7).
"""

import msgspec

from licensing.errors import LicenseError
from licensing.selection import Installed
from licensing.trust import Trust

MAX_KNOWN = 1_000  # licences ever seen on one machine; each was signed by the vendor


class Memory(msgspec.Struct, frozen=True):
    """`ratchets`: key id → licence → revision that was in force. `first_seen`: licence → seconds since 1970."""

    ratchets: dict[str, dict[str, int]] = {}
    first_seen: dict[str, float] = {}

    def highest(self, license_id: str, trust: Trust) -> int:
        """The highest revision that was in force here; a stolen key's do not count."""
        return max(
            (
                revisions.get(license_id, 0)
                for name, revisions in self.ratchets.items()
                if not trust.is_compromised(name)
            ),
            default=0,
        )

    def with_seen(self, each: Installed, now: float) -> "Memory":
        """This licence too; its revision counts once its term has begun."""
        found, name = each.license, each.opened.key_id
        seen = {found.license_id: now, **self.first_seen}
        ratchets = self.ratchets
        if each.has_begun(now):
            known = ratchets.get(name, {})
            revision = max(known.get(found.license_id, 0), found.revision)
            ratchets = {**ratchets, name: {**known, found.license_id: revision}}
        return Memory(ratchets, seen)

    def refuse_unbounded(self) -> None:
        """Raises LicenseError beyond the bound."""
        if len(self.first_seen) > MAX_KNOWN:
            raise LicenseError("too_many", f"more than {MAX_KNOWN} licences were installed here")
