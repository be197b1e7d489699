"""What a name lookup can say, as types, and how a DNS message is read into them.

Permanent are only `NoSuchDomain` (NXDOMAIN) and `NullMx`; `Temporary` is everything we could not find out. No IO, no
clock: `expires` is filled in by the resolver. RFC 1035, RFC 2308 (negative answers), RFC 5321 §5.1 (MX), RFC 7505 (null MX).
"""

import re
from dataclasses import dataclass

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA

# RFC 1035 §2.3.1, with the underscore of service names; checked before a name goes on the wire or into a record.
_NAME = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
MAX_NAME = 253  # RFC 1035 §2.3.4: 255 on the wire

MIN_TTL = 30.0  # a TTL of 0 would ask the servers once a message
MAX_TTL = 86_400.0
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


def read_message(message: dns.message.QueryMessage, rdtype: dns.rdatatype.RdataType) -> Reading:
    """Read the answer to a question of type MX, A, AAAA or TXT, following CNAMEs inside the message."""
    try:
        chain = message.resolve_chaining()
    except dns.exception.DNSException as error:  # a CNAME loop, or records beside an NXDOMAIN
        return Reading(Temporary(f"malformed DNS answer: {type(error).__name__}"), 0.0)
    has_soa = any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority)
    # RFC 2308 §5: an absence that no SOA stands behind would not be kept at all.
    negative_ttl_s = float(chain.minimum_ttl) if has_soa else 0.0
    negative_ttl_s = min(max(negative_ttl_s, MIN_TTL), MAX_NEGATIVE_TTL)
    if message.rcode() == dns.rcode.NXDOMAIN:
        return Reading(NoSuchDomain(), negative_ttl_s)
    if chain.answer is not None:
        ttl_s = min(max(float(chain.minimum_ttl), MIN_TTL), MAX_TTL)
        authenticated = bool(message.flags & dns.flags.AD)
        return Reading(_read_records(list(chain.answer), rdtype, ttl_s, authenticated), ttl_s)
    if chain.cnames and not has_soa:
        # An authoritative server stops where its zones end: the rest of the chain must be asked for.
        return Reading(
            Temporary("unfinished CNAME chain"),
            min(float(chain.minimum_ttl), MAX_TTL),
            _text_of(chain.canonical_name),
        )
    return Reading(_nothing(rdtype), negative_ttl_s)


def _nothing(rdtype: dns.rdatatype.RdataType) -> Answer:
    if rdtype == dns.rdatatype.MX:
        return NoMx()
    return Texts(()) if rdtype == dns.rdatatype.TXT else NoAddress()


def _read_records(
    records: list[object], rdtype: dns.rdatatype.RdataType, ttl_s: float, authenticated: bool
) -> Answer:
    if rdtype == dns.rdatatype.MX:
        return _read_mx(
            [record for record in records if isinstance(record, dns.rdtypes.ANY.MX.MX)],
            ttl_s,
            authenticated,
        )
    if rdtype == dns.rdatatype.TXT:
        return Texts(
            tuple(
                b"".join(record.strings)
                for record in records
                if isinstance(record, dns.rdtypes.ANY.TXT.TXT)
            )
        )
    return Addresses(
        tuple(record.address for record in records if isinstance(record, dns.rdtypes.IN.A.A)),
        tuple(record.address for record in records if isinstance(record, dns.rdtypes.IN.AAAA.AAAA)),
    )


def _read_mx(
    records: list[dns.rdtypes.ANY.MX.MX], ttl_s: float, authenticated: bool
) -> Found | NullMx | Temporary:
    named = [(record.preference, _text_of(record.exchange)) for record in records]
    # RFC 7505 §3: "." alone is the null MX; beside others it means nothing and is left out.
    if all(not host for _, host in named):
        return NullMx()
    hosts = [MxHost(preference, host) for preference, host in named if host and is_askable(host)]
    if not hosts:
        return Temporary("no MX record holds a usable host name")
    hosts.sort(key=lambda mx: mx.preference)
    return Found(tuple(hosts), ttl_s, authenticated)


def _text_of(name: dns.name.Name) -> str:
    """Lower case without the final dot; "" for the root."""
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""
