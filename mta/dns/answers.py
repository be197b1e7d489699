"""What a name lookup can say, as types, and how a DNS message is read into them.

Permanent are only `NoSuchDomain` (NXDOMAIN) and `NullMx`; `Temporary` is everything we could not find out. No IO, no
clock: `expires` is filled in by the resolver. RFC 1035, RFC 2308 (negative answers), RFC 5321 §5.1 (MX), RFC 7505 (null MX).
"""

import re
from dataclasses import dataclass

from mta.dns.wire import AUTHENTIC, CNAME, MX, NXDOMAIN, TXT, A, Message, Record

# RFC 1035 §2.3.1, with the underscore of service names; checked before a name goes on the wire or into a record.
_NAME = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
MAX_NAME = 253  # RFC 1035 §2.3.4: 255 on the wire

MIN_TTL = 30.0  # a TTL of 0 would ask the servers once a message
MAX_TTL = 86_400.0
MAX_CHAIN = 16  # CNAMEs inside one message
MAX_NEGATIVE_TTL = 300.0  # RFC 2308 §5 allows hours; a domain just set up should not wait that long


@dataclass(frozen=True, slots=True)
class MxHost:
    """One MX record: a host name in lower case, without the final dot."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Found:
    """The MX records, best first, equal preferences in the order of the answer."""

    hosts: tuple[MxHost, ...]
    ttl_s: float
    authenticated: bool = (
        False  # the AD bit (RFC 4035); worth something from a resolver on loopback only
    )


@dataclass(frozen=True, slots=True)
class NullMx:
    """The domain says it takes no mail (RFC 7505)."""


@dataclass(frozen=True, slots=True)
class NoMx:
    """The name exists without MX: its addresses are the implicit MX (RFC 5321 §5.1)."""


@dataclass(frozen=True, slots=True)
class NoSuchDomain:
    """NXDOMAIN from a server that may say so."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a host, at least one, per family in the order of the answers."""

    v4: tuple[str, ...]
    v6: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoAddress:
    """The name exists, without an address of the families that were asked for."""


@dataclass(frozen=True, slots=True)
class Texts:
    """TXT records, each with its strings joined; none when the name has no TXT."""

    texts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Temporary:
    """We could not find out. `servers_down`: no DNS server answers anything at present."""

    reason: str
    servers_down: bool = False


MxAnswer = Found | NullMx | NoMx | NoSuchDomain | Temporary
AddressAnswer = Addresses | NoAddress | NoSuchDomain | Temporary
TextAnswer = Texts | NoSuchDomain | Temporary
Answer = Found | NullMx | NoMx | NoSuchDomain | Addresses | NoAddress | Texts | Temporary


def is_askable(name: str) -> bool:
    """Whether `name` (lower case, no final dot) can stand in the DNS as a host or domain name."""
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one message said: an answer and how long it may be kept, or the next name of a CNAME chain."""

    answer: Answer
    ttl_s: float
    next_name: str = ""


def read_message(message: Message, rdtype: int) -> Reading:
    """Read the answer to a question of type MX, A, AAAA or TXT, following CNAMEs inside the message."""
    # RFC 2308 §5: an absence that no SOA stands behind would not be kept at all.
    negative_ttl_s = min(max(float(message.soa_ttl_s or 0), MIN_TTL), MAX_NEGATIVE_TTL)
    name, ttl_s = message.name, MAX_TTL
    for _ in range(MAX_CHAIN):
        records = [r for r in message.answer if r.kind == rdtype and r.name == name]
        if records:
            if message.rcode == NXDOMAIN:
                return Reading(
                    Temporary("malformed DNS answer: records of a name that is none"), 0.0
                )
            ttl_s = max(min(ttl_s, *(float(record.ttl_s) for record in records)), MIN_TTL)
            authenticated = bool(message.flags & AUTHENTIC)
            return Reading(_read_records(records, rdtype, ttl_s, authenticated), ttl_s)
        alias = next((r for r in message.answer if r.kind == CNAME and r.name == name), None)
        if alias is None:
            break
        name, ttl_s = str(alias.data), min(ttl_s, float(alias.ttl_s))
    else:
        return Reading(Temporary("malformed DNS answer: a CNAME loop"), 0.0)
    if message.rcode == NXDOMAIN:
        return Reading(NoSuchDomain(), negative_ttl_s)
    if name != message.name and message.soa_ttl_s is None:
        # An authoritative server stops where its zones end: the rest of the chain must be asked for.
        return Reading(Temporary("unfinished CNAME chain"), ttl_s, name)
    return Reading(_nothing(rdtype), negative_ttl_s)


def _nothing(rdtype: int) -> Answer:
    if rdtype == MX:
        return NoMx()
    return Texts(()) if rdtype == TXT else NoAddress()


def _read_records(records: list[Record], rdtype: int, ttl_s: float, authenticated: bool) -> Answer:
    found = list(dict.fromkeys(record.data for record in records))  # RFC 2181 §5: a set
    if rdtype == MX:
        return _read_mx([mx for mx in found if isinstance(mx, tuple)], ttl_s, authenticated)
    if rdtype == TXT:
        return Texts(tuple(text for text in found if isinstance(text, bytes)))
    addresses = tuple(address for address in found if isinstance(address, str))
    return Addresses(addresses, ()) if rdtype == A else Addresses((), addresses)


def _read_mx(
    named: list[tuple[int, str]], ttl_s: float, authenticated: bool
) -> Found | NullMx | Temporary:
    # RFC 7505 §3: "." alone is the null MX; beside others it means nothing and is left out.
    if all(not host for _, host in named):
        return NullMx()
    hosts = [MxHost(preference, host) for preference, host in named if host and is_askable(host)]
    if not hosts:
        return Temporary("no MX record holds a usable host name")
    hosts.sort(key=lambda mx: mx.preference)
    return Found(tuple(hosts), ttl_s, authenticated)
