"""Names as `sluice doctor` asks for them: every record type it needs, by the servers that the configuration names.

By dnspython's own resolver and not by the server's: what the server relies on is what is examined. Absent and unknown are told
apart: nothing there is `()`, and what could not be found out raises `Unknown`.
"""

import time
from collections.abc import Iterable

import dns.exception
import dns.resolver
import dns.reversename
from dns.nameserver import Do53Nameserver

from mta.dns.resolver import read_system_servers
from mta.model.address import parse_host_port

DNS_PORT = 53


class Unknown(Exception):
    """No server could say."""


class Lookup:
    """Looks names up, each answer remembered for this run. `servers` as in `[dns]`; none: the system's."""

    def __init__(self, servers: Iterable[str], timeout_s: float) -> None:
        self.servers = tuple(servers) or read_system_servers()
        self._timeout_s = timeout_s
        self._resolver = _resolver_for(self.servers)
        self._known: dict[tuple[str, str], tuple[str, ...] | Unknown] = {}

    def addresses(self, host: str) -> tuple[str, ...]:
        """IPv4 and IPv6 addresses. Raises Unknown."""
        return (*self.records(host, "A"), *self.records(host, "AAAA"))

    def pointers(self, address: str) -> tuple[str, ...]:
        """The names in the PTR records of an address, in lower case. Raises Unknown."""
        found = self.records(dns.reversename.from_address(address).to_text(), "PTR")
        return tuple(name.lower() for name in found)

    def texts(self, name: str) -> tuple[str, ...]:
        """TXT records, each with its strings joined. Raises Unknown."""
        return self.records(name, "TXT")

    def mail_hosts(self, domain: str) -> tuple[str, ...]:
        """MX hosts, best first. Raises Unknown."""
        pairs = [each.split() for each in self.records(domain, "MX")]
        return tuple(host for _, host in sorted((int(number), host) for number, host in pairs))

    def records(self, name: str, rdtype: str) -> tuple[str, ...]:
        """Records of any type as text, names without the final dot. Raises Unknown."""
        key = (name.lower().rstrip("."), rdtype)
        if key not in self._known:
            self._known[key] = self._ask(*key)
        found = self._known[key]
        if isinstance(found, Unknown):
            raise found
        return found

    def time_of(self, server: str) -> float | None:
        """Seconds that this server takes for a question it has the answer to; None: it has none for us."""
        began = time.monotonic()
        try:
            _resolver_for([server]).resolve(
                ".", "NS", lifetime=self._timeout_s, raise_on_no_answer=False
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            pass  # an answer all the same
        except (dns.exception.DNSException, OSError):
            return None
        return time.monotonic() - began

    def _ask(self, name: str, rdtype: str) -> tuple[str, ...] | Unknown:
        try:
            answer = self._resolver.resolve(name, rdtype, lifetime=self._timeout_s, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except (dns.exception.DNSException, OSError, ValueError) as error:
            return Unknown(f"{rdtype} of {name} cannot be found out: {_first_line(error)}")
        if rdtype == "TXT":
            return tuple(b"".join(each.strings).decode("utf-8", "replace") for each in answer)
        return tuple(each.to_text().rstrip(".") for each in answer)


def _resolver_for(servers: Iterable[str]) -> dns.resolver.Resolver:
    resolver = dns.resolver.Resolver(configure=False)
    places = [parse_host_port(each, DNS_PORT) for each in servers]
    resolver.nameservers = [Do53Nameserver(place.host, place.port) for place in places]
    return resolver


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
