"""What a misfortune is played on: DNS and receiving servers of the lab on a loop of their own, mail handed in by the thousand.

The servers live in a thread of the test; the Sluice under test is a process of its own. Every wait has a deadline, every port is
the kernel's choice. A `Witness` writes down what can be seen of us from outside: who connected when, and what arrived when.
"""

import asyncio
import contextvars
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from mta.lab.mailbox import Mailbox, Taken
from mta.lab.nameserver import LabDns
from mta.lab.ports import bind_hosts
from mta.lab.receiver import Receiver
from mta.lab.tempers import Temper
from tests.support.daemon import Daemon, running

WAIT_S = 30.0
REPLY_S = 30.0
# What the way from our decision to the host's clock may add or take, on a machine that others use too.
JITTER_S = 0.2
WINDOWS_S = (0.25, 0.5, 1.0, 2.0, 3.0)

T = TypeVar("T")
_connection: contextvars.ContextVar[int] = contextvars.ContextVar("connection", default=-1)


def wait_until(
    happened: Callable[[], object], what: Callable[[], object] | str, timeout_s: float = WAIT_S
) -> float:
    """Look until it happened; the seconds it took. Raises AssertionError with `what` when it does not."""
    began = time.monotonic()
    while not happened():
        if time.monotonic() - began > timeout_s:
            shown = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {timeout_s} s: {shown}")
        time.sleep(0.02)
    return time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that was taken: when, over which connection (counted from 0), for whom."""

    at: float
    connection: int
    recipients: tuple[str, ...]


class Crowd:
    """How many connections are open to all witnesses of a stage, and the most there ever were."""

    def __init__(self) -> None:
        self.open_now = 0
        self.peak = 0

    def change(self, by: int) -> None:
        """One more or one less."""
        self.open_now += by
        self.peak = max(self.peak, self.open_now)


class Witness(Receiver):
    """A scripted server that remembers; times are `time.monotonic()`."""

    def __init__(self, name: str, temper: Temper, sock: socket.socket, crowd: "Crowd") -> None:
        super().__init__(name, temper, sock, Mailbox(self._took))
        self._crowd = crowd
        self.opened: list[float] = []
        self.arrivals: list[Arrival] = []
        self.peak_of: Counter[str] = Counter()  # peer address → most connections at once
        self._open_of: Counter[str] = Counter()

    @property
    def host(self) -> str:
        """`address:port`, as `hosts` takes it."""
        return f"{self.address}:{self.port}"

    @property
    def recipients(self) -> list[str]:
        """Whom mail was taken for, in the order it came; once for each copy."""
        return [recipient for each in list(self.arrivals) for recipient in each.recipients]

    def wait_for(self, recipients: int, timeout_s: float = WAIT_S) -> None:
        """Wait until so many were served."""
        wait_until(
            lambda: self.mailbox.recipients >= recipients,
            lambda: f"{recipients} recipients, {self.mailbox.recipients} came; {self.counts}",
            timeout_s,
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _connection.set(len(self.opened))
        self.opened.append(time.monotonic())
        peer = writer.get_extra_info("peername")[0]
        self._crowd.change(1)
        self._open_of[peer] += 1
        self.peak_of[peer] = max(self.peak_of[peer], self._open_of[peer])
        try:
            await super()._serve(reader, writer)
        finally:
            self._open_of[peer] -= 1
            self._crowd.change(-1)

    def _took(self, taken: Taken) -> None:
        self.arrivals.append(Arrival(time.monotonic(), _connection.get(), taken.recipients))


class Stage:
    """The lab's servers in a thread, from `with` to its end."""

    def __init__(self) -> None:
        self.dns = LabDns()
        self.crowd = Crowd()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_complain)
        self._thread = threading.Thread(target=self._loop.run_forever, name="stage", daemon=True)
        self._witnesses: list[Witness] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self.dns.start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this on the loop of the servers."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    def witness(self, temper: Temper | None = None) -> Witness:
        """One more server on 127.0.0.1; one whose temper does not listen keeps its port, and may be started later."""
        # With the protocol named asyncio turns Nagle's algorithm off.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.bind(("127.0.0.1", 0))
        return self._start("host.lab.example", temper or Temper(), sock)

    def internet(self, *tempers: Temper) -> tuple[int, list[Witness]]:
        """A server for each temper on addresses of their own, all with the port returned, as MX records need it.

        The n-th is `mxN.lab.example` in the DNS and the MX of `dN.example`.
        """
        port, sockets = bind_hosts(len(tempers))
        found = []
        for number, (temper, sock) in enumerate(zip(tempers, sockets, strict=True)):
            witness = self._start(f"mx{number}.lab.example", temper, sock)
            self.dns.add(witness.name, "A", witness.address)
            self.dns.add(f"d{number}.example", "MX", f"10 {witness.name}.")
            found.append(witness)
        return port, found

    def close(self, witness: Witness) -> None:
        """Close its port and every connection."""
        self.run(witness.stop())

    @contextmanager
    def server(
        self, place: Path, *, default: str, more: str = "", **settings: Any
    ) -> Iterator[Daemon]:
        """A started Sluice that asks our DNS. None outlives its test, and none had a fault of its own."""
        more = f'[dns]\nservers = ["{self.dns.address}"]\n{more}'
        with running(place, default=f'tls = "none"\n{default}', more=more, **settings) as daemon:
            yield daemon

    def _start(self, name: str, temper: Temper, sock: socket.socket) -> Witness:
        sock.setblocking(False)
        witness = Witness(name, temper, sock, self.crowd)
        self._witnesses.append(witness)
        self.run(witness.start())
        return witness

    async def _stop(self) -> None:
        for witness in self._witnesses:
            await witness.stop()
        await self.dns.stop()


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # asyncio 3.11 reports a stream's callback that was cancelled, which is how a receiver stops.
    if not isinstance(context.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(context)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to hand in."""

    recipients: tuple[str, ...]
    vmta: str = ""
    sender: str = "sender@load.example"


def letters(count: int, domain: str, *, vmta: str = "", first: int = 0) -> list[Letter]:
    """So many messages, of one recipient each: m0@domain, m1@domain, …"""
    return [Letter((f"m{n}@{domain}",), vmta) for n in range(first, first + count)]


def one_letter(count: int, domain: str, *, vmta: str = "", first: int = 0) -> list[Letter]:
    """One message to so many recipients of a domain."""
    return [Letter(tuple(f"m{n}@{domain}" for n in range(first, first + count)), vmta)]


def hand_in(daemon: Daemon, mail: Iterable[Letter], *, connections: int = 8) -> int:
    """Hand them in, each acknowledged with 250, or AssertionError; the number of recipients.

    With one connection they are accepted in the order given.
    """
    waiting = list(mail)
    asyncio.run(_hand_in(daemon.port, iter(waiting), min(connections, len(waiting))))
    return sum(len(letter.recipients) for letter in waiting)


async def _hand_in(port: int, mail: Iterator[Letter], connections: int) -> None:
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_client(port, mail))


async def _client(port: int, mail: Iterator[Letter]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await _expect(reader, b"220")
        writer.write(b"EHLO load.example\r\n")
        await _expect(reader, b"250")
        for letter in mail:
            commands = [f"MAIL FROM:<{letter.sender}>"]
            commands += [f"RCPT TO:<{each}>" for each in letter.recipients]
            writer.write(("\r\n".join([*commands, "DATA"]) + "\r\n").encode())
            for _ in commands:
                await _expect(reader, b"250")
            await _expect(reader, b"354")
            writer.write(_text(letter))
            await _expect(reader, b"250")
        writer.write(b"QUIT\r\n")
        await _expect(reader, b"221")
    finally:
        writer.close()


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        line = await asyncio.wait_for(reader.readline(), REPLY_S)
        assert line.startswith(code), f"{code!r} expected: {line!r}"
        if line[3:4] != b"-":
            return


def _text(letter: Letter) -> bytes:
    fields = ["From: sender@load.example", f"To: {letter.recipients[0]}", "Subject: scenario"]
    fields += [f"X-Virtual-MTA: {letter.vmta}"] * bool(letter.vmta)
    return "\r\n".join([*fields, "", "Once upon a time.", ".", ""]).encode()


def require_rate(times: list[float], rate: float, *, used: float = 0.8) -> None:
    """architecture.md §6: in any window T at most N + max(1, N · 0.1 s / T) attempts, N being rate · T; no opening burst.

    `used`: the share of the rate that must be reached, for a limit kept by doing nothing is kept by no one.
    """
    for window in WINDOWS_S:
        most = max(
            sum(1 for at in times[first:] if at - times[first] < window)
            for first in range(len(times))
        )
        allowed = rate * (window + JITTER_S) + max(1.0, rate * 0.1)
        assert most <= allowed, f"{most} in {window} s, at most {allowed:.1f}"
    taken_s = times[-1] - times[0]
    assert (len(times) - 1) / taken_s >= used * rate, f"{len(times)} in {taken_s:.1f} s at {rate}/s"


def kinds(records: Sequence[dict[str, str]]) -> Counter[str]:
    """How many records of each type."""
    return Counter(record["type"] for record in records)


def attempts_of(daemon: Daemon, **which: Any) -> list[int]:
    """The attempts of the queued recipients that match."""
    rows = daemon.ask("messages.list", limit=10_000, **which)["recipients"]
    return [row["attempts"] for row in rows]


def queue_row(daemon: Daemon, name: str) -> dict[str, Any]:
    """One queue as `queues` shows it, or an empty row."""
    rows: list[dict[str, Any]] = daemon.ask("queues", match=name, limit=100)["queues"]
    return next((row for row in rows if row["queue"] == name), {})


def resident_bytes(daemon: Daemon) -> int:
    """The memory its process holds now."""
    text = Path(f"/proc/{daemon.pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
