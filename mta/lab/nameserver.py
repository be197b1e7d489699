"""An authoritative DNS server on loopback, UDP and TCP, whose zone is a table and whose temper a test may spoil.

It plays the whole DNS: authoritative for the root, so an unknown name is NXDOMAIN with a SOA. Names may be wildcards
(`*.bulk.lab.example`). Answers are remembered as bytes, so it serves benchmarks too. RFC 1035, RFC 2308, RFC 6891.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import cast

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

SOA_TTL = 60
HUGE_MX = 60
MAX_REMEMBERED = 20_000
MAX_WILD_LABELS = 8
_SOA = "ns.lab.example. hostmaster.lab.example. 1 3600 600 86400 60"


class DnsTemper(Enum):
    """How a DNS server behaves to a question."""

    GOOD = "answers from the table"
    SILENT = "never answers"
    SERVFAIL = "answers SERVFAIL"
    REFUSED = "answers REFUSED"
    NXDOMAIN = "says that no name exists"
    SLOW = "answers after `delay_s`"
    TRUNCATED = "answers over UDP with TC and nothing else, over TCP in full"
    HUGE_MX = "answers MX with 60 records"
    LAME = "neither knows the zone nor resolves: a referral, not authoritative"
    GARBAGE = "answers bytes that are no message"
    FORGED_FIRST = "sends answers with a wrong id and a wrong question before the right one"
    CNAME_ONLY = "answers a CNAME and nothing of its target, as where zones end"
    NO_EDNS = "answers FORMERR to a question with EDNS"


class LabDns:
    """A DNS server: `add` records, `start`, and ask `address`."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self._names: Counter[str] = Counter(
            {"": 1}
        )  # every name that exists, empty non-terminals too
        self._tempers: dict[str, DnsTemper] = {}
        self._remembered: dict[bytes, tuple[bytes, tuple[str, str]]] = {}  # without ids
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tcp_writers: set[asyncio.StreamWriter] = set()
        self.temper = DnsTemper.GOOD
        self.delay_s = 0.2
        self.port = 0
        self.asked: Counter[tuple[str, str]] = Counter()  # (name, type) → datagrams and frames
        self.asked_over_tcp = 0

    @property
    def address(self) -> str:
        """`ip:port`, as Resolver takes it."""
        return f"{self._host}:{self.port}"

    def add(self, name: str, rdtype: str, *texts: str, ttl: int = 60) -> None:
        """Add records of one type in the form of a zone file: `add("a.lab.example", "MX", "10 mx.lab.example.")`."""
        name = _plain(name)
        _, held = self._records.get((name, rdtype), (ttl, []))
        self._records[name, rdtype] = (ttl, [*held, *texts])
        labels = name.split(".")
        self._names.update(".".join(labels[n:]) for n in range(len(labels)))
        self._remembered.clear()

    def add_text(self, name: str, text: str, ttl: int = 60) -> None:
        """Add a TXT record, its text cut into strings of 255 (RFC 1035 §3.3.14)."""
        pieces = [text[n : n + 255] for n in range(0, len(text), 255)]
        self.add(name, "TXT", " ".join(f'"{piece}"' for piece in pieces), ttl=ttl)

    def remove(self, name: str, rdtype: str) -> None:
        """Take the records of one name and type out again. Raises KeyError when there are none."""
        name = _plain(name)
        del self._records[name, rdtype]
        labels = name.split(".")
        self._names.subtract(".".join(labels[n:]) for n in range(len(labels)))
        self._names += Counter()
        self._remembered.clear()

    def spoil(self, name: str, temper: DnsTemper) -> None:
        """Give one name a temper of its own, which stands above the server's."""
        self._tempers[_plain(name)] = temper

    def text_of(self, name: str) -> bytes | None:
        """The TXT record of a name straight from the table: the `dnsfunc` of dkimpy."""
        _, texts = self._records.get((_plain(name), "TXT"), (0, []))
        return b"".join(piece.encode() for piece in texts[0].split('"')[1::2]) if texts else None

    async def start(self, port: int = 0) -> None:
        """Listen for UDP and TCP on one port; 0: the kernel chooses."""
        loop = asyncio.get_running_loop()
        for _ in range(20):  # the port UDP got may be taken for TCP
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Udp(self), local_addr=(self._host, port)
            )
            self.port = transport.get_extra_info("sockname")[1]
            try:
                self._tcp = await asyncio.start_server(self._serve_tcp, self._host, self.port)
            except OSError:
                transport.close()
                if port:
                    raise
                continue
            self._udp = transport
            return
        raise OSError("no port is free for both UDP and TCP")

    async def stop(self) -> None:
        """Stop listening; `start(port)` with the same port brings it back."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
            for writer in tuple(self._tcp_writers):
                writer.close()
            await self._tcp.wait_closed()
        self._udp = self._tcp = None

    def answer(self, data: bytes, send: Callable[[bytes], None], *, tcp: bool = False) -> None:
        """Answer one query by calling `send` none, one or several times."""
        known = self._remembered.get(data[2:])
        if known is not None and self.temper is DnsTemper.GOOD and not tcp:
            wire, asked = known
            self.asked[asked] += 1
            send(data[:2] + wire)
            return
        try:
            query = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError):
            return
        question = query.question[0]
        name = _plain(question.name.to_text())
        asked = (name, dns.rdatatype.to_text(question.rdtype))
        self.asked[asked] += 1
        self.asked_over_tcp += tcp
        temper = self._tempers.get(name, self.temper)
        if temper is DnsTemper.GOOD:
            wire = self._to_wire(self._respond(query), query, tcp)
            if not tcp:
                if len(self._remembered) >= MAX_REMEMBERED:
                    self._remembered.clear()
                self._remembered[data[2:]] = (wire[2:], asked)
            send(wire)
        else:
            self._answer_badly(temper, query, send, tcp)

    def _answer_badly(
        self,
        temper: DnsTemper,
        query: dns.message.Message,
        send: Callable[[bytes], None],
        tcp: bool,
    ) -> None:
        if temper is DnsTemper.SILENT:
            return
        if temper is DnsTemper.GARBAGE:
            send(query.to_wire()[:2] + b"\x81\x80" + b"\xff" * 30)
            return
        if temper is DnsTemper.SLOW:
            wire = self._to_wire(self._respond(query), query, tcp)
            asyncio.get_running_loop().call_later(self.delay_s, send, wire)
            return
        if temper is DnsTemper.FORGED_FIRST:
            self._send_forgeries(query, send)
        send(self._to_wire(self._spoiled(temper, query, tcp), query, tcp))

    def _spoiled(
        self, temper: DnsTemper, query: dns.message.Message, tcp: bool
    ) -> dns.message.Message:
        """The one message of a temper that answers once and at once."""
        rcodes = {
            DnsTemper.SERVFAIL: dns.rcode.SERVFAIL,
            DnsTemper.REFUSED: dns.rcode.REFUSED,
            DnsTemper.NXDOMAIN: dns.rcode.NXDOMAIN,
        }
        name = query.question[0].name
        if temper in rcodes:
            response = dns.message.make_response(query, recursion_available=True)
            response.set_rcode(rcodes[temper])
            if temper is DnsTemper.NXDOMAIN:
                response.authority.append(_soa())
            return response
        if temper is DnsTemper.NO_EDNS and query.edns >= 0:
            response = dns.message.make_response(query)
            response.set_rcode(dns.rcode.FORMERR)
            response.use_edns(False)
            return response
        if temper is DnsTemper.LAME:
            response = dns.message.make_response(query)
            response.authority.append(dns.rrset.from_text(".", 60, "IN", "NS", "ns.lab.example."))
            return response
        response = self._respond(query)
        if temper is DnsTemper.HUGE_MX and query.question[0].rdtype == dns.rdatatype.MX:
            texts = [f"{n} mx{n}.{name}" for n in range(HUGE_MX)]
            response.answer = [dns.rrset.from_text(name, 60, "IN", "MX", *texts)]
            response.authority = []
            response.set_rcode(dns.rcode.NOERROR)
        if temper is DnsTemper.CNAME_ONLY:
            del response.answer[1:]
            response.authority = []
            response.set_rcode(dns.rcode.NOERROR)
        if temper is DnsTemper.TRUNCATED and not tcp:
            response.flags |= dns.flags.TC
            response.answer = []
        return response

    def _send_forgeries(self, query: dns.message.Message, send: Callable[[bytes], None]) -> None:
        forged = dns.message.make_response(query, recursion_available=True)
        forged.set_rcode(dns.rcode.NXDOMAIN)
        forged.id = query.id ^ 1
        send(forged.to_wire())
        other = dns.message.make_query("forged.example", "MX", id=query.id)
        forged = dns.message.make_response(other, recursion_available=True)
        forged.set_rcode(dns.rcode.NXDOMAIN)
        send(forged.to_wire())

    def _respond(self, query: dns.message.Message) -> dns.message.Message:
        """What the table says, following CNAMEs, with NXDOMAIN and NODATA as RFC 2308 §2 writes them."""
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.AA
        question = query.question[0]
        rdtype = dns.rdatatype.to_text(question.rdtype)
        name = _plain(question.name.to_text())
        for _ in range(MAX_WILD_LABELS):
            owner = self._owner(name)
            if owner is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            found = self._records.get((owner, rdtype))
            if found is not None:
                response.answer.append(_rrset(name, rdtype, *found))
                return response
            alias = self._records.get((owner, "CNAME"))
            if alias is None:
                break
            response.answer.append(_rrset(name, "CNAME", *alias))
            name = _plain(alias[1][0])
        response.authority.append(_soa())
        return response

    def _owner(self, name: str) -> str | None:
        """The name in the table that answers for `name`: itself or a wildcard above it (RFC 4592)."""
        if name in self._names:
            return name
        labels = name.split(".")
        for n in range(1, min(len(labels), MAX_WILD_LABELS)):
            wild = ".".join(["*", *labels[n:]])
            if wild in self._names:
                return wild
        return None

    def _to_wire(
        self, response: dns.message.Message, query: dns.message.Message, tcp: bool
    ) -> bytes:
        if tcp:
            return response.to_wire(max_size=65535)
        try:
            return response.to_wire(max_size=query.payload if query.edns >= 0 else 512)
        except dns.exception.TooBig:
            response.flags |= dns.flags.TC
            response.answer = []
            return response.to_wire()

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(wire: bytes) -> None:
            if not writer.is_closing():
                writer.write(len(wire).to_bytes(2, "big") + wire)

        self._tcp_writers.add(writer)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                self.answer(await reader.readexactly(length), send, tcp=True)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._tcp_writers.discard(writer)
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    """The UDP door of a LabDns."""

    def __init__(self, server: LabDns) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own class does not derive from it before 3.12
        self._transport = cast(asyncio.DatagramTransport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)  # a burst must not be lost

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        def send(wire: bytes) -> None:
            if not self._transport.is_closing():
                self._transport.sendto(wire, addr)

        self._server.answer(data, send)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _soa() -> dns.rrset.RRset:
    return dns.rrset.from_text(".", SOA_TTL, "IN", "SOA", _SOA)


def _rrset(name: str, rdtype: str, ttl: int, texts: list[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text(dns.name.from_text(name), ttl, "IN", rdtype, *texts)
