"""The schema of the operator's file: every section and key, its kind, its default and its help
text.

The reference file and page are rendered from here, the loader validates against it, and the values
go into `mta.policy.rules`, whose defaults these are: no default is written twice. In a section of
queue values `None` in the model means "not set here"; what is set stands in `model_fields_set`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mta.config.kinds import (
    Count,
    DnsServers,
    Domain,
    DomainPattern,
    Domains,
    Duration,
    Durations,
    FilePath,
    HostPatterns,
    Hosts,
    HttpsUrl,
    Label,
    Language,
    Limit,
    ListenAddress,
    MailAddresses,
    NamePatterns,
    Names,
    Networks,
    Notices,
    Port,
    PositiveDuration,
    RateLimit,
    SenderPatterns,
    Share,
    Size,
    Sources,
    Switch,
    Url,
    UserNames,
    Weights,
    Workers,
)
from mta.model.units import format_duration
from mta.policy.rules import (
    AccountingRules,
    AuthTls,
    BareNewline,
    ClientCertificate,
    DkimRules,
    LicenseRules,
    ListenerRules,
    ListenerTls,
    LoggingRules,
    MetricsRules,
    PoolRules,
    SelectionRules,
    ServerRules,
    Tls,
    UnknownVmta,
    VmtaRules,
)
from mta.smtp.steps import Step

_SERVER = ServerRules(hostname="", spool_dir="/var/spool/sluice")
_LISTENER = ListenerRules(address="")
_DKIM = DkimRules("", "", "")
_ACCOUNTING = AccountingRules("", "")
_LOGGING = LoggingRules()
_METRICS = MetricsRules()
_LICENSE = LicenseRules()
_VMTA = VmtaRules("")
_POOL = PoolRules("", ())
_SELECTION = SelectionRules()


def _key(default: Any, help_text: str, *, example: str = "", shown: bool = False) -> Any:
    """A key. `example`: TOML for the reference instead of the default; `shown`: not commented out."""
    return Field(
        default=default,
        description=help_text,
        json_schema_extra={"example": example, "shown": shown},
    )


def _step(step: Step, help_text: str) -> Any:
    """A time-out; without a value here it is the step's own."""
    return _key(None, help_text, example=f'"{format_duration(step.timeout_s)}"')


class Section(BaseModel):
    """A table of the file. Unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSection(Section):
    """The whole server: its name, where it keeps mail, what it may use."""

    hostname: Domain = _key(
        ...,
        "The name this server says in its greeting, in EHLO and in Received fields. It should "
        "resolve to this machine, and the machine's address back to it: many receivers check.",
        example='"mta.example.com"',
        shown=True,
    )
    spool_dir: FilePath = _key(
        _SERVER.spool_dir,
        "The directory of the spool: all mail that is accepted and not yet done. It belongs on a "
        "local disk that honours fsync, and to the user the server runs as.",
        shown=True,
    )
    workers: Workers = _key(
        _SERVER.workers,
        "How many worker processes share the load; 0: one for each core. 1: everything in one process.",
    )
    control_socket: FilePath = _key(
        _SERVER.control_socket,
        "The Unix socket on which the `sluice` commands reach the running server.",
    )
    lab: Switch = _key(
        _SERVER.lab,
        "Lab mode: the server listens on and connects to loopback only, needs no licence, says "
        "LAB in its greeting and marks every message with X-Sluice-Lab. For trials and tests.",
    )
    total_connections: Limit = _key(
        _SERVER.total_connections, "How many outbound connections may be open in all."
    )
    total_message_rate: RateLimit = _key(
        _SERVER.total_message_rate,
        "How many recipients may be attempted in a time, over all virtual MTAs.",
        example='"200000/h"',
    )
    min_free: Share = _key(
        _SERVER.min_free,
        "What must stay free on the spool's file system, in space (a share or a size) and, as a "
        "share, in inodes. Below it new mail is answered 452; queued mail still goes out.",
    )
    intake_memory: Size = _key(
        _SERVER.intake_memory,
        "How much memory messages may take while they are being received. Beyond it clients wait "
        "and new messages are answered 452.",
    )
    body_cache: Size = _key(
        _SERVER.body_cache,
        "How much memory keeps bodies at hand that were received just now, to save reading them "
        "back from disk.",
    )
    max_event_bytes: Size = _key(
        _SERVER.max_event_bytes,
        "How much of the spool may be events that accounting has not read yet. Beyond it new mail "
        "is answered 452, for records are never dropped unread.",
    )
    shutdown_timeout: Duration = _key(
        _SERVER.shutdown_timeout, "How long running sessions may finish when the server stops."
    )
    notices: Notices = _key(
        _SERVER.notices,
        'Who is told by mail that a message failed, expired or waits: its sender ("send"), nobody ("never"), or somebody else '
        '("to:ops@example.com"). The accounting tells you of every failure. Bulk mail wants no notices besides: a list with '
        '100,000 dead addresses would send as many to its return path. With "send" the greeting offers DSN (RFC 3461), and '
        "NOTIFY, RET and ENVID are obeyed. A `[source.X]` may say otherwise.",
    )
    notice_language: Language = _key(
        _SERVER.notice_language,
        'The language of notices: "de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", or "sender": as the field '
        "Accept-Language of the message asks, else English.",
    )
    notice_texts: FilePath = _key(
        _SERVER.notice_texts,
        "A directory of words of your own for notices: a file for each language, like `de.toml`, with the phrases that are to be "
        "others than ours, or with all of them for a further language.",
        example='"notices"',
    )
    notice_delay: Duration = _key(
        _SERVER.notice_delay,
        "How long the failures of one message are gathered before its sender gets a notice of all of them.",
    )
    delay_notice_after: Duration = _key(
        _SERVER.delay_notice_after,
        "After how long a sender is told, once, that a message still waits, and until when it is tried. 0: only who asks for "
        "it (NOTIFY=DELAY) is told, after 4 hours.",
        example='"4h"',
    )
    notice_rate: RateLimit = _key(
        _SERVER.notice_rate,
        "How many notices one address may get in a time, from one worker. What is beyond it is told in one digest when that "
        "time is over.",
    )
    notice_size: Size = _key(
        _SERVER.notice_size,
        "How large a message may be to be returned whole where RET=FULL asks for it; of others the header is returned.",
    )
    watchdog_timeout: PositiveDuration = _key(
        _SERVER.watchdog_timeout,
        "A worker whose event loop or spool has not been heard of for so long is ended, with its stacks in the log, and "
        "started again.",
    )


class ListenerSection(Section):
    """An address on which mail is handed in. Repeat `[[listener]]` for each."""

    address: ListenAddress = _key(
        ...,
        "The IP address and port to listen on; `[::]:25` for IPv6. Port 0 lets the kernel choose.",
        example='"127.0.0.1:2525"',
        shown=True,
    )
    relay_from: Networks = _key(
        _LISTENER.relay_from,
        "The networks that may hand in mail without logging in. All others must log in (see "
        "`auth_users`) or are answered 550 5.7.1.",
        example='["127.0.0.0/8"]',
        shown=True,
    )
    proxy_from: Networks = _key(
        _LISTENER.proxy_from,
        "The networks of load balancers that speak the PROXY protocol (version 1 or 2) to this listener. From them its "
        "header is required, and the client it names is the one that counts for `relay_from`, limits, Received fields and "
        "records. All others are refused. Not set: nobody's header is believed.",
        example='["192.0.2.5"]',
    )
    tls: ListenerTls | None = _key(
        None,
        'TLS towards clients: "starttls", "implicit" (from the first byte) or "none". Not set: '
        '"starttls" where a certificate is given.',
        example='"starttls"',
    )
    tls_cert: FilePath = _key(
        _LISTENER.tls_cert,
        "The certificate with its chain, as a PEM file.",
        example='"/etc/sluice/tls/cert.pem"',
    )
    tls_key: FilePath = _key(
        _LISTENER.tls_key,
        "The private key of the certificate, as a PEM file that others cannot read.",
        example='"/etc/sluice/tls/key.pem"',
    )
    tls_client_ca: FilePath = _key(
        _LISTENER.tls_client_ca,
        "The authorities whose certificates clients may show, as a PEM file. A certificate of any other ends the handshake.",
        example='"/etc/sluice/tls/clients-ca.pem"',
    )
    tls_client: ClientCertificate = _key(
        _LISTENER.tls_client,
        'With `tls_client_ca`: whether clients may show a certificate ("optional"), or must, and must use TLS ("required").',
    )
    relay_certificates: HostPatterns = _key(
        _LISTENER.relay_certificates,
        "The DNS names in clients' certificates that may hand in mail without logging in; `*.example.com` for every name below "
        "example.com. The name stands as the user in limits and records.",
        example='["app1.example.com"]',
    )
    auth_users: FilePath = _key(
        "",
        'A TOML file of the users that may log in, one `user = "scrypt$…"` a line; '
        "`sluice config password` makes the hash. AUTH is offered under TLS only.",
        example='"users.toml"',
    )
    max_connections: Count = _key(
        _LISTENER.max_connections, "How many clients may be connected to this listener."
    )
    max_connections_per_source: Count = _key(
        _LISTENER.max_connections_per_source,
        "How many of them may come from one IPv4 address or one IPv6 /64.",
    )
    max_messages_per_hour: Limit = _key(
        _LISTENER.max_messages_per_hour,
        "How many messages one user – without login, one source – may hand in within an hour, by the clock. "
        "Beyond it: 451. A user is counted over all listeners that set this. The count survives restarts.",
        example="10000",
    )
    max_messages_per_day: Limit = _key(
        _LISTENER.max_messages_per_day, "The same within a day.", example="100000"
    )
    max_recipients_per_hour: Limit = _key(
        _LISTENER.max_recipients_per_hour,
        "How many recipients one user or source may name within an hour. Beyond it: 451.",
        example="50000",
    )
    max_recipients_per_day: Limit = _key(
        _LISTENER.max_recipients_per_day, "The same within a day.", example="500000"
    )
    max_recipients: Count = _key(
        _LISTENER.max_recipients, "How many recipients a message may have; at least 100."
    )
    max_size: Size = _key(_LISTENER.max_size, "How large a message may be.")
    bare_newline: BareNewline = _key(
        _LISTENER.bare_newline,
        'What becomes of a message with a bare CR or LF: "reject" (550 5.6.0) or "normalize" '
        "(made CRLF before it is signed). Clients that write such messages are broken; servers "
        "that pass them on let senders be forged.",
    )
    command_timeout: PositiveDuration = _key(
        _LISTENER.command_timeout, "How long a client may be silent between commands."
    )
    transaction_timeout: PositiveDuration = _key(
        _LISTENER.transaction_timeout, "How long one message may take, from MAIL to its final dot."
    )
    min_data_rate: Count = _key(
        _LISTENER.min_data_rate, "How slow a message may come in, in bytes a second."
    )
    vmta: str | None = _key(
        None,
        "The virtual MTA or pool of mail whose header names none. Not set: as `[selection]` says.",
        example='"a"',
    )
    vmta_header: str = _key(
        _LISTENER.vmta_header,
        "The header field in which a message may name its virtual MTA or pool. It is removed, before the message is signed.",
    )
    vmta_header_from: UserNames = _key(
        _LISTENER.vmta_header_from,
        'The users whose header is heard; "*" is everybody who may send here. The field of all others is removed and '
        "otherwise ignored.",
    )
    unknown_vmta: UnknownVmta = _key(
        _LISTENER.unknown_vmta,
        'What becomes of a message whose header names a virtual MTA or pool that there is not: "reject" (550 5.7.1) or '
        '"ignore" (sent as if it named none).',
    )
    job_header: str = _key(
        _LISTENER.job_header,
        "The header field in which a message may name its job, your label for a campaign. It is "
        "removed, and stands in the accounting records.",
    )
    max_hold: Duration = _key(
        _LISTENER.max_hold,
        "How far ahead a message may set the time of its delivery: in a field `X-Deliver-After` (RFC 3339 or Unix time; it is "
        "removed) or with FUTURERELEASE (RFC 4865). Expiry counts from that time. 0: no message may.",
    )


class DnsSection(Section):
    """How names are looked up."""

    servers: DnsServers = _key(
        _SERVER.dns_servers,
        "The DNS servers to ask, as `address` or `address:port`. Not set: those of "
        "/etc/resolv.conf. A caching resolver on this machine is best.",
        example='["127.0.0.1:53"]',
    )
    timeout: PositiveDuration = _key(
        _SERVER.dns_timeout, "How long one question may take before mail waits and asks again."
    )
    cache_entries: Count = _key(
        _SERVER.dns_cache_entries, "How many answers are remembered, each for its time to live."
    )


class TimeoutsSection(Section):
    """How long we wait at each step of delivery; RFC 5321 §4.5.3.2 names minima for most."""

    greeting: PositiveDuration = _step(Step.GREETING, "for the greeting")
    ehlo: PositiveDuration = _step(Step.EHLO, "for the answer to EHLO")
    starttls: PositiveDuration = _step(Step.STARTTLS, "for STARTTLS and its handshake")
    auth: PositiveDuration = _step(Step.AUTH, "for the answer to AUTH")
    mail: PositiveDuration = _step(Step.MAIL, "for the answer to MAIL")
    rcpt: PositiveDuration = _step(Step.RCPT, "for the answer to RCPT")
    data: PositiveDuration = _step(Step.DATA, "for the answer to DATA")
    body: PositiveDuration = _step(Step.BODY, "for the host to take more of the message")
    end_of_data: PositiveDuration = _step(
        Step.END_OF_DATA, "for the answer to the final dot; shorter means mail that arrives twice"
    )
    rset: PositiveDuration = _step(Step.RSET, "for the answer to RSET")
    quit: PositiveDuration = _step(Step.QUIT, "for the answer to QUIT")


class AuthSection(Section):
    """How to log in at the `hosts` of the same section, with PLAIN, LOGIN or CRAM-MD5. A refused login is our mistake, not the
    recipient's: mail waits. The password is used for no other hosts, and never shown.
    """

    user: str = _key(..., "The user name.", example='"relay@example.com"')
    password_file: FilePath = _key(
        ...,
        "A file with the password in its first line, that others cannot read. It is read at start and at a reload.",
        example='"/etc/sluice/smarthost.password"',
    )
    tls: AuthTls = _key(
        AuthTls.VERIFIED,
        'What a host must show first: "verified" (TLS, and a certificate for the name in `hosts`), "encrypted" (TLS, whoever it '
        'is) or "none". With "none" CRAM-MD5 is preferred, and the password may go in the clear.',
    )
    ca_file: FilePath = _key(
        "",
        "Certificates, as a PEM file, to believe besides the system's.",
        example='"/etc/sluice/tls/smarthost-ca.pem"',
    )


class QueueSection(Section):
    """Values of queues; a queue is one domain sent from one virtual MTA."""

    max_connections: Limit = _key(
        None,
        "How many connections may be open to one site from one virtual MTA. In a domain's section "
        "it counts for that domain, in addition to its site's limit.",
    )
    connection_rate: RateLimit = _key(
        None,
        "How often connections may be opened to one site from one virtual MTA; counted like "
        "`max_connections`.",
        example='"60/min"',
    )
    message_rate: RateLimit = _key(
        None,
        "How many recipients may be attempted at one site from one virtual MTA in a time; counted "
        "like `max_connections`. There is no burst at the start.",
        example='"600/min"',
    )
    max_messages_per_connection: Count = _key(
        None, "How many messages go over a connection before it is closed."
    )
    max_recipients_per_message: Count = _key(
        None, "How many recipients of a message are named in one transaction."
    )
    retry: Durations = _key(
        None,
        "How long a recipient waits after its first, second, … temporary failure; the last value "
        "repeats.",
    )
    expire_after: PositiveDuration = _key(
        None, "How long after its acceptance a message that cannot be delivered is bounced."
    )
    hosts: Hosts = _key(
        None,
        "Deliver to these hosts, in this order, instead of asking for MX records: `host`, "
        "`host:port`, `[2001:db8::1]:port`. An empty list asks for MX again.",
        example='["127.0.0.1:2600"]',
    )
    auth: AuthSection = _key(
        None,
        "How to log in at these `hosts`; it counts for the `hosts` of the same section only.",
        example='{ user = "relay@example.com", password_file = "/etc/sluice/smarthost.password" }',
    )
    port: Port = _key(None, "The port to deliver to.")
    idle_timeout: Duration = _key(
        None, "How long an open connection waits for more mail before it is closed."
    )
    connect_timeout: PositiveDuration = _key(
        None, "How long connecting to one address of a host may take."
    )
    timeouts: TimeoutsSection = _key(
        None,
        "How long we wait at each step of the dialogue. Steps that are not named keep the value "
        "of the next place, in the end that of RFC 5321 §4.5.3.2.",
        example='{ mail = "5m", end_of_data = "10m" }',
    )
    tls: Tls = _key(
        None,
        'TLS towards the host: "none", "opportunistic" (where it is offered, without checking '
        'the certificate) or "require" (mail waits rather than go in the clear).',
    )
    backoff_initial: PositiveDuration = _key(
        None,
        "How long a queue rests after a host refused it at the greeting, EHLO or MAIL, or said "
        "421. The time doubles with each refusal in a row.",
    )
    backoff_cap: PositiveDuration = _key(
        None,
        "The longest such rest. Up to half of each is taken off, so that what failed together does not come back together.",
    )


class SiteSection(QueueSection):
    """A mailbox provider: limits of `[site.X]` are shared by all domains it receives for."""

    mx: HostPatterns = _key(
        (),
        "The provider's mail hosts. A domain is of this site when each of its most-preferred MX "
        "hosts matches one of these: `*.google.com` is any name below, others match exactly.",
        example='["*.google.com", "*.googlemail.com"]',
    )
    domains: Domains = _key(
        (), "Domains that are of this site whatever their MX says.", example='["gmail.com"]'
    )


class VmtaSection(QueueSection):
    """A virtual MTA: source addresses with an EHLO name, and what goes out from there."""

    source_addresses: Sources = _key(
        (),
        "The addresses to send from: IPv4 is used towards IPv4, IPv6 towards IPv6. Not set: the "
        "system chooses.",
        example='["192.0.2.10", "2001:db8::10"]',
    )
    ehlo_name: Domain = _key(
        None,
        "The name said in EHLO; it should resolve to the source addresses. Not set: the server's.",
        example='"a.mta.example.com"',
    )
    total_connections: Limit = _key(
        _VMTA.total_connections,
        "How many connections may be open from this virtual MTA in all.",
        example="200",
    )
    total_message_rate: RateLimit = _key(
        _VMTA.total_message_rate,
        "How many recipients may be attempted from this virtual MTA in a time.",
        example='"100000/h"',
    )
    site: dict[str, QueueSection] = Field(
        default_factory=dict, description="Values for one site from this virtual MTA."
    )
    domain: dict[str, QueueSection] = Field(
        default_factory=dict, description="Values for one domain from this virtual MTA."
    )


class PoolSection(Section):
    """A pool: virtual MTAs that share its mail. A pool may be named wherever a message's virtual MTA is.

    A virtual MTA that is paused, drained or without its source addresses leaves the pool by itself, and comes back.
    """

    vmtas: Weights = _key(
        ...,
        "The virtual MTAs, each with its weight: of { a = 3, b = 1 } the first sends three messages of four, in turn. A list "
        "gives all the same weight.",
        example="{ a = 3, b = 1 }",
    )
    sticky: Literal["", "job"] = _key(
        _POOL.sticky,
        '"job": all mail of a job goes by one virtual MTA, as long as that is in the pool; a member that leaves moves its own '
        "jobs only. Mail without a job takes turns.",
        example='"job"',
    )


class SelectionSection(Section):
    """Which virtual MTA or pool sends a message, where neither its header nor its listener says it.

    The order is: the header (`vmta_header`), the listener's `vmta`, the user, the sender, the default.
    """

    users: Names = _key(
        _SELECTION.users,
        "By the user that logged in.",
        example='{ news = "bulk", shop = "a" }',
    )
    senders: Names = _key(
        dict(_SELECTION.senders),
        'By the envelope sender; `*` stands for anything, "<>" for the null sender. The first that matches counts.',
        example='{ "*@news.example.com" = "bulk", "billing@example.com" = "a" }',
    )
    default: str = _key(
        "",
        "All other mail. Not set: the only virtual MTA there is, or the one (or the pool) named `default`.",
        example='"a"',
    )


class SourceSection(Section):
    """Some of those who hand in mail, by any name, and what is theirs. All that is given must fit; the first that fits counts."""

    networks: Networks = _key(
        (), "Mail from these addresses of clients.", example='["10.1.0.0/16"]'
    )
    users: UserNames = _key((), "Mail of these users, who log in.", example='["crm"]')
    senders: SenderPatterns = _key(
        (),
        "Mail with these envelope senders; `*` stands for anything.",
        example='["*@shop.example.com"]',
    )
    notices: Notices = _key(
        "",
        'Who is told by mail of what could not be delivered: "send", "never" or "to:address", as in `[server]`. Not set: as '
        "the server does.",
        example='"to:ops@example.com"',
    )
    notice_language: Language = _key(
        "",
        "The language of notices about this mail, as in `[server]`. Not set: the server's.",
        example='"de"',
    )


class DkimSection(Section):
    """A key to sign with. Two entries for one domain make two signatures."""

    domain: DomainPattern = _key(
        ...,
        "The domain to sign for, compared with the From field, then with the envelope sender; "
        "`*.example.com` stands for every name below.",
        example='"example.com"',
    )
    selector: Domain = _key(
        ...,
        "The selector: the public key stands in DNS at `<selector>._domainkey.<domain>`.",
        example='"s1"',
    )
    key_file: FilePath = _key(
        ...,
        "The private key as a PEM file that others cannot read; RSA (2048 bits or more is "
        "advised) or Ed25519. `sluice dkim generate` makes one and prints the DNS record.",
        example='"/etc/sluice/dkim/s1.pem"',
    )
    header_canonicalization: Literal["relaxed", "simple"] = _key(
        _DKIM.header_canon, 'How the header may be changed on its way: "relaxed" or "simple".'
    )
    body_canonicalization: Literal["relaxed", "simple"] = _key(
        _DKIM.body_canon, "The same for the body."
    )
    identity: str = _key(
        _DKIM.identity,
        "The identity (i=), an address in the domain or below. Rarely needed.",
        example='"@example.com"',
    )
    expire: PositiveDuration = _key(
        None, "After what time the signature stops being valid (x=).", example='"14d"'
    )


class AccountingSection(Section):
    """A set of accounting files: one line for every recipient that is done."""

    path: FilePath = _key(
        ...,
        "The file being written. Rotated files stand beside it, with date and number in the name.",
        example='"/var/log/sluice/acct.csv"',
    )
    records: tuple[Literal["d", "b", "t", "tq", "r"], ...] = _key(
        _ACCOUNTING.records,
        'Which records: "d" delivered, "b" bounced, "t" a recipient deferred, "tq" a queue '
        'deferred, "r" received. The last three are many: give them a file of their own.',
    )
    format: Literal["csv", "jsonl"] = _key(
        _ACCOUNTING.format, 'How a record is written: "csv" or "jsonl", an object of JSON a line.'
    )
    fields: tuple[str, ...] = _key(
        _ACCOUNTING.fields,
        "Which columns, in this order; `type` always comes first. Not set: all that the records fill.",
        example='["timeLogged", "rcpt", "dsnStatus", "bounceCat", "vmta", "jobId"]',
    )
    vmtas: NamePatterns = _key(
        _ACCOUNTING.vmtas,
        "Only records of these virtual MTAs. `*` stands for anything, `!` in front leaves out, the first pattern that matches "
        "decides; with nothing but `!` patterns all others are kept.",
        example='["a", "b-*"]',
    )
    jobs: NamePatterns = _key(
        _ACCOUNTING.jobs, "Only records of these jobs, chosen likewise.", example='["!test-*"]'
    )
    domains: NamePatterns = _key(
        _ACCOUNTING.domains,
        "Only records of recipients at these domains, chosen likewise.",
        example='["gmail.com", "*.example.net"]',
    )
    max_size: Size = _key(_ACCOUNTING.max_size, "A new file begins at this size.")
    rotate: Literal["1d", "never"] = _key(
        "1d", 'Whether a new file begins every day, at midnight UTC: "1d" or "never".'
    )
    compress: Switch = _key(
        _ACCOUNTING.compress, "Whether finished files are compressed with gzip, in the background."
    )
    keep: PositiveDuration = _key(
        None,
        "How long after its last record a finished file is removed. Not set: never.",
        example='"30d"',
    )
    keep_size: Size = _key(
        None,
        "How large all finished files of this set may be together; beyond it the oldest are removed. Not set: without a limit.",
        example='"20G"',
    )


class MetricsSection(Section):
    """The server's numbers, for Prometheus: one page over all workers, at /metrics."""

    address: ListenAddress = _key(
        _METRICS.address,
        "The IP address and port of the page. Not set: there is none. It takes no login: choose "
        "loopback, or an address that only your monitoring reaches.",
        example='"127.0.0.1:9090"',
    )


class LicenseSection(Section):
    """Licences: where they lie, and how the vendor is told what was used. Lab mode needs none of it.

    What is reported are counts; `sluice license report show` shows every byte.
    """

    dir: FilePath = _key(
        _LICENSE.dir,
        "The directory of the licence files; `sluice license install` puts them there.",
    )
    state_dir: FilePath = _key(
        _LICENSE.state_dir,
        "The directory of this server's key, its ledger of counts and its activation. It belongs on "
        "a local disk, and to the user the server runs as; never copy it to another server.",
    )
    reporting: Switch = _key(
        _LICENSE.reporting,
        "Whether this server may call the vendor. Under a Volume licence it must (section 8.4 of the "
        "terms); under all others a report a day says that it is there.",
    )
    endpoint: HttpsUrl = _key(
        _LICENSE.endpoint,
        "Where to report instead of the address in the licence: a relay of your own.",
        example='"https://license-relay.example.com"',
    )
    proxy: Url = _key(
        _LICENSE.proxy,
        "The HTTP proxy on the way to the vendor.",
        example='"http://proxy.example.com:3128"',
    )
    ca_file: FilePath = _key(
        _LICENSE.ca_file,
        "The certificates, as a PEM file, to believe besides the system's: of a proxy that looks into "
        "TLS, for one. What the vendor says is signed in any case.",
        example='"/etc/sluice/tls/ca.pem"',
    )
    allow_ephemeral: Switch = _key(
        _LICENSE.allow_ephemeral,
        "Whether `state_dir` may lie where a restart empties it (in memory, in a container's own layer). Each "
        "start is another node then: well for Volume in containers that come and go, but under a server "
        "licence it takes another seat, and without this setting no licence is in force.",
    )
    node_label: Label = _key(
        _LICENSE.node_label,
        "What the vendor's list of your servers calls this one; its host name is never told.",
        example='"mail 1, Paris"',
    )
    notify_email: MailAddresses = _key(
        _LICENSE.notify_email,
        "Who gets a mail when a volume is nearly used up, a licence nearly over, or something is wrong.",
        example='["mail-team@example.com"]',
    )
    notify_url: Url = _key(
        _LICENSE.notify_url,
        "Where the same is posted to, as JSON.",
        example='"https://alerts.example.com/sluice"',
    )
    root: FilePath = _key(
        _LICENSE.root,
        "A root of trust of your own instead of the vendor's: it opens Development licences only.",
        example='"/etc/sluice/license-root.json"',
    )


class LoggingSection(Section):
    """The server's own log. Mail is not logged here: it has its accounting."""

    level: Literal["debug", "info", "warning", "error"] = _key(
        _LOGGING.level, 'The least important messages that are written: "debug", "info", …'
    )
    format: Literal["text", "json"] = _key(_LOGGING.format, '"text" for people, "json" for tools.')
    path: FilePath = _key(
        _LOGGING.path,
        "The file to write to. Not set: standard error, which systemd keeps.",
        example='"/var/log/sluice/sluice.log"',
    )


class BounceSection(Section):
    """What refusals mean: `sluice bounce classify` tells it of a reply, `sluice bounce lint` looks the rules over."""

    rules: str = _key(
        "",
        "A file of rules of your own, as `[[rule]]`; they stand before those that come with Sluice. "
        "Not set: only those.",
        example='"bounce-rules.toml"',
    )


class ConfigFile(Section):
    """The whole file, in the order of the reference."""

    include: tuple[str, ...] = _key(
        (),
        "More files to read, relative to this one, in sorted order. A table may stand in one of "
        "the files only; `[[listener]]` and `[[dkim]]` add up.",
        example='["conf.d/*.toml"]',
    )
    server: ServerSection
    listener: tuple[ListenerSection, ...] = ()
    dns: DnsSection
    vmta: dict[str, VmtaSection] = Field(default_factory=dict)
    pool: dict[str, PoolSection] = Field(default_factory=dict)
    selection: SelectionSection
    source: dict[str, SourceSection] = Field(default_factory=dict)
    site: dict[str, SiteSection] = Field(default_factory=dict)
    default: QueueSection
    domain: dict[str, QueueSection] = Field(default_factory=dict)
    dkim: tuple[DkimSection, ...] = ()
    accounting: dict[str, AccountingSection] = Field(default_factory=dict)
    bounce: BounceSection
    license: LicenseSection
    metrics: MetricsSection
    logging: LoggingSection
