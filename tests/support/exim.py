"""An Exim of a test's own, in a room with its packages (bench/install-peers): it takes mail for one domain into a maildir."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.room import Room
from bench.processes import Child, wait_for_banner
from tests.support.daemon import free_port
from tests.support.peers import Smarthost, needs_room, read_mail
from tests.support.secrets import write_certificate

USER = "Debian-exim"
SPOOL = "/var/spool/exim4"
DOMAIN = "exim.example"

needs_exim = needs_room("exim", "exim4")

CONFIG = """\
primary_hostname = {domain}
exim_user = {user}
exim_group = {user}
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
spool_directory = {spool}
log_file_path = {spool}/%slog
pid_file_path = {spool}/exim.pid
never_users =
keep_environment =
disable_ipv6 = true
host_lookup =
rfc1413_hosts =
dns_ipv4_lookup = *
tls_advertise_hosts = *
tls_certificate = /etc/exim4/cert.pem
tls_privatekey = /etc/exim4/key.pem
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
log_selector = +all
acl_smtp_rcpt = take_it

begin acl
take_it:
  accept

begin routers
inbox:
  driver = accept
  domains = {domain}
  transport = inbox
{router}

begin transports
inbox:
  driver = appendfile
  directory = {spool}/inbox
  maildir_format
  user = {user}
  message_prefix =
  message_suffix =
{transport}

begin retry
* * F,1h,1s

begin authenticators
{authenticator}
"""
ROUTER = """\
smarthost:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = smarthost
"""
TRANSPORT = """\
smarthost:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_require_tls = *
  hosts_require_auth = *
  tls_tempfail_tryclear = false
  tls_verify_certificates =
  hosts_try_dane =
"""
AUTHENTICATOR = """\
login:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{user}^{password}
"""


class Exim:
    """One running daemon."""

    def __init__(self, port: int, spool: Path) -> None:
        self.domain = DOMAIN
        self.port = port
        self._spool = spool

    @property
    def log(self) -> str:
        """Its main log."""
        path = self._spool / "mainlog"
        return path.read_text(errors="replace") if path.exists() else ""

    def mail(self) -> list[bytes]:
        """The messages for its domain."""
        return read_mail(self._spool / "inbox/new")


@contextmanager
def an_exim(smarthost: Smarthost | None = None) -> Iterator[Exim]:
    """A running daemon; with `smarthost`, mail for other domains goes there."""
    with tempfile.TemporaryDirectory(prefix="sluice-exim-") as name:
        place = Path(name)
        port = free_port()
        certificate, key = write_certificate(place, DOMAIN)
        etc = {
            "exim4/exim4.conf": format_config(port, smarthost),
            "exim4/cert.pem": certificate.read_text(),
            "exim4/key.pem": key.read_text(),
        }
        room = Room(place, "exim", etc, users=(USER,), spools=(SPOOL,))
        room.build()
        spool = room.spool(SPOOL)
        room.own(spool, USER, 0o750)
        command = room.command("/usr/sbin/exim4", "-bdf", "-q5s")
        with Child("exim", command, place / "exim.log") as child:
            wait_for_banner(port, child, 30.0)
            yield Exim(port, spool)


def format_config(port: int, smarthost: Smarthost | None) -> str:
    """The whole exim4.conf."""
    router = transport = authenticator = ""
    if smarthost is not None:
        router, transport = ROUTER, TRANSPORT.format(port=smarthost.port)
        authenticator = AUTHENTICATOR.format(user=smarthost.user, password=smarthost.password)
    return CONFIG.format(
        domain=DOMAIN,
        user=USER,
        port=port,
        spool=SPOOL,
        router=router,
        transport=transport,
        authenticator=authenticator,
    )
