"""From a domain to where its mail goes: MX or the operator's `hosts`, then addresses, in the order to try them.

It refuses what a hostile or careless zone could point us at: our own hosts, loopback, private and special addresses
(reliability.md D13, N2, N3). Permanent are only NXDOMAIN (5.1.2) and a null MX (5.1.10); whatever else goes wrong is a
Deferred of extent SITE. Decides over answers; the asking is the resolver's. RFC 5321 §5.1, RFC 7505, RFC 3463.
"""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from itertools import chain, groupby, zip_longest
from typing import Protocol

from mta.dns.answers import (
    AddressAnswer,
    Addresses,
    Found,
    MxAnswer,
    MxHost,
    NoMx,
    NoSuchDomain,
    NullMx,
    Temporary,
)
from mta.model.address import parse_host_port
from mta.model.envelope import QueueKey
from mta.model.outcome import Deferred, Extent, Failed
from mta.model.reply import a_reply
from mta.policy.rules import QueuePolicy, VmtaRules
from mta.queue.actions import Candidate, Route

MAX_MX = 20
MAX_ADDRESSES = 5  # Postfix's smtp_mx_address_limit

# An IPv4 address inside an IPv6 one reaches the IPv4 host: NAT64 (RFC 6052) is judged by what it holds.
_NAT64 = IPv6Network("64:ff9b::/96")


class Names(Protocol):
    """The part of `dns.resolver.Resolver` that is needed here."""

    async def mx(self, domain: str) -> MxAnswer: ...

    async def addresses(self, host: str, *, v4: bool = True, v6: bool = True) -> AddressAnswer: ...


class Sites(Protocol):
    """The part of `policy.book.Book` that is needed here."""

    def site_for(self, domain: str, mx_hosts: Sequence[str]) -> str: ...


@dataclass(slots=True)
class _Search:
    """Collects candidates and, for the operator, why others are missing."""

    policy: QueuePolicy
    vmta: VmtaRules | None
    resolver: Names
    rng: random.Random
    lab: bool
    own_addresses: frozenset[str]
    own_names: frozenset[str]
    explicit: bool = False  # the operator named these hosts
    candidates: list[Candidate] = field(default_factory=list)
    used: list[tuple[int, str]] = field(default_factory=list)  # (preference, host) that may be used
    problems: list[str] = field(default_factory=list)
    looped: bool = False
    temporary: bool = False

    @property
    def families(self) -> tuple[bool, bool]:
        """Whether IPv4 and IPv6 destinations can be reached from the virtual MTA's source addresses."""
        if self.vmta is None or not (self.vmta.source_v4 or self.vmta.source_v6):
            return True, True
        return bool(self.vmta.source_v4), bool(self.vmta.source_v6)


async def find_route(
    key: QueueKey,
    policy: QueuePolicy,
    vmta: VmtaRules | None,
    resolver: Names,
    book: Sites,
    *,
    rng: random.Random,
    lab: bool = False,
    own_addresses: Collection[str] = (),
    own_names: Collection[str] = (),
) -> Route | Deferred | Failed:
    """The route of a queue: its site and at most 5 candidates, best first.

    `policy.hosts` stands in for MX: IP literals and host names, each with a port if need be, tried in the order given;
    these may be private or loopback. In lab mode only loopback is allowed, wherever the name came from. `own_names`
    (lower case) and `own_addresses` are ours: an MX that is one of them, and all it is preferred to, are left out.
    """
    search = _Search(
        policy, vmta, resolver, rng, lab, frozenset(own_addresses), frozenset(own_names)
    )
    domain = key.domain
    if policy.hosts:
        search.explicit = True
        await _try_hosts(search)
    elif domain.startswith("["):
        _try_literal(search, domain)
    else:
        outcome = await _try_mx(search, domain)
        if outcome is not None:
            return outcome
    if not search.candidates:
        return _no_candidate(search, domain)
    best = search.used[0][0]
    hosts = [host for preference, host in search.used if search.explicit or preference == best]
    return Route(book.site_for(domain, hosts), tuple(search.candidates[:MAX_ADDRESSES]))


async def _try_mx(search: _Search, domain: str) -> Deferred | Failed | None:
    """Collect candidates from the domain's MX; an outcome where there is nothing to try."""
    answer = await search.resolver.mx(domain)
    match answer:
        case NoSuchDomain():
            return _failed(550, "5.1.2", f"the domain {domain} does not exist (DNS: NXDOMAIN)")
        case NullMx():
            return _failed(556, "5.1.10", f"the domain {domain} takes no mail (null MX)")
        case Temporary():
            return _deferred("4.4.3", f"cannot look up the MX of {domain}: {answer.reason}")
        case NoMx():
            hosts: tuple[MxHost, ...] = (MxHost(0, domain),)  # RFC 5321 §5.1: the implicit MX
        case Found():
            hosts = answer.hosts[:MAX_MX]
    for _, group in groupby(hosts, key=lambda mx: mx.preference):
        equal = list(group)
        search.rng.shuffle(equal)  # RFC 5321 §5.1: spread over equal preferences
        if not await _try_group(search, equal) or len(search.candidates) >= MAX_ADDRESSES:
            break
    return None


async def _try_group(search: _Search, hosts: list[MxHost]) -> bool:
    """Add the addresses of MX hosts of one preference, one of each host in turn. False: this group is ours, go no further."""
    found: list[tuple[MxHost, list[str]]] = []
    if any(mx.host in search.own_names for mx in hosts):
        search.looped = True
        return False
    for mx, answer in zip(hosts, await _look_up(search, hosts), strict=True):
        if not isinstance(answer, Addresses):
            _note_missing(search, mx.host, answer)
            continue
        if not search.own_addresses.isdisjoint((*answer.v4, *answer.v6)):
            search.looped = True
            return False
        addresses = [a for a in _in_order(search, answer) if _may_use(search, mx.host, a)]
        if addresses:
            found.append((mx, addresses))
            search.used.append((mx.preference, mx.host))
    lanes = [
        [Candidate(mx.host, a, search.policy.port, mx.preference) for a in addresses]
        for mx, addresses in found
    ]
    turns = chain.from_iterable(zip_longest(*lanes))
    search.candidates += [candidate for candidate in turns if candidate is not None]
    return True


async def _look_up(search: _Search, hosts: list[MxHost]) -> list[AddressAnswer]:
    v4, v6 = search.families
    asked = [search.resolver.addresses(mx.host, v4=v4, v6=v6) for mx in hosts]
    return [await asked[0]] if len(asked) == 1 else list(await asyncio.gather(*asked))


async def _try_hosts(search: _Search) -> None:
    """Collect candidates from the operator's list, in its order."""
    v4, v6 = search.families
    for place, text in enumerate(search.policy.hosts):
        host, port = parse_host_port(text, default_port=0)
        port = port or search.policy.port
        if _is_address(host):
            addresses = [host] if (v6 if ":" in host else v4) else []
            if not addresses:
                search.problems.append(
                    f"{host}: the virtual MTA has no source address of its family"
                )
        else:
            answer = await search.resolver.addresses(host, v4=v4, v6=v6)
            if not isinstance(answer, Addresses):
                _note_missing(search, host, answer)
                continue
            addresses = _in_order(search, answer)
        usable = [a for a in addresses if _may_use(search, host, a)]
        search.candidates += [Candidate(host, a, port, place) for a in usable]
        if usable:
            search.used.append((place, host))
        if len(search.candidates) >= MAX_ADDRESSES:
            return


def _try_literal(search: _Search, domain: str) -> None:
    """An address literal as domain, `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3)."""
    text = domain.strip("[]").lower().removeprefix("ipv6:")
    v4, v6 = search.families
    if not _is_address(text):
        search.problems.append(f"{domain} is no address literal we know")
    elif not (v6 if ":" in text else v4):
        search.problems.append("the virtual MTA has no source address of its family")
    elif text in search.own_addresses:
        search.looped = True
    elif _may_use(search, text, text):
        search.candidates.append(Candidate(text, text, search.policy.port))
        search.used.append((0, text))


def _in_order(search: _Search, found: Addresses) -> list[str]:
    """Both families in turn, so that one without a way out does not use up the attempt; IPv6 first only where the
    virtual MTA has an IPv6 source."""
    v4, v6 = list(found.v4), list(found.v6)
    search.rng.shuffle(v4)
    search.rng.shuffle(v6)
    families = (v6, v4) if search.vmta is not None and search.vmta.source_v6 else (v4, v6)
    return [a for a in chain.from_iterable(zip_longest(*families)) if a is not None]


def _may_use(search: _Search, host: str, address: str) -> bool:
    reason = refusal(address, lab=search.lab, explicit=search.explicit)
    if reason:
        search.problems.append(f"{host} is at {address}, {reason}")
    return not reason


def refusal(address: str, *, lab: bool, explicit: bool = False) -> str:
    """Why we do not connect to this address; "" when we do. `explicit`: the operator named it."""
    ip = ip_address(address)
    inner = _embedded(ip) if isinstance(ip, IPv6Address) else None
    if lab:
        # Nothing of the laboratory ever leaves this machine; ::ffff:127.0.0.1 is refused as well.
        return "" if ip.is_loopback and inner is None else "and lab mode connects to loopback only"
    if ip.is_unspecified or ip.is_multicast:
        return "which is no host's address"
    if explicit:
        return ""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return "an IPv4 address in disguise"
    if inner is not None:
        # 6to4 and NAT64 are as good as the host they lead to.
        return refusal(str(inner), lab=False) and f"which leads to {inner}, not a public address"
    if ip.is_loopback:
        return "a loopback address"
    if ip.is_link_local or (isinstance(ip, IPv6Address) and ip.is_site_local):
        return "a link-local address"
    return "" if ip.is_global and not ip.is_reserved else "a private or reserved address"


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address an IPv6 one leads to: mapped, 6to4 or NAT64."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _note_missing(search: _Search, host: str, answer: AddressAnswer) -> None:
    if isinstance(answer, Temporary):
        search.temporary = True
        search.problems.append(f"cannot look up {host}: {answer.reason}")
    else:
        what = "does not exist" if isinstance(answer, NoSuchDomain) else "has no address we can use"
        search.problems.append(f"{host} {what}")


def _no_candidate(search: _Search, domain: str) -> Deferred:
    """Nothing to connect to; the status says whose fault it looks like (RFC 3463 §3.5)."""
    why = "; ".join(search.problems[:3])
    if search.looped:
        return _deferred(
            "4.4.6", f"mail for {domain} would loop back to this host: it is the best MX we know"
        )
    if search.temporary:
        return _deferred("4.4.3", f"no address for {domain}: {why}")
    return _deferred("4.4.4", f"no usable mail host for {domain}: {why}")


def _deferred(enhanced: str, text: str) -> Deferred:
    return Deferred(a_reply(451, enhanced, text), Extent.SITE, local=True)


def _failed(code: int, enhanced: str, text: str) -> Failed:
    return Failed(a_reply(code, enhanced, text), Extent.SITE, local=True)
