"""What the machine has to offer: ports, descriptors, a disk that syncs, a clock that is right, DNS that is fast, a way out."""

import ctypes
import errno
import os
import resource
import smtplib
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mta.cli.finding import Finding, failure, ok, skipped, warning
from mta.cli.lookup import Lookup, Unknown
from mta.config.load import Settings
from mta.io.listen import open_listener
from mta.model.units import format_duration
from mta.spool.database import PAGE_SIZE

SYNCS = 25
SLOW_SYNC_S = 0.02  # a disk; a good SSD takes a tenth of a millisecond to a few
UNLIKELY_SYNC_S = 0.00002  # no device answers in 20 µs: something says done and is not
SLOW_DNS_S = 0.1
SPARE_DESCRIPTORS = 256  # databases, files, sockets of our own
CONNECT_S = 10.0
_VOLATILE = {"tmpfs", "ramfs", "overlay"}
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"}
_TIMEX_BYTES = 256  # struct timex has 208
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


def examine_machine(settings: Settings, lookup: Lookup, *, is_running: bool) -> Iterator[Finding]:
    """Everything on this machine. `is_running`: the server holds its ports itself."""
    yield from (examine_port(rules.address, is_running) for rules in settings.listeners)
    yield examine_descriptors(settings)
    yield from examine_disk(Path(settings.server.spool_dir))
    yield examine_clock()
    yield from (examine_server(server, lookup) for server in lookup.servers)


def examine_port(address: str, is_running: bool) -> Finding:
    """Nobody else has it, and we may have it."""
    if is_running:
        return ok("port", address, "the server runs")
    try:
        open_listener(address).close()
    except PermissionError:
        return warning(
            "port",
            address,
            "this user may not open it",
            "the service may (AmbientCapabilities=CAP_NET_BIND_SERVICE); else run this as root",
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = (
                "stop the program that has it (`ss -ltnp` names it), or choose another port; "
                "with sluice.socket it is systemd, and all is well"
            )
        else:
            advice = "choose an address of this machine (`ip address` lists them)"
        return failure("port", address, str(error.strerror), advice)
    return ok("port", address, "is free")


def examine_descriptors(settings: Settings) -> Finding:
    """Enough for every connection that the configuration allows, in and out."""
    incoming = sum(rules.max_connections for rules in settings.listeners)
    needed = incoming + (settings.server.total_connections or 0) + SPARE_DESCRIPTORS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A connection whose body lies in a file has two.
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return ok("descriptors", "open files", f"{hard} allowed, about {needed} needed")
    return warning(
        "descriptors",
        "open files",
        f"{hard} allowed here, about {needed} needed",
        "the service has LimitNOFILE=65536; raise that, or `ulimit -Hn` where you start it yourself",
    )


def examine_disk(directory: Path) -> Iterator[Finding]:
    """A local disk that keeps what it says it keeps, and says so soon: every 250 waits for it."""
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    kind = _file_system(place)
    if kind in _VOLATILE:
        advice = "put spool_dir on a local disk"
        yield warning("disk", str(directory), f"lies on {kind}, which a restart may empty", advice)
    elif kind in _REMOTE:
        advice = "put spool_dir on a local disk"
        yield failure(
            "disk", str(directory), f"lies on {kind}: SQLite's log needs a local disk", advice
        )
    try:
        typical = statistics.median(_time_syncs(place))
    except OSError as error:
        advice = "run this as the server's user, or as root"
        yield skipped("sync", str(place), f"cannot be written: {error.strerror}", advice)
        return
    found = f"{typical * 1000:.2f} ms for {PAGE_SIZE // 1024} kB and an fsync"
    if typical > SLOW_SYNC_S:
        advice = (
            "each message waits for it: put the spool on an SSD, or raise the number of clients"
        )
        yield warning("sync", str(place), found, advice)
    elif typical < UNLIKELY_SYNC_S and kind not in _VOLATILE:
        advice = "a volatile cache seems to answer: see that it survives a power cut"
        yield warning("sync", str(place), found, advice)
    else:
        yield ok("sync", str(place), found)


def _time_syncs(place: Path) -> list[float]:
    times = []
    with tempfile.TemporaryFile(dir=place) as file:
        for _ in range(SYNCS):
            began = time.monotonic()
            file.write(os.urandom(PAGE_SIZE))
            file.flush()
            os.fsync(file.fileno())
            times.append(time.monotonic() - began)
    return times


def _file_system(place: Path) -> str:
    """Its kind, as /proc/self/mountinfo has it; "" where that is not known (proc(5))."""
    found, depth = "", -1
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    real = str(place.resolve())
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4].encode().decode("unicode_escape")
        is_above = mount == "/" or real == mount or real.startswith(mount + "/")
        if is_above and len(mount) >= depth:
            found, depth = right.split()[0], len(mount)
    return found


def examine_clock() -> Finding:
    """Signatures, TLS and expiry go by it."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # all zero: only read
    try:
        state = int(libc.adjtimex(buffer))
    except AttributeError:
        state = -1
    if state < 0:
        return skipped(
            "clock", "this machine", "the kernel does not tell", "run chrony or the like"
        )
    if state == _TIME_ERROR:
        return warning(
            "clock",
            "this machine",
            "nothing keeps the clock right, as far as the kernel knows",
            "run chrony or systemd-timesyncd (in a container: on its host)",
        )
    return ok("clock", "this machine", "is kept right")


def examine_server(server: str, lookup: Lookup) -> Finding:
    """A DNS server answers, soon: a campaign asks for tens of thousands of names."""
    took = lookup.time_of(server)
    if took is None:
        advice = "see that it runs and may be reached, or name others in [dns] servers"
        return failure("dns", server, "does not answer, or only with errors", advice)
    found = f"answers in {took * 1000:.0f} ms"
    if took > SLOW_DNS_S:
        return warning("dns", server, found, "run a caching resolver on this machine")
    return ok("dns", server, found)


def examine_way_out(domain: str, port: int, lookup: Lookup) -> Finding:
    """A host of this domain greets us: many hosting providers close port 25."""
    subject = f"{domain}, port {port}"
    try:
        hosts = lookup.mail_hosts(domain) or (domain,)
        addresses = [each for host in hosts[:2] for each in lookup.addresses(host)]
    except Unknown as error:
        return skipped("way out", subject, str(error))
    if not addresses:
        return skipped("way out", subject, "has no mail host", "name another domain")
    trouble = ""
    for address in addresses[:4]:
        began = time.monotonic()
        try:
            with smtplib.SMTP(timeout=CONNECT_S) as client:
                code, _ = client.connect(address, port)
            took = format_duration(round(time.monotonic() - began, 2))
            return ok("way out", subject, f"{address} greets us with {code} after {took}")
        except (OSError, smtplib.SMTPException, socket.gaierror) as error:
            trouble = f"{address}: {error}"
    advice = "many hosting providers close port 25: ask yours to open it"
    return failure("way out", subject, trouble, advice)
