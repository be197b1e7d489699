"""The book of policies: which values a queue gets, what they count, and where each was set
(architecture.md section 6).

The places of a queue, most specific first: `[vmta.a.domain."gmail.com"]`, `[domain."gmail.com"]`,
`[vmta.a.site.google]`, `[site.google]`, `[vmta.a]`, `[default]`, our own default. Values are
resolved one by one.

`max_connections`, `connection_rate` and `message_rate` count per (site, virtual MTA). A domain that
belongs to a named site shares the site's value with others, so what its own places say counts *in
addition*, for it alone. A domain that is its own site shares with nobody: there the most specific
place simply wins.

A resolved policy depends only on the virtual MTA, the named site and whether the domain has places
of its own; queues that agree in these share one object. So 300,000 domains cost no more memory than
one, and nothing needs evicting by domain.

A book never changes: a reload builds a new one.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any

from mta.model.envelope import QueueKey
from mta.model.units import Rate
from mta.policy.rules import BUILT_IN, Demand, Place, QueuePolicy, ServerRules, SiteRules, VmtaRules

# Where a layer stands: ("default",), ("vmta", "a"), ("site", "google"), ("vmta", "a", "domain",
# "gmail.com") …
Path = tuple[str, ...]
RateKey = tuple[str, Rate, Place]

SHARED = ("max_connections", "connection_rate", "message_rate")
UNPROVEN_SHARE = 3  # unproven destinations hold together at most a third of a shared limit
LICENCE_KEY = "license"  # the governor's key of all outbound connections of a licensed server
UNLIMITED = 1 << 40
MAX_POLICIES = 10_000  # combinations kept resolved; a real configuration has hundreds

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Layer:
    """What one section of the configuration sets: names of QueuePolicy fields and their values.

    A name that is there with None says "unlimited"; `timeouts` holds only the steps the section
    names.
    """

    place: Place
    values: Mapping[str, Any]
    places: Mapping[str, Place] = field(
        default_factory=dict
    )  # of values that have one of their own

    def place_of(self, name: str) -> Place:
        """Where this value was set."""
        return self.places.get(name, self.place)


class Book:
    """All policies of one configuration; cached, and equal queues get the same object."""

    def __init__(
        self,
        *,
        server: ServerRules | None = None,
        server_place: Place = BUILT_IN,
        vmtas: Iterable[VmtaRules] = (),
        sites: Iterable[SiteRules] = (),
        layers: Mapping[Path, Layer] | None = None,
    ) -> None:
        self.vmtas: Mapping[str, VmtaRules] = {rules.name: rules for rules in vmtas}
        self.sites: Mapping[str, SiteRules] = {rules.name: rules for rules in sites}
        self._matchers = [_SiteMatcher(rules) for rules in self.sites.values()]
        self.layers: Mapping[Path, Layer] = dict(layers or {})
        self._listed = {path[-1] for path in self.layers if "domain" in path[-2:-1]}
        self._server_total = server.total_connections if server else None
        self._server_rate = server.total_message_rate if server else None
        self.server_place = server_place
        self._policies: dict[Path, QueuePolicy] = {}
        self._licence_total: int | None = None
        self._licence_place = BUILT_IN

    def licensed(self, max_connections: int | None, place: Place) -> "Book":
        """The same book for a server with a licence: every connection also counts under the key `license`.

        Unlimited is a limit nobody reaches: the connections are counted all the same, and count once a limit comes.
        """
        book = copy(self)
        book._licence_total = UNLIMITED if max_connections is None else max_connections
        book._licence_place = place
        return book

    def with_orders(self, layers: Mapping[Path, Layer]) -> "Book":
        """The same book with these places above all others: ("order", "site", "google"), ("order", "domain", …),
        ("order", "vmta", "a", "domain", …)."""
        book = copy(self)
        book.layers = {**self.layers, **layers}
        book._listed = {path[-1] for path in book.layers if "domain" in path[-2:-1]}
        book._policies = {}
        return book

    def policy(self, key: QueueKey, site: str) -> QueuePolicy:
        """All values of this queue. `site`: as `site_for` says; "" while the route is not known
        yet.

        0.3 µs once resolved (measured), 10 µs the first time.
        """
        domain, vmta = key
        reduced = (
            vmta,
            site if site in self.sites else "",
            domain if domain in self._listed else "",
        )
        found = self._policies.get(reduced)
        if found is None:
            found = self._resolve(*reduced)
            if len(self._policies) >= MAX_POLICIES:
                del self._policies[next(iter(self._policies))]
            self._policies[reduced] = found
        return found

    @property
    def shortest_expiry(self) -> float:
        """The smallest `expire_after` any queue can have, in seconds: nothing younger expires."""
        built_in = QueuePolicy().expire_after
        is_default_set = "expire_after" in self.layers.get(("default",), Layer(BUILT_IN, {})).values
        found: list[float] = [
            each.values["expire_after"]
            for each in self.layers.values()
            if "expire_after" in each.values
        ]
        return min(found if is_default_set else [built_in, *found])

    def vmta(self, name: str) -> VmtaRules | None:
        """The virtual MTA of this name, or None: it was taken out of the configuration."""
        return self.vmtas.get(name)

    def vmta_place(self, name: str) -> Place:
        """Where the virtual MTA is set; for one that was taken out, where it would be."""
        rules = self.vmtas.get(name)
        return rules.place if rules else Place(self.server_place.file, f"vmta.{name}")

    def site_for(self, domain: str, mx_hosts: Sequence[str]) -> str:
        """The site of a domain: the first that lists it or whose patterns match every host of
        `mx_hosts`.

        `mx_hosts`: the most-preferred MX hosts only, in lower case. Without a site, the domain is
        its own.
        """
        for matcher in self._matchers:
            if matcher.matches(domain, mx_hosts):
                return matcher.name
        return domain

    def _resolve(self, vmta: str, site: str, domain: str) -> QueuePolicy:
        of_domain = self._chain(
            ("order", "vmta", vmta, "domain", domain),
            ("order", "domain", domain),
            ("vmta", vmta, "domain", domain),
            ("domain", domain),
        )
        of_site = self._chain(
            ("order", "site", site),
            ("vmta", vmta, "site", site),
            ("site", site),
            ("vmta", vmta),
            ("default",),
        )
        values: dict[str, Any] = {}
        places: dict[str, Place] = {}
        for layer in reversed(of_domain + of_site):
            for name, value in layer.values.items():
                if name == "timeouts":
                    values[name] = {**values.get(name, {}), **value}
                    places.update((f"timeouts.{step}", layer.place) for step in value)
                else:
                    values[name] = value
                places[name] = layer.place_of(name)
        # A password is for the hosts it stands beside, and for no others that a narrower place names.
        if "auth" in values and places["auth"] != places.get("hosts"):
            del values["auth"], places["auth"]
        if site:
            for name in SHARED:
                _split_shared(name, of_domain, of_site, values, places)
        return QueuePolicy(**values, places=places)

    def _chain(self, *paths: Path) -> list[Layer]:
        return [self.layers[path] for path in paths if path in self.layers]

    def demand(self, key: QueueKey, site: str, unproven: bool) -> Demand:
        """The governor keys one connection of this queue holds, each with its limit; without a
        limit, no key.

        `unproven`: nothing has answered here lately; it also holds the `|unproven` key of each
        limit that others share (the named site's, the virtual MTA's, the server's).
        """
        limits = self._connection_limits(key, site)
        held = [(name, limit) for name, limit, _, _ in limits]
        if unproven:
            held += [
                (f"{name}|unproven", max(1, limit // UNPROVEN_SHARE))
                for name, limit, _, is_shared in limits
                if is_shared
            ]
        return tuple(held)

    def rate_keys(self, key: QueueKey, site: str) -> tuple[RateKey, ...]:
        """The token keys every attempt of this queue takes from: (governor key, rate, where it was
        set).
        """
        policy, rules = self.policy(key, site), self.vmtas.get(key.vmta)
        found = self._queue_rates("message_rate", key, site, policy)
        if rules is not None and rules.total_message_rate is not None:
            found.append((f"message_rate:vmta:{key.vmta}", rules.total_message_rate, rules.place))
        if self._server_rate is not None:
            found.append(("message_rate:server", self._server_rate, self.server_place))
        return tuple(found)

    def connection_rate_keys(self, key: QueueKey, site: str) -> tuple[RateKey, ...]:
        """The token keys every new connection of this queue takes from."""
        return tuple(self._queue_rates("connection_rate", key, site, self.policy(key, site)))

    def limit_places(self, key: QueueKey, site: str) -> dict[str, Place]:
        """Where each limit of `demand`, `rate_keys` and `connection_rate_keys` was set, by governor
        key.
        """
        places: dict[str, Place] = {}
        for name, _, place, is_shared in self._connection_limits(key, site):
            places[name] = place
            if is_shared:
                places[f"{name}|unproven"] = place
        rates = self.rate_keys(key, site) + self.connection_rate_keys(key, site)
        places.update((name, place) for name, _, place in rates)
        return places

    def _connection_limits(self, key: QueueKey, site: str) -> list[tuple[str, int, Place, bool]]:
        """(governor key, limit, place, shared with other destinations), the narrowest first."""
        domain, vmta = key
        policy, rules = self.policy(key, site), self.vmtas.get(vmta)
        places = policy.places
        found: list[tuple[str, int, Place, bool]] = []
        if policy.domain_max_connections is not None:
            place = places["domain_max_connections"]
            found.append((f"domain:{domain}|{vmta}", policy.domain_max_connections, place, False))
        if policy.max_connections is not None:
            place = places.get("max_connections", BUILT_IN)
            name = f"site:{site or domain}|{vmta}"
            found.append((name, policy.max_connections, place, site in self.sites))
        if rules is not None and rules.total_connections is not None:
            found.append((f"vmta:{vmta}", rules.total_connections, rules.place, True))
        if self._server_total is not None:
            found.append(("server", self._server_total, self.server_place, True))
        if self._licence_total is not None:
            is_limit = self._licence_total < UNLIMITED
            found.append((LICENCE_KEY, self._licence_total, self._licence_place, is_limit))
        return found

    def _queue_rates(
        self, field: str, key: QueueKey, site: str, policy: QueuePolicy
    ) -> list[RateKey]:
        domain, vmta = key
        found: list[RateKey] = []
        of_domain: Rate | None = getattr(policy, f"domain_{field}")
        if of_domain is not None:
            place = policy.places[f"domain_{field}"]
            found.append((f"{field}:domain:{domain}|{vmta}", of_domain, place))
        of_site: Rate | None = getattr(policy, field)
        if of_site is not None:
            place = policy.places.get(field, BUILT_IN)
            found.append((f"{field}:site:{site or domain}|{vmta}", of_site, place))
        return found

    def explain_policy(self, key: QueueKey, site: str) -> list[tuple[str, Any, Place]]:
        """Every value of this queue as (name, value, place); a time-out per step as
        `timeouts.<step>`.
        """
        policy = self.policy(key, site)
        rows: list[tuple[str, Any, Place]] = []
        for name in (each.name for each in fields(QueuePolicy)):
            value = getattr(policy, name)
            if name == "timeouts":
                rows += [
                    (f"timeouts.{step}", seconds, policy.places[f"timeouts.{step}"])
                    for step, seconds in policy.timeouts.items()
                ]
            elif name.startswith("domain_"):
                if name in policy.places:
                    rows.append((name, value, policy.places[name]))
            elif name == "auth":
                if value is not None:
                    rows.append((name, str(value), policy.places[name]))
            elif name != "places" and (name != "stopped" or value):
                rows.append((name, value, policy.places.get(name, BUILT_IN)))
        return rows


def _split_shared(
    name: str,
    of_domain: list[Layer],
    of_site: list[Layer],
    values: dict[str, Any],
    places: dict[str, Place],
) -> None:
    """In a named site: the site's value without the domain's places, and the domain's beside it."""
    values.pop(name, None)
    places.pop(name, None)
    for target, chain in ((name, of_site), (f"domain_{name}", of_domain)):
        for layer in chain:
            value = layer.values.get(name, _MISSING)
            if value is not _MISSING:
                values[target], places[target] = value, layer.place_of(name)
                break


class _SiteMatcher:
    """The patterns of one site, taken apart once."""

    __slots__ = ("_domains", "_hosts", "_suffixes", "name")

    def __init__(self, rules: SiteRules) -> None:
        self.name = rules.name
        self._domains = frozenset(rules.domains)
        self._hosts = frozenset(mx for mx in rules.mx if not mx.startswith("*."))
        self._suffixes = tuple(mx[1:] for mx in rules.mx if mx.startswith("*."))

    def matches(self, domain: str, mx_hosts: Sequence[str]) -> bool:
        if domain in self._domains:
            return True
        # No MX at all matches nothing: `all` of none would be true.
        return bool(mx_hosts) and all(
            host in self._hosts or host.endswith(self._suffixes) for host in mx_hosts
        )
