"""What an operator asks of licensing in a running daemon: install, activate, report, look. Answers are values that JSON has.

Each verb raises LicenseError with words for people, and has changed nothing then.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Any

from licensing.answers import describe_sent, describe_usage
from licensing.contact import Contact
from licensing.envelope import decode_envelope, parse_armour
from licensing.installation import Installation
from licensing.model.fields import ACTIVATION


class Verbs(ABC):
    """The operator's side of the guard: whoever has a home and a contact can do these."""

    @abstractmethod
    def home(self) -> Installation:
        """What lies on this machine. Raises LicenseError where licensing does not run."""

    @abstractmethod
    def contact(self) -> Contact:
        """The conversation with the vendor. Raises LicenseError where licensing does not run."""

    @abstractmethod
    async def read_licenses(self) -> None:
        """Look at the licence files again, and serve those in force."""

    @abstractmethod
    async def changed(self) -> None:
        """Something was done: look at all of it, decide, and tell."""

    async def install(self, data: bytes, *, replace: bool = False) -> dict[str, Any]:
        """A licence file, or an activation that was carried by hand. Raises LicenseError; nothing has changed then."""
        home, contact = self.home(), self.contact()
        envelope = parse_armour(data) if data.lstrip().startswith(b"-") else decode_envelope(data)
        if envelope.payload_type == ACTIVATION:
            found = await contact.take_activation(envelope)
            answer: dict[str, Any] = {"activation_id": found.activation_id, "seats": found.seats}
        else:
            installed = await asyncio.to_thread(
                home.store.install, data, home.clock.now(), replace_others=replace
            )
            answer = {
                "license_id": installed.license_id,
                "revision": installed.license.revision,
                "kind": installed.license.kind,
                "file": str(installed.path),
            }
        await self.changed()
        return answer

    async def activate(self) -> dict[str, Any]:
        """Take this server's seats now. Raises LicenseError with why not."""
        await self.read_licenses()
        found = await self.contact().activate()
        await self.changed()
        return {
            "activations": [
                {
                    "activation_id": each.activation_id,
                    "license_id": each.license_id,
                    "seats": each.seats,
                }
                for each in found
            ]
        }

    async def deactivate(self) -> dict[str, Any]:
        """Report for the last time and free the seats. Raises LicenseError."""
        freed = await self.contact().deactivate()
        await self.changed()
        return {"deactivated": freed}

    async def request(self) -> bytes:
        """A request for a seat, to be carried by hand. Raises LicenseError."""
        return await self.contact().request()

    async def report_now(self) -> dict[str, Any]:
        """Report at once. Raises LicenseError where nothing can be reported."""
        contact = self.contact()
        outcome = await contact.report_now()
        await self.changed()
        return {"outcome": outcome.value, "failure": contact.failure}

    async def report_export(self) -> bytes:
        """The report to carry by hand. Raises LicenseError."""
        return await self.contact().export()

    async def report_import(self, data: bytes) -> dict[str, Any]:
        """What the portal answered. Raises LicenseError; nothing has changed then."""
        outcome = await self.contact().take_answers(data)
        await self.changed()
        return {"outcome": outcome.value}

    async def report_show(self, count: int = 1) -> list[dict[str, Any]]:
        """The last statements that left this server, the newest first, as they left and as they read."""
        sent = await asyncio.to_thread(self.contact().sent, count)
        return [describe_sent(data) for data in sent]

    async def usage(self) -> dict[str, Any]:
        """Own figures and the vendor's (C27)."""
        return describe_usage(self.home().books)

    async def events(self, limit: int = 100) -> list[dict[str, Any]]:
        """What happened, the latest first. Raises LedgerError."""
        home = self.home()
        found = await home.thread.run(home.ledger.events, limit)
        return [{"at": at, "code": code, "text": text} for at, code, text in found]

    async def test_connection(self) -> list[dict[str, Any]]:
        """Name, proxy, TLS and HTTP of the way to the vendor, step by step. Raises LicenseError where there is no way."""
        return await self.contact().wire().test()
