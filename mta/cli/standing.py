"""How a server stands in the eyes of receivers, as far as DNS tells: its name and addresses, DKIM, SPF, DMARC.

Receivers compare four things with each other: the address a message comes from, the name in EHLO, the From domain, and the
envelope sender's. RFC 5321 §4.1.4, RFC 6376 §3.6, RFC 7208, RFC 7489. SPF is judged by pyspf.
"""

import ipaddress
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import spf

from mta.cli.finding import Finding, failure, ok, skipped, warning
from mta.cli.lookup import Lookup, Unknown
from mta.config.load import Settings
from mta.dkim.keys import RsaKey, dns_record, load_key, record_name
from mta.policy.rules import DkimRules, VmtaRules

ADVISED_RSA_BITS = 2048  # RFC 8301 §3.2
# TEST-NET-1 and the documentation prefix (RFC 5737, RFC 3849): nothing is sent, the kernel only chooses a source.
_SOMEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
_Query: Any = spf.query  # pyspf has no types
_PermError: Any = spf.PermError


def examine_standing(
    settings: Settings, lookup: Lookup, senders: Sequence[str], public: Sequence[str]
) -> Iterator[Finding]:
    """Everything that names tell. `senders`: more envelope domains; `public`: what NAT makes of our addresses."""
    sources: dict[str, str] = {}  # address → the name said in EHLO from there
    seen: dict[str, str] = {}  # of them, those that receivers can see
    for vmta in settings.vmtas.values():
        name = vmta.ehlo_name or settings.server.hostname
        for address in public or _sources(vmta):
            sources.setdefault(address, name)
    if not sources:
        yield skipped("address", "sources", "no source address is known", "name it with --address")
    for address, name in sources.items():
        if ipaddress.ip_address(address).is_global:
            seen[address] = name
            yield from examine_address(address, name, lookup)
        else:
            advice = "behind NAT name the public one with --address"
            yield skipped("address", address, "receivers do not see this address", advice)
    for rules in settings.dkim:
        yield examine_key(rules, lookup)
    domains = [rules.domain for rules in settings.dkim if not rules.domain.startswith("*.")]
    for domain in dict.fromkeys([*domains, *senders]):
        yield from (examine_spf(domain, address, name, lookup) for address, name in seen.items())
        yield examine_dmarc(domain, lookup)


def examine_address(address: str, name: str, lookup: Lookup) -> Iterator[Finding]:
    """The EHLO name has this address, and this address the name."""
    try:
        yield _forward(address, name, lookup.addresses(name))
    except Unknown as error:
        yield skipped("hostname", name, str(error))
    try:
        yield _backward(address, name, lookup)
    except Unknown as error:
        yield skipped("ptr", address, str(error))


def _forward(address: str, name: str, found: Sequence[str]) -> Finding:
    if address in found:
        return ok("hostname", name, f"has the address {address}")
    if not found:
        kind = "AAAA" if ":" in address else "A"
        return failure(
            "hostname",
            name,
            "is said in EHLO and has no address",
            f"add {name} {kind} {address} to your DNS",
        )
    return warning(
        "hostname",
        name,
        f"has {', '.join(found)}, not {address}, which mail is sent from",
        f"add {address}, or give that virtual MTA an ehlo_name of its own",
    )


def _backward(address: str, name: str, lookup: Lookup) -> Finding:
    pointers = lookup.pointers(address)
    if not pointers:
        return failure(
            "ptr",
            address,
            "has no PTR record; many receivers take nothing from such addresses",
            f"ask whoever owns the address, usually the hosting provider, for a PTR to {name}",
        )
    confirmed = [pointer for pointer in pointers if address in lookup.addresses(pointer)]
    if not confirmed:
        return failure(
            "ptr",
            address,
            f"is called {pointers[0]}, which does not have this address",
            f"let the PTR be {name}, and {name} have this address",
        )
    if name not in pointers:
        return warning(
            "ptr",
            address,
            f"is called {pointers[0]}, and EHLO says {name}",
            f"let the PTR be {name}, or set ehlo_name to {pointers[0]}",
        )
    return ok("ptr", address, f"is called {name}, and {name} has it")


def examine_key(rules: DkimRules, lookup: Lookup) -> Finding:
    """The record in DNS is that of the key we sign with."""
    name = record_name(rules.domain, rules.selector)
    if rules.domain.startswith("*."):
        return skipped("dkim", name, "a pattern stands for many names")
    key = load_key(rules.pem)
    try:
        texts = lookup.texts(name)
    except Unknown as error:
        return skipped("dkim", name, str(error))
    publish = f"publish as TXT: {dns_record(key)}"
    if not texts:
        return failure("dkim", name, "there is no record: every signature fails", publish)
    if len(texts) > 1:  # RFC 6376 §3.6.2.2: the result is undefined
        return failure("dkim", name, f"there are {len(texts)} records", "leave the one of this key")
    if _tag(texts[0], "p") != _tag(dns_record(key), "p"):
        revoked = not _tag(texts[0], "p")
        found = "the key is revoked" if revoked else "the record is of another key"
        return failure("dkim", name, f"{found}: every signature fails", publish)
    if isinstance(key, RsaKey) and key.bits < ADVISED_RSA_BITS:
        return warning(
            "dkim",
            name,
            f"the key has {key.bits} bits",
            f"make one of {ADVISED_RSA_BITS} with `sluice dkim generate`, under another selector",
        )
    return ok("dkim", name, "the record is that of the key")


def _tag(record: str, name: str) -> str:
    """A tag of a key record, blanks left out (RFC 6376 §3.2)."""
    for part in record.split(";"):
        tag, _, value = part.partition("=")
        if tag.strip() == name:
            return "".join(value.split())
    return ""


def examine_spf(domain: str, address: str, helo: str, lookup: Lookup) -> Finding:
    """The domain lets this address send (RFC 7208)."""
    subject = f"{domain} from {address}"
    try:
        result, _, why = _SpfQuery(address, domain, helo, lookup).check()
    except Unknown as error:
        return skipped("spf", subject, str(error))
    mechanism = f"{'ip6' if ':' in address else 'ip4'}:{address}"
    match result:
        case "pass":
            return ok("spf", subject, "pass")
        case "none":
            return warning(
                "spf",
                subject,
                "the domain has no SPF record",
                f'publish as TXT: "v=spf1 {mechanism} -all"',
            )
        case "temperror":
            return skipped("spf", subject, str(why))
        case "permerror":
            return failure("spf", subject, f"the record is broken: {why}", "mend it")
        case "fail":
            return failure("spf", subject, "fail: receivers will refuse", f"add {mechanism} to it")
    return warning("spf", subject, f"{result}: it does not say yes", f"add {mechanism} to it")


class _SpfQuery(_Query):  # type: ignore[misc]
    """pyspf's evaluation over our look-ups: it would ask the system's servers."""

    def __init__(self, address: str, domain: str, helo: str, lookup: Lookup) -> None:
        super().__init__(i=address, s=f"postmaster@{domain}", h=helo)
        self._lookup = lookup

    def dns(
        self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False
    ) -> list[Any]:
        """See pyspf: a list of addresses, names, (preference, name) or tuples of byte strings."""
        found = () if qtype == "SPF" else self._lookup.records(name, qtype)
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise _PermError(f"more than {spf.MAX_VOID_LOOKUPS} look-ups find nothing")
        match qtype:
            case "TXT":
                return [(text.encode(),) for text in found]
            case "MX":
                return [(int(text.split()[0]), text.split()[1]) for text in found]
        return list(found)


def examine_dmarc(domain: str, lookup: Lookup) -> Finding:
    """There is a policy; large providers ask for one of whoever sends much."""
    try:
        policy = _dmarc_policy(domain, lookup)
    except Unknown as error:
        return skipped("dmarc", domain, str(error))
    if policy:
        return ok("dmarc", domain, f"p={policy}")
    return warning(
        "dmarc",
        domain,
        "there is no DMARC record; large providers ask for one",
        f'publish as TXT of _dmarc.{domain}: "v=DMARC1; p=none; rua=mailto:dmarc@{domain}"',
    )


def _dmarc_policy(domain: str, lookup: Lookup) -> str:
    # RFC 7489 §6.6.3 goes on at the organisational domain: without the list of public suffixes, any domain above.
    labels = domain.split(".")
    for start in range(max(1, len(labels) - 1)):
        for text in lookup.texts("_dmarc." + ".".join(labels[start:])):
            if text.replace(" ", "").lower().startswith("v=dmarc1"):
                return _tag(text, "sp" if start and _tag(text, "sp") else "p") or "none"
    return ""


def _sources(vmta: VmtaRules) -> Iterable[str]:
    """The addresses it sends from; where none is set those that the kernel would choose."""
    named = (*vmta.source_v4, *vmta.source_v6)
    return named or filter(None, map(_chosen_source, _SOMEWHERE))


def _chosen_source(family: socket.AddressFamily) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((_SOMEWHERE[family], 9))  # UDP: nothing leaves
        except OSError:
            return ""  # no way there
        return str(sock.getsockname()[0])
