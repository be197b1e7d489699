"""The simulated internet: some two dozen domains with tempers, their MX records and servers, and the fate of their mail.

`sluice demo` and the integration tests send to it. Everything listens on loopback: the DNS server on 127.0.0.1, each mail
host on an address of its own from 127.0.0.2 on, all with one port.
"""

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from mta.lab.certificate import make_server_context
from mta.lab.mailbox import Mailbox, Taken
from mta.lab.nameserver import DnsTemper, LabDns
from mta.lab.polite import PoliteReceiver
from mta.lab.ports import bind_hosts
from mta.lab.receiver import Receiver
from mta.lab.tempers import Moment, Temper

ROOT = "lab.example"
SENDER_DOMAIN = f"sender.{ROOT}"
UNKNOWN_PREFIX = "nobody"  # local parts that begin so are unknown at users.lab.example
FIRST_HOST = 2  # 127.0.0.2; 127.0.0.1 is ours


class Fate(Enum):
    """What becomes of mail to a domain while the laboratory runs."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True)
class LabDomain:
    """One domain: what happens there, and what must become of its mail."""

    name: str
    story: str
    fate: Fate
    unknown_prefix: str = ""  # such local parts bounce, whatever `fate` says

    def fate_of(self, local: str) -> Fate:
        """The fate of one local part."""
        if self.unknown_prefix and local.startswith(self.unknown_prefix):
            return Fate.BOUNCED
        return self.fate


@dataclass(frozen=True, slots=True)
class _Host:
    """A mail host: None is polite and played by aiosmtpd."""

    name: str
    temper: Temper | None
    tls: bool = True


def _hosts() -> tuple[_Host, ...]:
    return (
        _Host("mx1", None),
        _Host("mx2", None),
        _Host("mx3", None),
        _Host("mx4", None, tls=False),
        _Host("grey", Temper(greylist_s=2.0, offers_tls=True)),
        _Host("busy", Temper(messages_per_connection=10)),
        _Host(
            "users",
            Temper(refuse_recipients={UNKNOWN_PREFIX: "550 5.1.1 user unknown"}, offers_tls=True),
        ),
        _Host("slow", Temper(delay_s=0.05)),
        _Host("drip", Temper(drip_s=0.001)),
        _Host("secure", Temper(requires_tls=True)),
        _Host("old", Temper(esmtp=False, eight_bit=False, pipelining=False)),
        _Host("strict", Temper(refuse={Moment.DOT: "550 5.7.1 we do not want this message"})),
        _Host("full", Temper(refuse={Moment.RCPT: "452 4.2.2 mailbox full"})),
        _Host("closed", Temper(refuse={Moment.GREETING: "421 4.3.2 not now"})),
        _Host("silent", Temper(stall=Moment.GREETING)),
        _Host("dead", Temper(listens=False)),
    )


def _domains() -> Iterator[tuple[LabDomain, str, tuple[str, ...]]]:
    """(domain, record type, record texts); `~x` stands for the host x-host.lab.example."""
    delivered, bounced, deferred = Fate.DELIVERED, Fate.BOUNCED, Fate.DEFERRED

    def row(
        name: str, story: str, fate: Fate, *mx: str, kind: str = "MX", unknown: str = ""
    ) -> tuple[LabDomain, str, tuple[str, ...]]:
        return LabDomain(f"{name}.{ROOT}", story, fate, unknown), kind, mx

    yield row("polite1", "takes everything, over TLS", delivered, "10 ~mx1")
    yield row("polite2", "takes everything, over TLS", delivered, "10 ~mx2")
    yield row("polite3", "takes everything, over TLS", delivered, "10 ~mx3")
    yield row("polite4", "takes everything, has no TLS", delivered, "10 ~mx4")
    yield row("pair", "two MX of one preference", delivered, "10 ~mx1", "10 ~mx2")
    yield row("backup", "the first MX is dead, the second is not", delivered, "10 ~dead", "20 ~mx3")
    yield row("nomx", "no MX, an address of its own", delivered, "~mx4", kind="A")
    yield row("alias", "a CNAME for polite1", delivered, f"polite1.{ROOT}.", kind="CNAME")
    yield row("grey", "greylists: 451 first, 250 two seconds later", delivered, "10 ~grey")
    yield row("busy", "421 after ten messages on a connection", delivered, "10 ~busy")
    yield row(
        "users",
        f"550 for every local part that begins with {UNKNOWN_PREFIX}",
        delivered,
        "10 ~users",
        unknown=UNKNOWN_PREFIX,
    )
    yield row("slow", "50 ms before every reply", delivered, "10 ~slow")
    yield row("drip", "replies byte by byte", delivered, "10 ~drip")
    yield row("secure", "530 until STARTTLS", delivered, "10 ~secure")
    yield row("old", "knows HELO only, no 8BITMIME", delivered, "10 ~old")
    yield row("strict", "550 after the dot", bounced, "10 ~strict")
    yield row("nullmx", "a null MX: takes no mail", bounced, "0 .")
    yield row("nosuch", "does not exist (NXDOMAIN)", bounced, kind="")
    yield row("full", "452 mailbox full", deferred, "10 ~full")
    yield row("closed", "421 as its greeting", deferred, "10 ~closed")
    yield row("silent", "accepts and never speaks", deferred, "10 ~silent")
    yield row("dead", "its port is closed", deferred, "10 ~dead")
    yield row("broken", "its DNS answers SERVFAIL", deferred, "10 ~mx1")


class Internet:
    """DNS and mail servers with scripted tempers; `start`, send, look at `mailbox`, `stop`."""

    def __init__(self, on_message: Callable[[Taken], None] | None = None) -> None:
        self.mailbox = Mailbox(on_message)
        self.dns = LabDns()
        self.domains: tuple[LabDomain, ...] = tuple(domain for domain, _, _ in _domains())
        self.receivers: dict[str, Receiver | PoliteReceiver] = {}  # by host, without lab.example
        self.smtp_port = 0
        self._by_name = {domain.name: domain for domain in self.domains}

    @property
    def dns_address(self) -> str:
        """`ip:port` for `[dns] servers`."""
        return self.dns.address

    async def start(self, dns_port: int = 0) -> None:
        """Open every port and write the zone. Raises OSError when loopback addresses are missing."""
        hosts = _hosts()
        context = make_server_context(*(f"{host.name}-host.{ROOT}" for host in hosts))
        self.smtp_port, sockets = bind_hosts(len(hosts), FIRST_HOST)
        for host, sock in zip(hosts, sockets, strict=True):
            await self._start_host(host, sock, context)
        self._write_zone()
        await self.dns.start(dns_port)

    async def stop(self) -> None:
        """Close everything."""
        for receiver in self.receivers.values():
            await receiver.stop()
        await self.dns.stop()

    def publish_text(self, name: str, text: str) -> None:
        """Add a TXT record, for example a DKIM key at `s1._domainkey.sender.lab.example`."""
        self.dns.add_text(name, text)

    def text_of(self, name: bytes | str, timeout: int = 0) -> bytes | None:
        """A TXT record straight from the table; fits `dkim.verify(…, dnsfunc=internet.text_of)`."""
        return self.dns.text_of(name.decode("ascii") if isinstance(name, bytes) else name)

    def fate(self, address: str) -> Fate:
        """What must become of mail to this address. Raises KeyError for a domain that is not of the lab."""
        local, _, domain = address.rpartition("@")
        return self._by_name[domain.lower()].fate_of(local)

    def connections(self) -> int:
        """Connections open now, over all hosts."""
        return sum(receiver.open_now for receiver in self.receivers.values())

    async def _start_host(self, host: _Host, sock: socket.socket, context: ssl.SSLContext) -> None:
        name = f"{host.name}-host.{ROOT}"
        receiver: Receiver | PoliteReceiver
        if host.temper is None:
            receiver = PoliteReceiver(name, sock, self.mailbox, context if host.tls else None)
        else:
            receiver = Receiver(name, host.temper, sock, self.mailbox, context)
        self.receivers[host.name] = receiver
        await receiver.start()

    def _write_zone(self) -> None:
        for name, receiver in self.receivers.items():
            self.dns.add(f"{name}-host.{ROOT}", "A", receiver.address)
        for domain, kind, texts in _domains():
            for text in texts:
                self.dns.add(domain.name, kind, self._expand(text, kind))
        self.dns.add(SENDER_DOMAIN, "MX", f"10 mx1-host.{ROOT}.")
        self.dns.spoil(f"broken.{ROOT}", DnsTemper.SERVFAIL)

    def _expand(self, text: str, kind: str) -> str:
        before, tilde, host = text.partition("~")
        if not tilde:
            return text
        if kind == "A":
            return self.receivers[host].address
        return f"{before}{host}-host.{ROOT}."
