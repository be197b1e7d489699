"""`sluice demo`: a real server in lab mode, a simulated internet around it, and an account of every message.

The server is the installed `sluice run` in a process of its own, with a spool on disk; the internet is `mta.lab` in this one.
Mail is handed in over SMTP by aiosmtplib. What became of it is read from where an operator would read it: the accounting file
and the control socket. The internet's own books are compared with both, and dkimpy verifies a sample of every domain.
"""

import asyncio
import csv
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiosmtplib
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mta.cli.dkim import check_signatures
from mta.control.client import ControlClient
from mta.control.protocol import ControlError
from mta.dkim.keys import dns_record, generate, load_key, record_name
from mta.lab.internet import ROOT, SENDER_DOMAIN, UNKNOWN_PREFIX, Fate, Internet

KEEP_LISTENER = "127.0.0.1:2525"
FEEDERS = 8  # connections that hand mail in
START_TIMEOUT_S = 20.0
SETTLE_TIMEOUT_S = 60.0
UNKNOWN_EVERY = 5  # one in so many at users.lab.example goes to an unknown user
SELECTORS = {"rsa": "r1", "ed25519": "e1"}

CONFIG = """\
# Written by `sluice demo`.
[server]
hostname = "mta.lab.example"
spool_dir = "spool"
control_socket = "control.sock"
lab = true
min_free = "64M"

[[listener]]
address = "{listener}"
relay_from = ["127.0.0.0/8"]

[dns]
servers = ["{dns}"]

# Short times, so that a demo shows in seconds what takes hours outside.
[default]
port = {port}
max_connections = 10
connect_timeout = "3s"
timeouts = {{ greeting = "3s" }}
retry = ["3s", "3s", "5s"]
backoff_initial = "2s"
backoff_cap = "10s"
idle_timeout = "2s"

[[dkim]]
domain = "{domain}"
selector = "r1"
key_file = "rsa.pem"

[[dkim]]
domain = "{domain}"
selector = "e1"
key_file = "ed25519.pem"

[accounting.demo]
path = "acct.csv"
records = ["d", "b", "t", "tq"]
"""


@dataclass(slots=True)
class DomainAccount:
    """What became of the mail to one domain."""

    sent: int = 0
    delivered: int = 0
    bounced: int = 0
    queued: int = 0
    attempts_deferred: int = 0
    why: str = ""
    signatures: str = ""
    mistakes: list[str] = field(default_factory=list)


def run_demo(*, messages: int, keep: bool, directory: Path | None) -> int:
    """The whole demo; 0 only if every message is accounted for and every sample verifies."""
    console = Console()
    with _directory(directory) as place:
        return asyncio.run(_Demo(console, place, messages, keep).run())


@contextmanager
def _directory(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="sluice-demo-") as name:
        yield Path(name)


class _Demo:
    def __init__(self, console: Console, place: Path, messages: int, keep: bool) -> None:
        self.console = console
        self.place = place
        self.messages = messages
        self.keep = keep
        self.internet = Internet()
        self.accounts: dict[str, DomainAccount] = {}
        self.refused: Counter[str] = Counter()
        self.listener = ""

    async def run(self) -> int:
        await self.internet.start()
        self._write_files()
        log = (self.place / "server.log").open("wb")
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mta", "run", "--config", "sluice.toml",
            cwd=self.place, stderr=log, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            if not await self._is_up(server):
                self.console.print("[red]the server did not start; its log:[/red]")
                self.console.print((self.place / "server.log").read_text(), markup=False)
                return 1
            self.console.print(
                f"A simulated internet of {len(self.internet.domains)} domains, and a Sluice in lab mode"
                f" on {self.listener}; {self.messages} messages."
            )
            started = time.monotonic()
            await self._hand_in()
            await self._wait_for_fates()
            verdict = await self._account(time.monotonic() - started)
            if self.keep:
                await self._keep_running(server)
            return verdict
        finally:
            if server.returncode is None:
                server.send_signal(signal.SIGTERM)
                await server.wait()
            log.close()
            await self.internet.stop()

    # -- before ---------------------------------------------------------------------------------

    def _write_files(self) -> None:
        self.listener = KEEP_LISTENER if self.keep else f"127.0.0.1:{_free_port()}"
        for algorithm, selector in SELECTORS.items():
            pem = generate(algorithm)
            path = self.place / f"{algorithm}.pem"
            path.touch(mode=0o600)
            path.write_bytes(pem)
            name = record_name(SENDER_DOMAIN, selector)
            self.internet.publish_text(name, dns_record(load_key(pem)))
        config = CONFIG.format(
            listener=self.listener,
            dns=self.internet.dns_address,
            port=self.internet.smtp_port,
            domain=SENDER_DOMAIN,
        )
        (self.place / "sluice.toml").write_text(config)

    async def _is_up(self, server: asyncio.subprocess.Process) -> bool:
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and server.returncode is None:
            try:
                await asyncio.to_thread(self._ask, "status")
                return True
            except ControlError:
                await asyncio.sleep(0.1)
        return False

    def _ask(self, verb: str, **args: Any) -> Any:
        with ControlClient(self.place / "control.sock", 10.0) as client:
            return client.call(verb, **args)

    # -- the mail -------------------------------------------------------------------------------

    def _recipients(self) -> Iterator[str]:
        for number in range(self.messages):
            domain = self.internet.domains[number % len(self.internet.domains)]
            turn = number // len(self.internet.domains)
            unknown = domain.unknown_prefix and turn % UNKNOWN_EVERY == 0
            yield f"{UNKNOWN_PREFIX if unknown else 'user'}{number}@{domain.name}"

    async def _hand_in(self) -> None:
        recipients = self._recipients()
        host, _, port = self.listener.rpartition(":")
        with self._progress() as progress:
            bar = progress.add_task("handing in", total=self.messages)

            async def feed() -> None:
                client = aiosmtplib.SMTP(hostname=host, port=int(port), timeout=30)
                async with client:
                    for recipient in recipients:
                        await self._hand_in_one(client, recipient)
                        progress.advance(bar)

            await asyncio.gather(*(feed() for _ in range(FEEDERS)))

    async def _hand_in_one(self, client: aiosmtplib.SMTP, recipient: str) -> None:
        domain = recipient.rpartition("@")[2]
        account = self.accounts.setdefault(domain, DomainAccount())
        sender = f"news@{SENDER_DOMAIN}"
        message = (
            f"From: The Lab <{sender}>\r\nTo: <{recipient}>\r\nSubject: A message of the demo\r\n"
            f"X-Job: demo\r\n\r\nHello {recipient},\r\n\r\n.this line begins with a dot.\r\n"
        ).encode()
        try:
            await client.sendmail(sender, [recipient], message)
            account.sent += 1
        except aiosmtplib.SMTPResponseException as error:
            self.refused[f"{error.code} {error.message}"] += 1

    async def _wait_for_fates(self) -> None:
        """Until all is done that can be; mail to hosts that never take it stays queued."""
        wanted = Counter(self.internet.fate(recipient) for recipient in self._recipients())
        until = time.monotonic() + SETTLE_TIMEOUT_S
        with self._progress() as progress:
            delivered = progress.add_task("delivered", total=wanted[Fate.DELIVERED])
            bounced = progress.add_task("bounced", total=wanted[Fate.BOUNCED])
            while time.monotonic() < until:
                totals = (await asyncio.to_thread(self._ask, "status"))["totals"]
                progress.update(delivered, completed=totals["delivered"])
                progress.update(bounced, completed=totals["bounced"])
                done = totals["delivered"] + totals["bounced"]
                if done >= wanted[Fate.DELIVERED] + wanted[Fate.BOUNCED]:
                    return
                await asyncio.sleep(0.2)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )

    # -- the account ----------------------------------------------------------------------------

    async def _account(self, took_s: float) -> int:
        await asyncio.to_thread(self._ask, "rotate")  # everything is in the file before it is read
        self._read_records()
        await asyncio.to_thread(self._read_queues)
        self._compare()
        self._verify_samples()
        self._show(took_s)
        mistakes = [text for account in self.accounts.values() for text in account.mistakes]
        mistakes += [f"refused at the door: {text} ({n}×)" for text, n in self.refused.items()]
        mistakes += [
            f"on the wire: {fault} ({n}×)" for fault, n in self.internet.mailbox.faults.items()
        ]
        for text in mistakes:
            self.console.print(f"[red]✗ {text}[/red]")
        if not mistakes:
            self.console.print(
                f"[green]✓ all {self.messages} messages accounted for, every sample's signatures verify[/green]"
            )
        return 1 if mistakes else 0

    def _read_records(self) -> None:
        for path in sorted(self.place.glob("acct*.csv")):
            with path.open(newline="", encoding="utf-8") as file:
                for record in csv.DictReader(file):
                    self._read_record(record)

    def _read_record(self, record: dict[str, str]) -> None:
        domain = (record["rcpt"] or record["queue"].partition("/")[0]).rpartition("@")[2]
        account = self.accounts.setdefault(domain, DomainAccount())
        kind = record["type"]
        if kind == "d":
            account.delivered += 1
        elif kind == "b":
            account.bounced += 1
        elif kind == "t":
            account.attempts_deferred += 1
        if kind != "d":
            account.why = record["dsnDiag"].partition(";")[2]

    def _read_queues(self) -> None:
        answer = self._ask("messages.list", limit=self.messages)
        for row in answer["recipients"]:
            self.accounts[row["queue"].partition("/")[0]].queued += 1
        for queue in self._ask("queues", limit=1000)["queues"]:
            if queue["reason"]:
                self.accounts[queue["domain"]].why = queue["reason"]

    def _compare(self) -> None:
        """Our records against our queues against what the internet says it took."""
        fates = Counter(
            (each.rpartition("@")[2], self.internet.fate(each)) for each in self._recipients()
        )
        for domain, account in self.accounts.items():
            done = account.delivered + account.bounced + account.queued
            taken = self.internet.mailbox.by_domain[domain]
            expected = {
                "accounted for": (account.sent, done),
                "delivered and taken by its host": (taken, account.delivered),
                "delivered": (fates[domain, Fate.DELIVERED], account.delivered),
                "bounced": (fates[domain, Fate.BOUNCED], account.bounced),
                "queued": (fates[domain, Fate.DEFERRED], account.queued),
            }
            for what, (wanted, found) in expected.items():
                if wanted != found:
                    account.mistakes.append(f"{domain}: {found} {what}, should be {wanted}")

    def _verify_samples(self) -> None:
        def lookup(name: str, _algorithm: str) -> bytes | None:
            return self.internet.text_of(name)

        for domain, account in self.accounts.items():
            if not account.delivered:
                continue
            sample = self.internet.mailbox.sample(domain)
            if sample is None:
                account.mistakes.append(f"{domain}: no sample was kept")
                continue
            checks = check_signatures(sample.data, lookup)
            good = sorted(each.algorithm for each in checks if each.passed)
            account.signatures = " ".join(name.partition("-")[0] for name in good)
            if len(good) != len(SELECTORS) or len(checks) != len(SELECTORS):
                account.mistakes.append(
                    f"{domain}: the sample's signatures do not verify: {checks}"
                )

    def _show(self, took_s: float) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(f"*.{ROOT}", no_wrap=True)
        for name in ("sent", "deliv.", "bounced", "queued", "deferrals"):
            table.add_column(name, justify="right")
        table.add_column("DKIM")
        table.add_column("why", overflow="fold")
        stories = {domain.name: domain.story for domain in self.internet.domains}
        for domain in sorted(self.accounts):
            account = self.accounts[domain]
            numbers = (
                account.sent, account.delivered, account.bounced, account.queued,
                account.attempts_deferred,
            )  # fmt: skip
            why = account.why or stories[domain]
            name = domain.removesuffix(f".{ROOT}")
            table.add_row(name, *(str(n) if n else "" for n in numbers), account.signatures, why)
        self.console.print(table)
        totals = Counter[str]()
        for account in self.accounts.values():
            totals.update(
                sent=account.sent, delivered=account.delivered,
                bounced=account.bounced, queued=account.queued,
            )  # fmt: skip
        self.console.print(
            f"{totals['sent']} sent: {totals['delivered']} delivered, {totals['bounced']} bounced,"
            f" {totals['queued']} queued for hosts that do not take them, in {took_s:.1f} s"
        )

    async def _keep_running(self, server: asyncio.subprocess.Process) -> None:
        socket = self.place / "control.sock"
        self.console.print(
            f"\nStill running; Ctrl-C ends it. Try in another terminal:\n"
            f"  export SLUICE_SOCKET={socket}\n"
            f"  sluice status\n  sluice queues\n  sluice explain silent.lab.example\n"
            f"  swaks --server {self.listener} --from me@{SENDER_DOMAIN} --to you@polite1.lab.example"
        )
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        waits = [asyncio.ensure_future(ended.wait()), asyncio.ensure_future(server.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


def _free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
