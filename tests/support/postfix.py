"""A Postfix of a test's own: configuration, queue, data and mail in a directory made for it, on loopback, ended by its id.

The system's Postfix is neither read (but for its programs) nor touched. Its log comes from its own postlogd.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.processes import Child, wait_for_banner
from tests.support.daemon import free_port
from tests.support.peers import Smarthost, needs, read_mail
from tests.support.secrets import write_certificate
from tests.support.wire import wait_until

_MISSING = os.geteuid() != 0 or shutil.which("postfix") is None
needs_postfix = needs("a private Postfix needs root and Debian's postfix package" * _MISSING)

MASTER = """\
127.0.0.1:{port} inet n - n - 20 smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       20      smtp
relay     unix  -       -       n       -       20      smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""

DOMAIN = "pf.example"  # mail to it is delivered here, to one maildir


class Postfix:
    """One running instance."""

    def __init__(self, root: Path, port: int) -> None:
        self.domain = DOMAIN
        self.port = port
        self._root = root

    @property
    def log(self) -> str:
        """What its daemons wrote."""
        path = self._root / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    def mail(self) -> list[bytes]:
        """The messages delivered to its maildir."""
        return read_mail(self._root / "mail/inbox/new")

    def wait_for_log(self, words: str, count: int = 1) -> None:
        """Wait until these words stand in the log so many times."""
        try:
            wait_until(lambda: self.log.count(words) >= count, 30)
        except AssertionError:
            raise AssertionError(f"no {words!r} in:\n{self.log}") from None


def relaying(smarthost: Smarthost) -> dict[str, str]:
    """The lines of main.cf with which it relays all mail there, over TLS and logged in."""
    login = f"{smarthost.user}:{smarthost.password}"
    return {
        "relayhost": smarthost.name,
        "smtp_tls_security_level": "encrypt",
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_security_options": "noanonymous",
        "smtp_sasl_tls_security_options": "noanonymous",
        "smtp_sasl_password_maps": f"inline:{{ {{ {smarthost.name} = {login} }} }}",
    }


@contextmanager
def a_postfix(**settings: str) -> Iterator[Postfix]:
    """A running instance; `settings` are lines of its main.cf."""
    # Not pytest's directory: that is closed to the user postfix.
    with tempfile.TemporaryDirectory(prefix="sluice-postfix-") as name:
        root = Path(name)
        root.chmod(0o755)
        port = free_port()
        config = write_config(root, port, settings)
        with Child("postfix", ["postfix", "-c", str(config), "start-fg"], root / "out") as master:
            wait_for_banner(port, master, 30.0)
            yield Postfix(root, port)


def write_config(root: Path, port: int, settings: Mapping[str, str]) -> Path:
    """main.cf, master.cf and all directories; the one of the configuration."""
    config = root / "etc"
    for directory in (config, root / "queue", root / "data", root / "mail"):
        directory.mkdir(mode=0o755)
    for directory in (root / "data", root / "mail"):
        shutil.chown(directory, "postfix")
    certificate, key = write_certificate(config, "postfix.example")
    user = (root / "data").stat().st_uid
    main = {
        "compatibility_level": "3.6",
        "myhostname": "postfix.example",
        "queue_directory": str(root / "queue"),
        "data_directory": str(root / "data"),
        "maillog_file": str(root / "maillog"),
        "maillog_file_prefixes": str(root),
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "mynetworks": "127.0.0.0/8",
        "smtp_dns_support_level": "disabled",
        "smtpd_peername_lookup": "no",
        "mydestination": "",
        "local_recipient_maps": "",
        "alias_maps": "",
        "alias_database": "",
        "smtpd_tls_cert_file": str(certificate),
        "smtpd_tls_key_file": str(key),
        "smtpd_tls_loglevel": "1",
        "smtp_tls_loglevel": "1",
        "smtpd_tls_received_header": "yes",
        "virtual_mailbox_domains": DOMAIN,
        "virtual_mailbox_base": str(root / "mail"),
        "virtual_mailbox_maps": "static:inbox/",
        "virtual_uid_maps": f"static:{user}",
        "virtual_gid_maps": f"static:{user}",
        "virtual_minimum_uid": "1",
        **settings,
    }
    (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
    (config / "master.cf").write_text(MASTER.format(port=port))
    return config
