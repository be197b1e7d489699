"""One question on its way to the DNS servers, and the truncated one's second way over TCP.

Each question has sockets of its own, one connected UDP socket a server: the kernel gives every one a random port and
drops what comes from elsewhere; id and question must come back as sent (RFC 5452). Nothing here caches or interprets
records. RFC 1035 §4.2, RFC 6891 (EDNS), RFC 7766 (TCP).
"""

import asyncio
import secrets
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

import dns.rcode

from mta.dns.answers import Temporary
from mta.dns.wire import (
    HEADER,
    NOERROR,
    NXDOMAIN,
    OPT,
    TRUNCATED,
    MalformedAnswer,
    Message,
    read_answer,
)
from mta.model.address import parse_host_port

DNS_PORT = 53
PAYLOAD = 1232  # the largest answer that fits every path unfragmented (DNS flag day 2020)
MAX_DATAGRAM = 4096
MAX_DATAGRAMS_A_TURN = 16  # a flood of forgeries must not hold the loop
RECURSION_AND_AD = 0x0120  # RD; AD asks for the bit in the answer (RFC 6840 §5.7)
_OPT = b"\0" + struct.pack("!HHIH", OPT, PAYLOAD, 0, 0)
WORK_A_TURN = 8
SILENT_TRIES = 3  # unanswered in a row before a server is asked last
SHUN_S = 30.0


class Server:
    """One DNS server and how it behaved lately."""

    __slots__ = ("address", "family", "misses", "port", "shunned_until")

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.misses = 0
        self.shunned_until = 0.0  # loop time

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    def heard(self) -> None:
        """It answered something, so it lives."""
        self.misses = 0
        self.shunned_until = 0.0

    def missed(self, now: float) -> None:
        """A try brought nothing."""
        self.misses += 1
        if self.misses >= SILENT_TRIES:
            self.shunned_until = now + SHUN_S


def parse_server(text: str) -> Server:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`. Raises ValueError."""
    host, port = parse_host_port(text, DNS_PORT)
    return Server(str(ip_address(host)), port)


def encode_question(name: str, rdtype: int) -> bytes:
    """The question section's wire form (RFC 1035 §4.1.2). `name` has passed `is_askable`, or is "" for the root."""
    labels = name.encode("ascii").split(b".") if name else []
    wire = b"".join(bytes((len(label),)) + label for label in labels)
    return wire + b"\0" + struct.pack("!HH", rdtype, 1)


def encode_query(identity: int, question: bytes, edns: bool) -> bytes:
    """A whole query. By hand: 2 µs, where `dns.message.make_query().to_wire()` takes 63."""
    header = HEADER.pack(identity, RECURSION_AND_AD, 1, 0, 0, 1 if edns else 0)
    return header + question + (_OPT if edns else b"")


@dataclass(frozen=True, slots=True)
class Truncated:
    """The answer did not fit: ask this server over TCP."""

    server: Server


Result = Message | Truncated | Temporary


class Pace:
    """Spreads work over loop turns: 500 answers at once held the loop for 76 ms, at 8 a turn it stays near 5."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_running = False

    def soon(self, work: Callable[[], None]) -> None:
        """Do `work` in this turn's share or in a later one's, in order."""
        self._waiting.append(work)
        if not self._is_running:
            self._is_running = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        for _ in range(min(WORK_A_TURN, len(self._waiting))):
            self._waiting.popleft()()
        self._is_running = bool(self._waiting)
        if self._is_running:
            asyncio.get_running_loop().call_soon(self._run)


class Exchange:
    """A question that is sent to one server after the other, twice round, until one answers or the time is up.

    `answer` gets the result once. `heard()` is called for every genuine datagram, whatever it says; `silence(since)`
    for every try that brought nothing, with the loop time at which the exchange began.
    """

    __slots__ = (
        "_bad",
        "_current",
        "_deadline",
        "_edns",
        "_heard",
        "_identity",
        "_last_problem",
        "_loop",
        "_pace",
        "_question",
        "_servers",
        "_silence",
        "_sockets",
        "_started",
        "_timer",
        "_tries",
        "_wait_s",
        "answer",
    )

    def __init__(
        self,
        question: bytes,
        servers: Sequence[Server],
        timeout_s: float,
        *,
        pace: Pace,
        heard: Callable[[], None],
        silence: Callable[[float], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._question = question
        self._servers = servers
        self._identity = secrets.randbelow(65536)
        self._edns = True
        self._started = self._loop.time()
        self._deadline = self._started + timeout_s
        self._tries = 0
        self._wait_s = timeout_s / max(3, 2 * len(servers))
        self._sockets: dict[Server, socket.socket] = {}
        self._bad: set[Server] = set()
        self._current: Server | None = None
        self._last_problem = ""
        self._timer: asyncio.TimerHandle | None = None
        self._pace = pace
        self._heard = heard
        self._silence = silence
        self.answer: asyncio.Future[Result] = self._loop.create_future()

    def start(self) -> None:
        """Send the first datagram."""
        self._pace.soon(self._send_next)

    def finish(self, result: Result) -> None:
        """End with `result` (from outside: to give up); later calls do nothing."""
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets.values():
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()
        if not self.answer.done():
            self.answer.set_result(result)

    def _send_next(self) -> None:
        """Send to the next server that has not failed us yet, and wait a share of the time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        count = len(self._servers)
        while (
            not self.answer.done()
            and len(self._bad) < count
            and self._loop.time() < self._deadline - 0.001
        ):
            server = self._servers[self._tries % count]
            self._tries += 1
            if server not in self._bad and self._send(server):
                self._current = server
                wait_until = min(self._loop.time() + self._wait_s, self._deadline)
                self._timer = self._loop.call_at(wait_until, self._unanswered)
                return
        problem = self._last_problem or "no DNS server answered in time"
        self.finish(Temporary(problem))

    def _send(self, server: Server) -> bool:
        try:
            sock = self._sockets.get(server)
            if sock is None:
                sock = socket.socket(server.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                self._sockets[server] = sock
                sock.connect((server.address, server.port))
                # A fresh socket a question: 38 µs a round trip on uvloop, both ends together.
                self._loop.add_reader(sock.fileno(), self._readable, server, sock)
            sock.send(encode_query(self._identity, self._question, self._edns))
        except OSError as error:
            self._unreachable(server, error)
            return False
        return True

    def _unanswered(self) -> None:
        self._timer = None
        if self._current is not None:
            self._current.missed(self._loop.time())
        self._silence(self._started)
        if not self.answer.done():
            self._send_next()

    def _unreachable(self, server: Server, error: OSError) -> None:
        server.missed(self._loop.time())
        self._bad.add(server)
        self._last_problem = f"DNS server {server}: {error.strerror or error}"
        self._silence(self._started)

    def _readable(self, server: Server, sock: socket.socket) -> None:
        for _ in range(MAX_DATAGRAMS_A_TURN):
            if self.answer.done():
                return
            try:
                data = sock.recv(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # ICMP: nobody listens there
                if server not in self._bad:
                    self._unreachable(server, error)
                    self._go_on_from(server)
                return
            self._datagram(server, data)

    def _datagram(self, server: Server, data: bytes) -> None:
        """Take a datagram if it is the answer to our question; a forgery or an echo is passed over."""
        if len(data) < HEADER.size or data[2] & 0x80 == 0:
            return
        if int.from_bytes(data[:2], "big") != self._identity:
            return
        rcode = data[3] & 0x0F
        if rcode == dns.rcode.FORMERR and self._edns:
            # RFC 6891 §7: a server that knows no EDNS says so, often without the question.
            self._alive(server)
            self._edns = False
            if not self._send(server):
                self._go_on_from(server)
            return
        if not _echoes(data, self._question):
            return
        self._alive(server)
        if rcode not in (NOERROR, NXDOMAIN):
            self._refused(server, dns.rcode.to_text(dns.rcode.Rcode(rcode)))
        elif data[2] & 0x02:  # TC
            self.finish(Truncated(server))
        else:
            self._pace.soon(partial(self._parse, server, data))

    def _parse(self, server: Server, data: bytes) -> None:
        if self.answer.done():
            return
        message = parse_answer(data)
        if message is None:
            self._refused(server, "a message that cannot be parsed")
        elif message.is_lame:
            self._refused(server, "a referral; it does not resolve names for us")
        else:
            self.finish(message)

    def _alive(self, server: Server) -> None:
        server.heard()
        self._heard()

    def _refused(self, server: Server, what: str) -> None:
        self._bad.add(server)
        self._last_problem = f"DNS server {server} answered {what}"
        self._go_on_from(server)

    def _go_on_from(self, server: Server) -> None:
        if not self.answer.done() and (
            server is self._current or len(self._bad) == len(self._servers)
        ):
            self._send_next()


def _echoes(data: bytes, question: bytes) -> bool:
    """Whether the message repeats our question. Names compare without case (RFC 4343); types are not letters."""
    end = HEADER.size + len(question)
    echo = data[HEADER.size : end]
    return data[4:6] == b"\0\1" and echo[-4:] == question[-4:] and echo.lower() == question.lower()


def parse_answer(data: bytes) -> Message | None:
    """The message of a datagram or TCP frame; None when it is none."""
    try:
        return read_answer(data)
    except MalformedAnswer:
        return None


async def ask_over_tcp(server: Server, question: bytes, timeout_s: float) -> Result:
    """Ask one server over TCP: two bytes of length, then the message (RFC 7766 §8)."""
    identity = secrets.randbelow(65536)
    query = encode_query(identity, question, edns=True)
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(server.address, server.port)
            writer.write(struct.pack("!H", len(query)) + query)
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    except TimeoutError:
        return Temporary(f"DNS server {server} does not answer over TCP")
    except (OSError, asyncio.IncompleteReadError) as error:
        return Temporary(f"DNS server {server} fails over TCP: {error}")
    finally:
        if writer is not None:
            writer.close()
    return _check_tcp(server, data, identity, question)


def _check_tcp(server: Server, data: bytes, identity: int, question: bytes) -> Result:
    genuine = (
        len(data) >= HEADER.size
        and int.from_bytes(data[:2], "big") == identity
        and _echoes(data, question)
    )
    message = parse_answer(data) if genuine else None
    if message is None:
        return Temporary(f"DNS server {server} answered nonsense over TCP")
    if message.rcode not in (NOERROR, NXDOMAIN):
        return Temporary(
            f"DNS server {server} answered {dns.rcode.to_text(dns.rcode.Rcode(message.rcode))} over TCP"
        )
    if message.flags & TRUNCATED or message.is_lame:
        return Temporary(f"DNS server {server} gave no whole answer over TCP")
    return message
