"""Admission: may this peer relay, name this recipient, this virtual MTA – and what does it use up?

Pure decisions by a listener's rules; each answers None (yes) or the Reply to send. What must be
counted over connections and workers is not counted here: the methods name governor keys, and the
driver asks. Every domain is remote to us, so whatever a local part says (`user%ext`, `ext!user`,
`"u@ext"`), relaying it is decided by who asks and by nothing else: an address form can never open
the relay (reliability.md S13; RFC 5321 §3.6.1, appendix C).
"""

from collections.abc import Container
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol

from mta.model.address import is_domain
from mta.model.reply import Reply, a_reply
from mta.model.units import Rate
from mta.policy.rules import Demand, ListenerRules

Quota = tuple[str, Rate]  # governor token key, and how many an hour or a day

SOURCE_PREFIX_V6 = 64  # one customer's network: single IPv6 addresses cost an attacker nothing
HOUR_S, DAY_S = 3600.0, 86_400.0
MAX_STANDINGS = 10_000  # addresses remembered

TOO_MANY_CONNECTIONS = a_reply(421, "4.7.0", "Too many connections; try again later")
QUOTA_USED = a_reply(451, "4.7.1", "The quota of this hour or day is used up; try again later")
RELAY_DENIED = a_reply(550, "5.7.1", "Relaying denied")
TOO_MANY_RECIPIENTS = a_reply(452, "4.5.3", "Too many recipients; send the rest in another message")
TOO_LARGE = a_reply(552, "5.3.4", "Message is larger than the limit of this server")
UNKNOWN_VMTA = a_reply(550, "5.7.1", "Unknown virtual MTA")
BAD_SENDER = a_reply(553, "5.1.7", "Sender address is not valid")
LITERAL_SENDER = a_reply(550, "5.1.7", "Address literals are not accepted")
BAD_RECIPIENT = a_reply(553, "5.1.3", "Recipient address is not valid")
LITERAL_RECIPIENT = a_reply(550, "5.1.2", "Address literals are not accepted")
SOURCE_ROUTE = a_reply(553, "5.1.3", "Source routes are not accepted")


class MailCommand(Protocol):
    """What MAIL says, as far as it is weighed here."""

    @property
    def sender(self) -> str: ...  # as given between <>; "" is the null sender

    @property
    def domain(self) -> str: ...  # lower-case A-labels

    @property
    def size(self) -> int: ...  # bytes as declared (RFC 1870); 0: not


class RcptCommand(Protocol):
    """What RCPT says, as far as it is weighed here."""

    @property
    def address(self) -> str: ...

    @property
    def domain(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a listener's rules say of one IP address."""

    rules: ListenerRules
    source: str  # what connections and quotas are counted by: an IPv4 address or an IPv6 /64
    is_listed: bool  # it stands in `relay_from`


class Admission:
    """The decisions for every listener; all it keeps is what it worked out for recent addresses."""

    def __init__(self, vmtas: Container[str] = ("default",)) -> None:
        self._vmtas = vmtas
        self._standings: dict[tuple[str, str], _Standing] = {}

    # What is used up

    def connection_demand(self, rules: ListenerRules, ip: str) -> Demand:
        """The governor keys an inbound connection holds; without them, TOO_MANY_CONNECTIONS."""
        source = self._standing(rules, ip).source
        return (
            (f"in:source|{rules.address}|{source}", rules.max_connections_per_source),
            (f"in:listener|{rules.address}", rules.max_connections),
        )

    def mail_quotas(self, rules: ListenerRules, ip: str, user: str) -> tuple[Quota, ...]:
        """The token keys a message takes one of each; without them, QUOTA_USED at MAIL."""
        hour, day = rules.max_messages_per_hour, rules.max_messages_per_day
        return self._quotas("messages", rules, ip, user, hour=hour, day=day)

    def rcpt_quotas(self, rules: ListenerRules, ip: str, user: str) -> tuple[Quota, ...]:
        """The token keys a recipient takes one of each; without them, QUOTA_USED at RCPT."""
        hour, day = rules.max_recipients_per_hour, rules.max_recipients_per_day
        return self._quotas("recipients", rules, ip, user, hour=hour, day=day)

    def _quotas(
        self,
        what: str,
        rules: ListenerRules,
        ip: str,
        user: str,
        *,
        hour: int | None,
        day: int | None,
    ) -> tuple[Quota, ...]:
        if hour is None and day is None:
            return ()
        # A user is counted as such wherever it comes from; everybody else by source.
        who = f"user:{user}" if user else f"source:{self._standing(rules, ip).source}"
        name = f"in:{what}|{rules.address}|{who}"
        quotas = []
        if hour is not None:
            quotas.append((f"{name}|hour", Rate(hour, HOUR_S)))
        if day is not None:
            quotas.append((f"{name}|day", Rate(day, DAY_S)))
        return tuple(quotas)

    # What may be said

    def may_relay(self, rules: ListenerRules, ip: str, user: str) -> bool:
        """Whether mail from here goes out: an authenticated user, or a listed network."""
        return user != "" or self._standing(rules, ip).is_listed

    def mail(self, rules: ListenerRules, ip: str, user: str, mail: MailCommand) -> Reply | None:
        """The answer to MAIL, None for yes.

        Whether the peer may relay is answered at RCPT, where it is sure that it wants to.
        """
        if mail.size > rules.max_size:  # RFC 1870 §6.1
            return TOO_LARGE
        sender = mail.sender
        if not sender or (is_domain(mail.domain) and sender[0] != "@"):
            return None
        return LITERAL_SENDER if sender.endswith("]") else BAD_SENDER

    def rcpt(
        self, rules: ListenerRules, ip: str, user: str, rcpt: RcptCommand, already: int
    ) -> Reply | None:
        """The answer to RCPT, None for yes. `already`: how many recipients were taken before.

        Who may not relay hears that first, whatever the address looks like.
        """
        if not self.may_relay(rules, ip, user):
            return RELAY_DENIED
        address = rcpt.address
        if not is_domain(rcpt.domain) or address[:1] == "@":
            if address.startswith("@"):
                return SOURCE_ROUTE
            return LITERAL_RECIPIENT if address.endswith("]") else BAD_RECIPIENT
        if already >= rules.max_recipients:  # RFC 5321 §4.5.3.1.10
            return TOO_MANY_RECIPIENTS
        return None

    def size(self, rules: ListenerRules, size: int) -> Reply | None:
        """The answer to the final dot for a message of this many bytes, None for yes."""
        return TOO_LARGE if size > rules.max_size else None

    def vmta(self, rules: ListenerRules, wanted: str) -> str | Reply:
        """The virtual MTA of a message whose header asks for `wanted` ("": for none).

        A name nobody configured is refused rather than sent from somewhere else.
        """
        name = wanted.strip().lower() or rules.vmta
        return name if name in self._vmtas else UNKNOWN_VMTA

    def _standing(self, rules: ListenerRules, ip: str) -> _Standing:
        """Worked out once an address, not once a recipient: 7 µs against 0.2 (measured)."""
        found = self._standings.get((rules.address, ip))
        # After a reload an old connection still has its old rules: never answer it by the new.
        if found is None or found.rules is not rules:
            found = _standing(rules, ip)
            if len(self._standings) >= MAX_STANDINGS:
                del self._standings[next(iter(self._standings))]
            self._standings[rules.address, ip] = found
        return found


def _standing(rules: ListenerRules, ip: str) -> _Standing:
    try:
        # A scope ("fe80::1%eth0") names our interface, not the peer.
        found = ip_address(ip.partition("%")[0])
    except ValueError:  # a socket without an IP address: a stranger like any other
        return _Standing(rules, "unknown", is_listed=False)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    source = str(found)
    if isinstance(found, IPv6Address):
        source = str(IPv6Network((found, SOURCE_PREFIX_V6), strict=False))
    # `in` is false, not an error, for a network of the other family.
    return _Standing(rules, source, any(found in network for network in rules.relay_from))


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """`10.0.0.0/8`, `2001:db8::/32` or one address; a mapped IPv4 network is one of IPv4. Raises
    ValueError.
    """
    address, slash, prefix = text.strip().partition("/")
    try:
        found = ip_address(address)
    except ValueError:
        raise ValueError(
            f"{text!r} is no network; write it like 10.0.0.0/8 or 2001:db8::/32"
        ) from None
    length = int(prefix) if prefix.isascii() and prefix.isdecimal() else -1
    if not slash:
        length = found.max_prefixlen
    if not 0 <= length <= found.max_prefixlen:
        raise ValueError(f"{text!r}: /{prefix} is no prefix length from 0 to {found.max_prefixlen}")
    network: IPv4Network | IPv6Network
    if isinstance(found, IPv6Address):
        network = IPv6Network((found, length), strict=False)
    else:
        network = IPv4Network((found, length), strict=False)
    if network.network_address != found:
        raise ValueError(f"{text!r} has bits beyond its prefix; did you mean {network}?")
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None and length >= 96:
        return IPv4Network((found.ipv4_mapped, length - 96))
    return network
