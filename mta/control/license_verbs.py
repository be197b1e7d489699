"""What an operator asks of the licence: `license.…`, each passed on to the guard, whose answers are JSON already.

The guard judges and answers; nothing of a licence is known here. Files travel as the text that they are.
"""

import msgspec

from mta.control.faces import LicenseFace, Row
from mta.control.registry import NoArguments, Registry

NETWORK_S = 90.0  # the vendor is asked: connecting, reading, trying again


class InstallArgs(msgspec.Struct, forbid_unknown_fields=True):
    """A licence file, or an activation, as text. `replace`: what cannot stand beside it goes."""

    text: str
    replace: bool = False


class ShowArgs(msgspec.Struct, forbid_unknown_fields=True):
    """How many, the newest first."""

    count: int = 1


class ImportArgs(msgspec.Struct, forbid_unknown_fields=True):
    """What the portal answered, as text."""

    text: str


class LicenseVerbs:
    """All of them."""

    def __init__(self, face: LicenseFace) -> None:
        self._face = face

    def register(self, registry: Registry) -> None:
        """Teach them."""
        add, none = registry.add, NoArguments
        add("license.status", none, self.status, help="what the licence allows, and why")
        add("license.usage", none, self.usage, help="what was counted, here and at the vendor")
        add("license.events", ShowArgs, self.events, help="what happened to the licence")
        add(
            "license.install",
            InstallArgs,
            self.install,
            help="install a licence or an activation",
            changes=True,
        )
        add(
            "license.activate",
            none,
            self.activate,
            help="take this server's seat",
            changes=True,
            deadline_s=NETWORK_S,
        )
        add(
            "license.deactivate",
            none,
            self.deactivate,
            help="report and free the seat",
            changes=True,
            deadline_s=NETWORK_S,
        )
        add("license.request", none, self.request, help="a request for a seat, to carry by hand")
        self._register_reports(registry)

    def _register_reports(self, registry: Registry) -> None:
        add, none = registry.add, NoArguments
        add(
            "license.report.now",
            none,
            self.report_now,
            help="report to the vendor now",
            changes=True,
            deadline_s=NETWORK_S,
        )
        add("license.report.show", ShowArgs, self.report_show, help="what was sent, byte by byte")
        add("license.report.export", none, self.report_export, help="the report to carry by hand")
        add(
            "license.report.import",
            ImportArgs,
            self.report_import,
            help="take what the portal answered",
            changes=True,
        )
        add(
            "license.test-connection",
            none,
            self.test_connection,
            help="the way to the vendor, step by step",
            deadline_s=NETWORK_S,
        )

    async def status(self, args: NoArguments) -> Row:
        """State, limits, figures."""
        return await self._face.status()

    async def usage(self, args: NoArguments) -> Row:
        """Own figures beside those the vendor has signed for."""
        answer: Row = await self._face.ask("usage")
        return answer

    async def events(self, args: ShowArgs) -> Row:
        """The latest first."""
        return {"events": await self._face.ask("events", limit=args.count)}

    async def install(self, args: InstallArgs) -> Row:
        """Nothing has changed if it is refused."""
        data = args.text.encode()
        answer: Row = await self._face.ask("install", data=data, replace=args.replace)
        return answer

    async def activate(self, args: NoArguments) -> Row:
        """Online."""
        answer: Row = await self._face.ask("activate")
        return answer

    async def deactivate(self, args: NoArguments) -> Row:
        """The seat is free afterwards."""
        answer: Row = await self._face.ask("deactivate")
        return answer

    async def request(self, args: NoArguments) -> Row:
        """As the portal takes it."""
        return {"text": (await self._face.ask("request")).decode()}

    async def report_now(self, args: NoArguments) -> Row:
        """Whatever is due or not."""
        answer: Row = await self._face.ask("report_now")
        return answer

    async def report_show(self, args: ShowArgs) -> Row:
        """Every byte that left."""
        return {"sent": await self._face.ask("report_show", count=args.count)}

    async def report_export(self, args: NoArguments) -> Row:
        """As the portal takes it."""
        return {"text": (await self._face.ask("report_export")).decode()}

    async def report_import(self, args: ImportArgs) -> Row:
        """Nothing has changed if it is refused."""
        answer: Row = await self._face.ask("report_import", data=args.text.encode())
        return answer

    async def test_connection(self, args: NoArguments) -> Row:
        """Name, proxy, TLS, HTTP."""
        return {"steps": await self._face.ask("test_connection")}
