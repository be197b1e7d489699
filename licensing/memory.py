"""What is remembered of licences over restarts: the highest revision that was in force, and when each was seen first. Pure.

Remembered by key, so that a stolen key's revision 10⁹ does not bar the repair (A36); and weighed over all keys that were not
stolen, so that a planned rotation opens no way back to an older revision (A7).
"""

from collections.abc import Callable

import msgspec

from licensing.errors import LicenseError

MAX_KNOWN = 1_000  # licences ever seen on one machine; each was signed by the vendor


class Memory(msgspec.Struct, frozen=True):
    """`ratchets`: key id → licence → revision that was in force. `first_seen`: licence → seconds since 1970."""

    ratchets: dict[str, dict[str, int]] = {}
    first_seen: dict[str, float] = {}

    def highest(self, license_id: str, is_stolen: Callable[[str], bool]) -> int:
        """The highest revision that was in force here; those of stolen keys do not count."""
        return max(
            (
                revisions.get(license_id, 0)
                for name, revisions in self.ratchets.items()
                if not is_stolen(name)
            ),
            default=0,
        )

    def with_seen(self, license_id: str, at: float) -> "Memory":
        """This licence was seen at this moment, if it was not before."""
        return Memory(self.ratchets, {license_id: at, **self.first_seen})

    def with_begun(self, key_id: str, license_id: str, revision: int) -> "Memory":
        """This revision, signed by this key, has been in force."""
        known = self.ratchets.get(key_id, {})
        highest = max(known.get(license_id, 0), revision)
        return Memory({**self.ratchets, key_id: {**known, license_id: highest}}, self.first_seen)

    def refuse_unbounded(self) -> None:
        """Raises LicenseError beyond the bound."""
        if len(self.first_seen) > MAX_KNOWN:
            raise LicenseError("too_many", f"more than {MAX_KNOWN} licences were installed here")
