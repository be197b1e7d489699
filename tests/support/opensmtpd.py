"""An OpenSMTPD of a test's own, in a room with its packages (bench/install-peers): it takes mail for one domain, too."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.room import Room
from bench.processes import Child, wait_for_banner
from tests.support.daemon import free_port
from tests.support.peers import Smarthost, needs_room, read_mail
from tests.support.secrets import write_certificate

SPOOL = "/var/spool/smtpd"
EMPTY = "/var/lib/opensmtpd/empty"  # the chroot of its processes
MAIL = "/var/mail-of-test"
DAEMON, QUEUE, OWNER = "opensmtpd", "opensmtpq", "mailowner"
DOMAIN = "opensmtpd.example"

needs_opensmtpd = needs_room("opensmtpd", "smtpd")

CONFIG = """\
pki here cert "/etc/cert.pem"
pki here key "/etc/key.pem"
table everyone {{ "@" = "{owner}" }}
listen on 127.0.0.1 port {port} tls pki here hostname {domain}
action "inbox" maildir "{mail}/inbox" virtual <everyone>
match from any for domain "{domain}" action "inbox"
"""
RELAY = """\
table secrets {{ "here" = "{user}:{password}" }}
action "smarthost" relay host "smtp+tls://here@127.0.0.1:{port}" auth <secrets> tls no-verify
match from any for any action "smarthost"
"""


class OpenSmtpd:
    """One running daemon."""

    def __init__(self, port: int, child: Child, mail: Path) -> None:
        self.domain = DOMAIN
        self.port = port
        self._child = child
        self._mail = mail

    @property
    def log(self) -> str:
        """What it said (`smtpd -d`)."""
        return self._child.log.read_text(errors="replace")

    def mail(self) -> list[bytes]:
        """The messages for its domain."""
        return read_mail(self._mail / "inbox/new")


@contextmanager
def an_opensmtpd(smarthost: Smarthost | None = None) -> Iterator[OpenSmtpd]:
    """A running daemon; with `smarthost`, mail for other domains goes there."""
    with tempfile.TemporaryDirectory(prefix="sluice-opensmtpd-") as name:
        place = Path(name)
        port = free_port()
        certificate, key = write_certificate(place, DOMAIN)
        etc = {
            "smtpd.conf": format_config(port, smarthost),
            "mailname": f"{DOMAIN}\n",
            "cert.pem": certificate.read_text(),
            "key.pem": key.read_text(),
        }
        room = Room(
            place, "opensmtpd", etc, users=(DAEMON, QUEUE, OWNER), spools=(SPOOL, EMPTY, MAIL)
        )
        room.build()
        room.spool(SPOOL).chmod(0o711)
        room.spool(EMPTY).chmod(0o755)
        room.own(room.spool(MAIL), OWNER, 0o755)
        (place / "room/etc/key.pem").chmod(0o600)
        (place / "room/etc/smtpd.conf").chmod(0o600)
        log = place / "opensmtpd.log"
        with Child("opensmtpd", room.command("/usr/sbin/smtpd", "-d"), log) as child:
            wait_for_banner(port, child, 30.0)
            yield OpenSmtpd(port, child, room.spool(MAIL))


def format_config(port: int, smarthost: Smarthost | None) -> str:
    """The whole smtpd.conf."""
    text = CONFIG.format(owner=OWNER, port=port, domain=DOMAIN, mail=MAIL)
    if smarthost is not None:
        text += RELAY.format(user=smarthost.user, password=smarthost.password, port=smarthost.port)
    return text
