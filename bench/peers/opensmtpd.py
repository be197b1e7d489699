"""OpenSMTPD from Debian's package, unpacked by bench/install-peers and run in a room of its own.

It has no tuning guide; smtpd.conf(5) and the limits its grammar (parse.y) knows are what there is to turn. Its
queue files are synced before each 250, as always.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.peers import DEAD_DOMAIN, Setup
from bench.peers.room import PEERS, Room, missing_from_room
from bench.processes import Child, free_port, wait_for_banner
from bench.signature import CHECK_DOMAIN

SPOOL = "/var/spool/smtpd"
EMPTY = "/var/lib/opensmtpd/empty"  # the chroot of its processes
DAEMON, QUEUE = "opensmtpd", "opensmtpq"  # its two users
SETTINGS = (
    # smtpd.conf(5): a client session may bring as many messages as it likes (default 100).
    "smtp limit max-mails 1000000",
    # parse.y, limits of the mta: as many connections as the others have, and none held back.
    *(
        f"mta limit max-conn-per-{what} {{outbound}}"
        for what in ("host", "route", "source", "connector", "relay", "domain")
    ),
    "mta limit session-transaction-delay 0",
    "mta limit conn-delay-host 0",
    "mta limit conn-delay-route 0",
    "mta limit conn-delay-source 0",
    "mta limit conn-delay-connector 0",
    "mta limit conn-delay-relay 0",
    "mta limit conn-delay-domain 0",
    # After a disconnect a route rests 3 s, an idle session keeps its place for 10 s, and a relay is handed few
    # messages at a time: with these defaults 2,500 messages ran at 64 to 96 a second, without them at 308.
    "mta limit reconn-delay-route 0",
    "mta limit session-keepalive 0",
    "mta limit task-hiwat 1000",
    "mta limit task-lowat 800",
    "mta limit task-release 500",
    # parse.y, limits of the scheduler: the whole run may be under way at once.
    "scheduler limit max-inflight 100000",
)


class RunningOpenSmtpd:
    """One private daemon, up and greeting; it logs to its stderr (`smtpd -d`)."""

    cpu_is_whole = True

    def __init__(self, port: int, child: Child) -> None:
        self._port = port
        self._child = child

    @property
    def port(self) -> int:
        return self._port

    @property
    def children(self) -> Sequence[Child]:
        return [self._child]

    def loop_lag_p99_ms(self) -> float | None:
        return None

    def recorded(self) -> int:
        with self._child.log.open("rb") as log:
            return sum(b" mta delivery " in line and b' result="Ok" ' in line for line in log)


class OpenSmtpd:
    """OpenSMTPD with its file queue."""

    @property
    def name(self) -> str:
        return "opensmtpd"

    @property
    def settings(self) -> str:
        return "; ".join(SETTINGS)

    def missing(self) -> str:
        return missing_from_room("opensmtpd", "smtpd")

    def version(self) -> str:
        libraries = {
            "LD_LIBRARY_PATH": str(next((PEERS / "opensmtpd/usr/lib").glob("*-linux-gnu")))
        }
        command = [str(PEERS / "opensmtpd/usr/sbin/smtpd"), "-h"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, env=libraries)
        words = (answer.stderr or answer.stdout).partition("\n")[0]
        return words.replace("version: ", "").strip() or "OpenSMTPD"

    @contextmanager
    def start(self, setup: Setup) -> Iterator[RunningOpenSmtpd]:
        port = free_port()
        room = Room(
            setup.directory,
            "opensmtpd",
            {"smtpd.conf": format_config(setup, port), "mailname": "opensmtpd.bench.example\n"},
            users=(DAEMON, QUEUE),
            spools=(SPOOL, EMPTY),
        )
        room.build()
        room.spool(SPOOL).chmod(0o711)
        room.spool(EMPTY).chmod(0o755)
        log = setup.directory / "opensmtpd.log"
        with Child("opensmtpd", room.command("/usr/sbin/smtpd", "-d"), log) as child:
            wait_for_banner(port, child, 30.0)
            yield RunningOpenSmtpd(port, child)


def format_config(setup: Setup, port: int) -> str:
    """The whole smtpd.conf of a run."""
    lines = [one.format(outbound=setup.connections) for one in SETTINGS]
    lines.append(f"listen on 127.0.0.1 port {port} no-dsn")
    matches = []
    for domain, to in ((CHECK_DOMAIN, setup.check_port), (DEAD_DOMAIN, setup.dead_port)):
        if to is not None:
            action = domain.partition(".")[0]
            lines.append(f'action "{action}" relay host smtp+notls://127.0.0.1:{to}')
            matches.append(f'match from any for domain "{domain}" action "{action}"')
    lines.append(f'action "sink" relay host smtp+notls://127.0.0.1:{setup.sink_port}')
    lines += [*matches, 'match from any for any action "sink"']
    return "\n".join(lines) + "\n"
