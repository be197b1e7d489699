"""What an acknowledgement brings beside its figures: renewals, newer roots, revocations. Each is verified by whoever keeps it."""

from collections.abc import Callable

from licensing.envelope import format_armour
from licensing.installation import Installation
from licensing.model.usage import UsageAck


class Gifts:
    """`taken` counts them: when it has changed, the licence files are to be read again."""

    def __init__(self, home: Installation, told: Callable[[str, str], None]) -> None:
        self._home, self._told = home, told
        self.taken = 0

    def take(self, ack: UsageAck) -> None:
        """Keep them; blocking. Raises LicenseError, OSError: those before the bad one are kept."""
        store, now = self._home.store, self._home.clock.now()
        self.taken += store.adopt_roots(ack.roots)
        if ack.revocations is not None:
            self.taken += store.keep_revocations(ack.revocations)
        if ack.license is not None:
            self.taken += 1
            installed = store.install(format_armour(ack.license).encode(), now)
            self._told("renewed", f"the vendor sent {installed.path.name}")
