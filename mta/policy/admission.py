"""Admission: may this peer relay, name this recipient, this virtual MTA – and what does it use up?

Pure decisions of one listener; each answers None (yes) or the Reply to send. What must be
counted over connections and workers is not counted here: the methods name governor keys, and the
driver asks. Every domain is remote to us, so whatever a local part says (`user%ext`, `ext!user`,
`"u@ext"`), relaying it is decided by who asks and by nothing else: an address form can never open
the relay (reliability.md S13; RFC 5321 §3.6.1, appendix C).
"""

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from mta.model.address import is_domain
from mta.model.reply import Reply, a_reply
from mta.model.units import Rate
from mta.policy import schedule
from mta.policy.rules import Demand, ListenerRules, SelectionRules, UnknownVmta

Quota = tuple[str, Rate]  # governor token key, and how many an hour or a day

PRIORITY_HEADER = b"x-priority-class"
SOURCE_PREFIX_V6 = 64  # one customer's network: single IPv6 addresses cost an attacker nothing
HOUR_S, DAY_S = 3600.0, 86_400.0

TOO_MANY_CONNECTIONS = a_reply(421, "4.7.0", "Too many connections; try again later")
TOO_MANY_MESSAGES = a_reply(451, "4.7.1", "Too many messages in this hour or day; try again later")
TOO_MANY_OF_AN_HOUR = a_reply(
    451, "4.7.1", "Too many recipients in this hour or day; try again later"
)
RELAY_DENIED = a_reply(550, "5.7.1", "Relaying denied")
TOO_MANY_RECIPIENTS = a_reply(452, "4.5.3", "Too many recipients; send the rest in another message")
TOO_LARGE = a_reply(552, "5.3.4", "Message is larger than the limit of this server")
UNKNOWN_VMTA = a_reply(550, "5.7.1", "Unknown virtual MTA or pool")
BAD_SENDER = a_reply(553, "5.1.7", "Sender address is not valid")
LITERAL_SENDER = a_reply(550, "5.1.7", "Address literals are not accepted")
BAD_RECIPIENT = a_reply(553, "5.1.3", "Recipient address is not valid")
LITERAL_RECIPIENT = a_reply(550, "5.1.2", "Address literals are not accepted")
# RFC 4865 §4: a time beyond what EHLO offered is refused as a parameter.
TOO_FAR_AHEAD = a_reply(501, "5.5.4", "The time of delivery is further ahead than EHLO allows")
NO_HOLD = a_reply(555, "5.5.4", "No time of delivery can be set here")
TWO_TIMES = a_reply(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other")
BAD_TIME = a_reply(550, "5.6.0", "X-Deliver-After is no time like 2026-12-24T18:00:00Z")
BAD_PRIORITY = a_reply(550, "5.6.0", "X-Priority-Class is neither high, normal nor low")
SOURCE_ROUTE = a_reply(553, "5.1.3", "Source routes are not accepted")


@dataclass(slots=True)
class Peer:
    """Who stands at the other end of an inbound connection.

    `source`: what its connections and quotas are counted by, the IPv4 address or the IPv6 /64.
    """

    address: str
    source: str
    is_listed: bool  # its address stands in `relay_from`
    user: str = ""  # the authenticated user

    @property
    def may_relay(self) -> bool:
        return self.is_listed or self.user != ""


class Admission:
    """The decisions of one listener, by its rules and the virtual MTAs there are; no state.

    A connection keeps the Admission it began with: a reload never changes its rules midway.
    """

    def __init__(
        self,
        rules: ListenerRules,
        vmtas: Container[str],
        selection: SelectionRules = SelectionRules(),
    ) -> None:
        """`vmtas`: the names of all virtual MTAs and pools."""
        self.rules = rules
        self._vmtas = vmtas
        self._selection = selection
        self._senders = [(sender_pattern(text), name) for text, name in selection.senders]
        self._max_recipients = rules.max_recipients
        self._max_size = rules.max_size
        # Of a message's header, in lower case: they ask for a virtual MTA, name a job, and are taken out.
        self.control_fields = (
            rules.vmta_header.lower().encode(),
            rules.job_header.lower().encode(),
            schedule.HEADER,
            PRIORITY_HEADER,
        )

    def peer(self, address: str) -> Peer:
        """The peer at this IP address, as the socket shows it; a mapped IPv4 address is IPv4.

        Worked out once a connection, not once a recipient: 7 µs (measured).
        """
        found = parse_ip(address)
        if found is None:  # a socket without an IP address: a stranger like any other
            return Peer(address, "unknown", is_listed=False)
        source = str(found)
        if isinstance(found, IPv6Address):
            source = str(IPv6Network((found, SOURCE_PREFIX_V6), strict=False))
        # `in` is false, not an error, for a network of the other family.
        is_listed = any(found in network for network in self.rules.relay_from)
        return Peer(str(found), source, is_listed)

    def is_proxy(self, address: str) -> bool:
        """Whether a PROXY header is required from this IP address, and believed."""
        found = parse_ip(address)
        return found is not None and any(found in network for network in self.rules.proxy_from)

    def certified_user(self, names: Iterable[str]) -> str:
        """The first name of a client's verified certificate that may relay; "" for none."""
        for name in names:
            # A certificate for `*.example.com` names nobody; and a pattern stands for one label or more.
            if is_domain(name) and any(
                name.endswith(pattern[1:]) if pattern[0] == "*" else name == pattern
                for pattern in self.rules.relay_certificates
            ):
                return name
        return ""

    # What is used up

    def connection_demand(self, peer: Peer) -> Demand:
        """The governor keys an inbound connection holds; without them, TOO_MANY_CONNECTIONS."""
        listener = self.rules.address
        return (
            (f"in:source|{listener}|{peer.source}", self.rules.max_connections_per_source),
            (f"in:listener|{listener}", self.rules.max_connections),
        )

    def message_quotas(self, peer: Peer) -> tuple[Quota, ...]:
        """The token keys a message takes one of each; without them, TOO_MANY_MESSAGES at MAIL."""
        hour, day = self.rules.max_messages_per_hour, self.rules.max_messages_per_day
        return self._quotas("messages", peer, hour, day)

    def recipient_quotas(self, peer: Peer) -> tuple[Quota, ...]:
        """The token keys a recipient takes one of each; without them, TOO_MANY_OF_AN_HOUR at RCPT."""
        hour, day = self.rules.max_recipients_per_hour, self.rules.max_recipients_per_day
        return self._quotas("recipients", peer, hour, day)

    def _quotas(
        self, what: str, peer: Peer, hour: int | None, day: int | None
    ) -> tuple[Quota, ...]:
        # Strangers send nothing (check_recipient); counting them would only fill memory with their addresses.
        if (hour is None and day is None) or not peer.may_relay:
            return ()
        # A user is counted as such wherever it comes from; everybody else by listener and source.
        if peer.user:
            name = f"in:{what}|user:{peer.user}"
        else:
            name = f"in:{what}|{self.rules.address}|source:{peer.source}"
        quotas = []
        if hour is not None:
            quotas.append((f"{name}|hour", Rate(hour, HOUR_S)))
        if day is not None:
            quotas.append((f"{name}|day", Rate(day, DAY_S)))
        return tuple(quotas)

    # When it may go

    def release_at(self, wanted: float, now: float) -> float | Reply:
        """When a message may go whose sender wants it to go at `wanted`, 0.0 for now; or the refusal."""
        if wanted <= now:
            return 0.0
        if wanted - now > self.rules.max_hold:
            return TOO_FAR_AHEAD if self.rules.max_hold else NO_HOLD
        return wanted

    # What may be said

    def check_mail(self, sender: str, domain: str, size: int) -> Reply | None:
        """The answer to MAIL, None for yes.

        `sender` as given between <> ("" is the null sender), its domain in lower-case A-labels, the
        SIZE it declares (0: none). Whether the peer may relay is answered at RCPT, where it is sure
        that it wants to.
        """
        if size > self._max_size:  # RFC 1870 §6.1
            return TOO_LARGE
        if not sender or (is_domain(domain) and sender[0] != "@"):
            return None
        return LITERAL_SENDER if sender.endswith("]") else BAD_SENDER

    def check_recipient(self, peer: Peer, address: str, domain: str, taken: int) -> Reply | None:
        """The answer to RCPT, None for yes.

        `address` as given between <>, its domain, and how many recipients were taken before. Who
        may not relay hears that first, whatever the address looks like.
        """
        if not (peer.is_listed or peer.user):
            return RELAY_DENIED
        if not is_domain(domain) or address[:1] == "@":
            if address.startswith("@"):
                return SOURCE_ROUTE
            return LITERAL_RECIPIENT if address.endswith("]") else BAD_RECIPIENT
        if taken >= self._max_recipients:  # RFC 5321 §4.5.3.1.10
            return TOO_MANY_RECIPIENTS
        return None

    def check_size(self, size: int) -> Reply | None:
        """The answer to the final dot for a message of this many bytes, None for yes."""
        return TOO_LARGE if size > self._max_size else None

    def choose_vmta(self, peer: Peer, wanted: str, sender: str = "") -> str | Reply:
        """The virtual MTA or pool of a message whose header asks for `wanted` ("": for none).

        In this order: the header, the listener, the user, the envelope sender, the default. The header is heard only of peers
        that may relay and stand in `vmta_header_from`; a name nobody configured is refused rather than sent from elsewhere.
        """
        name = wanted.strip().lower()
        if name and self._may_name(peer):
            if name in self._vmtas:
                return name
            if self.rules.unknown_vmta is UnknownVmta.REJECT:
                return UNKNOWN_VMTA
        selection = self._selection
        return (
            self.rules.vmta
            or selection.users.get(peer.user, "")
            or self._of_sender(sender.lower())
            or selection.default
        )

    def _may_name(self, peer: Peer) -> bool:
        heard = self.rules.vmta_header_from
        return peer.may_relay and ("*" in heard or (peer.user != "" and peer.user in heard))

    def _of_sender(self, sender: str) -> str:
        for pattern, name in self._senders:
            if pattern.fullmatch(sender):
                return name
        return ""


def sender_pattern(text: str) -> re.Pattern[str]:
    """`*` stands for anything, `<>` for the null sender, all else for itself; senders are compared in lower case."""
    if text == "<>":
        return re.compile("")
    return re.compile(".*".join(map(re.escape, text.lower().split("*"))), re.DOTALL)


def parse_ip(address: str) -> IPv4Address | IPv6Address | None:
    """An address as a socket shows it; a mapped IPv4 address is IPv4. None if it is none."""
    try:
        # A scope ("fe80::1%eth0") names our interface, not the peer.
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


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
