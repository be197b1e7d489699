"""Exim from Debian's package exim4-daemon-light, unpacked by bench/install-peers and run in a room of its own.

Tuned after the chapters on the performance of Exim's specification (ch. 52, "Some common configuration
settings" for queues and 60.x on spool files) and its FAQ Q1001–Q1005. Its spool files are synced before each 250, as always.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.peers import DEAD_DOMAIN, Setup
from bench.peers.room import PEERS, Room, missing_from_room
from bench.processes import Child, free_port, wait_for_banner
from bench.signature import CHECK_DOMAIN

SETTINGS = {
    # Specification ch. 14: no limit that this client would meet, no pause for the load, no delivery put off.
    "smtp_accept_max": "0",
    "smtp_accept_max_per_connection": "0",
    "smtp_accept_queue": "0",
    "smtp_accept_queue_per_connection": "0",
    "smtp_accept_reserve": "0",
    "smtp_connect_backlog": "1024",
    "queue_run_max": "40",
    "check_spool_space": "0",
    "check_spool_inodes": "0",
    # FAQ Q1001: worth it once the queue is long.
    "split_spool_directory": "true",
    # Specification ch. 55: the delivering process need not become root again.
    "deliver_drop_privilege": "true",
    # No lookup that this mail does not need.
    "host_lookup": "",
    "rfc1413_hosts": "",
    "rfc1413_query_timeout": "0s",
    "dns_ipv4_lookup": "*",
    "disable_ipv6": "true",
    "tls_advertise_hosts": "",
    "prdr_enable": "false",
    "message_logs": "false",  # ch. 14: a file less for each message; the main log stays on
    "log_selector": "-queue_run -smtp_connection",
    "acl_smtp_rcpt": "accept_all",
}

CONFIG = """\
{settings}
primary_hostname = exim.bench.example
exim_user = Debian-exim
exim_group = Debian-exim
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
spool_directory = /var/spool/exim4
log_file_path = /var/spool/exim4/%slog
pid_file_path = /var/spool/exim4/exim.pid
never_users =
keep_environment =

begin acl
accept_all:
  accept hosts = 127.0.0.1
         control = submission/sender_retain

begin routers
{named}
sink:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = to_sink

begin transports
to_sink:
  driver = smtp
  port = {sink_port}
{transport}
{transports}

begin retry
* * F,1h,10s
"""
TRANSPORT = """\
  allow_localhost
  hosts_try_fastopen =
  hosts_avoid_tls = *
  hosts_try_prdr =
  hosts_try_dane =
  connection_max_messages = {per_connection}
"""
ROUTER = """\
{name}:
  driver = manualroute
  domains = {domain}
  route_list = * 127.0.0.1
  self = send
  transport = to_{name}
"""
QUEUE_RUNS = "-q1m"  # for what was deferred: messages are delivered as they come
PER_CONNECTION = 500  # ch. 30, connection_max_messages: its default


class RunningExim:
    """One private daemon, up and greeting."""

    # Its processes ignore SIGCHLD: the CPU time of an ended delivery is in nobody's account.
    cpu_is_whole = False

    def __init__(self, port: int, child: Child, mainlog: Path) -> None:
        self._port = port
        self._child = child
        self._mainlog = mainlog

    @property
    def port(self) -> int:
        return self._port

    @property
    def children(self) -> Sequence[Child]:
        return [self._child]

    def loop_lag_p99_ms(self) -> float | None:
        return None

    def recorded(self) -> int:
        """`=>` in the main log is a first delivery, `->` a further recipient's (ch. 53)."""
        with self._mainlog.open("rb") as log:
            return sum(b" => " in line or b" -> " in line for line in log)


class Exim:
    """Exim, which delivers each message at once in a process of its own."""

    @property
    def name(self) -> str:
        return "exim"

    @property
    def settings(self) -> str:
        return "; ".join(f"{name} = {value}" for name, value in SETTINGS.items())

    def missing(self) -> str:
        return missing_from_room("exim", "exim4")

    def version(self) -> str:
        # `exim -bV` wants its user to exist; the package says the same.
        changes = PEERS / "exim/usr/share/doc/exim4-base/changelog.Debian.gz"
        with gzip.open(changes, "rt") as lines:  # "exim4 (4.96-15+deb12u7) bookworm; …"
            return f"Exim {next(lines).split()[1].strip('()')}"

    @contextmanager
    def start(self, setup: Setup) -> Iterator[RunningExim]:
        port = free_port()
        room = Room(
            setup.directory,
            "exim",
            {"exim4/exim4.conf": format_config(setup, port)},
            users=("Debian-exim",),
            spools=("/var/spool/exim4",),
        )
        room.build()
        spool = room.spool("/var/spool/exim4")
        room.own(spool, "Debian-exim", 0o750)
        command = room.command("/usr/sbin/exim4", "-bdf", QUEUE_RUNS)
        with Child("exim", command, setup.directory / "exim.log") as child:
            wait_for_banner(port, child, 30.0)
            yield RunningExim(port, child, spool / "mainlog")


def format_config(setup: Setup, port: int) -> str:
    """The whole exim4.conf of a run."""
    transport = TRANSPORT.format(per_connection=PER_CONNECTION)
    named, transports = [], []
    for domain, to in ((CHECK_DOMAIN, setup.check_port), (DEAD_DOMAIN, setup.dead_port)):
        if to is not None:
            name = domain.partition(".")[0]
            named.append(ROUTER.format(name=name, domain=domain))
            transports.append(f"to_{name}:\n  driver = smtp\n  port = {to}\n{transport}")
    return CONFIG.format(
        settings="\n".join(f"{name} = {value}" for name, value in SETTINGS.items()),
        port=port,
        sink_port=setup.sink_port,
        named="\n".join(named),
        transport=transport,
        transports="\n".join(transports),
    )
