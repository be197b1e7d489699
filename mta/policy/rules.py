"""The rules as values: what `config` makes of the operator's file, and every floor below reads.

Nothing here decides; `book`, `admission`, `retry` and `reaction` do. Durations are seconds, sizes
bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from mta.model.units import Rate

# Who is told by mail of what could not be delivered: the sender, nobody, or (`to:address`) somebody else.
SEND, NEVER, TELL_OTHER = "send", "never", "to:"

# Key of a governor limit, and how many it allows: ("site:google|a", 20).
Demand = tuple[tuple[str, int], ...]


class Tls(StrEnum):
    """How much TLS a next hop must give us."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    REQUIRE = "require"


class ListenerTls(StrEnum):
    """What a listener offers: nothing, STARTTLS, or TLS from the first byte (RFC 8314)."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


class ClientCertificate(StrEnum):
    """Whether a client must show a certificate of `tls_client_ca`, or may."""

    OPTIONAL = "optional"
    REQUIRED = "required"


class BareNewline(StrEnum):
    """What becomes of a message with a bare CR or LF."""

    REJECT = "reject"
    NORMALIZE = "normalize"


class UnknownVmta(StrEnum):
    """What becomes of a message whose header names a virtual MTA or pool that there is not."""

    REJECT = "reject"
    IGNORE = "ignore"


class AuthTls(StrEnum):
    """What a host must show before it hears a password."""

    VERIFIED = "verified"
    ENCRYPTED = "encrypted"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class AuthRules:
    """How to log in at the `hosts` of the same section."""

    user: str
    password: str = field(repr=False)
    tls: AuthTls = AuthTls.VERIFIED
    ca_pem: str = field(default="", repr=False)  # to believe besides the system's certificates

    def __str__(self) -> str:
        return f"as {self.user}, TLS {self.tls}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the configuration a value comes from; "" and "default" for one of ours.

    Without a file, any other `section` says by itself who set it.
    """

    file: str
    section: str

    def __str__(self) -> str:
        if self.file:
            return f"{self.file} [{self.section}]"
        return "built-in default" if self.section == "default" else self.section


BUILT_IN = Place("", "default")


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """All values of one queue, each resolved to the most specific place that sets it.

    `limits` per (site, virtual MTA); `None` means no limit.
    """

    max_connections: int | None = 10
    connection_rate: Rate | None = None
    message_rate: Rate | None = None
    max_messages_per_connection: int = 1000
    max_recipients_per_message: int = 100
    retry: tuple[float, ...] = (600.0, 1200.0, 3600.0)
    expire_after: float = 388_800.0  # 4d12h
    hosts: tuple[str, ...] = ()  # instead of MX: "host", "host:port", "[v6]:port"
    auth: AuthRules | None = None  # only ever with the `hosts` of its own section
    port: int = 25
    idle_timeout: float = 5.0
    connect_timeout: float = 30.0
    timeouts: Mapping[str, float] = field(default_factory=dict)  # by Step name in lower case
    tls: Tls = Tls.OPPORTUNISTIC
    backoff_initial: float = 60.0
    backoff_cap: float = 3600.0
    # A value set in a [domain.X] counts for that domain in addition to the site's (architecture.md
    # section 6).
    domain_max_connections: int | None = None
    domain_connection_rate: Rate | None = None
    domain_message_rate: Rate | None = None
    stopped: str = ""  # why nothing may begin, by an order of the operator
    places: Mapping[str, Place] = field(default_factory=dict)  # field name → where it was set


@dataclass(frozen=True, slots=True)
class VmtaRules:
    """One virtual MTA: its source addresses, EHLO name, and totals over all its queues."""

    name: str
    source_v4: tuple[str, ...] = ()
    source_v6: tuple[str, ...] = ()
    ehlo_name: str = ""  # "": the server's hostname
    total_connections: int | None = None
    total_message_rate: Rate | None = None
    place: Place = BUILT_IN


@dataclass(frozen=True, slots=True)
class PoolRules:
    """A pool: virtual MTAs that share its mail by weight."""

    name: str
    members: tuple[tuple[str, int], ...]  # (virtual MTA, weight), in the order of the file
    sticky: str = ""  # "job": all mail of a job by one of them
    place: Place = BUILT_IN


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """Which virtual MTA or pool sends mail that names none, where its listener does not say."""

    users: Mapping[str, str] = field(default_factory=dict)
    senders: tuple[tuple[str, str], ...] = ()  # (pattern with `*`, name), the first match counts
    default: str = "default"


@dataclass(frozen=True, slots=True)
class SourceRules:
    """Some of those who hand in mail, and what is theirs: all that is given must fit, the first that fits counts."""

    name: str
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    users: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()  # patterns with `*`
    notices: str = ""  # "": as the server does
    notice_language: str = ""
    place: Place = BUILT_IN


@dataclass(frozen=True, slots=True)
class SiteRules:
    """A mailbox provider: the MX patterns or the domains that make a domain part of it."""

    name: str
    mx: tuple[str, ...] = ()  # "*.google.com" matches any host below, "mx.example.net" itself
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListenerRules:
    """One listening address and what it allows."""

    address: str  # "127.0.0.1:2525", "[::]:25"
    relay_from: tuple[IPv4Network | IPv6Network, ...] = ()
    proxy_from: tuple[IPv4Network | IPv6Network, ...] = ()
    tls: ListenerTls = ListenerTls.NONE
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_client: ClientCertificate = ClientCertificate.OPTIONAL
    relay_certificates: tuple[str, ...] = ()  # names, or "*.example.com"
    users: Mapping[str, str] = field(default_factory=dict)  # user → scrypt hash
    max_connections: int = 5000
    max_connections_per_source: int = 500
    max_messages_per_hour: int | None = None  # per source address
    max_messages_per_day: int | None = None
    max_recipients_per_hour: int | None = None
    max_recipients_per_day: int | None = None
    max_recipients: int = 50_000  # per message (RFC 5321 §4.5.3.1.8: at least 100)
    max_size: int = 104_857_600
    bare_newline: BareNewline = BareNewline.REJECT
    command_timeout: float = 300.0
    transaction_timeout: float = 3600.0
    min_data_rate: int = 500  # bytes/s
    vmta: str = ""  # or a pool; "": as [selection] says
    vmta_header: str = "X-Virtual-MTA"
    vmta_header_from: tuple[str, ...] = ("*",)  # the users whose header is heard; "*": all
    unknown_vmta: UnknownVmta = UnknownVmta.REJECT
    job_header: str = "X-Job"
    max_hold: float = 604_800.0  # how far ahead a release time may lie; 0: none may be set
    place: Place = BUILT_IN


@dataclass(frozen=True, slots=True)
class ServerRules:
    """The whole server."""

    hostname: str
    spool_dir: str
    workers: int = 1
    control_socket: str = "/run/sluice/control.sock"
    lab: bool = False
    total_connections: int | None = 2000
    total_message_rate: Rate | None = None
    min_free: float | int = 0.1  # a share of the file system (float below 1) or bytes (int)
    intake_memory: int = 268_435_456
    body_cache: int = 33_554_432
    dns_servers: tuple[str, ...] = ()  # "ip" or "ip:port"; empty: /etc/resolv.conf
    dns_timeout: float = 5.0
    # What the followers have not read yet; past it intake answers 452, for accounting is never
    # pruned unread.
    max_event_bytes: int = 1_073_741_824
    shutdown_timeout: float = 30.0  # how long running sessions may finish
    dns_cache_entries: int = 100_000
    notices: str = NEVER
    notice_language: str = "en"
    notice_texts: str = ""  # a directory
    notice_delay: float = 60.0
    delay_notice_after: float = 0.0  # 0: only who asks for it is told of delays
    notice_rate: Rate | None = Rate(100, 3600.0)  # noqa: RUF009  # a NamedTuple never changes
    notice_size: int = 65_536
    watchdog_timeout: float = (
        30.0  # a process that is silent for so long is ended and started again
    )


@dataclass(frozen=True, slots=True)
class DkimRules:
    """One key to sign with: for whom, under which selector; `pem` has been loaded once and is
    sound.
    """

    domain: str  # "example.com", or "*.example.com" for every name below it
    selector: str
    key_file: str
    pem: bytes = field(default=b"", repr=False)
    header_canon: str = "relaxed"  # relaxed | simple
    body_canon: str = "relaxed"
    identity: str = ""  # i=; "": none
    expire_s: float | None = None  # x= this long after signing; None: no x=
    place: Place = BUILT_IN


@dataclass(frozen=True, slots=True)
class AccountingRules:
    """One set of accounting files: which records, how they are written, and how long they are kept."""

    name: str
    path: str
    records: tuple[str, ...] = ("d", "b")
    format: str = "csv"  # csv | jsonl
    fields: tuple[str, ...] = ()  # empty: every column that the records fill
    vmtas: tuple[str, ...] = ()  # patterns (`mta.follow.patterns`); empty: all
    jobs: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    max_size: int = 262_144_000
    rotate_daily: bool = True  # at midnight UTC
    compress: bool = False  # finished files, with gzip
    keep_s: float | None = None  # finished files are removed so long after their last record
    keep_size: int | None = None  # bytes of all finished files together; the oldest go first
    place: Place = BUILT_IN


@dataclass(frozen=True, slots=True)
class MetricsRules:
    """The page of numbers for Prometheus."""

    address: str = ""  # "127.0.0.1:9090"; "": none


@dataclass(frozen=True, slots=True)
class LicenseRules:
    """Where licences and their state lie, and how the vendor is reached."""

    dir: str = "/etc/sluice/license.d"
    state_dir: str = "/var/lib/sluice/license"
    reporting: bool = True
    proxy: str = ""
    ca_file: str = ""
    node_label: str = ""
    notify_email: tuple[str, ...] = ()
    notify_url: str = ""
    root: str = ""  # a root of one's own: it opens Development licences only
    endpoint: str = ""  # instead of the licence's own
    allow_ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class LoggingRules:
    """The server's own log (not the accounting)."""

    level: str = "info"  # debug | info | warning | error
    format: str = "text"  # text | json
    path: str = ""  # "": standard error
