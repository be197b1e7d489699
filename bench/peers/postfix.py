"""Postfix, tuned as its TUNING_README says, in an instance of its own; alone or with OpenDKIM.

Configuration, queue and data directories are made for the run; the system's Postfix is neither read
(but for its programs) nor touched. It keeps its log through postlogd, as Sluice keeps its
accounting.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.peers import DEAD_DOMAIN, Setup
from bench.peers.opendkim import OpenDkim, opendkim_version
from bench.processes import Child, free_port, wait_for_banner
from bench.signature import CHECK_DOMAIN

SETTINGS = {
    # TUNING_README: or cleanup slows the source down while the output cannot keep up.
    "in_flow_delay": "0",
    "default_process_limit": "200",
    # SCHEDULER_README: never fewer connections, and the whole run in the active queue.
    "default_destination_concurrency_failed_cohort_limit": "100",
    "qmgr_message_active_limit": "100000",
    "qmgr_message_recipient_limit": "100000",
    "smtp_connection_cache_on_demand": "yes",
    # No lookup that this mail does not need.
    "smtp_dns_support_level": "disabled",
    "smtpd_peername_lookup": "no",
    "smtpd_recipient_restrictions": "permit_mynetworks, reject",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
    "local_recipient_maps": "",
    "alias_maps": "",
    "alias_database": "",
    "mydestination": "",
    # No throttle on the one client there is.
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_client_message_rate_limit": "0",
    "smtpd_error_sleep_time": "0",
    "smtpd_tls_security_level": "none",
    "smtp_tls_security_level": "none",
}

MASTER = """\
127.0.0.1:{port} inet n - n - 200 smtpd
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
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       n       -       {outbound} smtp
relay     unix  -       -       n       -       {outbound} smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""


class RunningPostfix:
    """One private instance, up and greeting."""

    cpu_is_whole = True

    def __init__(self, port: int, children: Sequence[Child], maillog: Path) -> None:
        self._port = port
        self._children = children
        self._maillog = maillog

    @property
    def port(self) -> int:
        return self._port

    @property
    def children(self) -> Sequence[Child]:
        return self._children

    def loop_lag_p99_ms(self) -> float | None:
        return None

    def recorded(self) -> int:
        with self._maillog.open("rb") as log:
            return sum(b" status=sent " in line for line in log)


class Postfix:
    """Postfix alone, or with OpenDKIM behind its milter interface."""

    def __init__(self, *, with_opendkim: bool = False) -> None:
        self._with_opendkim = with_opendkim

    @property
    def name(self) -> str:
        return "postfix+opendkim" if self._with_opendkim else "postfix"

    @property
    def settings(self) -> str:
        return "; ".join(f"{name} = {value}" for name, value in SETTINGS.items())

    def missing(self) -> str:
        if os.geteuid() != 0:
            return "a private Postfix instance must be started as root"
        wanted = ["postfix", "postconf", *(["opendkim"] if self._with_opendkim else [])]
        absent = [program for program in wanted if shutil.which(program) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""

    def version(self) -> str:
        command = ["postconf", "-d", "-h", "mail_version"]
        postfix = (
            "Postfix "
            + subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        )
        return f"{postfix} + {opendkim_version()}" if self._with_opendkim else postfix

    @contextmanager
    def start(self, setup: Setup) -> Iterator[RunningPostfix]:
        port = free_port()
        config = write_config(setup, port)
        with ExitStack() as stack:
            children: list[Child] = []
            if self._with_opendkim:
                assert setup.key is not None
                children.append(stack.enter_context(OpenDkim(setup.directory, setup.key)).child)
                with (config / "main.cf").open("a") as main:
                    main.write(f"smtpd_milters = unix:{setup.directory}/opendkim.sock\n")
                    main.write("milter_default_action = tempfail\n")
            command = ["postfix", "-c", str(config), "start-fg"]
            log = setup.directory / "postfix.log"
            master = stack.enter_context(Child(self.name, command, log))
            wait_for_banner(port, master, 30.0)
            yield RunningPostfix(port, [*children, master], setup.directory / "maillog")


def write_config(setup: Setup, port: int) -> Path:
    """Write main.cf and master.cf of an instance in `setup.directory`; their directory."""
    root = setup.directory
    config = root / "etc"
    for directory in (config, root / "queue", root / "data"):
        directory.mkdir()
    shutil.chown(root / "data", "postfix")
    outbound = setup.total_connections or setup.connections
    transports = {}
    if setup.check_port is not None:
        transports[CHECK_DOMAIN] = f"smtp:[127.0.0.1]:{setup.check_port}"
    if setup.dead_port is not None:
        transports[DEAD_DOMAIN] = f"smtp:[127.0.0.1]:{setup.dead_port}"
    table = ", ".join(f"{{ {domain} = {route} }}" for domain, route in transports.items())
    main = {
        "compatibility_level": "3.6",
        "myhostname": "postfix.bench.example",
        "queue_directory": str(root / "queue"),
        "data_directory": str(root / "data"),
        "maillog_file": str(root / "maillog"),
        "maillog_file_prefixes": str(root),
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "mynetworks": "127.0.0.0/8",
        "relayhost": f"[127.0.0.1]:{setup.sink_port}",
        "transport_maps": f"inline:{{ {table} }}" if table else "",
        "default_destination_concurrency_limit": str(outbound),
        "initial_destination_concurrency": str(outbound),
        **SETTINGS,
    }
    (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
    (config / "master.cf").write_text(MASTER.format(port=port, outbound=outbound))
    return config
