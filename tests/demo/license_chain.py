"""The whole chain of a licence, live: keys, issue, activate, send, count, report, notice, exhausted, held, upgraded, flows.

Real parts in processes of their own: `sluice-license` with its licence server, a `sluice run` that is not in lab mode; a
receiving host by aiosmtpd; TLS and SMTP over loopback. Every line with a tick was looked at where an operator or the vendor
would look, and what was counted is compared with what the host took. Exit status 0 only if all of it holds, within a minute.

The volume is small because the vendor grants ever smaller blocks near its end, and one report in ten seconds.
"""

import argparse
import asyncio
import csv
import email
import email.policy
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosmtplib
from rich.console import Console

from mta.control.protocol import ControlError
from mta.lab.certificate import make_server_context
from mta.lab.mailbox import Mailbox, Taken
from mta.lab.polite import PoliteReceiver
from mta.lab.ports import bind_hosts
from tests.demo.customer import Customer, build_product
from tests.demo.vendor import CommandFailed, Vendor

EMAILS = 8  # of the licence; a power of two is used up in the fewest blocks
HELD = 8  # messages that wait once it is
WAIT_S = 90.0  # for any one thing; seconds, where the machine has nothing else to do
LOOK_S = 0.1
OPERATOR = "ops@customer.example"
SENDER = "news@customer.example"


class NotSo(Exception):
    """Something the demo claims does not hold."""


class Story:
    """The steps in their order; each tells what it does and checks what it tells."""

    def __init__(self, console: Console, place: Path, emails: int) -> None:
        self.console = console
        self.place = place
        self.emails = emails
        self.vendor = Vendor(place / "vendor")
        self.mailbox = Mailbox(self._took)
        self._subjects: list[str] = []  # of the notices that came
        self.license_id = ""
        self._sent = 0
        self._began = time.monotonic()
        self._step = 0

    async def tell(self) -> None:
        """All of it. Raises NotSo, CommandFailed."""
        async with self._host() as host:
            try:
                product, ca_file, file = await self._make_the_vendor()
                self.customer = Customer(
                    self.place / "customer", product, host=host, ca_file=ca_file, operator=OPERATOR
                )
                await self._without_a_licence(file)
                await self._install_and_activate(file)
                await self._send_and_count()
                await self._use_up()
                await self._hold()
                await self._upgrade()
                await self._settle_accounts()
            finally:
                await asyncio.to_thread(self._end)

    def _end(self) -> None:
        if hasattr(self, "customer"):
            self.customer.close()
        self.vendor.close()

    # -- the steps ------------------------------------------------------------------------------------

    async def _make_the_vendor(self) -> tuple[Path, Path, Path]:
        self._title("Keys, a licence, a licence server")
        root = await asyncio.to_thread(self.vendor.hold_ceremony)
        self._true(
            "three root keys; root 1 is signed by two; a key each to issue, serve and revoke"
        )
        ca_file = await asyncio.to_thread(self.vendor.serve)
        self._true(f"`sluice-license serve` answers on {self.vendor.url}")
        self.license_id, file = await asyncio.to_thread(self.vendor.issue, self.emails)
        await asyncio.to_thread(self.vendor.run, "import", str(file))
        self._true(f"issued {self.license_id}: Volume, {self.emails} Emails; the server knows it")
        product = await asyncio.to_thread(build_product, self.place / "product", root)
        self._true("a product with this root built in stands in a folder of its own")
        return product, ca_file, file

    async def _without_a_licence(self, file: Path) -> None:
        self._title("Without a licence")
        code, said = await asyncio.to_thread(self.customer.install_elsewhere, file)
        self._check("a product with another root refuses the file", code == 1, said)
        await asyncio.to_thread(self.customer.start)
        greeting = await self._greeting()
        self._check("the daemon runs, and its greeting says so", "UNLICENSED" in greeting, greeting)
        refusal = await self._refusal()
        self._check(f"mail is refused: {refusal}", refusal.startswith("451 "), refusal)

    async def _install_and_activate(self, file: Path) -> None:
        self._title("Install and activate")
        said = await self._sluice("license", "install", str(file))
        self._check(said, self.license_id in said, said)
        said = await self._sluice("license", "activate")
        self._check(said, "activated" in said, said)
        await self._until(lambda: self._license()["state"] == "valid", "the licence is valid")
        nodes = await asyncio.to_thread(self.vendor.run, "node", "list", "--json")
        self._check("the vendor's list has this node", '"demo"' in nodes, nodes)

    async def _send_and_count(self) -> None:
        self._title("Send, count, report")
        first = self.emails // 2
        await self._send(first)
        await self._until(lambda: self._arrived == first, f"{first} messages are at the host")
        await self._until(
            lambda: self._usage()["counted"] == first, f"`sluice license usage` has counted {first}"
        )
        await self._report()
        await self._until(
            lambda: self._usage()["acknowledged"] == first, f"the vendor has confirmed {first}"
        )
        sent = await self._sluice("license", "report", "show")
        clean = not re.search(r"news@|user\d+@|customer\.example|127\.0\.0", sent)
        self._check("the report, shown as it was sent, names counts and no address", clean, sent)

    async def _use_up(self) -> None:
        self._title("The notices at 80 and 100 %")
        rest = self.emails - self._sent
        await self._send(rest + HELD)
        await self._until(
            lambda: self._arrived >= self.emails * 0.8, "more than 80 % are delivered", self._report
        )
        await self._until(
            lambda: self._notice("volume 80") or self._notice("volume 90"),
            f"a mail to {OPERATOR} says so; licence notices are neither held nor counted",
        )
        await self._until(
            lambda: self._arrived == self.emails,
            f"the last of {self.emails} Emails is delivered",
            self._report,
        )
        await self._until(
            lambda: self._usage()["acknowledged"] == self.emails,
            f"the vendor has confirmed {self.emails}",
            self._report,
        )
        await self._until(lambda: self._notice("volume 100"), "a mail says that 100 % are used")

    async def _hold(self) -> None:
        self._title("Exhausted: held, not bounced")
        await self._until(
            lambda: self._license()["state"] == "over_limit", "the licence is over its limit"
        )
        await self._send(1)
        self._true("mail is taken all the same, and kept")
        held = HELD + 1
        totals = self.customer.ask("status")["totals"]
        self._check(
            f"{held} messages wait, none is bounced",
            (totals["queued_recipients"], totals["bounced"]) == (held, 0),
            str(totals),
        )
        said = await self._sluice("explain", "one.example")
        self._check(said, "licence" in said and "Emails" in said, said)
        queues = await self._sluice("queues")
        self._check("`sluice queues` lists them", "one.example" in queues, queues)
        self._check(
            "the host took not one more than allowed", self._arrived == self.emails, self._arrived
        )

    async def _upgrade(self) -> None:
        self._title("Upgrade: mail flows")
        file = await asyncio.to_thread(self.vendor.upgrade, self.license_id, 10 * self.emails)
        await asyncio.to_thread(self.vendor.run, "import", str(file))
        self._true(f"`sluice-license upgrade`: revision 2, {10 * self.emails} Emails")
        await self._until(
            lambda: [each["revision"] for each in self._license()["licenses"]] == [2],
            "it came to the node with the answer to a report",
            self._report,
        )
        await self._until(
            lambda: self._arrived == self._sent, "what was held is delivered", self._report
        )
        await self._until(lambda: self._license()["state"] == "valid", "the licence is valid")

    async def _settle_accounts(self) -> None:
        self._title("Accounts")
        await self._until(
            lambda: self._usage()["acknowledged"] == self._sent,
            f"node and vendor have both counted {self._sent}",
            self._report,
        )
        usage = self._usage()
        usage_there = await asyncio.to_thread(
            self.vendor.run, "usage", "--license", self.license_id, "--json"
        )
        same = f'"emails": {self._sent}' in usage_there and usage["difference"] == 0
        self._check("the vendor's books say the same", same, f"{usage} {usage_there}")
        self.customer.ask("rotate")
        kinds = self._records()
        delivered = kinds.count("d")
        self._check(
            f"{delivered} `d` records, no bounce; the host took {self._arrived}, each once",
            delivered == self._arrived == self._sent and "b" not in kinds and not self._doubles,
            str(kinds),
        )
        bugs = self.customer.ask("status")["totals"]["bugs"]
        code = await asyncio.to_thread(self.customer.close)
        self._check("the daemon stopped as asked and had no fault", (bugs, code) == (0, 0), code)

    # -- looking --------------------------------------------------------------------------------------

    @property
    def _arrived(self) -> int:
        """Customers' mail at the host, notices apart."""
        return self.mailbox.by_domain["one.example"]

    @property
    def _doubles(self) -> list[str]:
        addresses = [f"user{n}@one.example" for n in range(self._sent)]
        return [each for each in addresses if len(self.mailbox.of(each)) != 1]

    def _took(self, taken: Taken) -> None:
        if OPERATOR in taken.recipients:
            found = email.message_from_bytes(taken.data, policy=email.policy.default)
            self._subjects.append(str(found["Subject"]))

    def _notice(self, what: str) -> bool:
        return any(f": {what}" in each for each in self._subjects)

    def _license(self) -> dict[str, Any]:
        found: dict[str, Any] = self.customer.ask("license.status")
        return found

    def _usage(self) -> dict[str, Any]:
        found: dict[str, Any] = self.customer.ask("license.usage")
        return found

    def _records(self) -> list[str]:
        found = []
        for path in sorted(self.customer.place.glob("acct*.csv")):
            with path.open(newline="", encoding="utf-8") as file:
                found += [record["type"] for record in csv.DictReader(file)]
        return found

    async def _until(
        self,
        happened: Callable[[], object],
        claim: str,
        meanwhile: Callable[[], Any] | None = None,
    ) -> None:
        """Look until it is so, and say so. Raises NotSo."""
        until = time.monotonic() + WAIT_S
        while not await asyncio.to_thread(happened):
            if time.monotonic() > until:
                raise NotSo(f"not within {WAIT_S:.0f} s: {claim}\n{self.customer.log[-3000:]}")
            if meanwhile is not None:
                await meanwhile()
            await asyncio.sleep(LOOK_S)
        self._true(claim)

    # -- doing ----------------------------------------------------------------------------------------

    async def _report(self) -> None:
        """The operator asks for a report at once, once all that was granted is used.

        The vendor takes five at once and then one in ten seconds; after a refusal it is the daemon's to try again.
        """
        now = self._license()
        volume, report = now["volume"], now["report"]
        if report["under_way"] or report["failure"] or volume["left"] or volume["under_way"]:
            return
        try:
            await asyncio.to_thread(self.customer.ask, "license.report.now")
        except ControlError as error:
            raise NotSo(f"no report can be sent: {error}") from error

    async def _sluice(self, *words: str) -> str:
        return await asyncio.to_thread(self.customer.sluice, *words)

    async def _send(self, count: int) -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=self.customer.port) as client:
            for number in range(self._sent, self._sent + count):
                to = f"user{number}@one.example"
                text = (
                    f"From: <{SENDER}>\r\nTo: <{to}>\r\nSubject: Number {number}\r\n\r\nHello.\r\n"
                )
                await client.sendmail(SENDER, [to], text.encode())
        self._sent += count

    async def _refusal(self) -> str:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=self.customer.port) as client:
            try:
                await client.sendmail(SENDER, ["user@one.example"], b"Subject: x\r\n\r\nx\r\n")
            except aiosmtplib.SMTPRecipientsRefused as error:
                return f"{error.recipients[0].code} {error.recipients[0].message}"
            except aiosmtplib.SMTPResponseException as error:
                return f"{error.code} {error.message}"
        return "it was taken"

    async def _greeting(self) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.customer.port)
        try:
            return (await asyncio.wait_for(reader.readline(), WAIT_S)).decode().strip()
        finally:
            writer.close()

    @asynccontextmanager
    async def _host(self) -> AsyncIterator[str]:
        """The receiving host; its address and port."""
        port, (sock,) = bind_hosts(1)
        host = PoliteReceiver("mx.one.example", sock, self.mailbox, make_server_context("mx"))
        await host.start()
        try:
            yield f"{host.address}:{port}"
        finally:
            await host.stop()

    # -- telling --------------------------------------------------------------------------------------

    def _title(self, text: str) -> None:
        self._step += 1
        seconds = time.monotonic() - self._began
        self.console.print(f"\n[bold]{self._step}. {text}[/bold]  [dim]{seconds:.0f} s[/dim]")

    def _true(self, claim: str) -> None:
        self.console.print("[green]✓[/green]", claim.replace("[", r"\["))

    def _check(self, claim: str, holds: bool, found: object) -> None:
        if not holds:
            raise NotSo(f"{claim}: {found}")
        self._true(claim)


def main(words: list[str] | None = None) -> int:
    """Run the demo; 0 only if everything it says holds."""
    parser = argparse.ArgumentParser(prog="tests.demo.license_chain", description=__doc__)
    parser.add_argument("--emails", type=int, default=EMAILS, help="of the licence")
    emails = parser.parse_args(words).emails
    console = Console(highlight=False)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sluice-license-demo-") as place:
        try:
            asyncio.run(Story(console, Path(place), emails).tell())
        except (NotSo, CommandFailed) as error:
            console.print("[red]✗[/red]", str(error), markup=False)
            return 1
    took = time.monotonic() - began
    console.print(f"\n[green]✓ the whole chain holds, in {took:.0f} s[/green]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
